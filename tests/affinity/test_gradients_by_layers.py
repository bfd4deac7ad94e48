import pytest
import torch
import torch.nn.functional as F
from layered_networks import TRUNKS, N, batch_of, case, tasks_of
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from torch.optim import Adam

from cotrain import Batch, SharedTrunk
from cotrain.affinity import Transference, estimators, gradients_by_layers, layer_stacks
from cotrain.lookahead import task_gradients

by_layers = gradients_by_layers.gradients_by_layers

pytestmark = pytest.mark.filterwarnings("ignore:.*observed fewer than")


def trunk_of(model):
    return dict(model.trunk.named_parameters(prefix="trunk"))


def assert_same(found, expected, tolerance=1e-5):
    """Losses, labels, and per parameter the gradients, their sums and their inner products."""
    losses, labelled, gradients = found
    assert torch.equal(losses, expected[0])
    assert torch.equal(labelled, expected[1])
    n = len(losses)
    whole, weights = gradients.of(range(n)), torch.arange(n) - 1.5
    weighted, some = gradients.weighted(weights), gradients.of([n - 1, 0])
    assert whole.keys() == weighted.keys() == expected[2].keys()
    for name, gradient in expected[2].items():
        most = tolerance * max(gradient.abs().max(), 1e-3)
        assert whole[name].dtype == gradient.dtype
        assert (whole[name] - gradient).abs().max() <= most
        assert (some[name] - gradient[[n - 1, 0]]).abs().max() <= most
        assert (weighted[name] - torch.tensordot(weights.to(gradient.dtype), gradient, 1)).abs().max() <= 5 * n * most
    flat = torch.cat([gradient.flatten(1) for gradient in expected[2].values()], 1).double()
    products = flat @ flat.T
    assert products.abs().max() > 0
    assert (gradients.products() - products).abs().max() <= 5 * tolerance * products.abs().max()


def both(model, tasks, batch, parameters):
    return tuple(way(model, tasks, batch, parameters, seed=3) for way in (by_layers, task_gradients))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", TRUNKS)
def test_equals_ordinary_backward_passes(name, training):
    tasks = tasks_of(9)
    model, batch = case(*TRUNKS[name], tasks)
    model.train(training)
    assert_same(*both(model, tasks, batch, trunk_of(model)))


@pytest.mark.parametrize("chosen", [["trunk.0.weight"], ["trunk.0.bias", "trunk.2.weight"], ["trunk.2.bias"]])
@pytest.mark.parametrize("name", ["linear", "small image"])
def test_any_parameters_can_be_chosen(name, chosen):
    tasks = tasks_of(5)
    model, batch = case(*TRUNKS[name], tasks)
    own = dict(model.named_parameters())
    parameters = {key: own[key] for key in [*(key for key in chosen if key in own), "heads.weight"]}
    assert_same(*both(model, tasks, batch, parameters))


def taken(monkeypatch, model, tasks, batch):
    """The parameters whose gradients are products."""
    found, sound = [], gradients_by_layers._sound

    def watched(*given):
        layers = sound(*given)
        found.extend(name for layer in layers for name in layer.names)
        return layers

    monkeypatch.setattr(gradients_by_layers, "_sound", watched)
    assert_same(*both(model, tasks, batch, trunk_of(model)))
    return set(found)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("linear", {"trunk.0.weight", "trunk.0.bias", "trunk.2.weight"}),
        ("linear, many rows", {"trunk.3.weight", "trunk.3.bias"}),
        ("small image", {"trunk.0.weight", "trunk.0.bias", "trunk.3.weight", "trunk.3.bias"}),
        ("groups, small", {"trunk.3.weight", "trunk.3.bias"}),
        ("residual", {"trunk.first.weight", "trunk.first.bias"}),
        ("tied", set()),
        ("unused", {"trunk.used.weight", "trunk.used.bias"}),
    ],
)
def test_products_are_taken_where_they_are_worth_it(name, expected, monkeypatch):
    tasks = tasks_of(5)
    model, batch = case(*TRUNKS[name], tasks)
    assert taken(monkeypatch, model, tasks, batch) == expected


class AlsoElsewhere(nn.Module):
    """A weight that is used outside of its layer's call as well."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, inputs):
        return F.linear(torch.tanh(self.second(torch.tanh(self.first(inputs)))), self.first.weight)


class Doubled(nn.Linear):
    """A layer that is a Linear and does something else."""

    def forward(self, inputs):
        return 2 * super().forward(inputs)


def changed_by_a_hook():
    layer = nn.Linear(8, 8)
    layer.register_forward_hook(lambda module, given, output: output * 3)
    return nn.Sequential(layer, nn.Tanh(), nn.Linear(8, 8))


@pytest.mark.parametrize(
    ("trunk", "expected"),
    [
        (AlsoElsewhere, {"trunk.second.weight", "trunk.second.bias"}),
        (lambda: nn.Sequential(Doubled(8, 8), nn.Tanh(), nn.Linear(8, 8)), {"trunk.2.weight", "trunk.2.bias"}),
        (changed_by_a_hook, {"trunk.2.weight", "trunk.2.bias"}),
        (lambda: nn.Sequential(weight_norm(nn.Linear(8, 8)), nn.Linear(8, 8)), {"trunk.1.weight", "trunk.1.bias"}),
    ],
)
def test_a_layer_that_is_not_what_it_seems_is_differentiated_in_the_ordinary_way(trunk, expected, monkeypatch):
    tasks = tasks_of(5)
    model, batch = case(trunk, (8,), tasks)
    assert taken(monkeypatch, model, tasks, batch) == expected


def test_inputs_that_are_nearly_the_same_in_all_rows_lose_no_digits():
    """The rows' products are then 10^8 times what is left of them in a gradient."""
    tasks = tasks_of(1)
    torch.manual_seed(0)
    model = SharedTrunk(nn.Linear(50, 4, bias=False), tasks, 4)
    with torch.no_grad():
        model.trunk.weight.sub_(model.trunk.weight.mean(1, keepdim=True))
        model.heads.weight.mul_(1e-3)
        model.heads.bias.zero_()
    inputs = torch.randn(20, 50) + 1e4
    batch = Batch(torch.arange(20), inputs, (torch.arange(20) % 2).float()[:, None])
    assert_same(*both(model, tasks, batch, trunk_of(model)), tolerance=1e-3)


