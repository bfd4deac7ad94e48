from functools import partial

import pytest
import torch
from small_transference import MIXED, Net, Point, mixed_batch, quadratic_tasks, some_batch, warm, watched
from torch import nn
from torch.optim import Adam

from cotrain import SharedTrunk
from cotrain.affinity import Transference
from cotrain.affinity.calibration_fit import FitCalibration
from cotrain.affinity.calibration_steps import CalibrationSteps
from cotrain.affinity.observations import Observed
from cotrain.errors import StudyError
from cotrain.files import read_state, write_state

pytestmark = pytest.mark.filterwarnings("ignore:.*observed fewer than")
WAYS = [(by, sources) for by in ("difference", "fit") for sources in (None, 2)]


def smooth():
    torch.manual_seed(0)
    return SharedTrunk(nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh()), MIXED, 8)


def over(model, steps, **options):
    found = Transference(model, MIXED, **options)
    for step in steps:
        found.observe(mixed_batch(step))
    return found


@pytest.mark.parametrize("estimator", ["gram", "sketch"])
def test_calibrated_on_every_step_by_all_tasks_gram_is_exact_and_a_sketch_unbiased(estimator):
    exact = watched(range(60), estimator="lookahead").result()
    calibrated = watched(range(60), estimator=estimator, calibrate=1).result()
    assert calibrated.calibrated
    assert not exact.calibrated
    assert exact.calibration_r2 is None
    if estimator == "gram":
        torch.testing.assert_close(calibrated.matrix, exact.matrix)
    else:
        assert ((calibrated.matrix - exact.matrix).abs() < 6 * calibrated.stderr).all()
    assert (calibrated.calibration_r2 <= 1).all()


@pytest.mark.parametrize("estimator", ["gram", "sketch"])
@pytest.mark.parametrize("optimizer", [False, True])
def test_some_sources_are_measured_as_all_are(estimator, optimizer):
    """Row by row the exact step and its first order, by an optimizer's own step too; the other rows are unknown."""
    model = Net(MIXED)
    rule = {"optimizer": warm(model, partial(Adam, lr=0.01))} if optimizer else {"lr": 0.05}
    model.drop.p = 0.0
    few, whole = (
        over(model, range(1), estimator=estimator, calibrate=1, calibration_sources=sources, **rule)
        for sources in (2, None)
    )
    found, expected = (one.state_dict()["estimation"]["calibration"]["differences"]["sum"] for one in (few, whole))
    counts = few.state_dict()["estimation"]["calibration"]["differences"]["n"]
    drawn = counts.sum(1) > 0
    assert drawn.sum() == 2
    torch.testing.assert_close(found[drawn], expected[drawn], rtol=1e-3, atol=1e-6)
    assert (few.result().cost < whole.result().cost) == (estimator == "gram" or len(MIXED) > 2)


@pytest.mark.parametrize("estimator", ["gram", "sketch"])
def test_the_difference_by_some_sources_is_unbiased(estimator):
    """The mean over the orders of the sources is what all sources give."""
    model, batches = smooth(), range(4)
    exact = over(model, batches, estimator="lookahead", lr=0.5).result().matrix
    options = {"estimator": estimator, "lr": 0.5, "calibrate": 1, "calibration_sources": 2}
    found = torch.stack([over(model, batches, seed=seed, **options).result().matrix for seed in range(24)])
    plain = over(model, batches, estimator="gram", lr=0.5).result().matrix
    error = found.mean(0) - exact
    assert (error.abs() < 5 * found.std(0) / 24**0.5 + 1e-6).all()
    if estimator == "gram":
        assert error.abs().mean() < 0.2 * (plain - exact).abs().mean()


def test_every_source_comes_once_before_any_comes_twice():
    steps = CalibrationSteps(10, every=1, n_sources=4, seed=3)
    drawn = []
    for _ in range(10):
        drawn.append(steps._draw())
        steps.load_state_dict({"observations": 0, "steps": len(drawn)})
    counts = torch.bincount(torch.tensor([row for rows in drawn for row in rows]), minlength=10)
    assert counts.max() - counts.min() <= 1
    assert set().union(*drawn[:3]) >= set(range(10)) - drawn[2]
    assert CalibrationSteps(3, every=1, n_sources=7, seed=0)._draw() == {0, 1, 2}
    assert drawn[0] != CalibrationSteps(10, every=1, n_sources=4, seed=4)._draw()


