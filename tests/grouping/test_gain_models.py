"""The laws that every back-end must keep, whatever it predicts from, and what each one is."""

from functools import partial
from itertools import combinations

import numpy as np
import pytest

from cotrain.grouping.backends import PRIOR_STD, completed, predicted, variance_by_task
from cotrain.grouping.calibrated_gains import CalibratedGains
from cotrain.grouping.gains import GainModel, membership
from cotrain.grouping.hamming_process import LENGTHS, LEVELS, SIGNALS, HammingProcess
from cotrain.grouping.measured_pairs import MeasuredPairMean
from cotrain.grouping.membership_ridge import MembershipRidge
from cotrain.grouping.pair_mean import PairMean
from cotrain.grouping.ridge import MEAN_PENALTIES, WEIGHT_PENALTIES, fit_member_ridge
from cotrain.grouping.score_curve import fit_score_curve
from cotrain.grouping.stacked_gains import StackedGains
from cotrain.grouping.table import GainTable
from cotrain.grouping.task_mean import TaskMean

TASKS = tuple("abcdef")
ALL = [group for size in range(1, 7) for group in combinations(TASKS, size)]


def planted(seed, groups=None, number=18, noise=0.02):
    """Gains that are a level of the task and the sum of effects of the other members, with noise."""
    rng = np.random.default_rng(seed)
    effect, level = rng.normal(0, 0.1, (6, 6)), rng.normal(0, 0.05, 6)
    np.fill_diagonal(effect, 0)
    if groups is None:
        together = [group for group in ALL if len(group) > 1]
        groups = [together[row] for row in rng.choice(len(together), number, replace=False)]
    members = membership(groups, TASKS)
    gains = members @ effect + level + rng.normal(0, noise, members.shape)
    std = rng.uniform(0.01, 0.03, members.shape)
    return GainTable(TASKS, groups, np.where(members, gains, np.nan), np.where(members, std, np.nan), np.arange(1, 7))


def score_of(tasks):
    """A score with a value of its own for every pair of names."""
    matrix = [[np.sin(7 * ord(i) + 3 * ord(j)) for j in tasks] for i in tasks]
    return PairMean(np.array(matrix), tasks)


BACKENDS = {
    "task mean": TaskMean,
    "ridge": MembershipRidge,
    "similar groups": HammingProcess,
    "pairs": MeasuredPairMean,
    "calibrated": lambda table: CalibratedGains(table, score=score_of(table.tasks)),
    "stacked": StackedGains,
    "stacked with a score": lambda table: StackedGains(
        table, {"ridge": MembershipRidge, "score": partial(CalibratedGains, score=score_of("fedcba"))}
    ),
}
every_backend = pytest.mark.parametrize("backend", BACKENDS.values(), ids=BACKENDS)


@every_backend
@pytest.mark.parametrize("number", [0, 1, 2, 25])
def test_predictions_are_finite_for_members_of_any_group_and_nan_elsewhere(backend, number):
    table = planted(number, number=number)
    model = backend(table)
    assert isinstance(model, GainModel)
    assert model.tasks == TASKS
    np.testing.assert_array_equal(model.single_losses, table.single_losses)
    mean, std = model.predict(ALL)
    members = membership(ALL, TASKS)
    for values in (mean, std):
        np.testing.assert_array_equal(np.isfinite(values), members)
        np.testing.assert_array_equal(np.isnan(values), ~members)
    alone = members.sum(axis=1) == 1
    assert not mean[alone][members[alone]].any()
    assert not std[alone][members[alone]].any()
    known = model.measured(ALL)
    np.testing.assert_array_equal(known, alone | np.array([group in table.groups for group in ALL]))
    np.testing.assert_array_equal(mean[known], table.predict(np.array(ALL, dtype=object)[known])[0])
    np.testing.assert_array_equal(std[known], table.predict(np.array(ALL, dtype=object)[known])[1])
    assert (std[~known][members[~known]] > 0).all()
    assert [len(values) for values in model.predict([])] == [0, 0]


