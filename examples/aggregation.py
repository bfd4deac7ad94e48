"""IT-MTL in your own PyTorch loop: one line in place of the backward pass, and what was chosen over time."""

import torch

from cotrain import Batch, SharedTrunk
from cotrain.aggregation import TransferenceAggregation
from cotrain.data import load_digits

data = load_digits(targets=["is_0", "is_8", "closed_loop", "odd", "is_3", "is_5"])
torch.manual_seed(0)
trunk = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 32), torch.nn.ReLU())
model = SharedTrunk(trunk, data.tasks, n_features=32)
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
aggregation = TransferenceAggregation(optimizer=optimizer)  # or any other: named("upgrad"), named("imtl-g"), ...

for _ in range(10):
    for index in torch.randperm(len(data.train)).split(64):
        batch = Batch(index, data.train.inputs[index], data.train.targets[index])
        optimizer.zero_grad()
        losses = aggregation.backward(model, data.tasks, batch)  # in place of losses.sum().backward()
        optimizer.step()

record = aggregation.record()  # record.plot() draws it
print("losses:", dict(zip(data.tasks.names, losses.tolist(), strict=True)))
print("steps won:", {name: int(steps.sum()) for name, steps in record.picked.items()})
print("share of the steps that each task was in:", dict(zip(record.tasks, record.share.mean(0).tolist(), strict=True)))
