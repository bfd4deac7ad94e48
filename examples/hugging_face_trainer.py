"""Transference in a Hugging Face Trainer: one callback, and the training stays bit-identical."""

import tempfile

import torch
from transformers import Trainer, TrainingArguments

from cotrain import SharedTrunk, TaskSet
from cotrain.adapters.trainer_callback import TransferenceTrainerCallback
from cotrain.affinity import Transference
from cotrain.data import make_planted_tasks
from cotrain.grouping import PairMean, select_groups

data = make_planted_tasks(n_tasks=6, n_groups=2, n_samples=1000, seed=0)
tasks = TaskSet(data.tasks)
samples = [
    {"features": inputs, "labels": targets}
    for inputs, targets in zip(data.train.inputs, data.train.targets, strict=True)
]


class Network(torch.nn.Module):
    """As models of the Transformers library do: keyword arguments in, "loss" and "logits" out."""

    def __init__(self):
        super().__init__()
        trunk = torch.nn.Sequential(torch.nn.Linear(*data.input_shape, 32), torch.nn.ReLU())
        self.network = SharedTrunk(trunk, tasks, n_features=32)

    def forward(self, features, labels=None):
        logits = self.network(features)
        return {"logits": logits} if labels is None else {"loss": tasks.losses(logits, labels).sum(), "logits": logits}


torch.manual_seed(0)
with tempfile.TemporaryDirectory() as folder:
    arguments = TrainingArguments(
        output_dir=folder,
        num_train_epochs=10,
        per_device_train_batch_size=64,
        learning_rate=3e-3,
        lr_scheduler_type="constant",
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
    )
    trainer = Trainer(Network(), arguments, train_dataset=samples)
    callback = TransferenceTrainerCallback(
        trainer, lambda model, optimizer: Transference(model, tasks, optimizer=optimizer)
    )
    trainer.add_callback(callback)
    trainer.train()

affinity = callback.transference.result()
print(affinity)
print(select_groups(PairMean(affinity), budget=2))
print("planted groups:", dict(zip(tasks.names, data.groups, strict=True)))
