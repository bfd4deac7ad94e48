from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cotrain.grouping.grouping import Group, Grouping
from cotrain.grouping.judgement import judge, judge_entries, random_regret, regret
from cotrain.grouping.membership_ridge import MembershipRidge
from cotrain.grouping.pair_mean import PairMean
from cotrain.grouping.selection import select_groups, serve_groups
from cotrain.grouping.table import GainTable
from cotrain.grouping.task_mean import TaskMean

TASKS = tuple("abcd")
ALL = [group for size in range(1, 5) for group in combinations(TASKS, size)]
LOSSES = np.array([1.0, 2.0, 0.5, 4.0])


def random_table(seed, groups=ALL, losses=LOSSES):
    rng = np.random.default_rng(seed)
    gains = np.array([[rng.normal(0, 0.2) if task in group else np.nan for task in TASKS] for group in groups])
    gains[[len(group) == 1 for group in groups]] *= 0
    return GainTable(TASKS, groups, gains, single_losses=losses)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 999), st.integers(0, 25))
def test_correlations_are_scipys(seed, number):
    rng = np.random.default_rng(seed)
    task, true = rng.integers(0, 3, number), rng.normal(size=number)
    guess = true + rng.normal(size=number)
    found = judge_entries(guess, true, task)
    several = [i for i in range(number) if (task == task[i]).sum() > 1]
    others = [np.delete(true, i)[np.delete(task, i) == task[i]].mean() for i in several]
    within = [stats.pearsonr(guess[task == t], true[task == t])[0] for t in range(3) if (task == t).sum() > 2]
    ranks = [stats.spearmanr(guess[task == t], true[task == t])[0] for t in range(3) if (task == t).sum() > 2]
    assert found.n == number
    assert found.within_task_spearman == (pytest.approx(np.mean(ranks)) if ranks else None)
    assert found.within_task == (pytest.approx(np.mean(within)) if within else None)
    assert found.pearson == (pytest.approx(stats.pearsonr(guess, true)[0]) if number > 2 else None)
    assert found.spearman == (pytest.approx(stats.spearmanr(guess, true)[0]) if number > 2 else None)
    assert found.task_mean_baseline == (
        pytest.approx(stats.pearsonr(others, true[several])[0]) if len(several) > 2 else None
    )


def test_groups_that_the_model_was_fitted_on_are_not_judged():
    truth = random_table(0)
    seen = truth.rows([i for i, group in enumerate(ALL) if len(group) == 2])
    assert judge(TaskMean(seen), truth).n == 4 * 3 + 4
    assert judge(TaskMean(seen), truth, min_size=4).n == 4
    # Whatever those gains are in the table of truth, they change nothing.
    other = GainTable(TASKS, ALL, np.where((~np.isnan(truth.gains)).sum(axis=1)[:, None] == 2, 9.0, truth.gains) +
                      np.where(np.isnan(truth.gains), np.nan, 0.0))  # fmt: skip
    assert judge(TaskMean(seen), other) == judge(TaskMean(seen), truth)
    nothing = judge(TaskMean(truth), truth)
    assert (nothing.pearson, nothing.spearman, nothing.within_task, nothing.task_mean_baseline) == (None,) * 4
    assert nothing.n == 0


def test_the_order_of_the_model_s_tasks_does_not_matter():
    truth = random_table(1)
    matrix = np.random.default_rng(0).normal(size=(4, 4))
    order = [2, 0, 3, 1]
    one = judge(PairMean(matrix, TASKS), truth)
    other = judge(PairMean(matrix[np.ix_(order, order)], [TASKS[i] for i in order]), truth)
    assert one.pearson == pytest.approx(other.pearson)
    assert one.within_task == pytest.approx(other.within_task)
    assert one.n == 12 + 12 + 4


