"""What is shared is found again when other parameters train, and when a batch reaches those that none reached."""

import pytest
import torch
from torch import nn

from cotrain import Batch, SharedTrunk, Task, TaskSet
from cotrain.aggregation import GradientAggregation, Sum, TransferenceAggregation, UPGrad

TASKS = TaskSet(Task(name, "binary") for name in "abc")
MAKERS = [
    lambda: Sum([1, 0, 0]),
    lambda: GradientAggregation(UPGrad()),
    lambda: TransferenceAggregation(candidates=[["a"]], hysteresis=0),
]


class Experts(nn.Module):
    def __init__(self):
        super().__init__()
        self.experts = nn.ModuleList([nn.Linear(4, 5), nn.Linear(4, 5), nn.Linear(4, 5)])

    def forward(self, inputs):
        chosen = (inputs[:, 0] > 0).long()
        features = torch.zeros(len(inputs), 5)
        for number, expert in enumerate(self.experts):
            rows = (chosen == number).nonzero().flatten()
            if len(rows):
                features = features.index_copy(0, rows, expert(inputs[rows]))
        return features.tanh()


def batch_of(seed, *, one_sided=False):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(16, 4, generator=generator)
    if one_sided:
        inputs[:, 0] = -inputs[:, 0].abs()
    return Batch(torch.arange(16), inputs, (torch.randn(16, 3, generator=generator) > 0).float())


def step(model, aggregation, batch):
    model.zero_grad()
    aggregation.backward(model, TASKS, batch)
    return {name: value.grad for name, value in model.named_parameters()}


@pytest.mark.parametrize("make", MAKERS)
def test_a_layer_that_is_unfrozen_is_shared(make):
    torch.manual_seed(0)
    model = SharedTrunk(nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh()), TASKS, 5)
    model.trunk[0].requires_grad_(False)
    aggregation = make()
    step(model, aggregation, batch_of(0))
    model.trunk[0].requires_grad_(True)
    found = step(model, aggregation, batch_of(0))
    assert found["trunk.0.weight"] is not None
    torch.testing.assert_close(found, step(model, make(), batch_of(0)))


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("resumed", [False, True])
def test_an_expert_that_a_later_batch_reaches_is_shared(make, resumed):
    torch.manual_seed(0)
    model = SharedTrunk(Experts(), TASKS, 5)
    aggregation = make()
    step(model, aggregation, batch_of(0, one_sided=True))
    if resumed:
        state, aggregation = aggregation.state_dict(), make()
        aggregation.load_state_dict(state)
    both = batch_of(1)
    found = step(model, aggregation, both)
    expected = step(model, make(), both)
    assert found["trunk.experts.1.weight"].any()
    assert found["trunk.experts.2.weight"] is None
    torch.testing.assert_close(found["trunk.experts.1.weight"], expected["trunk.experts.1.weight"])
    again = step(model, aggregation, both)
    torch.testing.assert_close(again["trunk.experts.1.weight"], found["trunk.experts.1.weight"])
