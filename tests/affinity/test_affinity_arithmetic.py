import math
from functools import reduce

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cotrain.affinity import Affinity
from cotrain.affinity.statistics import RunningMean

TASKS = ("a", "b", "c", "d")
CLOSE = {"rtol": 1e-12, "atol": 1e-12, "equal_nan": True}
NUMBERS = ("matrix", "stderr", "observations", "cosine", "floored", "effective", "calibration_r2")


def measured(n, seed=0, missing=0.3, **changes):
    """An affinity as it comes out of n observed batches, and the batches."""
    g = torch.Generator().manual_seed(seed)
    history = torch.randn(n, 4, 4, generator=g, dtype=torch.float64) / 100
    history[torch.rand(n, 4, 4, generator=g) < missing] = torch.nan
    history[:, 1, 2] = torch.nan if seed % 2 else history[:, 1, 2]
    running = RunningMean(4, 4)
    for values in history:
        running.add(values)
    cosine = torch.rand(4, 4, generator=g, dtype=torch.float64)
    cosine[running.count == 0] = torch.nan
    parts = {
        "matrix": running.mean(),
        "stderr": running.stderr(),
        "tasks": TASKS,
        "estimator": "gram",
        "n_observations": n,
        "observations": running.count,
        "rule": "plain step, rate 0.01",
        "joint_descent": float(torch.rand(1, generator=g)) if n else math.nan,
        "cosine": cosine,
        "floored": torch.randint(0, 5, (4,), generator=g),
        "cost": float(torch.rand(1, generator=g)) if n else math.nan,
        "effective": running.effective_n(),
        "calibrated": True,
        "calibration_r2": torch.rand(4, generator=g, dtype=torch.float64) if n else torch.full((4,), math.nan),
    }
    return Affinity(**{**parts, **changes}), history


def assert_alike(one, other):
    for name in NUMBERS:
        torch.testing.assert_close(getattr(one, name), getattr(other, name), **CLOSE)
    for name in ("joint_descent", "cost"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-12, nan_ok=True)
    for name in ("tasks", "estimator", "rule", "n_observations", "calibrated", "choice", "form"):
        assert getattr(one, name) == getattr(other, name)


sizes = st.integers(0, 60)
seeds = st.integers(0, 20)


@given(sizes=st.lists(sizes, min_size=1, max_size=5), seed=seeds)
def test_pooling_the_parts_gives_the_mean_of_the_whole(sizes, seed):
    parts, histories = zip(*(measured(n, seed + k) for k, n in enumerate(sizes)), strict=True)
    history = torch.cat(histories)
    pooled = reduce(lambda first, second: first + second, parts)
    torch.testing.assert_close(pooled.matrix, history.nanmean(0), **CLOSE)
    assert torch.equal(pooled.observations, (~history.isnan()).sum(0))
    assert pooled.n_observations == sum(sizes)
    assert torch.equal(pooled.floored, sum(part.floored for part in parts))
    if sum(sizes):
        descents = sum(n * part.joint_descent for n, part in zip(sizes, parts, strict=True) if n)
        assert pooled.joint_descent == pytest.approx(descents / sum(sizes))


@given(sizes=st.tuples(sizes, sizes, sizes), seed=seeds)
def test_pooling_is_associative_and_commutative(sizes, seed):
    a, b, c = (measured(n, seed + k, missing=0.1 * k)[0] for k, n in enumerate(sizes))
    assert_alike(a + b, b + a)
    assert_alike((a + b) + c, a + (b + c))


def test_the_pooled_error_is_that_of_independent_parts():
    """Over 500 repetitions of two parts of different size, it is the spread of the pooled mean."""
    g = torch.Generator().manual_seed(0)
    pooled, errors = [], []
    for _ in range(500):
        parts = []
        for n in (30, 90):
            draws = torch.randn(n, 1, 1, generator=g, dtype=torch.float64)
            error = draws.std(0) / n**0.5
            parts.append(Affinity(draws.mean(0), error, ("a",), "gram", n))
        both = parts[0] + parts[1]
        pooled.append(both.matrix.item())
        errors.append(both.stderr.item())
    spread = torch.tensor(pooled).std().item()
    assert sum(errors) / len(errors) == pytest.approx(spread, rel=0.1)
    assert sum(errors) / len(errors) == pytest.approx(120**-0.5, rel=0.02)


