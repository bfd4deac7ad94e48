"""Small networks for tests of TransferenceAggregation: points with quadratic losses, and a net of many parts."""

import copy
from functools import partial

import torch
from torch import nn

from cotrain import Batch, SharedTrunk, Task, TaskSet
from cotrain.aggregation.transference_aggregation import TransferenceAggregation

MIXED = TaskSet(
    [
        Task("binary", "binary"),
        Task("classes", "multiclass", 4),
        Task("number", "regression", location=0.0, scale=1.0),
        Task("own", "custom", 2, loss=lambda outputs, targets: (outputs.sum(1) - targets).abs()),
    ]
)


class Net(nn.Module):
    """BatchNorm, dropout, tied weights, a frozen and an unused parameter, a scalar, outputs by task name."""

    def __init__(self, tasks=MIXED):
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.norm = nn.BatchNorm1d(8)
        self.drop = nn.Dropout(0.3)
        self.second = nn.Linear(8, 8)
        self.tied = nn.Linear(8, 8)
        self.tied.weight = self.second.weight
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.frozen = nn.Linear(8, 8).requires_grad_(False)
        self.unused = nn.Linear(8, 8)
        self.heads = nn.ModuleDict({task.name: nn.Linear(8, task.n_outputs) for task in tasks})

    def forward(self, inputs):
        features = self.scale * self.drop(torch.tanh(self.norm(self.first(inputs))))
        features = self.frozen(torch.tanh(self.tied(torch.tanh(self.second(features)))))
        return {name: head(features) for name, head in self.heads.items()}


def mixed_batch(seed=0, n=24, missing=True):
    g = torch.Generator().manual_seed(seed)
    columns = [
        torch.randint(2, (n,), generator=g).float(),
        torch.randint(4, (n,), generator=g).float(),
        torch.randn(n, generator=g),
        torch.randn(n, generator=g),
    ]
    targets = torch.stack(columns, dim=1)
    if missing:
        targets[torch.rand(n, 4, generator=g) < 0.2] = torch.nan
    return Batch(torch.arange(n), torch.randn(n, 6, generator=g), targets)


class Point(nn.Module):
    """A network whose only shared parameter is a point, handed to every task."""

    def __init__(self, tasks, dimension):
        super().__init__()
        self.theta = nn.Parameter(torch.randn(dimension, dtype=torch.float64))
        self.names = tasks.names

    def forward(self, inputs):
        return {name: self.theta.expand(len(inputs), -1) for name in self.names}


def quadratics(n_tasks, dimension=3, seed=0, offset=1.0):
    """A point, tasks with losses c + (theta - a)^T H (theta - a) / 2, their centres and curvatures."""
    g = torch.Generator().manual_seed(seed)
    centres = torch.randn(n_tasks, dimension, generator=g, dtype=torch.float64)
    roots = torch.randn(n_tasks, dimension, dimension, generator=g, dtype=torch.float64)
    curvatures = roots @ roots.mT / dimension

    def loss(outputs, targets, *, task):
        away = outputs - centres[task]
        return offset + (away @ curvatures[task] * away).sum(1) / 2 + 0 * targets

    tasks = TaskSet(Task(f"t{i}", "custom", dimension, loss=partial(loss, task=i)) for i in range(n_tasks))
    torch.manual_seed(1000 + seed)  # not the generator's seed, or the point is the first centre
    batch = Batch(torch.arange(4), torch.zeros(4, 1, dtype=torch.float64), torch.zeros(4, n_tasks))
    return Point(tasks, dimension), tasks, batch, centres, curvatures


def plain_gradients(model, tasks, batch):
    """What `loss.backward()` leaves in a copy of the model that draws the same random numbers, and the copy."""
    twin = copy.deepcopy(model)
    twin.zero_grad()
    with torch.random.fork_rng(devices=[]):
        tasks.losses(tasks.pack(twin(batch.inputs)), batch.targets).sum().backward()
    return twin


def gradients(model):
    return {name: None if value.grad is None else value.grad.clone() for name, value in model.named_parameters()}


def aggregated(model, tasks, batch, **options):
    """The gradients after one step, what was told about it, and what was tried."""
    told = []
    aggregation = TransferenceAggregation(on_choice=told.append, **options)
    model.zero_grad()
    aggregation.backward(model, tasks, batch)
    return gradients(model), told, aggregation


def conflicting(n_tasks=6, seed=0):
    """A model in which six unrelated tasks have to share three features; and its batches by number."""
    tasks = TaskSet(Task(f"t{n}", "binary") for n in range(n_tasks))
    torch.manual_seed(seed)
    model = SharedTrunk(nn.Sequential(nn.Linear(6, 3), nn.Tanh()), tasks, 3)
    with torch.no_grad():
        model.heads.weight *= torch.linspace(1, 6, n_tasks)[:, None]
    truth = torch.randn(6, n_tasks)

    def batch(number, n=64):
        inputs = torch.randn(n, 6, generator=torch.Generator().manual_seed(number))
        return Batch(torch.arange(n), inputs, (inputs @ truth > 0).float())

    return model, tasks, batch
