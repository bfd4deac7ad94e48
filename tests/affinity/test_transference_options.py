import pytest
import torch
from small_transference import MIXED, Net, Point, measured, mixed_batch, quadratic_tasks, some_batch, watched
from torch import nn
from torch.optim import SGD

from cotrain import Batch, SharedTrunk, Task, TaskSet
from cotrain.affinity import Transference, reliability
from cotrain.errors import StudyError
from cotrain.lookahead import losses_at

pytestmark = pytest.mark.filterwarnings("ignore:.*observed fewer than")
ESTIMATORS = ["lookahead", "gram", "sketch"]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_window_of_weights_is_the_mean_over_it(estimator):
    windowed = watched(range(30), estimator=estimator, weight=lambda call: 2.0 * (10 <= call < 25))
    assert windowed.result().n_observations == 15
    ended = watched(range(25), estimator=estimator, weight=lambda call: float(call >= 10))
    torch.testing.assert_close(windowed.result().matrix, ended.result().matrix, equal_nan=True)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_processes_can_be_merged(estimator):
    one, other = watched(range(15), estimator=estimator), watched(range(15, 40), estimator=estimator)
    expected = one.result(), other.result()
    one.merge(other.state_dict())
    found = one.result()
    n = [part.observations for part in expected]
    total = sum(part.matrix * count for part, count in zip(expected, n, strict=True))
    torch.testing.assert_close(found.matrix, total / (n[0] + n[1]))
    assert found.n_observations == 40
    assert torch.equal(found.observations, n[0] + n[1])
    with pytest.raises(StudyError, match="not of"):
        one.merge(Transference(Net(MIXED), MIXED[:3], estimator=estimator).state_dict())


def test_measuring_stops_when_the_ranking_is_settled():
    """Full batches of one data set differ by nothing but dropout, so the ranking is soon known."""
    torch.manual_seed(0)
    transference = Transference(Net(MIXED), MIXED, lr=0.05, every=1, until=0.5)
    for _ in range(200):
        transference.observe(mixed_batch(0))
    assert transference.settled
    found = transference.result()
    assert found.n_observations < 200
    assert found.n_observations % 20 == 0
    assert reliability(found.matrix, found.stderr).mean() >= 0.5
    resumed = Transference(Net(MIXED), MIXED, until=0.5)
    resumed.load_state_dict(transference.state_dict())
    assert resumed.settled


def test_reliability_is_the_squared_correlation_with_the_truth():
    g = torch.Generator().manual_seed(0)
    truth = torch.randn(400, 400, generator=g).double()
    noise = 0.7
    observed = truth + noise * torch.randn(400, 400, generator=g).double()
    found = reliability(observed, torch.full_like(observed, noise))
    off = ~torch.eye(400, dtype=torch.bool)
    pairs = [torch.corrcoef(torch.stack([truth[off[:, j], j], observed[off[:, j], j]]))[0, 1] ** 2 for j in range(400)]
    assert found.mean() == pytest.approx(float(torch.stack(pairs).mean()), abs=0.01)
    assert reliability(truth[:2, :2], torch.ones(2, 2)).isnan().all()
    assert reliability(truth[:5, :5], torch.full((5, 5), torch.nan)).isnan().all()
    assert reliability(truth[:5, :5], torch.full((5, 5), 100.0)).eq(0).all()


def test_per_rate_divides_by_the_rate():
    torch.manual_seed(1)
    tasks, *_ = quadratic_tasks(3, 4, torch.Generator().manual_seed(0))
    model = Point(tasks, 4)
    plain = measured(model, tasks, some_batch(tasks), lr=0.02)
    divided = measured(model, tasks, some_batch(tasks), lr=0.02, per_rate=True)
    torch.testing.assert_close(divided.matrix, plain.matrix / 0.02)
    assert divided.rule == "plain gradient step, lr 0.02, per unit of rate"
    optimizer = SGD([{"params": [model.theta], "lr": 0.02}], lr=1.0)
    again = measured(model, tasks, some_batch(tasks), optimizer=optimizer, per_rate=True)
    torch.testing.assert_close(again.matrix, divided.matrix)
    optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(1))], "lr": 0.5})
    with pytest.raises(ValueError, match=r"one learning rate for all parameters. Got \[0.02, 0.5\]"):
        measured(model, tasks, some_batch(tasks), optimizer=optimizer, per_rate=True)