def test_a_source_that_was_never_drawn_is_not_corrected_and_has_no_error_bar():
    plain = watched(range(20), estimator="gram").result()
    one = watched(range(20), estimator="gram", calibrate=20, calibration_sources=1).result()
    same = (one.matrix == plain.matrix).all(1)
    assert same.sum() == 3
    assert one.stderr.isnan().all()


def test_the_fit_finds_the_curvature_of_alike_quadratic_losses():
    """All bend alike: what a step loses to curvature is proportional to |g_i|^2 / L_j, and the fit is exact."""
    tasks, _, curvatures, _ = quadratic_tasks(5, 4, torch.Generator().manual_seed(0))
    curvatures[:] = 1.5 * torch.eye(4, dtype=torch.float64)
    torch.manual_seed(0)
    model = Point(tasks, 4)
    found = {}
    for name, options in {
        "exact": {"estimator": "lookahead"},
        "gram": {"estimator": "gram"},
        "fit": {"estimator": "gram", "calibrate": 3, "calibrate_by": "fit"},
        "few": {"estimator": "gram", "calibrate": 3, "calibrate_by": "fit", "calibration_sources": 2},
        "sketch": {"estimator": "sketch", "last_module": "exact", "calibrate": 3, "calibrate_by": "fit"},
    }.items():
        watching = Transference(model, tasks, lr=0.3, **options)
        g = torch.Generator().manual_seed(5)
        for _ in range(30):
            with torch.no_grad():
                model.theta.copy_(torch.randn(4, generator=g, dtype=torch.float64))
            watching.observe(some_batch(tasks))
        found[name] = watching.result()
    exact = found["exact"].matrix
    assert (found["gram"].matrix - exact).abs().max() > 0.1
    for name in ("fit", "few", "sketch"):
        torch.testing.assert_close(found[name].matrix, exact, rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(found[name].calibration_r2, torch.ones(5).double())


def test_the_fit_is_that_of_plain_least_squares():
    g = torch.Generator().manual_seed(0)
    n, steps = 6, 30
    calibration = FitCalibration(n, CalibrationSteps(n, every=1, n_sources=None, seed=0))
    rows = [torch.randn(3, n, n, generator=g).double() for _ in range(steps)]
    own, below = torch.rand(steps, n, generator=g).double(), 1 + torch.rand(steps, n, generator=g).double()
    missing = [torch.rand(n, n, generator=g) < 0.2 for _ in range(steps)]
    for k, (z, first, _) in enumerate(rows):
        z[missing[k]] = torch.nan
        step = type("Step", (), {"exact": z, "first_order": first, "own_falls": own[k], "passes": 3.0})
        calibration._steps.measure = lambda place, observed, step=step: step
        assert calibration.observe(None, Observed(0.0, None, below[k], own[k]), 2.0) == 3.0
    mean, stderr = torch.randn(n, n, generator=g).double(), torch.rand(n, n, generator=g).double()
    found, error = calibration.correct(mean, stderr)
    curvature = torch.stack([own[k][:, None] / below[k] for k in range(steps)])
    for j in range(n):
        kept = [(k, i) for k in range(steps) for i in range(n) if i != j and not missing[k][i, j]]
        x = torch.stack([torch.stack([rows[k][1][i, j], curvature[k, i, j]]) for k, i in kept])
        y = torch.stack([rows[k][0][i, j] for k, i in kept])
        beta = torch.linalg.lstsq(x, y[:, None]).solution[:, 0]
        residual = ((y - x @ beta) ** 2).sum()
        terms = torch.stack([mean[:, j], curvature.mean(0)[:, j]], 1)
        torch.testing.assert_close(found[:, j], terms @ beta)
        spread = torch.einsum("ip,pq,iq->i", terms, torch.linalg.inv(x.T @ x), terms) * residual / (len(y) - 2)
        torch.testing.assert_close(error[:, j], ((beta[0] * stderr[:, j]) ** 2 + spread).sqrt())
        r2 = 1 - residual / ((y - y.mean()) ** 2).sum()
        torch.testing.assert_close(calibration.r2()[j], r2)


def test_with_too_few_exact_values_nothing_is_fitted():
    plain = watched(range(20), estimator="gram").result()
    fitted = watched(range(20), estimator="gram", calibrate=20, calibrate_by="fit").result()
    assert torch.equal(fitted.matrix, plain.matrix)
    assert fitted.stderr.isnan().all()


@pytest.mark.parametrize(("by", "sources"), WAYS)
def test_calibration_survives_an_interruption_and_can_be_merged(by, sources, tmp_path, assert_same):
    options = {"estimator": "sketch", "calibrate": 3, "calibrate_by": by, "calibration_sources": sources}
    whole, half = watched(range(16), **options), watched(range(8), **options)
    write_state(tmp_path / "state.safetensors", half.state_dict())
    resumed = watched([], **options)
    resumed.load_state_dict(read_state(tmp_path / "state.safetensors"))
    for step in range(8, 16):
        resumed.observe(mixed_batch(step))
    assert_same(resumed.state_dict(), whole.state_dict())
    other = watched(range(8, 15), **options)
    half.merge(other.state_dict())
    found = half.result()
    assert found.n_observations == 15
    assert found.calibration_r2.isfinite().all()
    assert found.matrix.isfinite().all()


def test_a_state_of_another_calibration_is_refused():
    state = watched(range(2), estimator="gram", calibrate=1, calibrate_by="fit").state_dict()
    for options in ({}, {"calibrate": 1}):
        with pytest.raises(StudyError, match=r"of gram, calibrated by fit on .*, not of gram"):
            watched([], estimator="gram", **options).load_state_dict(state)


@pytest.mark.parametrize("sources", [None, 3])
@pytest.mark.parametrize("by", ["difference", "fit"])
def test_calibrating_changes_nothing_of_the_training(by, sources, assert_same):
    torch.manual_seed(0)
    model = Net(MIXED)
    optimizer = warm(model, partial(Adam, lr=0.01))
    before = [value.clone() for value in (*model.state_dict().values(), torch.get_rng_state())]
    gradients = [None if value.grad is None else value.grad.clone() for value in model.parameters()]
    watching = over(
        model, range(3), estimator="sketch", optimizer=optimizer, calibrate=1, calibrate_by=by,
        calibration_sources=sources,
    )  # fmt: skip
    assert watching.result().calibrated
    assert_same([*model.state_dict().values(), torch.get_rng_state()], before)
    assert_same([value.grad for value in model.parameters()], gradients)


class SpoiltHead(nn.Module):
    """The last task's outputs are finite, their derivative is not."""

    def __init__(self):
        super().__init__()
        self.model = smooth()

    def forward(self, inputs):
        outputs = self.model(inputs)
        return torch.cat([outputs[:, :-2], 1 + (outputs[:, -2:] * 0).abs().sqrt()], 1)


@pytest.mark.parametrize(
    ("trouble", "estimator"), [("no label", "gram"), ("no label", "sketch"), ("no derivative", "sketch")]
)
def test_a_calibration_without_usable_sources_is_left_out(trouble, estimator):
    """Other tasks are measured, but none that was drawn."""
    seed = next(s for s in range(99) if CalibrationSteps(4, every=1, n_sources=1, seed=s)._draw() == {3})
    model, batch = SpoiltHead() if trouble == "no derivative" else smooth(), mixed_batch(missing=False)
    if trouble == "no label":
        batch.targets[:, 3] = torch.nan
    options = {"calibrate": 1, "calibration_sources": 1, "lr": 0.05, "seed": seed}
    watching = Transference(model, MIXED, estimator=estimator, **options)
    watching.observe(batch)
    assert watching.state_dict()["estimation"]["calibration"]["n"].sum() == 0
    assert watching.state_dict()["counts"]["observations"] == 1
