"""Trainable parameters that stand in the tasks' losses."""

import pytest
import torch
from linear_losses import ALL, make
from torch import nn

from cotrain import Batch, SharedTrunk, Task, TaskSet
from cotrain.aggregation import MGDAUB


class Noise(nn.Module):
    """A squared error whose noise is learned, and whose loss stays positive."""

    def __init__(self):
        super().__init__()
        self.log_variance = nn.Parameter(torch.tensor(0.3))

    def forward(self, outputs, targets):
        return torch.exp(-self.log_variance) * (outputs[:, 0] - targets) ** 2 + self.log_variance.exp()


def network(tasks):
    torch.manual_seed(0)
    return SharedTrunk(nn.Sequential(nn.Linear(4, 6), nn.Tanh()), tasks, 6)


def some_batch(absent=()):
    generator = torch.Generator().manual_seed(0)
    targets = torch.randn(16, 3, generator=generator).sign().clamp(min=0)
    targets[torch.rand(16, 3, generator=generator) < 0.2] = torch.nan
    targets[:, list(absent)] = torch.nan
    return Batch(torch.arange(16), torch.randn(16, 4, generator=generator), targets)


def tasks_with(noise):
    """Two tasks have one noise."""
    return TaskSet([Task("a", "custom", loss=noise), Task("b", "binary"), Task("c", "custom", loss=noise)])


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("absent", [[], [0]])
def test_they_get_the_plain_sum(name, absent):
    noise, plain = Noise(), Noise()
    tasks, batch = tasks_with(noise), some_batch(absent)
    model = network(tasks)
    (MGDAUB() if name == "mgda-ub" else make(name)).backward(model, tasks, batch)
    tasks_with(plain).losses(network(tasks)(batch.inputs), batch.targets).sum().backward()
    torch.testing.assert_close(noise.log_variance.grad, plain.log_variance.grad)


def test_the_sum_is_the_plain_step_where_a_parameter_is_in_both():
    """As a part of the model, and in the path to the outputs and in the loss."""

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.noise, self.inner = Noise(), network(TaskSet(Task(name, "binary") for name in "abc"))

        def forward(self, inputs):
            return self.inner(inputs) * self.noise.log_variance.exp()

    found = []
    for through_losses in (False, True):
        model, batch = Scaled(), some_batch()
        tasks = tasks_with(model.noise)
        if through_losses:
            tasks.losses(model(batch.inputs), batch.targets).sum().backward()
        else:
            make("sum").backward(model, tasks, batch)
        found.append([value.grad for value in model.parameters()])
    torch.testing.assert_close(*found)


def test_a_loss_whose_parameter_gets_an_infinite_gradient_skips_the_step():
    noise = Noise()
    noise.log_variance.register_hook(lambda gradient: gradient * torch.inf)
    tasks = tasks_with(noise)
    model, aggregation = network(tasks), make("db-mtl")
    with pytest.warns(UserWarning, match="NaN or infinite: the step is skipped"):
        aggregation.backward(model, tasks, some_batch())
    assert aggregation.state_dict()["running"] is None
    assert all(value.grad is None for value in [*model.parameters(), *noise.parameters()])


def test_under_a_scaler():
    noise, scaled = Noise(), Noise()
    make("upgrad").backward(network(tasks_with(noise)), tasks_with(noise), some_batch())
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    make("upgrad").backward(network(tasks_with(scaled)), tasks_with(scaled), some_batch(), scaler=scaler)
    torch.testing.assert_close(scaled.log_variance.grad, 8 * noise.log_variance.grad)
