import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from wrapped_modules import PAIR, apart, batch_for, features, mlp

from cotrain import Batch, Task
from cotrain.pareto import ParetoManifold, ParetoObjective, simplex_lattice
from cotrain.pareto.running_statistics import surrounding_anchors

STATISTICS = ("trunk.1.running_mean", "trunk.1.running_var")


def data(n=600, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 4, generator=generator) + 1, torch.zeros(n, 2)


def manifold_of(**options):
    return apart(ParetoManifold(mlp(norm=True), PAIR, **options))


def reference(point, inputs, sizes):
    """A plain module's own statistics: reset, and the average over batches in training mode."""
    point = copy.deepcopy(point)
    norm = point.trunk[1]
    norm.reset_running_stats()
    norm.momentum = None
    norm.train()
    with torch.no_grad():
        for part in inputs.split(sizes):
            point(part)
    return norm


@pytest.mark.parametrize("form", ["full", "residual", "lora"])
def test_an_exports_statistics_are_those_of_a_plain_pass_over_the_samples(form):
    manifold, samples = manifold_of(form=form, rank=1), data()
    for preference in ([1.0, 0.0], [0.37, 0.63]):
        point = manifold.export(preference, recalibrate=samples)
        expected = reference(point, samples[0], [300, 300])
        torch.testing.assert_close(point.trunk[1].running_mean, expected.running_mean)
        torch.testing.assert_close(point.trunk[1].running_var, expected.running_var)
        assert point.trunk[1].momentum == 0.1


@pytest.mark.parametrize("n", [513, 1025, 7])
def test_no_last_batch_of_one(n):
    manifold_of().calibrate(data(n))


def test_calibrated_anchors_are_exact_at_lattice_points():
    manifold, samples = manifold_of(), data()
    manifold.calibrate(samples, divisions=5)
    for preference in simplex_lattice(2, 5):
        anchored, learnt = (manifold.export(preference, recalibrate=chosen) for chosen in (None, samples))
        for name in STATISTICS:
            torch.testing.assert_close(anchored.state_dict()[name], learnt.state_dict()[name], rtol=1e-5, atol=1e-5)


def test_between_anchors_a_mean_that_is_linear_is_exact():
    """The mean of a first layer's features is linear in its weights; a variance is not."""
    manifold, samples = manifold_of(), data()
    manifold.calibrate(samples, divisions=1)
    preference = [0.3, 0.7]
    anchored, learnt = (manifold.export(preference, recalibrate=chosen).trunk[1] for chosen in (None, samples))
    torch.testing.assert_close(anchored.running_mean, learnt.running_mean, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(anchored.running_var, learnt.running_var, rtol=1e-2)


def test_they_are_out_of_date_after_training():
    manifold, samples = manifold_of(), data(64)
    with pytest.raises(ValueError, match=r"manifold.calibrate\(training_samples\)"):
        manifold.eval()(samples[0], [0.5, 0.5])
    manifold.calibrate(samples)
    manifold(samples[0], [0.5, 0.5])
    ParetoObjective(manifold.train(), rays=2).backward(batch_for(samples[0]))
    with pytest.raises(ValueError, match="each preference needs its own"):
        manifold.eval()(samples[0], [0.5, 0.5])
    with pytest.raises(ValueError, match="recalibrate=training_samples"):
        manifold.export([0.5, 0.5])


def test_calibrating_changes_nothing_else(assert_same):
    manifold, samples = manifold_of(), data(64)
    before = {name: value.clone() for name, value in manifold.named_parameters()}
    random_state, mode = torch.get_rng_state(), manifold.training
    manifold.calibrate(samples)
    assert_same(dict(manifold.named_parameters()), before)
    assert torch.equal(random_state, torch.get_rng_state())
    assert manifold.training == mode
    assert manifold.fixed_by_name() == {}


def test_one_set_for_all_preferences_would_be_wrong():
    """Members that scale the features by .1 and by 10: the middle's statistics are neither's."""
    module = nn.Sequential(nn.Linear(4, 4, bias=False), nn.BatchNorm1d(4), nn.Linear(4, 2))
    manifold = ParetoManifold(module, PAIR, members="0.weight")
    with torch.no_grad():
        manifold.members.stacks["/0/weight"].mul_(torch.tensor([0.1, 10]).view(2, 1, 1))
    inputs, _ = samples = data()
    manifold.calibrate(samples)
    own = [manifold.export(corner)[:2](inputs) for corner in torch.eye(2)]
    for found in own:
        torch.testing.assert_close(found.std(0), torch.ones(4), rtol=0.02, atol=0.02)
    shared = manifold.export([0.5, 0.5])
    shared[0].weight.data.mul_(0.1 / 5.05)
    assert float(shared[:2](inputs).detach().std(0).max()) < 0.1


def test_they_follow_the_manifold_to_another_precision():
    manifold, samples = manifold_of(), data(64)
    manifold.calibrate(samples)
    inputs = features(4)
    single = manifold.eval()(inputs, [0.45, 0.55])
    double = manifold.double()(inputs.double(), [0.45, 0.55])
    assert double.dtype == torch.float64
    torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-5)


