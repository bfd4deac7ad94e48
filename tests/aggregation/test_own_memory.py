"""Gradients that autograd gives in one memory are written as those of `loss.backward()` are."""

from itertools import pairwise

import pytest
import torch
from linear_losses import make
from torch import nn

from cotrain import Batch, Task, TaskSet

TASKS = TaskSet(Task(name, "binary") for name in "abc")
NAMES = ("db-mtl", "famo", "imtl-g", "log-sum", "mgda-ub", "sum", "transference", "upgrad")
several = pytest.mark.parametrize("name", NAMES)


def some_batch():
    generator = torch.Generator().manual_seed(0)
    inputs, noise = torch.randn(16, 4, generator=generator), torch.randn(16, 3, generator=generator)
    return Batch(torch.arange(16), inputs, (noise > 0).float())


class Entwined(nn.Module):
    """Weights that enter by their sum, one that enters by the sum of its entries, and one in two places at once."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.base, self.delta = nn.Parameter(torch.randn(5, 4)), nn.Parameter(torch.zeros(5, 4))
        self.level = nn.Parameter(torch.zeros(7))
        self.shift, self.more = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3))
        self.features, self.heads = nn.Tanh(), nn.Linear(5, 3)

    def forward(self, inputs):
        hidden = inputs @ (self.base + self.delta).T + self.level.sum()
        return self.heads(self.features(hidden)) + (self.shift + self.more)


def gradients_of(model):
    return {name: value.grad.clone() for name, value in model.named_parameters()}


@several
def test_twice_is_two_times(name, assert_same):
    model, again = Entwined(), Entwined()
    once = make(name)
    once.backward(model, TASKS, some_batch())
    expected = {key: 2 * value for key, value in gradients_of(model).items()}
    for _ in range(2):
        make(name).backward(again, TASKS, some_batch())
    assert_same(gradients_of(again), expected)


@several
def test_no_two_gradients_share_memory(name):
    model = Entwined()
    make(name).backward(model, TASKS, some_batch())
    assert all(value.grad.stride() == value.stride() for value in model.parameters())
    starts = sorted((value.grad.data_ptr(), value.grad.nbytes) for value in model.parameters())
    assert all(start + size <= following for (start, size), (following, _) in pairwise(starts))


@several
def test_clipped_as_a_whole(name):
    model = Entwined()
    make(name).backward(model, TASKS, some_batch())
    before = gradients_of(model)
    norm = nn.utils.clip_grad_norm_(model.parameters(), 0.01)
    for key, value in model.named_parameters():
        torch.testing.assert_close(value.grad, before[key] * 0.01 / norm, rtol=1e-4, atol=1e-9)


def test_the_sum_is_the_plain_step(assert_same):
    model, plain = Entwined(), Entwined()
    batch = some_batch()
    for _ in range(3):
        make("sum").backward(model, TASKS, batch)
        TASKS.losses(plain(batch.inputs), batch.targets).sum().backward()
    assert_same(gradients_of(model), gradients_of(plain))
