"""Stacking: a useless back-end costs next to nothing, and what the model says of itself is true."""

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cotrain.grouping import DEFAULT_BACKENDS, GainTable, StackedGains, TaskMean, select_groups
from cotrain.grouping.calibrated_gains import CalibratedGains
from cotrain.grouping.gains import membership
from cotrain.grouping.judgement import judge
from cotrain.grouping.membership_ridge import MembershipRidge
from cotrain.grouping.pair_mean import PairMean
from cotrain.grouping.stacking_weights import ALL_LEFT_OUT, left_out_folds, stacking_weights

TASKS = tuple("abcdef")


class Fixed:
    """Any function of the membership as a gain model; the same whatever was trained."""

    def __init__(self, tasks, mean, std=0.1, unit="gain"):
        self.tasks, self._mean, self._std, self.unit = tasks, mean, std, unit

    def predict(self, groups):
        members = membership(groups, self.tasks)
        return np.where(members, self._mean(members), np.nan), np.where(members, self._std, np.nan)

    def measured(self, groups):
        return np.zeros(len(groups), dtype=bool)


def garbage(tasks, seed):
    """Noise that is fixed for every group, as large as gains are."""
    rng = np.random.default_rng(seed)
    codes = rng.normal(0, 0.15, (2 ** len(tasks), len(tasks)))
    return lambda table: Fixed(tasks, lambda members: codes[members @ 2 ** np.arange(len(tasks))])


def planted(seed, number, noise=0.05):
    """A table of all groups of two and more of six tasks, and the positions of some of them."""
    rng = np.random.default_rng(seed)
    members = np.array([[code >> j & 1 for j in range(6)] for code in range(64)], dtype=bool)
    members = members[members.sum(axis=1) > 1]
    effect = rng.normal(0, 0.08, (6, 6)) * (1 - np.eye(6))
    gains = members @ effect + rng.normal(0, 0.08, 6) + rng.normal(0, noise, members.shape)
    groups = [tuple(np.array(TASKS)[row]) for row in members]
    whole = GainTable(TASKS, groups, np.where(members, gains, np.nan))
    return whole, rng.choice(len(groups), number, replace=False)


def error_elsewhere(model, whole):
    unseen = ~model.measured(whole.groups)
    rows = whole.rows(unseen)
    return np.sqrt(np.nanmean((model.predict(rows.groups)[0] - rows.gains) ** 2))


def with_garbage(tables, backends, seeds):
    """Mean error with garbage added over mean error without."""
    plain, spoilt = [], []
    for seed in seeds:
        whole, rows = tables(seed)
        at_hand = whole.rows(rows)
        useless = {f"useless {i}": garbage(whole.tasks, [seed, i]) for i in range(3)}
        plain.append(error_elsewhere(StackedGains(at_hand, backends), whole))
        spoilt.append(error_elsewhere(StackedGains(at_hand, {**useless, **backends}), whole))
    return np.mean(spoilt) / np.mean(plain)


# With two groups a useless back-end can be right by chance in all that is known.
COST = {2: 0.08, 5: 0.04, 8: 0.03, 12: 0.02, 25: 0.01}


@pytest.mark.parametrize("number", COST)
def test_a_useless_back_end_makes_no_planted_prediction_worse(number):
    ratio = with_garbage(lambda seed: planted(seed, number), {"ridge": MembershipRidge}, range(15))
    assert ratio < 1 + COST[number]


@pytest.mark.parametrize("name", ["standley_setting1", "standley_large", "standley_small_data", "ettm1"])
@pytest.mark.parametrize("number", [2, 5, 12])
def test_a_useless_back_end_makes_no_published_prediction_worse(group_tables, name, number):
    column = "validation_gain" if name == "ettm1" else "validation_loss"
    whole = GainTable.from_csv(group_tables / f"{name}.csv", column)
    whole = whole.rows([len(group) > 1 for group in whole.groups])

    def tables(seed):
        return whole, np.random.default_rng([seed, number]).choice(len(whole.groups), number, replace=False)

    assert with_garbage(tables, {"ridge": MembershipRidge}, range(20)) < 1 + COST[number]


def test_it_beats_the_task_mean_where_groups_matter_and_keeps_up_where_they_do_not():
    for effect, bound in ((True, 0.9), (False, 1.05)):
        ratios = []
        for seed in range(10):
            whole, rows = planted(seed, 25)
            if not effect:
                rng = np.random.default_rng(seed)
                levels = rng.normal(0, 0.1, 6) + rng.normal(0, 0.05, whole.gains.shape)
                whole = GainTable(TASKS, whole.groups, np.where(np.isnan(whole.gains), np.nan, levels))
            at_hand = whole.rows(rows)
            ratios.append(error_elsewhere(StackedGains(at_hand), whole) / error_elsewhere(TaskMean(at_hand), whole))
        assert np.mean(ratios) < bound