@every_backend
def test_order_of_tasks_of_members_and_of_groups_and_the_batch_change_nothing(backend):
    table = planted(3, number=24)
    order = np.array([4, 0, 5, 2, 1, 3])
    names = [TASKS[j] for j in order]
    rows = np.random.default_rng(0).permutation(len(table.groups))
    other = backend(
        GainTable(
            names,
            [table.groups[row][::-1] for row in rows],
            table.gains[np.ix_(rows, order)],
            table.std[np.ix_(rows, order)],
            table.single_losses[order],
        )
    )
    model = backend(table)
    mean, std = model.predict(ALL)
    for row in range(0, len(ALL), 3):
        for values in (model.predict([set(ALL[row])]), [v[:, np.argsort(order)] for v in other.predict([ALL[row]])]):
            np.testing.assert_allclose(values[0][0], mean[row], atol=1e-8)
            np.testing.assert_allclose(values[1][0], std[row], atol=1e-8)


@every_backend
def test_the_same_table_gives_the_same_answer_and_an_unknown_task_is_named(backend):
    table = planted(5)
    for one, other in zip(backend(table).predict(ALL), backend(table).predict(ALL), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="unknown task 'z'"):
        backend(table).predict([("a", "z")])


@every_backend
@pytest.mark.parametrize("factor", [1e-2, 1e2])
def test_gains_in_other_units_are_predicted_in_other_units(backend, factor):
    table = planted(6, number=22)
    scaled = GainTable(TASKS, table.groups, factor * table.gains, factor * table.std)
    for one, other in zip(backend(table).predict(ALL), backend(scaled).predict(ALL), strict=True):
        np.testing.assert_allclose(factor * one, other, rtol=1e-5, atol=1e-5 * factor)


@every_backend
def test_tasks_alone_teach_nothing(backend):
    table = planted(7, number=15)
    alone = np.where(np.eye(6, dtype=bool), 0.0, np.nan)
    longer = table.with_groups([(task,) for task in TASKS], alone)
    for one, other in zip(backend(table).predict(ALL), backend(longer).predict(ALL), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)


@every_backend
def test_without_real_groups_the_std_is_wide(backend):
    model = backend(planted(0, number=0))
    mean, std = model.predict([TASKS, ("a", "b")])
    if getattr(model, "unit", "gain") == "gain":
        assert (std[~np.isnan(mean)] >= PRIOR_STD).all()
        assert not mean[~np.isnan(mean)].any()
    else:
        np.testing.assert_allclose(mean, score_of(TASKS).predict([TASKS, ("a", "b")])[0])


@every_backend
def test_equal_gains_are_predicted_with_a_small_std_above_zero(backend):
    groups = [group for group in ALL if len(group) in (2, 3, 4)][::2]
    table = GainTable(TASKS, groups, np.where(membership(groups, TASKS), 0.1, np.nan))
    mean, std = backend(table).predict([TASKS])
    np.testing.assert_allclose(mean, 0.1, atol=0.02)
    assert (std > 0).all()
    assert (std < 0.1).all()


@every_backend
def test_the_std_covers_what_comes_out(backend):
    """About two thirds of new gains lie within one std, and 95 % within two: for any rule, of its own errors."""
    scores = []
    for seed in range(12):
        whole = planted(seed, [group for group in ALL if len(group) > 1])
        rng = np.random.default_rng(seed)
        larger = np.flatnonzero([len(group) > 2 for group in whole.groups])
        pairs = np.flatnonzero([len(group) == 2 for group in whole.groups])
        seen = np.concatenate([rng.choice(larger, 12, replace=False), rng.choice(pairs, 8, replace=False)])
        judged = np.setdiff1d(larger, seen)
        mean, std = backend(whole.rows(seen)).predict([whole.groups[row] for row in judged])
        score = (whole.gains[judged] - mean) / std
        scores.append(score[~np.isnan(score)])
    score = np.abs(np.concatenate(scores))
    assert 0.55 < (score < 1).mean() < 0.85
    assert (score < 2).mean() > 0.87


