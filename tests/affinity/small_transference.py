"""Small networks and tasks on which transference is measured: points with quadratic losses, and a net of many parts."""

from functools import partial

import torch
from torch import nn

from cotrain import Batch, Task, TaskSet
from cotrain.affinity import Transference


class Point(nn.Module):
    """A network whose only shared parameter is a point, handed to every task."""

    def __init__(self, tasks, dimension):
        super().__init__()
        self.theta = nn.Parameter(torch.randn(dimension, dtype=torch.float64))
        self.names = tasks.names

    def forward(self, inputs):
        return {name: self.theta.expand(len(inputs), -1) for name in self.names}


def quadratic_tasks(n_tasks, dimension, generator, offsets=None):
    """Losses c + (theta - a)^T H (theta - a) / 2, and their parts."""
    centres = torch.randn(n_tasks, dimension, generator=generator, dtype=torch.float64)
    roots = torch.randn(n_tasks, dimension, dimension, generator=generator, dtype=torch.float64)
    curvatures = roots @ roots.mT / dimension
    offsets = torch.ones(n_tasks, dtype=torch.float64) if offsets is None else offsets

    def loss(outputs, targets, *, task):
        away = outputs - centres[task]
        return offsets[task] + (away @ curvatures[task] * away).sum(1) / 2 + 0 * targets

    tasks = [Task(f"t{i}", "custom", dimension, loss=partial(loss, task=i)) for i in range(n_tasks)]
    return TaskSet(tasks), centres, curvatures, offsets


def measured(model, tasks, batch, **options):
    transference = Transference(model, tasks, **options)
    transference.observe(batch)
    return transference.result()


def some_batch(tasks, n=4):
    return Batch(torch.arange(n), torch.zeros(n, 1, dtype=torch.float64), torch.zeros(n, len(tasks)))


class Net(nn.Module):
    """BatchNorm, dropout, tied weights, a frozen and an unused parameter, outputs by task name."""

    def __init__(self, tasks):
        super().__init__()
        self.tasks = tasks
        self.first = nn.Linear(6, 8)
        self.norm = nn.BatchNorm1d(8)
        self.drop = nn.Dropout(0.3)
        self.second = nn.Linear(8, 8)
        self.tied = nn.Linear(8, 8)
        self.tied.weight = self.second.weight
        self.frozen = nn.Linear(8, 8).requires_grad_(False)
        self.unused = nn.Linear(8, 8)
        self.heads = nn.ModuleDict({task.name: nn.Linear(8, task.n_outputs) for task in tasks})

    def forward(self, inputs):
        features = self.drop(torch.tanh(self.norm(self.first(inputs))))
        features = self.frozen(torch.tanh(self.tied(torch.tanh(self.second(features)))))
        return {name: head(features) for name, head in self.heads.items()}


MIXED = TaskSet(
    [
        Task("binary", "binary"),
        Task("classes", "multiclass", 4),
        Task("number", "regression", location=0.0, scale=1.0),
        Task("own", "custom", 2, loss=lambda outputs, targets: (outputs.sum(1) - targets).abs()),
    ]
)


def mixed_batch(seed=0, n=24, missing=True):
    g = torch.Generator().manual_seed(seed)
    targets = torch.stack(
        [
            torch.randint(2, (n,), generator=g).float(),
            torch.randint(4, (n,), generator=g).float(),
            torch.randn(n, generator=g),
            torch.randn(n, generator=g),
        ],
        dim=1,
    )
    if missing:
        targets[torch.rand(n, 4, generator=g) < 0.2] = torch.nan
    return Batch(torch.arange(n), torch.randn(n, 6, generator=g), targets)


def warm(model, make, steps=3):
    """An optimizer with a history."""
    optimizer = make(model.parameters())
    for seed in range(steps):
        batch = mixed_batch(100 + seed)
        optimizer.zero_grad()
        MIXED.losses(model(batch.inputs), batch.targets).sum().backward()
        optimizer.step()
    return optimizer


def watched(steps, **options):
    """What watched the net stand still over these batches."""
    torch.manual_seed(0)
    transference = Transference(Net(MIXED), MIXED, lr=0.05, every=1, **options)
    for step in steps:
        transference.observe(mixed_batch(step))
    return transference