def test_ettm1_is_predicted_no_worse_than_by_each_task_s_mean(group_tables):
    validation, test = (GainTable.from_csv(group_tables / "ettm1.csv", f"{of}_gain") for of in ("validation", "test"))
    together = np.flatnonzero([len(group) > 1 for group in validation.groups])
    found = []
    for seed in range(8):
        at_hand = validation.rows(np.random.default_rng(seed).choice(together, 20, replace=False))
        found.append([judge(backend(at_hand), test).pearson for backend in (StackedGains, TaskMean)])
    stacked, mean = np.mean(found, axis=0)
    assert stacked > mean - 0.02


def test_the_right_back_end_gets_the_weight():
    whole, rows = planted(0, 25)
    truth = lambda table: Fixed(TASKS, lambda members: np.nan_to_num(whole.predict(names(members))[0]))  # noqa: E731
    model = StackedGains(whole.rows(rows), DEFAULT_BACKENDS | {"truth": truth})
    assert model.weights["truth"] > 0.99
    assert model.error < 0.01


def names(members):
    return [tuple(np.array(TASKS)[row]) for row in members]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 999), st.integers(1, 30), st.integers(1, 6), st.floats(1e-3, 1e3))
def test_weights_are_shares_that_no_unit_and_no_order_changes(seed, n_groups, n_candidates, factor):
    rng = np.random.default_rng(seed)
    gains = rng.normal(size=3 * n_groups)
    predictions = gains[:, None] * rng.uniform(0, 1, n_candidates) + rng.normal(size=(3 * n_groups, n_candidates))
    weights = stacking_weights(predictions, gains, n_groups)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(stacking_weights(factor * predictions, factor * gains, n_groups), weights, atol=1e-6)
    order = rng.permutation(n_candidates)
    np.testing.assert_allclose(stacking_weights(predictions[:, order], gains, n_groups), weights[order], atol=1e-6)
    rows = rng.permutation(3 * n_groups)
    np.testing.assert_allclose(stacking_weights(predictions[rows], gains[rows], n_groups), weights, atol=1e-6)


def test_weights_of_perfect_and_of_equal_candidates():
    gains = np.arange(1.0, 7.0)
    perfect = stacking_weights(np.stack([gains, -gains], axis=1), gains, 6)
    np.testing.assert_allclose(perfect, [1, 0], atol=1e-3)
    np.testing.assert_allclose(stacking_weights(np.stack([gains, gains], axis=1), gains, 6), [0.5, 0.5], atol=1e-9)
    flat = np.zeros(4)
    np.testing.assert_allclose(stacking_weights(np.zeros((4, 2)), flat, 2), [0.5, 0.5], atol=1e-9)


def test_with_many_groups_it_is_convex_stacking():
    rng = np.random.default_rng(0)
    gains = rng.normal(size=20_000)
    predictions = gains[:, None] + rng.normal(0, [1.0, 2.0], (20_000, 2))
    # Of independent errors the best weights are inverse to the variances.
    np.testing.assert_allclose(stacking_weights(predictions, gains, 20_000), [0.8, 0.2], atol=0.02)


@given(st.integers(0, 60))
def test_every_group_is_left_out_once_in_folds_that_depend_on_names_alone(number):
    pool = [tuple(f"t{i}" for i in range(9) if code >> i & 1) for code in range(1, 200)]
    order = np.random.default_rng(number).permutation(len(pool))[:number]
    groups = [pool[i] for i in order]
    folds = left_out_folds(groups)
    assert sorted(np.concatenate([*folds, np.empty(0, int)])) == list(range(number))
    assert len(folds) == (number if number <= ALL_LEFT_OUT else 10)
    turned = groups[::-1]
    named = [{frozenset(groups[i]) for i in fold} for fold in folds]
    assert named == [{frozenset(turned[i]) for i in fold} for fold in left_out_folds(turned)]