def test_a_nan_in_one_task_leaves_the_others():
    tasks = tasks_of(5)
    model, batch = case(*TRUNKS["small image"], tasks)
    expected = by_layers(model, tasks, batch, trunk_of(model), seed=0)
    with torch.no_grad():
        model.heads.bias[0] = torch.nan
    losses, _, gradients = by_layers(model, tasks, batch, trunk_of(model), seed=0)
    assert losses.isnan().tolist() == [True, False, False, False, False]
    whole = gradients.of(range(5))
    assert all(not value[0].any() for value in whole.values())
    for name, value in expected[2].of(range(5)).items():
        assert torch.equal(whole[name][1:], value[1:])


def test_a_gradient_that_is_not_finite_leaves_the_others():
    tasks = tasks_of(4)
    own = lambda outputs, targets: (outputs.sum(1) * 0).sqrt() + 0 * targets  # noqa: E731 - slope 0 times infinity
    tasks = type(tasks)([*tasks[:3], type(tasks[0])("root", "custom", 2, loss=own)])
    model, batch = case(*TRUNKS["linear"], tasks)
    found, expected = both(model, tasks, batch, trunk_of(model))
    for name, value in found[2].of(range(4)).items():
        assert torch.equal(value.isnan(), expected[2][name].isnan())
        torch.testing.assert_close(value[:3], expected[2][name][:3])
    assert found[2].products().diagonal().isnan().tolist() == [False, False, False, True]


def test_a_task_without_labels_has_no_gradient():
    tasks = tasks_of(5)
    model, batch = case(*TRUNKS["small image"], tasks)
    batch.targets[:, 2] = torch.nan
    found, expected = both(model, tasks, batch, trunk_of(model))
    assert_same(found, expected)
    assert found[1].tolist() == [True, True, False, True, True]
    batch.targets[:] = torch.nan
    assert not by_layers(model, tasks, batch, trunk_of(model), seed=0)[2].products().any()


def test_frozen_parameters_take_no_part():
    tasks = tasks_of(5)
    model, batch = case(*TRUNKS["linear"], tasks)
    model.trunk[0].bias.requires_grad_(False)
    model.trunk[2].weight.requires_grad_(False)
    parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
    assert_same(*both(model, tasks, batch, parameters))


@pytest.mark.parametrize("name", ["linear", "small image", "attention"])
def test_autocast_is_as_near_as_its_precision(name):
    tasks = tasks_of(5)
    model, batch = case(*TRUNKS[name], tasks)
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = both(model, tasks, batch, trunk_of(model))
    assert_same(found, expected, tolerance=0.03)


@pytest.mark.parametrize("constant", ["AT_ONCE", "PATCHES_BYTES"])
def test_the_size_of_the_chunks_does_not_matter(constant, monkeypatch):
    tasks = tasks_of(7)
    model, batch = case(*TRUNKS["small image"], tasks)
    monkeypatch.setattr(layer_stacks, constant, 1)
    assert_same(*both(model, tasks, batch, trunk_of(model)))


def test_float64_stays_exact():
    tasks = tasks_of(5)
    model, batch = case(*TRUNKS["small image"], tasks)
    model.double()
    batch = Batch(batch.index, batch.inputs.double(), batch.targets.double())
    assert_same(*both(model, tasks, batch, trunk_of(model)), tolerance=1e-12)


@pytest.mark.parametrize("rule", ["plain", "adam"])
@pytest.mark.parametrize("estimator", ["gram", "lookahead"])
def test_transference_is_the_same_by_both_ways(estimator, rule, monkeypatch):
    tasks = tasks_of(5)
    model, batch = case(*TRUNKS["small image"], tasks)
    batch = batch_of(torch.randn(4 * N, *batch.inputs.shape[1:]), 5)
    optimizer = Adam(model.parameters(), lr=0.01)
    tasks.losses(model(batch.inputs), batch.targets).sum().backward()
    optimizer.step()
    step = {"lr": 0.05} if rule == "plain" else {"optimizer": optimizer}
    found = []
    for few in (0, 100):
        monkeypatch.setattr(estimators, "FEW_TASKS", few)
        transference = Transference(model, tasks, estimator=estimator, calibrate=1, every=1, **step)
        before = [value.clone() for value in model.parameters()], torch.get_rng_state()
        transference.observe(batch)
        assert all(torch.equal(*pair) for pair in zip(before[0], model.parameters(), strict=True))
        assert torch.equal(before[1], torch.get_rng_state())
        found.append(transference.result())
    assert found[0].matrix.abs().max() > 1e-5
    torch.testing.assert_close(found[0].matrix, found[1].matrix, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(found[0].cosine, found[1].cosine, rtol=1e-4, atol=1e-5)
    assert found[0].joint_descent == found[1].joint_descent
    assert not any(module._forward_hooks for module in model.modules())