def test_the_task_mean_is_the_mean_over_its_groups():
    table = planted(1)
    model = TaskMean(table)
    mean, _ = model.predict([TASKS])
    expected = [np.nanmean(table.gains[:, j]) for j in range(6)]
    np.testing.assert_allclose(mean[0] if TASKS not in table.groups else expected, expected)
    pair = GainTable(TASKS, [("a", "b")], [[0.1, 0.3, *[np.nan] * 4]])
    np.testing.assert_allclose(TaskMean(pair).predict([("a", "c", "d")])[0][0][[0, 2, 3]], [0.1, 0.2, 0.2])


def test_the_task_mean_s_std_is_that_of_leaving_one_group_out():
    table = planted(2, number=20)
    squares = np.full(table.gains.shape, np.nan)
    for row in range(20):
        rest = np.delete(table.gains, row, axis=0)
        squares[row] = (table.gains[row] - np.nanmean(rest, axis=0)) ** 2
    count = (~np.isnan(table.gains)).sum(axis=0)
    # (n / (n - 1))^2 from the residuals is spread over both: the variance of new groups, and that of the mean.
    expected = np.sqrt(variance_by_task(squares * (count - 1) / count) * (1 + 1 / count))
    group = next(group for group in ALL if len(group) == 5 and group not in table.groups)
    members = membership([group], TASKS)[0]
    np.testing.assert_allclose(TaskMean(table).predict([group])[1][0][members], expected[members])


def test_all_pairs_predict_as_the_published_rule():
    table = planted(4, [group for group in ALL if len(group) == 2])
    groups = [group for group in ALL if len(group) > 2]
    np.testing.assert_allclose(
        MeasuredPairMean(table).predict(groups)[0], PairMean.from_pairs(table).predict(groups)[0], atol=1e-12
    )


def test_some_pairs_predict_by_those_that_were_trained():
    table = GainTable(TASKS, [("a", "b"), ("a", "c")], [[0.1, 0.3, *[np.nan] * 4], [0.4, np.nan, 0.6, *[np.nan] * 3]])
    model = MeasuredPairMean(table)
    mean, _ = model.predict([("a", "b", "d"), ("a", "d"), ("d", "e"), ("a", "b", "c")])
    everyone = np.mean([0.1, 0.3, 0.4, 0.6])
    np.testing.assert_allclose(mean[0, [0, 1, 3]], [0.1, 0.3, everyone])  # the pair; the pair; no pair of d at all
    np.testing.assert_allclose(mean[1, [0, 3]], [0.25, everyone])  # a's own pairs
    np.testing.assert_allclose(mean[2, 3:5], everyone)
    np.testing.assert_allclose(mean[3, :3], [0.25, 0.3, 0.6])


def test_the_pairs_std_is_how_far_the_rule_misses_larger_groups():
    pairs = planted(4, [group for group in ALL if len(group) == 2])
    larger = [group for group in ALL if len(group) == 3][:10]
    rule = MeasuredPairMean(pairs).predict(larger)[0]
    model = MeasuredPairMean(pairs.with_groups(larger, rule + 0.3))
    np.testing.assert_allclose(model.predict([TASKS])[1], 0.3)


def reference_ridge(members, values, weight_penalty, mean_penalty):
    """Fit without each group in turn, task by task, by least squares with rows for the penalties."""
    center = members.mean(axis=0)
    error = 0.0
    for task in range(members.shape[1]):
        rows = np.flatnonzero(members[:, task])
        design = np.delete(members - center, task, axis=1)
        design = np.concatenate([np.ones((len(design), 1)), design], axis=1)
        hold = np.diag(np.sqrt([mean_penalty] + [weight_penalty] * (design.shape[1] - 1)))
        for row in rows:
            rest = rows[rows != row]
            target = np.concatenate([values[rest, task], np.zeros(len(hold))])
            fit, *_ = np.linalg.lstsq(np.concatenate([design[rest], hold]), target, rcond=None)
            error += (values[row, task] - design[row] @ fit) ** 2
    return error


