"""Small networks of layers of many kinds, with tasks of all kinds on top."""

import torch
import torch.nn.functional as F
from torch import nn

from cotrain import Batch, SharedTrunk, Task, TaskSet

N = 6


def tasks_of(n):
    """Binary, multiclass and regression tasks, and one with a loss of its own, in turn."""
    kinds = [
        lambda name: Task(name, "binary"),
        lambda name: Task(name, "multiclass", 3),
        lambda name: Task(name, "regression"),
        lambda name: Task(name, "custom", 2, loss=lambda outputs, targets: (outputs.sum(1) - targets) ** 2),
    ]
    return TaskSet([kinds[number % 4](f"task-{number}") for number in range(n)])


def batch_of(inputs, n_tasks):
    targets = torch.randint(2, (len(inputs), n_tasks)).float()
    targets[0, 0] = torch.nan
    return Batch(torch.arange(len(inputs)), inputs, targets)


class Residual(nn.Module):
    """Changes in place, and a layer that is used twice."""

    def __init__(self):
        super().__init__()
        self.first, self.twice = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, inputs):
        hidden = self.first(inputs)
        hidden.relu_()
        hidden = hidden + self.twice(hidden).tanh_()
        return torch.tanh(self.twice(hidden))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.second.weight = self.first.weight

    def forward(self, inputs):
        return torch.tanh(self.second(torch.tanh(self.first(inputs))))


class SelfAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.queries, self.keys, self.values = nn.Linear(8, 8), nn.Linear(8, 8, bias=False), nn.Linear(8, 8)

    def forward(self, inputs):
        return F.scaled_dot_product_attention(self.queries(inputs), self.keys(inputs), self.values(inputs)).mean(1)


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.norm = nn.Embedding(11, 8), nn.LayerNorm(8)

    def forward(self, inputs):
        return self.norm(self.words(inputs)).tanh().mean(1)


class Scale(nn.Module):
    """A layer of one's own."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.randn(8))

    def forward(self, inputs):
        return (inputs * self.scale).exp()


class Unused(nn.Module):
    """A layer that is called and not used, one under no_grad, and one that is detached later."""

    def __init__(self):
        super().__init__()
        self.used, self.other = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, inputs):
        self.other(inputs)
        with torch.no_grad():
            target = self.used(inputs)
        return torch.tanh(self.used(inputs)) + target + self.other(inputs).detach()


def images(*layers):
    return nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.LazyLinear(8), nn.Tanh())


TRUNKS = {
    "linear": (lambda: nn.Sequential(nn.Linear(8, 8), nn.ReLU(inplace=True), nn.Linear(8, 8, bias=False)), (8,)),
    "linear, many rows": (lambda: nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Flatten(), nn.Linear(160, 8)), (20, 8)),
    "linear, some rows": (lambda: nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Flatten(), nn.Linear(24, 8)), (3, 8)),
    "large image": (lambda: images(nn.Conv2d(2, 3, 3, stride=2, padding=1, dilation=2)), (2, 12, 11)),
    "small image": (lambda: images(nn.Conv2d(2, 8, 3, stride=(1, 2), padding=(1, 0))), (2, 4, 5)),
    "groups, large": (lambda: images(nn.Conv2d(4, 4, 3, groups=2, bias=False)), (4, 9, 9)),
    "groups, small": (lambda: images(nn.Conv2d(4, 12, 3, groups=2)), (4, 4, 4)),
    "padding by name": (lambda: images(nn.Conv2d(2, 3, 3, padding="same")), (2, 6, 6)),
    "circular padding": (lambda: images(nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular")), (2, 6, 6)),
    "transposed": (lambda: images(nn.ConvTranspose2d(2, 3, 3, stride=2)), (2, 4, 4)),
    "batch norm": (lambda: images(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)), (2, 6, 6)),
    "dropout": (lambda: nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 8)), (8,)),
    "residual": (Residual, (8,)),
    "tied": (Tied, (8,)),
    "attention": (SelfAttention, (5, 8)),
    "words": (Words, (4,)),
    "own": (lambda: nn.Sequential(Scale(), nn.Linear(8, 8), Scale()), (8,)),
    "unused": (Unused, (8,)),
}


def case(trunk, shape, tasks):
    torch.manual_seed(0)
    inputs = torch.randint(11, (N, *shape)) if shape == (4,) else torch.randn(N, *shape)
    model = SharedTrunk(trunk(), tasks, 8).eval()
    model(inputs)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.track_running_stats:
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return model, batch_of(inputs, len(tasks))