def test_they_go_with_the_state(assert_same):
    manifold, samples = manifold_of(), data(64)
    manifold.calibrate(samples)
    other = ParetoManifold(mlp(norm=True, seed=5), PAIR)
    other.load_state_dict(manifold.state_dict())
    assert_same(other.eval()(features(4), [0.33, 0.67]), manifold.eval()(features(4), [0.33, 0.67]))


def test_a_frozen_layer_keeps_the_statistics_that_it_came_with(tmp_path):
    module = mlp(norm=True)
    module.trunk[1].running_mean.normal_()
    module.trunk[1].eval()
    assert module.training
    manifold = apart(ParetoManifold(module, PAIR, members="all"))
    assert manifold.statistics.names == ()
    corner = torch.tensor([1.0, 0.0])
    inputs = data()[0]
    trained = manifold(inputs, corner)
    manifold.eval()
    assert torch.equal(manifold(inputs, corner), trained)
    assert torch.equal(manifold.train()(inputs, corner), trained)
    point = manifold.export(corner)
    assert torch.equal(point(inputs), trained)
    assert torch.equal(point.trunk[1].running_mean, module.trunk[1].running_mean)

    path, anew = tmp_path / "frozen.safetensors", mlp(norm=True).eval()
    manifold.save(path)
    assert torch.equal(ParetoManifold.load(path, anew)(inputs, corner), trained)
    assert not any(layer.training for layer in anew.modules())


def test_one_preference_per_sample_has_no_statistics():
    manifold = ParetoManifold(mlp(norm=True), PAIR, "lora", members="trunk.4.weight|trunk.4.bias", rank=1)
    manifold.calibrate(data(64))
    with pytest.raises(ValueError, match="Running statistics belong to one preference"):
        manifold.eval()(features(4), torch.full((6, 2), 0.5))


def test_without_running_statistics_nothing_is_needed():
    manifold = ParetoManifold(mlp(), PAIR).eval()
    manifold.calibrate(data(8))
    manifold(features(4), [0.5, 0.5])
    assert manifold.export([0.5, 0.5]) is not None


@pytest.mark.parametrize("names", [1, 2, 3, 4, 5, 6])
def test_default_lattices(names):
    tasks = [Task(str(number), "regression") for number in range(names)]
    manifold = ParetoManifold(mlp(tasks, norm=True), tasks)
    manifold.calibrate((data(16)[0], torch.zeros(16, names)))
    anchors = {1: 1, 2: 11, 3: 15, 4: 20, 5: 15, 6: 6}
    assert len(manifold.statistics.at_anchors[STATISTICS[0]]) == anchors[names]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5).filter(lambda v: sum(v) > 0.05), st.integers(1, 6))
def test_a_preference_is_the_barycentre_of_its_anchors(weights, divisions):
    preference = torch.tensor(weights, dtype=torch.float64) / sum(weights)
    rows, shares = surrounding_anchors(preference, divisions)
    lattice = simplex_lattice(len(weights), divisions).double()
    assert (shares > 0).all()
    assert len(rows) <= len(weights)
    torch.testing.assert_close(shares.sum(), torch.tensor(1.0, dtype=torch.float64))
    torch.testing.assert_close((shares.unsqueeze(1) * lattice[rows]).sum(0), preference, rtol=0, atol=1e-6)
    assert (lattice[rows] - preference).abs().max() <= 1 / divisions + 1e-6  # they surround it


@given(st.integers(1, 5), st.integers(1, 4))
def test_a_lattice_point_is_its_own_anchor(names, divisions):
    lattice = simplex_lattice(names, divisions)
    for row, point in enumerate(lattice):
        rows, shares = surrounding_anchors(point, divisions)
        assert int(rows[shares.argmax()]) == row
        assert float(shares.max()) > 1 - 1e-5


def test_a_loader_calibrates_as_its_samples_do():
    manifold, (inputs, targets) = manifold_of(), (torch.randn(48, 4), torch.zeros(48, 2))
    point = [0.3, 0.7]
    wanted = manifold.export(point, recalibrate=(inputs, targets)).eval()(inputs)
    loader = DataLoader(TensorDataset(inputs, targets), batch_size=48)
    torch.testing.assert_close(manifold.export(point, recalibrate=loader).eval()(inputs), wanted)
    first = DataLoader(TensorDataset(inputs, targets), batch_size=16)
    manifold.calibrate(first, most=16)
    short = manifold.export([1.0, 0.0]).state_dict()
    manifold.calibrate((inputs[:16], targets[:16]))
    torch.testing.assert_close(short, manifold.export([1.0, 0.0]).state_dict())


def test_a_small_last_batch_has_fewer_rays():
    """BatchNorm in training mode needs two samples."""
    manifold = manifold_of()
    with pytest.warns(UserWarning, match="chunks of 2 samples"):
        losses = ParetoObjective(manifold, rays=4).backward(
            Batch(torch.arange(5), torch.randn(5, 4), torch.zeros(5, 2))
        )
    assert len(losses) == 2