def test_the_task_mean_knows_nothing_within_tasks():
    truth = random_table(2)
    seen = truth.rows([i for i, group in enumerate(ALL) if len(group) == 2])
    assert judge(TaskMean(seen), truth).within_task is None
    assert judge(TaskMean(seen), truth).within_task_spearman is None
    assert judge(MembershipRidge(seen), truth).pearson is not None


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 99), st.integers(1, 3), st.booleans())
def test_regret_is_the_difference_from_the_best_of_all_choices(seed, budget, with_losses):
    table = random_table(seed, losses=LOSSES if with_losses else None)
    values = {}
    for count in range(1, budget + 1):
        for chosen in combinations(ALL, count):
            if set().union(*chosen) == set(TASKS):
                best = np.nanmax(table.predict(list(chosen))[0], axis=0)
                values[chosen] = (LOSSES * (1 - best)).sum() if with_losses else best.mean()
    least = min(values.values()) if with_losses else max(values.values())
    for chosen in list(values)[:: max(len(values) // 10, 1)]:
        expected = values[chosen] / least - 1 if with_losses else least - values[chosen]
        for order in list(permutations(chosen))[:2]:
            assert regret(order, table, budget=budget) == pytest.approx(expected, abs=1e-9)
    assert regret(select_groups(table, budget=budget), table, budget=budget) == pytest.approx(0, abs=1e-9)


def test_another_table_may_decide_who_serves():
    validation, test = random_table(3), random_table(4)
    chosen = [("a", "b", "c"), ("b", "c", "d"), ("a", "d")]
    served = serve_groups(validation, chosen)
    total = 0.0
    for group in served.groups:
        gains = test.predict([group.trains])[0][0]
        total += sum(LOSSES[j] * (1 - gains[j]) for j, task in enumerate(TASKS) if task in group.serves)
    best = LOSSES.sum() - select_groups(test, budget=3).value
    assert regret(chosen, test, budget=3, serve_by=validation) == pytest.approx(total / best - 1)
    assert regret(chosen, test, budget=3) <= regret(chosen, test, budget=3, serve_by=validation)


def test_of_equal_groups_the_smaller_serves_as_in_serve_groups():
    flat = GainTable(TASKS, ALL, random_table(0).gains * 0, single_losses=LOSSES)
    test = random_table(5)
    chosen = [TASKS, ("a", "b", "d"), ("c", "b"), ("a", "c")]
    served = serve_groups(flat, chosen)
    gains = {task: test.predict([served.served_by(task).trains])[0][0][j] for j, task in enumerate(TASKS)}
    total = sum(LOSSES[j] * (1 - gains[task]) for j, task in enumerate(TASKS))
    best = LOSSES.sum() - select_groups(test, budget=4).value
    assert regret(chosen, test, budget=4, serve_by=flat) == pytest.approx(total / best - 1)


def test_of_a_grouping_the_trained_groups_count_and_weights_are_kept():
    table = random_table(6)
    grouping = Grouping((Group(("a", "b"), ("a", "b")), Group(("b", "c", "d"), ("c", "d"))))
    pairs = [group.trains for group in grouping.groups]
    assert regret(grouping, table, budget=2) == regret(pairs, table, budget=2)
    only = {"a": 1.0, "b": 0.0, "c": 0.0, "d": 0.0}
    best = max(table.gains[row, 0] for row, group in enumerate(ALL) if "a" in group)
    lost = regret(pairs, table, budget=2, weights=only, objective="mean_gain")
    assert lost == pytest.approx(best - table.predict([("a", "b")])[0][0, 0])


def test_random_covers_are_uniform_over_all_sets_that_cover():
    table = random_table(7)
    covers = [pair for pair in combinations(ALL, 2) if set(pair[0]) | set(pair[1]) == set(TASKS)]
    every = np.array([regret(pair, table, budget=2) for pair in covers])
    drawn = random_regret(table, 2, draws=40_000)
    assert drawn.shape == (40_000,)
    assert (drawn >= -1e-9).all()
    found = np.abs(drawn[:, None] - every).argmin(axis=1)
    np.testing.assert_allclose(drawn, every[found], atol=1e-12)
    share = np.array([np.isclose(drawn, value).mean() for value in every])
    expected = np.array([np.isclose(every, value).mean() for value in every])
    np.testing.assert_allclose(share, expected, atol=0.006)
    np.testing.assert_array_equal(random_regret(table, 2, draws=50, seed=3), random_regret(table, 2, draws=50, seed=3))
    assert (random_regret(table, 2, draws=50, seed=3) != random_regret(table, 2, draws=50, seed=4)).any()


def test_random_covers_come_from_the_table_and_the_tasks_alone():
    table = random_table(8, groups=[("a", "b"), ("c", "d")])
    drawn = random_regret(table, 3, draws=200)
    possible = [regret(chosen, table, budget=3) for chosen in ([("a", "b"), ("c", "d"), (task,)] for task in TASKS)] + [
        regret([pair, *[(task,) for task in TASKS if task not in pair]], table, budget=3) for pair in table.groups
    ]
    assert {round(value, 9) for value in drawn} == {round(value, 9) for value in possible}


def test_published_random_covers_and_hoa(group_tables):
    read = lambda of: GainTable.from_csv(group_tables / "standley_setting1.csv", f"{of}_loss")  # noqa: E731
    validation, test = read("validation"), read("test")
    drawn = random_regret(test, 2, draws=20_000, serve_by=validation)
    assert 0.45224 * (1 + drawn.mean()) == pytest.approx(0.47351, abs=4e-4)
    hoa = select_groups(PairMean.from_pairs(validation), budget=3, kappa=0)
    assert regret(hoa, test, budget=3, serve_by=validation) == pytest.approx(0.44875 / 0.44235 - 1, abs=2e-5)


def test_bad_input_is_named(monkeypatch):
    table = random_table(9, groups=[("a", "b"), ("a",)])
    with pytest.raises(ValueError, match=r"min_size must be 2 or more.* Got 1"):
        judge(TaskMean(table), table, min_size=1)
    with pytest.raises(ValueError, match="must have the tasks of the table"):
        judge(PairMean(np.ones((2, 2)), ["a", "b"]), table)
    with pytest.raises(ValueError, match=r"Group c\+d is not in the table"):
        regret([("a", "b"), ("c", "d")], table, budget=2)
    with pytest.raises(ValueError, match="they leave out 'c'"):
        regret([("a", "b"), ("d",)], table, budget=2)
    with pytest.raises(ValueError, match=r"At most 1 groups .* they are too many"):
        regret([("a", "b"), ("c",), ("d",)], table, budget=1)
    with pytest.raises(ValueError, match="Got budget=0, draws=1000"):
        random_regret(table, 0)
    monkeypatch.setattr("cotrain.grouping.judgement.MOST_DRAWS", 20_000)
    with pytest.raises(ValueError, match="None of 20,000 random choices of 2 of 5 groups covers all 4 tasks"):
        random_regret(table, 2)
