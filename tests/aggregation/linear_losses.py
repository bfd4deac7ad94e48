"""Losses whose gradients are given: each is a linear function of one shared point and of a number of its own."""

import torch
from torch import nn

from cotrain import Batch, Task, TaskSet
from cotrain.aggregation.names import aggregation_names, named

STATEFUL = ("db-mtl", "dwa", "excess-mtl", "famo", "gradnorm", "gradvac", "imtl-l", "pcd", "uw")
RANDOM = ("graddrop", "gradvac", "pcgrad", "random", "random-losses")
ALL = aggregation_names()


def make(name):
    """The aggregation; the features of MGDA-UB are those of `LinearLosses` and `Net`."""
    options = {"mgda-ub": {"features": "features"}, "dwa": {"period": 1}}
    return named(name, **options.get(name, {}))


class LinearLosses(nn.Module):
    """Outputs o_i = <g_i, theta> + bias_i + level_i; the loss is the output."""

    def __init__(self, gradients, levels=None):
        super().__init__()
        n_tasks, size = gradients.shape
        self.register_buffer("gradients", gradients)
        self.register_buffer(
            "levels", torch.linspace(1, 2, n_tasks, dtype=gradients.dtype) if levels is None else levels
        )
        self.theta = nn.Parameter(torch.zeros(size, dtype=gradients.dtype))
        self.bias = nn.Parameter(torch.zeros(n_tasks, dtype=gradients.dtype))
        self.features = nn.Identity()

    def forward(self, inputs):
        return self.features(self.theta.expand(len(inputs), -1)) @ self.gradients.T + self.bias + self.levels


def output_is_loss(outputs, targets):
    return outputs[:, 0]


def linear_tasks(n_tasks):
    return TaskSet(Task(f"t{n}", "custom", loss=output_is_loss) for n in range(n_tasks))


def linear_batch(n_tasks, absent=(), dtype=torch.float32):
    targets = torch.zeros(2, n_tasks)
    targets[:, list(absent)] = torch.nan
    return Batch(torch.arange(2), torch.zeros(2, 1, dtype=dtype), targets)


def some_gradients(n_tasks, size, seed=0, dtype=torch.float32):
    """Not all agree, and their lengths differ."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.linspace(0.5, 2, n_tasks).unsqueeze(1)
    return (lengths * torch.randn(n_tasks, size, generator=generator) + 0.2).to(dtype)


def step(aggregation, gradients, absent=(), levels=None, choices=None):
    """What one step writes: the direction on the shared point, the heads' gradients and the losses."""
    model, n_tasks = LinearLosses(gradients, levels), len(gradients)
    if choices is not None:
        aggregation.on_choice = choices.append
    losses = aggregation.backward(model, linear_tasks(n_tasks), linear_batch(n_tasks, absent, gradients.dtype))
    return model.theta.grad, model.bias.grad, losses


class Net(nn.Module):
    """Tied weights, a frozen and an unused parameter, dropout, outputs by task name."""

    def __init__(self, tasks):
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.drop = nn.Dropout(0.2)
        self.second = nn.Linear(8, 8)
        self.tied = nn.Linear(8, 8)
        self.tied.weight = self.second.weight
        self.frozen = nn.Linear(8, 8).requires_grad_(False)
        self.unused = nn.Linear(8, 8)
        self.features = nn.LayerNorm(8)
        self.heads = nn.ModuleDict({task.name: nn.Linear(8, task.n_outputs) for task in tasks})

    def forward(self, inputs):
        hidden = self.drop(torch.tanh(self.second(torch.tanh(self.first(inputs)))))
        features = self.features(self.frozen(torch.tanh(self.tied(hidden))))
        return {name: head(features) for name, head in self.heads.items()}


MIXED = TaskSet(
    [
        Task("binary", "binary"),
        Task("classes", "multiclass", 4),
        Task("number", "regression", location=0.0, scale=1.0),
        Task("own", "custom", 2, loss=lambda outputs, targets: 0.1 + (outputs.sum(1) - targets).abs()),
    ]
)


def mixed_batch(seed=0, n=24, missing=0.2, absent=()):
    generator = torch.Generator().manual_seed(seed)
    targets = torch.stack(
        [
            torch.randint(2, (n,), generator=generator).float(),
            torch.randint(4, (n,), generator=generator).float(),
            torch.randn(n, generator=generator),
            torch.randn(n, generator=generator),
        ],
        dim=1,
    )
    targets[torch.rand(n, 4, generator=generator) < missing] = torch.nan
    targets[:, list(absent)] = torch.nan
    return Batch(torch.arange(n), torch.randn(n, 6, generator=generator), targets)


def trained(aggregation, steps, model=None, lr=0.05):
    """A few steps of `Net`; the third batch has no label of the second task, the fourth none of the first."""
    torch.manual_seed(0)
    model = model or Net(MIXED)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for number in steps:
        torch.manual_seed(100 + number)
        optimizer.zero_grad()
        aggregation.backward(model, MIXED, mixed_batch(number, absent={2: [1], 3: [0]}.get(number, [])))
        optimizer.step()
    return model
