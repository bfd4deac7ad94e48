import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from layered_networks import TRUNKS, N, batch_of, case, tasks_of
from torch import nn

from cotrain import Task, TaskSet
from cotrain.affinity import layer_derivatives, layerwise
from cotrain.affinity.layerwise import layerwise_derivatives
from cotrain.affinity.sample_outputs import SampleOutputs
from cotrain.affinity.sign_directions import SignDirections
from cotrain.model import pure_forward


def by_layers(model, tasks, batch, directions, parameters=None):
    numbers = SampleOutputs(tasks, batch.targets)
    return layerwise_derivatives(
        model,
        lambda values: tasks.pack(pure_forward(model, values, batch.inputs)),
        numbers,
        numbers.owner,
        directions.parameters if parameters is None else parameters,
        directions,
    )


def one_by_one(model, tasks, batch, directions):
    """[n, B, T]: every sample alone through the network, one backward pass per number, times the directions."""
    signs = next(directions.chunks(directions.number))[1]
    rows = torch.zeros(directions.number, len(batch.index), len(tasks))
    for b in range(len(batch.index)):
        numbers = SampleOutputs(tasks, batch.targets[b : b + 1])(tasks.pack(model(batch.inputs[b : b + 1])))[0]
        for t, number in enumerate(numbers):
            found = torch.autograd.grad(
                number, list(directions.parameters.values()), retain_graph=True, allow_unused=True
            )
            for sign, gradient in zip(signs.values(), found, strict=True):
                if gradient is not None:
                    rows[:, b, t] += sign.flatten(1) @ gradient.flatten()
    return rows


def assert_close(found, expected):
    assert found.shape == expected.shape
    assert expected.abs().max() > 0
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("n_tasks", [3, 13])
@pytest.mark.parametrize("name", TRUNKS)
def test_equals_one_backward_pass_per_sample_and_task(name, n_tasks):
    tasks = tasks_of(n_tasks)
    model, batch = case(*TRUNKS[name], tasks)
    parameters = {key: value for key, value in model.named_parameters() if key.startswith("trunk")}
    directions = SignDirections(3, 14, parameters)
    labelled = SampleOutputs(tasks, batch.targets).labelled
    found, expected = by_layers(model, tasks, batch, directions), one_by_one(model, tasks, batch, directions)
    assert_close(found[:, labelled], expected[:, labelled])


@settings(max_examples=15)
@given(
    names=st.sets(
        st.sampled_from(["trunk.0.weight", "trunk.0.bias", "trunk.2.weight", "trunk.4.bias", "heads.weight"]),
        min_size=1,
    )
)
def test_any_parameters_can_be_chosen(names):
    tasks = tasks_of(11)
    model, batch = case(
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 8, 3), nn.Flatten(), nn.Linear(8, 8)),
        (1, 5, 5),
        tasks,
    )
    own = dict(model.named_parameters())
    directions = SignDirections(0, 12, {name: own[name] for name in sorted(names)})
    labelled = SampleOutputs(tasks, batch.targets).labelled
    found, expected = by_layers(model, tasks, batch, directions), one_by_one(model, tasks, batch, directions)
    assert_close(found[:, labelled], expected[:, labelled])


@pytest.mark.parametrize("constant", [(layer_derivatives, "CHUNK_BYTES"), (layerwise, "SIGNS_BYTES")])
def test_the_size_of_the_chunks_does_not_matter(constant, monkeypatch):
    tasks = tasks_of(5)
    model, batch = case(*TRUNKS["small image"], tasks)
    directions = SignDirections(0, 9, dict(model.trunk.named_parameters(prefix="trunk")))
    expected = by_layers(model, tasks, batch, directions)
    monkeypatch.setattr(*constant, 1)
    assert_close(by_layers(model, tasks, batch, directions), expected)


def passes(monkeypatch, model, tasks, batch, directions):
    """How many backward passes it takes."""
    sizes, kept = [], layerwise._kept

    def watched(layers, ends, n_samples):
        sizes.append(ends.number)
        return kept(layers, ends, n_samples)

    monkeypatch.setattr(layerwise, "_kept", watched)
    by_layers(model, tasks, batch, directions)
    return sizes


@pytest.mark.parametrize(("n_tasks", "expected"), [(3, 3), (8, 8), (9, 8), (14, 8)])
def test_passes_begin_at_the_tasks_or_at_fewer_features(n_tasks, expected, monkeypatch):
    tasks = tasks_of(n_tasks)
    model, batch = case(*TRUNKS["linear"], tasks)
    directions = SignDirections(0, 14, dict(model.trunk.named_parameters(prefix="trunk")))
    assert passes(monkeypatch, model, tasks, batch, directions) == [expected]
    # Parameters behind the features are not reached from there.
    everything = SignDirections(0, 14, dict(model.named_parameters()))
    assert passes(monkeypatch, model, tasks, batch, everything)[-1] == n_tasks


