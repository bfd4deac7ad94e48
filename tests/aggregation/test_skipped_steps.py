"""A step that is not made leaves everything as it was."""

import pytest
import torch
from linear_losses import ALL, make
from torch import nn

from cotrain import Batch, Task, TaskSet
from cotrain.aggregation import GradientAggregation, PCGrad

TASKS = TaskSet(Task(name, "binary") for name in "abc")


class Network(nn.Module):
    """With running statistics, and one column whose gradient can be made infinite."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh())
        self.features, self.heads, self.broken = nn.Identity(), nn.Linear(6, 3), False

    def forward(self, inputs):
        outputs = self.heads(self.features(self.trunk(inputs)))
        if self.broken and outputs.requires_grad:
            outputs.register_hook(lambda sent: torch.where(sent[:, 1:2] != 0, torch.inf, sent))
        return outputs


def batch_of(seed, missing=False):
    generator = torch.Generator().manual_seed(seed)
    inputs, noise = torch.randn(16, 4, generator=generator), torch.randn(16, 3, generator=generator)
    if missing:
        inputs[3, 0] = torch.nan
    return Batch(torch.arange(16), inputs, (noise > 0).float())


def trained(model, aggregation, optimizer, seeds):
    for seed in seeds:
        optimizer.zero_grad()
        aggregation.backward(model, TASKS, batch_of(seed))
        optimizer.step()


@pytest.mark.parametrize("what", ["a NaN among the inputs", "an infinite gradient"])
@pytest.mark.parametrize("name", ALL)
def test_as_before(name, what, assert_same):
    found = []
    for skipped in (False, True):
        model, aggregation = Network(), make(name)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        trained(model, aggregation, optimizer, range(3))
        if skipped:
            before = [{key: value.clone() for key, value in model.state_dict().items()}, aggregation.state_dict()]
            optimizer.zero_grad()
            model.broken = what == "an infinite gradient"
            with pytest.warns(UserWarning, match="the step is skipped"):
                aggregation.backward(model, TASKS, batch_of(7, missing=not model.broken))
            optimizer.step()
            model.broken = False
            assert aggregation.skipped_steps == 1
            assert_same([dict(model.state_dict()), aggregation.state_dict() | {"skipped_steps": 0}], before)
        trained(model, aggregation, optimizer, range(3, 6))
        found.append([dict(model.state_dict()), aggregation.state_dict() | {"skipped_steps": 0}])
    assert_same(found[1], found[0])  # and it goes on as if the step had not been


def test_weights_that_overflow_take_no_random_number():
    class Huge(PCGrad):
        def __call__(self, gramian):
            return super().__call__(gramian) * torch.inf

    aggregation = GradientAggregation(Huge(0))
    before = aggregation.state_dict()
    with pytest.warns(UserWarning, match="The combined gradient is NaN or infinite"):
        aggregation.backward(Network(), TASKS, batch_of(0))
    assert torch.equal(aggregation.state_dict()["weighting"]["generator"], before["weighting"]["generator"])
