"""Transference in a Lightning Trainer: one callback, and the training stays bit-identical."""

import torch
from pytorch_lightning import LightningModule, Trainer
from torch.utils.data import DataLoader, TensorDataset

from cotrain import SharedTrunk, TaskSet
from cotrain.adapters.lightning_callback import TransferenceCallback
from cotrain.affinity import Transference
from cotrain.data import make_planted_tasks
from cotrain.grouping import PairMean, select_groups

data = make_planted_tasks(n_tasks=6, n_groups=2, n_samples=1000, seed=0)
tasks = TaskSet(data.tasks)


class Network(LightningModule):
    def __init__(self):
        super().__init__()
        trunk = torch.nn.Sequential(torch.nn.Linear(*data.input_shape, 32), torch.nn.ReLU())
        self.network = SharedTrunk(trunk, tasks, n_features=32)

    def forward(self, inputs):
        return self.network(inputs)

    def training_step(self, batch, batch_idx):
        inputs, targets = batch
        return tasks.losses(self(inputs), targets).sum()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


torch.manual_seed(0)
loader = DataLoader(TensorDataset(data.train.inputs, data.train.targets), batch_size=64, shuffle=True)
callback = TransferenceCallback(lambda model, optimizer: Transference(model, tasks, optimizer=optimizer))
trainer = Trainer(
    accelerator="cpu",
    max_epochs=10,
    callbacks=[callback],
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(Network(), loader)

affinity = callback.transference.result()
print(affinity)
print(select_groups(PairMean(affinity), budget=2))
print("planted groups:", dict(zip(tasks.names, data.groups, strict=True)))