def test_stepped_heads_step_before_the_loss_is_taken_again():
    """Equal to steps written out: heads by their own gradient, the trunk by that of the source."""
    tasks = TaskSet([Task(name, "binary") for name in "abc"])
    torch.manual_seed(0)
    model = SharedTrunk(nn.Sequential(nn.Linear(5, 4), nn.Tanh()), tasks, 4).double()
    batch = Batch(torch.arange(12), torch.randn(12, 5).double(), (torch.rand(12, 3) > 0.5).double())
    lr = 0.3
    found = measured(model, tasks, batch, lr=lr, heads="stepped", estimator="lookahead")
    values = dict(model.named_parameters())
    before = losses_at(model, tasks, batch, values, seed=0)[0]
    heads = {name: value for name, value in values.items() if name.startswith("heads")}
    slopes = torch.autograd.grad(before.sum(), heads.values(), retain_graph=True)
    stepped = {name: value - lr * slope for (name, value), slope in zip(heads.items(), slopes, strict=True)}
    for i in range(3):
        trunk = {name: value for name, value in values.items() if name.startswith("trunk")}
        slopes = torch.autograd.grad(before[i], trunk.values(), retain_graph=True)
        moved = {name: value - lr * slope for (name, value), slope in zip(trunk.items(), slopes, strict=True)}
        after = losses_at(model, tasks, batch, {**moved, **stepped}, seed=0)[0]
        torch.testing.assert_close(found.matrix[i], (1 - after / before).detach())


def test_nothing_but_shared_parameters_has_no_heads_to_step():
    tasks, *_ = quadratic_tasks(3, 4, torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    model = Point(tasks, 4)
    fixed = measured(model, tasks, some_batch(tasks), lr=0.02)
    stepped = measured(model, tasks, some_batch(tasks), lr=0.02, heads="stepped")
    assert torch.equal(fixed.matrix, stepped.matrix)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_bfloat16_autocast_agrees_with_float32(estimator):
    def run(enabled):
        torch.manual_seed(0)
        trunk = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 16), nn.Tanh())
        model = SharedTrunk(trunk, MIXED, 16)
        transference = Transference(model, MIXED, estimator=estimator, lr=0.05, every=1)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            for step in range(40):
                transference.observe(mixed_batch(step))
        return transference.result()

    full, half = run(False), run(True)
    assert ((full.matrix - half.matrix).abs() < 3 * full.stderr.clamp(min=1e-5)).all()


def test_a_seed_has_masks_and_directions_of_its_own():
    first, second = (watched(range(3), estimator="sketch", seed=seed).result().matrix for seed in (1, 2))
    assert not torch.equal(first, second)
    assert torch.equal(first, watched(range(3), estimator="sketch", seed=1).result().matrix)


def test_an_optimizer_of_another_model_is_refused():
    other = SGD(Net(MIXED).parameters(), lr=0.1)
    with pytest.raises(ValueError, match="SGD holds none of the model's shared parameters"):
        measured(Net(MIXED), MIXED, mixed_batch(), optimizer=other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"along": "losses"}, r"along must be one of \['parameters', 'tasks'\]. Got 'losses'"),
        ({"last_module": True}, "last_module must be one of .*'exact'.* Got True"),
        ({"calibrate": 5, "calibrate_by": "line"}, "calibrate_by must be one of .*'difference', 'fit'.* Got 'line'"),
        ({"heads": "moved"}, "heads must be one of .*'stepped'.* Got 'moved'"),
        ({"calibrate": 5, "calibration_sources": 0}, "calibration_sources must be at least 1"),
        ({"calibration_sources": 3}, "calibrate_by and calibration_sources need calibrate"),
        ({"calibrate_by": "fit"}, "calibrate_by and calibration_sources need calibrate"),
    ],
)
def test_what_is_not_known_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Transference(Net(MIXED), MIXED, estimator="sketch", **options)


def test_auto_counts_the_price_of_the_variant():
    tasks = TaskSet([Task(f"t{i}", "binary") for i in range(30)])
    model = SharedTrunk(nn.Linear(3, 4), tasks, 4)
    batch = Batch(torch.arange(8), torch.randn(8, 3), torch.ones(8, 30))
    for options, words in (
        ({}, "one in 2 steps"),
        ({"along": "tasks"}, "one in 3 steps"),
        ({"directions": 64}, "one in 6 steps"),
        ({"directions": 64, "along": "tasks", "last_module": "exact"}, "one in 11 steps"),
    ):
        assert words in measured(model, tasks, batch, **options).choice