def test_what_was_not_observed_counts_nothing_and_what_has_no_error_leaves_none():
    few, many = measured(6, seed=2, missing=0)[0], measured(30, seed=3, missing=0)[0]
    assert few.stderr.isnan().all()
    pooled = few + many
    unseen = many.observations == 0
    assert unseen.sum() == 1
    assert pooled.stderr.isnan().all()  # of the 6 no error is known
    assert torch.equal(pooled.matrix[unseen], few.matrix[unseen])
    assert torch.equal(pooled.cosine[unseen], few.cosine[unseen])
    nothing = measured(0, floored=torch.zeros(4, dtype=torch.int64))[0]
    assert_alike(many + nothing, many)


def test_what_one_does_not_know_both_do_not_know():
    first, second = measured(20, 2)[0], measured(30, 4)[0]
    for name in ("cosine", "floored", "effective", "calibration_r2"):
        less = measured(30, 4, **{name: None})[0]
        assert getattr(first + second, name) is not None
        assert getattr(first + less, name) is None
        assert getattr(less + first, name) is None
    assert math.isnan((first + measured(30, 4, joint_descent=math.nan)[0]).joint_descent)
    assert (measured(5, choice="x")[0] + measured(5, choice="x")[0]).choice == "x"
    assert (measured(5, choice="x")[0] + measured(5, choice="y")[0]).choice == ""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": ("a", "c", "b", "d")}, r"task 1 \(order counts\) is the same. Got 'b' and 'c'"),
        ({"estimator": "lookahead"}, "'estimator' is the same. Got 'gram' and 'lookahead'"),
        ({"rule": "Adam step, lr 1"}, "'rule' is the same. Got 'plain step, rate 0.01' and 'Adam step, lr 1'"),
        ({"calibrated": False}, "'calibrated' is the same. Got True and False"),
        ({"form": "symmetrised"}, "as measured can be pooled. Got one that is symmetrised"),
    ],
)
def test_what_cannot_be_pooled(changes, message):
    with pytest.raises(ValueError, match=message):
        measured(20)[0] + measured(20, **changes)[0]


def test_other_tasks_and_other_things():
    small = Affinity(torch.zeros(2, 2), torch.zeros(2, 2), ("a", "b"), "gram", 3, form="difference")
    for combine in (lambda a, b: a + b, lambda a, b: a - b):
        with pytest.raises(ValueError, match=r"the number of tasks is the same\. Got 4 and 2"):
            combine(measured(20)[0], small)
        with pytest.raises(TypeError, match="unsupported operand"):
            combine(measured(20)[0], 1.0)
    with pytest.raises(ValueError, match=r"subtracted only where 'form' is the same\. Got '' and"):
        measured(20)[0] - measured(20)[0].normalised()
    with pytest.raises(ValueError, match="Got one that is normalised"):
        measured(20)[0].normalised() + measured(20)[0]


def test_a_difference():
    early, late = measured(50, 2, rule="Adam step, lr 1")[0], measured(30, 3, rule="Adam step, lr 0.1")[0]
    change = late - early
    torch.testing.assert_close(change.matrix, -(early - late).matrix, **CLOSE)
    torch.testing.assert_close(change.matrix, late.matrix - early.matrix, **CLOSE)
    torch.testing.assert_close(change.stderr, torch.hypot(early.stderr, late.stderr), **CLOSE)
    assert torch.equal(change.observations, late.observations.minimum(early.observations))
    assert torch.equal((early - late).observations, change.observations)
    torch.testing.assert_close((early - late).effective, change.effective, **CLOSE)
    torch.testing.assert_close(change.effective, late.effective.minimum(early.effective), **CLOSE)
    assert change.n_observations == 30
    assert change.form == "difference"
    assert change.rule == "Adam step, lr 0.1 - Adam step, lr 1"
    assert change.estimator == "gram"
    assert change.calibrated
    assert not (late - measured(50, calibrated=False)[0]).calibrated
    assert change.cosine is change.floored is change.calibration_r2 is None
    assert math.isnan(change.joint_descent)
    assert math.isnan(change.cost)
    assert (late - measured(50, effective=None)[0]).effective is None
    assert (early.symmetrised() - late.symmetrised()).form == "symmetrised, difference"


