"""Transference in your own PyTorch loop: one added line, and the training stays bit-identical."""

import torch

from cotrain import Batch, SharedTrunk, TaskSet
from cotrain.affinity import Transference
from cotrain.data import make_planted_tasks
from cotrain.grouping import PairMean, select_groups

data = make_planted_tasks(n_tasks=6, n_groups=2, n_samples=1000, seed=0)
tasks = TaskSet(data.tasks)
torch.manual_seed(0)
model = SharedTrunk(torch.nn.Sequential(torch.nn.Linear(*data.input_shape, 32), torch.nn.ReLU()), tasks, n_features=32)
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
transference = Transference(model, tasks, optimizer=optimizer)

for _ in range(10):
    for index in torch.randperm(len(data.train)).split(64):
        batch = Batch(index, data.train.inputs[index], data.train.targets[index])
        losses = tasks.losses(model(batch.inputs), batch.targets)
        transference.observe(batch)  # the added line: anywhere before optimizer.step()
        optimizer.zero_grad()
        losses.sum().backward()
        optimizer.step()

affinity = transference.result()
print(affinity)
print(select_groups(PairMean(affinity), budget=2))
print("planted groups:", dict(zip(tasks.names, data.groups, strict=True)))
