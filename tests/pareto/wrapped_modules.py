"""Small modules of every kind that a manifold is put around, each from inputs to two outputs, with its inputs."""

import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from cotrain import Batch, SharedTrunk, Task, TaskSet

PAIR = TaskSet([Task("first", "regression"), Task("second", "regression")])


class Head(nn.Module):
    """A body, and a linear layer on the mean over all but the samples and the features."""

    def __init__(self, body, width, features_at=-1):
        super().__init__()
        self.body, self.features_at = body, features_at
        self.head = nn.Linear(width, 2)

    def forward(self, inputs):
        found = self.body(inputs)
        found = found[0] if isinstance(found, tuple) else found
        return self.head(found.movedim(self.features_at, 1).flatten(2).mean(2) if found.dim() > 2 else found)


class Bare(nn.Module):
    """Parameters of its own, of names that a dictionary has too, a buffer, and one of no dimension."""

    def __init__(self):
        super().__init__()
        self.keys, self.values = nn.Parameter(torch.randn(4, 2)), nn.Parameter(torch.randn(2))
        self.temperature = nn.Parameter(torch.tensor(1.5))
        self.register_buffer("shift", torch.randn(4))

    def forward(self, inputs):
        return ((inputs - self.shift) @ self.keys) * self.temperature + self.values


class Tied(nn.Module):
    """The same matrix at both ends, one layer used twice, and one shared under two names."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(6, 4)
        self.again = nn.Linear(4, 4)
        self.other_name = self.again
        self.words = nn.Linear(4, 6, bias=False)
        self.words.weight = self.table.weight
        self.head = nn.Linear(6, 2)

    def forward(self, inputs):
        return self.head(self.words(self.again(torch.tanh(self.other_name(self.table(inputs).mean(1))))))


class DoubledLinear(nn.Linear):
    """A subclass with a forward and an attribute of its own."""

    factor = 2.0

    def forward(self, inputs):
        return self.factor * super().forward(inputs)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attend = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, inputs):
        return self.attend(inputs, inputs, inputs)[0]


def features(*shape):
    return torch.randn(6, *shape, generator=torch.Generator().manual_seed(5))


def tokens():
    return torch.arange(18).view(6, 3) % 6


def _images(layer, width):
    return Head(nn.Sequential(layer, nn.Tanh()), width, features_at=1)


ZOO = {
    "linear root": (lambda: nn.Linear(4, 2), features(4)),
    "bias-free": (lambda: nn.Sequential(nn.Linear(4, 3, bias=False), nn.Linear(3, 2, bias=False)), features(4)),
    "layer norm": (lambda: Head(nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)), 4), features(4)),
    "group norm": (lambda: _images(nn.Sequential(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4)), 4), features(2, 5, 5)),
    "batch norm 1d": (lambda: Head(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), 4), features(4)),
    "batch norm 2d": (lambda: _images(nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)), 4), features(2, 5, 5)),
    "conv 1d": (lambda: _images(nn.Conv1d(2, 4, 3, padding=1, padding_mode="circular"), 4), features(2, 5)),
    "conv 2d": (lambda: _images(nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect"), 4), features(2, 5, 5)),
    "transposed conv": (lambda: _images(nn.ConvTranspose2d(2, 4, 3, stride=2), 4), features(2, 3, 3)),
    "embedding": (lambda: Head(nn.Embedding(6, 4, padding_idx=0), 4), tokens()),
    "lstm": (lambda: Head(nn.LSTM(4, 3, batch_first=True), 3), features(3, 4)),
    "gru": (lambda: Head(nn.GRU(4, 3, batch_first=True, bidirectional=True), 6), features(3, 4)),
    "prelu": (lambda: Head(nn.Sequential(nn.Linear(4, 4), nn.PReLU(4)), 4), features(4)),
    "bare parameters": (Bare, features(4)),
    "attention": (lambda: Head(Attention(), 4), features(3, 4)),
    "transformer layer": (
        lambda: Head(nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True), 4), features(3, 4)
    ),
    "tied": (Tied, tokens()),
    "subclass": (lambda: nn.Sequential(DoubledLinear(4, 3), nn.Tanh(), DoubledLinear(3, 2)), features(4)),
    "weight norm": (lambda: nn.Sequential(weight_norm(nn.Linear(4, 3)), nn.Linear(3, 2)), features(4)),
}  # fmt: skip


def made(name, *, seed=0):
    """A module of the zoo, and inputs of six samples."""
    torch.manual_seed(seed)
    make, inputs = ZOO[name]
    return make(), inputs


def mlp(tasks=PAIR, *, hidden=5, norm=False, seed=0, dropout=0.0):
    """A shared trunk of two layers on four features."""
    torch.manual_seed(seed)
    layers = [nn.Linear(4, hidden), *([nn.BatchNorm1d(hidden)] if norm else []), nn.Tanh(), nn.Dropout(dropout)]
    return SharedTrunk(nn.Sequential(*layers, nn.Linear(hidden, 3), nn.Tanh()), tasks, 3)


@torch.no_grad()
def apart(manifold, *, scale=0.3, seed=1):
    """The manifold with members, and everything else, moved at random, so that no two preferences are alike."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in manifold.parameters():
        parameter.add_(scale * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return manifold


def batch_for(inputs, tasks=PAIR, *, seed=2):
    """Targets for the inputs, all labelled."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randn(len(inputs), len(tasks), generator=generator)
    return Batch(torch.arange(len(inputs)), inputs, targets.to(inputs.dtype if inputs.is_floating_point() else None))


def gradients(module):
    """{name: gradient} of all parameters."""
    return {name: value.grad for name, value in module.named_parameters()}