@given(n=sizes, seed=seeds, missing=st.floats(0, 0.9))
def test_symmetrising(n, seed, missing):
    affinity = measured(n, seed, missing)[0]
    even = affinity.symmetrised()
    for name in ("matrix", "stderr", "observations", "effective"):
        torch.testing.assert_close(getattr(even, name), getattr(even, name).T, rtol=0, atol=0, equal_nan=True)
        torch.testing.assert_close(
            getattr(even, name).diag(), getattr(affinity, name).diag(), rtol=0, atol=0, equal_nan=True
        )
    assert torch.equal(even.matrix.isnan(), affinity.matrix.isnan() | affinity.matrix.T.isnan())
    i, j = torch.triu_indices(4, 4, 1)
    torch.testing.assert_close(even.matrix[i, j], (affinity.matrix[i, j] + affinity.matrix[j, i]) / 2, **CLOSE)
    torch.testing.assert_close(
        even.stderr[i, j], torch.hypot(affinity.stderr[i, j], affinity.stderr[j, i]) / 2, **CLOSE
    )
    assert torch.equal(even.observations[i, j], affinity.observations[i, j].minimum(affinity.observations[j, i]))
    assert even.symmetrised() is even
    assert (even.tasks, even.form, even.cosine) == (TASKS, "symmetrised", affinity.cosine)
    assert measured(5, effective=None)[0].symmetrised().effective is None


@given(n=st.integers(1, 60), seed=seeds, offset=st.floats(-5, 5), factor=st.floats(0.1, 10))
def test_normalising(n, seed, offset, factor):
    affinity = measured(n, seed, missing=0.4)[0]
    even = affinity.normalised()
    pairs = even.matrix.clone().fill_diagonal_(torch.nan)
    for column in range(4):
        known = affinity.matrix[:, column].isfinite()
        known[column] = False
        if known.sum() < 2:
            assert even.matrix[:, column].isnan().all()
            assert even.stderr[:, column].isnan().all()
            continue
        values = pairs[known, column]
        assert abs(values.mean()) < 1e-9
        assert abs(values.std(correction=0) - 1) < 1e-9
        assert torch.equal(pairs[:, column].isnan(), affinity.matrix[:, column].isnan() | ~known)
        # The diagonal and the errors are on the same scale.
        scale = affinity.matrix[known, column].std(correction=0)
        centre = affinity.matrix[known, column].mean()
        torch.testing.assert_close(
            even.matrix[column, column] * scale + centre, affinity.matrix[column, column], **CLOSE
        )
        torch.testing.assert_close(even.stderr[:, column] * scale, affinity.stderr[:, column], **CLOSE)
    # An offset per target and a positive unit per target change nothing.
    offsets = torch.tensor([offset, 0, -offset, 1.0]).double()
    factors = torch.tensor([factor, 1, 1 / factor, 2]).double()
    moved = measured(
        n, seed, 0.4, matrix=affinity.matrix * factors + offsets, stderr=affinity.stderr * factors
    )[0].normalised()  # fmt: skip
    torch.testing.assert_close(moved.matrix, even.matrix, rtol=1e-7, atol=1e-7, equal_nan=True)
    torch.testing.assert_close(moved.stderr, even.stderr, rtol=1e-7, atol=1e-7, equal_nan=True)
    assert even.normalised() is even
    assert (even.tasks, even.form) == (TASKS, "normalised")
    assert torch.equal(even.observations, affinity.observations)


def test_a_column_without_spread_has_no_scale():
    matrix = measured(30, missing=0)[0].matrix.clone()
    matrix[:, 0] = 0.1  # a mean of 0.1s is not exactly 0.1
    matrix[:, 1] = torch.tensor([0.3, 9.0, math.inf, math.nan]).double()  # one finite pair
    matrix[:, 2] = torch.tensor([0.3, 0.1, 9.0, math.inf]).double()
    even = measured(30, matrix=matrix)[0].normalised().matrix
    assert even[:, :2].isnan().all()
    torch.testing.assert_close(even[:2, 2], torch.tensor([1.0, -1.0]).double())
    assert even[3, 2] == math.inf
    assert even[:, 3].isfinite().all()
    for tasks in ((), ("a",), ("a", "b")):
        square = torch.ones(len(tasks), len(tasks)).double()
        small = Affinity(square, square, tasks, "gram", 3).normalised()
        assert small.form == "normalised"
        assert small.matrix.isnan().all()


def test_forms_are_kept_in_their_order():
    affinity = measured(30, missing=0)[0]
    assert affinity.normalised().symmetrised().form == "normalised, symmetrised"
    assert affinity.symmetrised().normalised().symmetrised().form == "symmetrised, normalised, symmetrised"
