import copy

import pytest
import torch
from torch import nn
from wrapped_modules import PAIR, ZOO, Head, apart, batch_for, features, made

from cotrain.pareto import ParetoManifold, ParetoObjective
from cotrain.pareto.template import NORMS

FORMS = ("full", "residual", "lora")
POINT = [0.3, 0.7]


def calibrated(manifold, inputs):
    manifold.calibrate((inputs, torch.zeros(len(inputs), 2)))
    return manifold


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ZOO)
def test_an_export_computes_what_the_manifold_does(name, form):
    module, inputs = made(name)
    manifold = calibrated(apart(ParetoManifold(module, PAIR, form, rank=1)), inputs).eval()
    point = manifold.export(POINT)
    assert not point.training
    torch.testing.assert_close(point(inputs), manifold(inputs, POINT), rtol=1e-5, atol=1e-6)
    with torch.no_grad():  # fused kernels of inference, where a layer has one
        torch.testing.assert_close(point(inputs), manifold(inputs, POINT), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(point(inputs), manifold(inputs, [0.9, 0.1]))


@pytest.mark.parametrize("form", ["full", "lora"])
@pytest.mark.parametrize("name", ["batch norm 1d", "batch norm 2d", "lstm", "attention", "transformer layer", "tied"])
def test_training_mode_is_the_modules_own(name, form):
    module, inputs = made(name)
    manifold = apart(ParetoManifold(module, PAIR, form, rank=1))
    point = manifold.export(POINT, recalibrate=(inputs, torch.zeros(6, 2))).train()
    torch.testing.assert_close(manifold.train()(inputs, POINT), point(inputs), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ZOO)
def test_every_parameter_takes_part_and_every_member_learns(name, form):
    module, inputs = made(name)
    manifold = apart(ParetoManifold(module, PAIR, form, rank=1))
    assert set(manifold.member_names) == {name for name, _ in module.named_parameters()}
    assert not list(manifold.shared)
    ParetoObjective(manifold, split=False, rays=2).backward(batch_for(inputs))
    for parameter_name, parameter in manifold.named_parameters():
        assert parameter.grad is not None, parameter_name
    stacks = manifold.members.stacks if form == "full" else manifold.members.residuals
    for key, stack in stacks.items():
        assert all(bool(member.any()) for member in stack.grad), key


@pytest.mark.parametrize("name", ZOO)
def test_the_corner_of_a_full_manifold_is_its_member(name):
    module, inputs = made(name)
    manifold = calibrated(apart(ParetoManifold(module, PAIR)), inputs)
    for row, corner in enumerate(torch.eye(2)):
        weights = dict(manifold.export(corner).named_parameters())
        for parameter_name, value in weights.items():
            key = next(key for key in manifold.members.stacks if key.replace("/", ".").strip(".") == parameter_name)
            torch.testing.assert_close(value, manifold.members.stacks[key][row], rtol=0, atol=0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ZOO)
def test_at_the_start_every_preference_is_the_module(name, form):
    module, inputs = made(name)
    manifold = ParetoManifold(module, PAIR, form, rank=1)
    for preference in ([1, 0], POINT, [0.5, 0.5]):
        point = manifold.export(preference, recalibrate=(inputs, torch.zeros(6, 2)))
        for key, value in module.state_dict().items():
            if not any(part in key for part in ("running_", "num_batches")):
                torch.testing.assert_close(point.state_dict()[key], value)


@pytest.mark.parametrize("name", ZOO)
def test_an_export_is_a_module_of_the_same_class_and_names(name):
    module, inputs = made(name)
    point = calibrated(apart(ParetoManifold(module, PAIR)), inputs).export(POINT)
    assert [type(layer) for layer in point.modules()] == [type(layer) for layer in module.modules()]
    assert list(point.state_dict()) == list(module.state_dict())
    assert [str(layer) for layer in point.modules()] == [str(layer) for layer in module.modules()]
    assert [value.requires_grad for value in point.parameters()] == [v.requires_grad for v in module.parameters()]


@pytest.mark.parametrize("name", ZOO)
def test_the_users_module_is_untouched(name, assert_same):
    module, inputs = made(name)
    module.train()
    module.register_forward_hook(lambda *_: None)
    state = copy.deepcopy(module.state_dict())
    identities = [id(value) for value in (*module.parameters(), *module.buffers(), *module.modules())]
    modes, hooks = [layer.training for layer in module.modules()], [dict(m._forward_hooks) for m in module.modules()]
    random_state = torch.get_rng_state()
    manifold = ParetoManifold(module, PAIR, members="all", init="independent")
    ParetoObjective(manifold, rays=2, split=False).backward(batch_for(inputs))
    calibrated(manifold, inputs).export(POINT)
    manifold.eval()(inputs, POINT)
    assert_same(dict(module.state_dict()), dict(state))
    assert torch.equal(torch.get_rng_state(), random_state)
    assert identities == [id(value) for value in (*module.parameters(), *module.buffers(), *module.modules())]
    assert modes == [layer.training for layer in module.modules()]
    assert hooks == [dict(layer._forward_hooks) for layer in module.modules()]
    assert all(value.grad is None for value in module.parameters())


@pytest.mark.parametrize("form", FORMS)
def test_tied_weights_stay_tied(form):
    module, _inputs = made("tied")
    manifold = apart(ParetoManifold(module, PAIR, form, rank=1))
    assert "words.weight" not in manifold.member_names
    point = manifold.export(POINT)
    assert point.words.weight is point.table.weight
    assert point.other_name is point.again


def test_a_hook_runs_as_it_does_without():
    module = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    module[0].register_forward_hook(lambda layer, given, found: 2 * found)
    inputs = features(4)
    torch.testing.assert_close(ParetoManifold(module, PAIR)(inputs, POINT), module(inputs))


def test_frozen_and_unused_parameters():
    module = Head(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), 4)
    module.body[0].weight.requires_grad_(False)
    module.unused = nn.Parameter(torch.ones(3))
    inputs = features(4)
    manifold = ParetoManifold(module, PAIR)
    assert "body.0.weight" not in manifold.member_names
    before = {key: value.clone() for key, value in manifold.shared.items()}
    optimizer = torch.optim.SGD(manifold.parameters(), lr=0.1)
    ParetoObjective(manifold, rays=2).backward(batch_for(inputs))
    optimizer.step()
    (frozen,) = manifold.shared.values()
    assert not frozen.requires_grad
    assert frozen.grad is None
    torch.testing.assert_close(frozen, *before.values(), rtol=0, atol=0)
    point = manifold.export(POINT)
    assert not point.body[0].weight.requires_grad
    torch.testing.assert_close(point.unused, torch.ones(3))


def test_norm_layers_are_those_with_running_statistics():
    assert issubclass(nn.SyncBatchNorm, NORMS)
    assert issubclass(nn.InstanceNorm1d, NORMS)
    assert not issubclass(nn.LayerNorm, NORMS)