class AroundTheFeatures(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.narrow, self.heads = nn.Linear(8, 12), nn.Linear(12, 2), nn.Linear(2, 12)

    def forward(self, inputs):
        hidden = torch.tanh(self.first(inputs))
        return self.heads(self.narrow(hidden)) + hidden


def test_features_that_a_way_leads_around_are_not_where_passes_begin(monkeypatch):
    torch.manual_seed(0)
    tasks = TaskSet([Task(f"task-{number}", "binary") for number in range(12)])
    model, batch = AroundTheFeatures(), batch_of(torch.randn(N, 8), 12)
    directions = SignDirections(0, 14, dict(model.first.named_parameters(prefix="first")))
    assert passes(monkeypatch, model, tasks, batch, directions) == [12]
    assert_close(by_layers(model, tasks, batch, directions), one_by_one(model, tasks, batch, directions))


class Outside(nn.Module):
    """A use of the layer's weight that no call shows, beside one that is shown, or alone."""

    def __init__(self, called):
        super().__init__()
        self.layer, self.called = nn.Linear(8, 8), called

    def forward(self, inputs):
        hidden = self.layer(inputs) if self.called else inputs
        return torch.tanh(F.linear(hidden, self.layer.weight))


class Touching(nn.Module):
    """Samples that see each other a little."""

    def __init__(self, by):
        super().__init__()
        self.layer, self.by = nn.Linear(8, 8), by

    def forward(self, inputs):
        hidden = torch.tanh(self.layer(inputs))
        return hidden + self.by * hidden.mean(0)


class Transposed(nn.Module):
    """As many rows as samples, but not a row per sample."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, inputs):
        return torch.tanh(self.layer(inputs.transpose(0, 1))).mean(0)


class Flat(Transposed):
    def forward(self, inputs):
        return torch.tanh(self.layer(inputs.flatten(0, 1))).view(N, -1, 8).mean(1)


class NoSingles(nn.Linear):
    def forward(self, inputs):
        if len(inputs) < 2:
            raise ValueError("It takes no single sample.")
        return super().forward(inputs)


OTHERS = {
    "not called": (lambda: Outside(called=False), (8,), "No layer was called that holds"),
    "also used otherwise": (lambda: Outside(called=True), (8,), "differ from those of a backward pass"),
    "batch statistics": (
        lambda: nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8, affine=False, track_running_stats=False)),
        (8,),
        "differ from those of a backward pass",
    ),
    "samples that touch a little": (lambda: Touching(0.01), (8,), "differ from those of a backward pass"),
    "rows of another kind": (Transposed, (N, 8), "differ from those of a backward pass"),
    "more rows than samples": (Flat, (5, 8), "not a row per sample"),
    "a layer that takes no single sample": (
        lambda: NoSingles(8, 8),
        (8,),
        "A NoSingles does not take samples one by one",
    ),
    "several results": (lambda: Last(nn.GRU(8, 8, batch_first=True)), (5, 8), "No layer was called that holds"),
}


class Last(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, inputs):
        return self.layer(inputs)[0][:, -1]


@pytest.mark.parametrize("name", OTHERS)
def test_a_model_that_is_not_a_chain_of_layers_is_refused(name):
    *parts, message = OTHERS[name]
    tasks = tasks_of(4)
    model, batch = case(*parts, tasks)
    directions = SignDirections(0, 14, dict(model.trunk.named_parameters(prefix="trunk")))
    with pytest.raises(RuntimeError, match=message):
        by_layers(model, tasks, batch, directions)


def test_what_is_not_finite_is_not_taken_for_right():
    tasks = tasks_of(4)
    model, batch = case(*TRUNKS["linear"], tasks)
    batch.inputs[1] = math.inf
    with pytest.raises(RuntimeError, match="differ from those of a backward pass"):
        by_layers(model, tasks, batch, SignDirections(0, 14, dict(model.trunk.named_parameters(prefix="trunk"))))


def test_forward_mode_is_left_what_it_does_cheaper(monkeypatch):
    tasks = tasks_of(4)
    model, batch = case(*TRUNKS["linear"], tasks)
    parameters = dict(model.trunk.named_parameters(prefix="trunk"))
    by_layers(model, tasks, batch, SignDirections(0, 4, parameters))
    with pytest.raises(RuntimeError, match="4 backward passes take longer than 3 directions"):
        by_layers(model, tasks, batch, SignDirections(0, 3, parameters))
    monkeypatch.setattr(layerwise, "KEPT_BYTES", 100)
    with pytest.raises(RuntimeError, match="bytes would have to be kept"):
        by_layers(model, tasks, batch, SignDirections(0, 4, parameters))