def test_the_ridge_takes_the_penalties_that_predict_left_out_groups_best():
    for seed, noise in ((0, 0.01), (1, 0.2)):
        table = planted(seed, number=14, noise=noise)
        members = ~np.isnan(table.gains)
        fit = fit_member_ridge(members, table.gains)
        errors = {
            (weight, mean): reference_ridge(members, table.gains, weight, mean)
            for weight in WEIGHT_PENALTIES
            for mean in MEAN_PENALTIES
        }
        assert errors[fit.weight_penalty, fit.mean_penalty] == pytest.approx(min(errors.values()), rel=1e-9)


def test_the_ridge_finds_planted_weights():
    table = planted(8, [group for group in ALL if len(group) > 1], noise=1e-4)
    model = MembershipRidge(table)
    effect = np.random.default_rng(8).normal(0, 0.1, (6, 6))
    np.testing.assert_allclose(model.weights, effect.T * (1 - np.eye(6)), atol=1e-3)
    assert model.weight_penalty == min(WEIGHT_PENALTIES)
    unknown = planted(8, number=10, noise=1e-4)
    mean, std = MembershipRidge(unknown).predict([("a", "b"), TASKS])
    assert np.isfinite(mean[1]).all()
    assert (std[1] > 0).all()


def test_the_ridge_is_less_certain_of_groups_unlike_the_trained_ones():
    pairs = planted(9, [group for group in ALL if len(group) == 2][:12])
    pair = next(group for group in ALL if len(group) == 2 and group not in pairs.groups)
    column = TASKS.index(pair[0])
    std = MembershipRidge(pairs).predict([pair, TASKS])[1][:, column]
    assert std[1] > std[0]


def test_similar_groups_takes_the_kernel_that_predicts_left_out_groups_best():
    table = planted(10, number=14)
    model = HammingProcess(table)
    members = (~np.isnan(table.gains)).astype(float)
    everyone = np.nanmean(table.gains)
    distance = np.abs(members[:, None] - members).sum(axis=2)

    def error(length, level, signal):
        total = 0.0
        for task in range(6):
            rows = np.flatnonzero(members[:, task])
            for row in rows:
                rest = rows[rows != row]
                kernel = signal * (level + np.exp(-distance / (2 * length)))
                weights = np.linalg.solve(
                    kernel[np.ix_(rest, rest)] + np.eye(len(rest)), table.gains[rest, task] - everyone
                )
                total += (table.gains[row, task] - everyone - kernel[row, rest] @ weights) ** 2
        return total

    best = min(error(*choice) for choice in [(a, b, c) for a in LENGTHS for b in LEVELS for c in SIGNALS])
    assert error(model.length, model.level, model.signal) == pytest.approx(best, rel=1e-6)
    mean, _ = model.predict([TASKS])
    kernel = model.signal * (model.level + np.exp(-distance / (2 * model.length)))
    for task in range(6):
        rows = np.flatnonzero(members[:, task])
        near = model.signal * (model.level + np.exp(-np.abs(members[rows] - 1).sum(axis=1) / (2 * model.length)))
        weights = np.linalg.solve(kernel[np.ix_(rows, rows)] + np.eye(len(rows)), table.gains[rows, task] - everyone)
        if TASKS not in table.groups:
            assert mean[0, task] == pytest.approx(everyone + near @ weights)


def test_a_score_is_calibrated_in_scale_and_sign():
    groups = [group for group in ALL if 2 <= len(group) <= 4]
    score = score_of(TASKS)
    noise = np.random.default_rng(0).normal(0, 0.01, (len(groups), 6))
    model = CalibratedGains(GainTable(TASKS, groups, 0.05 - 0.2 * score.predict(groups)[0] + noise), score=score)
    assert (model.unit, model.shape) == ("gain", "line")
    larger = [group for group in ALL if len(group) > 4]
    np.testing.assert_allclose(model.predict(larger)[0], 0.05 - 0.2 * score.predict(larger)[0], atol=0.01)


def test_a_score_that_says_nothing_becomes_a_constant():
    table = planted(11, number=8)
    flat = PairMean(np.ones((6, 6)), TASKS)
    model = CalibratedGains(table, score=flat)
    assert model.shape == "constant"


