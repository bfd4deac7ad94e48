"""What a step's forward pass has computed is used again where it is the same, and only there."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transference_cases import MIXED, Net, conflicting, mixed_batch

from cotrain import Batch, SharedTrunk, Task, TaskSet
from cotrain.aggregation import transference_directions
from cotrain.aggregation.gradients import training_pass
from cotrain.aggregation.split import split_parameters
from cotrain.aggregation.transference_aggregation import TransferenceAggregation
from cotrain.aggregation.transference_directions import FromPasses, FromRows, Replay
from cotrain.aggregation.transference_tangents import tangent_of

TASKS = TaskSet(Task(f"t{n}", "binary") for n in range(4))


class Twice(nn.Module):
    """A layer that is called twice, and beside its module in some models."""

    def __init__(self, beside=0):
        super().__init__()
        self.layer, self.conv, self.beside = nn.Linear(8, 8), nn.Conv1d(1, 2, 3, padding=1), beside

    def forward(self, inputs):
        if self.beside == 1:
            inputs = F.linear(inputs, self.layer.weight, self.layer.bias).sin()
        inputs = self.layer(self.layer(inputs).tanh())
        if self.beside == 2:
            inputs = F.linear(inputs.cos(), self.layer.weight, self.layer.bias)
        return self.conv(inputs.unsqueeze(1)).tanh().flatten(1)


def step_of(beside):
    torch.manual_seed(0)
    model = SharedTrunk(Twice(beside), TASKS, 16)
    generator = torch.Generator().manual_seed(1)
    return model, Batch(torch.arange(20), torch.randn(20, 8, generator=generator), torch.ones(20, 4))


@pytest.mark.parametrize("beside", [0, 1, 2])
def test_slopes_are_those_of_all_gradients(beside, monkeypatch):
    used = []

    def watched(outputs, parameters, direction, layers):
        found = tangent_of(outputs, parameters, direction, layers)
        used.append(layers is not None)
        return found

    monkeypatch.setattr(transference_directions, "tangent_of", watched)
    model, batch = step_of(beside)
    split = split_parameters(model, TASKS, batch, None)
    replay = Replay.before(model, TASKS, batch)
    run = training_pass(model, TASKS, batch)
    replay.layers.stop()
    weights = 1 / run.losses.double()
    found, expected = FromPasses(run, split, replay).slopes(weights), FromRows.of(run, split).slopes(weights)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6 * float(expected.abs().max()))
    assert used == [beside == 0]  # a weight that is used without its layer as well cannot be told from it


def test_the_tangent_is_the_same_to_the_bit():
    torch.manual_seed(0)
    model, batch = Net().train(), mixed_batch()
    split = split_parameters(model, MIXED, batch, None)
    replay = Replay.before(model, MIXED, batch)
    training_pass(model, MIXED, batch)
    replay.layers.stop()
    direction = {name: torch.randn_like(value) for name, value in split.shared.items()}
    again = tangent_of(replay.outputs, split.shared, direction)
    assert torch.equal(tangent_of(replay.outputs, split.shared, direction, replay.layers), again)
    assert torch.equal(tangent_of(replay.outputs, split.shared, direction, replay.layers), again)  # nothing is used up


def test_no_hook_is_left_behind():
    model, tasks, batches = conflicting()
    aggregation = TransferenceAggregation()

    def hooks():
        return [hook for module in model.modules() for hook in module._forward_hooks]

    aggregation.backward(model, tasks, batches(0))
    assert not hooks()
    unlabelled = batches(1)
    unlabelled.targets.fill_(torch.nan)
    with pytest.warns(UserWarning, match="No task has a label"):
        aggregation.backward(model, tasks, unlabelled)
    assert not hooks()
    with pytest.raises(RuntimeError):
        aggregation.backward(model, tasks, Batch(torch.arange(3), torch.ones(3, 99), torch.ones(3, 6)))
    assert not hooks()


def test_layers_in_another_precision_are_run_again():
    torch.manual_seed(0)
    model, batch = Net().eval(), mixed_batch(missing=False)
    told = []
    aggregation = TransferenceAggregation(on_choice=told.append, hysteresis=0)
    with torch.autocast("cpu", torch.bfloat16):
        aggregation.backward(model, MIXED, batch)
    assert bool(torch.isfinite(told[0].weights).all())
    assert set(aggregation.decision.scores) <= {"joint", "closed-form"}


class Residual(nn.Module):
    def __init__(self, *, inplace):
        super().__init__()
        self.first, self.second, self.inplace = nn.Linear(8, 8), nn.Linear(8, 8), inplace

    def forward(self, inputs):
        hidden = self.first(inputs).tanh()
        outputs = self.second(hidden)
        if not self.inplace:
            return (outputs + hidden).tanh()
        outputs += hidden
        return outputs.tanh()


def flat(*, inplace):
    return nn.Sequential(
        nn.Unflatten(1, (1, 8)), nn.Conv1d(1, 2, 3, padding=1), nn.SiLU(inplace), nn.Flatten(), nn.Linear(16, 8)
    )


CHANGED_IN_PLACE = {
    "relu": lambda inplace: nn.Sequential(nn.Linear(8, 8), nn.ReLU(inplace)),
    "dropout": lambda inplace: nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.3, inplace)),
    "conv": lambda inplace: flat(inplace=inplace),
    "residual": lambda inplace: Residual(inplace=inplace),
}


@pytest.mark.parametrize("name", CHANGED_IN_PLACE)
@pytest.mark.parametrize("options", [{}, {"exact": False, "equal_norm": False}])
def test_in_place_is_as_out_of_place(name, options):
    found = []
    for inplace in (False, True):
        torch.manual_seed(0)
        model = SharedTrunk(CHANGED_IN_PLACE[name](inplace), TASKS, 8)
        inputs = torch.randn(32, 8)
        batch = Batch(torch.arange(32), inputs, (torch.randn(32, 4) > 0).float())
        aggregation = TransferenceAggregation(hysteresis=0, lr=0.1, **options)
        aggregation.backward(model, TASKS, batch)
        found.append(([value.grad for value in model.parameters()], aggregation.decision))
    torch.testing.assert_close(found[1][0], found[0][0])
    assert found[1][1].picked == found[0][1].picked
    assert found[1][1].scores == pytest.approx(found[0][1].scores)


def test_anomalies_are_looked_for_in_the_step_alone():
    found = []
    for watched in (False, True):
        model, tasks, batches = conflicting()
        with torch.autograd.set_detect_anomaly(watched):
            TransferenceAggregation().backward(model, tasks, batches(0))
        found.append([value.grad for value in model.parameters()])
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=0)