def test_its_own_error_and_those_of_its_back_ends_are_those_of_left_out_groups():
    whole, rows = planted(2, 12)
    table = whole.rows(rows)
    model = StackedGains(table)
    assert model.verified
    assert model.n_groups == 12
    assert set(model.weights) == set(model.errors) == {"pairs", "ridge", "similar groups", "task mean", "zero"}
    assert sum(model.weights.values()) == pytest.approx(1)
    left_out = {name: [] for name in model.errors}
    for row in range(12):
        rest = table.rows(np.delete(np.arange(12), row))
        for name, backend in {**DEFAULT_BACKENDS, "task mean": TaskMean}.items():
            left_out[name].append(backend(rest).predict([table.groups[row]])[0][0])
        left_out["zero"].append(np.zeros(6))
    blend = sum(model.weights[name] * np.array(values) for name, values in left_out.items())
    for name, values in left_out.items():
        assert model.errors[name] == pytest.approx(np.sqrt(np.nanmean((np.array(values) - table.gains) ** 2)))
    assert model.error == pytest.approx(np.sqrt(np.nanmean((blend - table.gains) ** 2)))
    assert model.error <= min(model.errors.values()) * 1.1
    words = str(model)
    assert words.startswith(f"Error {model.error:.3g} on 12 trained groups, each left out in turn: ")
    best = max(model.weights, key=model.weights.__getitem__)
    assert f"{model.weights[best]:.2f} {best} ({model.errors[best]:.3g})" in words


def test_the_prediction_is_the_blend_of_its_back_ends():
    whole, rows = planted(3, 15)
    table = whole.rows(rows)
    model = StackedGains(table)
    unseen = [group for group in whole.groups if group not in table.groups]
    models = {**{name: backend(table) for name, backend in DEFAULT_BACKENDS.items()}, "task mean": TaskMean(table)}
    expected = sum(model.weights[name] * one.predict(unseen)[0] for name, one in models.items())
    np.testing.assert_allclose(model.predict(unseen)[0], expected, atol=1e-12)


def test_the_std_follows_what_the_back_ends_say_within_a_factor_of_the_residuals():
    whole, rows = planted(4, 12)
    table = whole.rows(rows)
    bold = lambda std: lambda _: Fixed(TASKS, lambda members: np.full(members.shape, 0.01), std)  # noqa: E731
    some, other = (StackedGains(table, {"fixed": bold(std)}).predict(whole.groups)[1] for std in (1e-5, 1e5))
    known = table.measured(whole.groups)
    assert np.nanmax(some[~known]) < 1
    assert np.nanmax(other[~known]) / np.nanmin(other[~known]) < 20
    assert np.nanmin(some[~known]) > 1e-3


def test_without_groups_it_is_unverified_and_says_by_what_it_predicts():
    empty = GainTable(TASKS, [("a",)], [[0.0, *[math.nan] * 5]])
    silent = StackedGains(empty)
    assert not silent.verified
    assert silent.weights["zero"] == 1
    assert all(math.isnan(error) for error in [silent.error, *silent.errors.values()])
    assert str(silent) == "Unverified: no group of two or more was trained. Predicted by zero."
    known = Fixed(TASKS, lambda members: 0.1 * members, std=0.01)
    other = Fixed(TASKS, lambda members: 0.3 * members, std=0.01)
    score = PairMean(np.ones((6, 6)), TASKS)
    both = StackedGains(empty, {"score": lambda _: score, "one": lambda _: known, "two": lambda _: other})
    assert both.unit == "gain"
    assert [both.weights[name] for name in ("one", "two", "score", "task mean", "zero")] == [0.5, 0.5, 0, 0, 0]
    mean, std = both.predict([("a", "b")])
    np.testing.assert_allclose(mean[0, :2], 0.2)
    assert (std[0, :2] >= 0.2).all()
    assert "Unverified" in str(both)
    scored = StackedGains(empty, {"ridge": MembershipRidge, "score": partial(CalibratedGains, score=score)})
    assert scored.unit == "score"
    assert select_groups(scored, budget=2).objective == "mean_score"
    np.testing.assert_allclose(scored.predict([("a", "b")])[0][0, :2], 1.0)


def test_bad_back_ends_are_named():
    whole, rows = planted(5, 6)
    table = whole.rows(rows)
    with pytest.raises(ValueError, match=r"'zero' is always there\. Give yours another name"):
        StackedGains(table, {"zero": TaskMean})
    with pytest.raises(ValueError, match="Back-end 'raw' gives scores, which cannot be averaged with gains"):
        StackedGains(table, {"raw": lambda _: PairMean(np.ones((6, 6)), TASKS)})
    with pytest.raises(ValueError, match="is not a finite number: mean nan"):
        StackedGains(table, {"table": lambda some: some})
    with pytest.raises(ValueError, match="All gain models must have the tasks of the table"):
        StackedGains(table, {"other": lambda _: TaskMean(GainTable(["a", "x"], [], np.empty((0, 2))))})


def test_the_losses_alone_are_passed_on():
    whole, rows = planted(6, 5)
    table = GainTable(TASKS, whole.groups, whole.gains, single_losses=np.arange(1, 7)).rows(rows)
    assert StackedGains(table).single_losses is table.single_losses
    assert select_groups(StackedGains(table), budget=2).objective == "total_loss"