def test_a_bent_score_becomes_a_spline_that_is_linear_outside():
    rng = np.random.default_rng(0)
    scores = rng.uniform(-2, 2, 200)
    curve = fit_score_curve(scores, np.maximum(scores, 0.0), np.arange(200) // 4)
    assert curve.shape == "spline"
    inside = np.linspace(-2, 2, 50)
    assert np.sqrt(np.mean((curve(inside) - np.maximum(inside, 0.0)) ** 2)) < 0.1  # of a line: .29
    for outside in (np.array([3.0, 4.0, 5.0]), np.array([-5.0, -4.0, -3.0])):
        assert np.diff(curve(outside), 2) == pytest.approx(0, abs=1e-9)
    few = scores[:116]  # 29 groups
    assert fit_score_curve(few, np.maximum(few, 0.0), np.arange(116) // 4).shape == "line"


def test_a_score_with_few_values_has_no_bends():
    scores = np.repeat([0.0, 1.0], [78, 2])
    curve = fit_score_curve(scores, scores * 0.3, np.arange(80) // 2)
    assert curve.shape in ("constant", "line")
    assert not len(curve.knots)


def test_the_curve_is_chosen_by_whole_left_out_groups():
    # The score tells the groups apart and nothing else: within a group all entries are equal, so leaving out single
    # entries would find a spline through the groups' own noise.
    rng = np.random.default_rng(1)
    group = np.repeat(np.arange(40), 5)
    curve = fit_score_curve(rng.normal(size=40)[group], rng.normal(size=40)[group], group)
    assert curve.shape == "constant"


def test_a_score_without_groups_is_passed_on_as_it_is():
    empty = planted(0, number=0)
    score = score_of(TASKS)
    model = CalibratedGains(empty, score=score)
    assert (model.unit, model.shape) == ("score", "none")
    np.testing.assert_allclose(model.predict([TASKS])[0], score.predict([TASKS])[0])
    np.testing.assert_allclose(model.predict([TASKS])[1], score.predict([TASKS])[1])
    known = TaskMean(planted(1))
    model = CalibratedGains(empty, score=known)
    assert model.unit == "gain"
    np.testing.assert_allclose(model.predict([TASKS])[1], np.hypot(known.predict([TASKS])[1], PRIOR_STD))


@pytest.mark.parametrize("backend", [StackedGains, partial(CalibratedGains, score=score_of("abcdef"))])
def test_tasks_and_finite_values_are_asked_for(backend):
    other = PairMean(np.ones((2, 2)), ["a", "x"])
    with pytest.raises(ValueError, match="Got a, x; the table has a, b, c, d, e, f"):
        predicted(other, [("a",)], TASKS)
    with pytest.raises(ValueError, match=r"task 'a' in group a\+b is not a finite number: mean nan, std nan"):
        predicted(planted(0, number=0), [("a", "b")], TASKS)
    assert len(backend(planted(0)).predict([TASKS])[0]) == 1


def test_a_prediction_is_completed_by_what_is_known():
    table = planted(0, [("a", "b")])
    mean, std = completed(table, [("a", "b"), ("a",), ("a", "c")], np.ones((3, 6)), np.zeros((3, 6)))
    np.testing.assert_array_equal(mean[0], table.gains[0])
    np.testing.assert_array_equal(std[0], table.std[0])
    assert (mean[1, 0], std[1, 0]) == (0, 0)
    assert mean[2, [0, 2]].tolist() == [1, 1]
    assert (std[2, [0, 2]] > 0).all()


def test_a_task_with_few_residuals_is_drawn_to_all_tasks():
    rng = np.random.default_rng(0)
    squares = rng.uniform(0, 1, (40, 3))
    squares[1:, 2] = np.nan
    squares[0, 2] = 9.0
    found, pooled = variance_by_task(squares), np.nanmean(squares)
    assert abs(found[0] - squares[:, 0].mean()) < abs(pooled - squares[:, 0].mean())
    assert pooled < found[2] < 9.0
    np.testing.assert_array_equal(variance_by_task(np.full((0, 2), np.nan)), PRIOR_STD**2)
    assert (variance_by_task(np.zeros((3, 2))) > 0).all()
