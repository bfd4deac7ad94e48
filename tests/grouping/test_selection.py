from itertools import combinations, permutations
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cotrain.grouping import (
    Candidate,
    Constraints,
    GainTable,
    PairMean,
    Resource,
    judge,
    partition_tasks,
    select_auxiliaries,
    select_groups,
    selection_stability,
    serve_groups,
)

NAN = np.nan
NAMES = "abcde"


def all_groups(tasks):
    return [group for size in range(1, len(tasks) + 1) for group in combinations(tasks, size)]


def random_table(rng, n_tasks, *, share=1.0, shift=0.0, digits=None):
    tasks = NAMES[:n_tasks]
    groups = [group for group in all_groups(tasks) if len(group) in (1, n_tasks) or rng.random() < share]
    gains = np.array([[rng.normal(shift) if task in group else NAN for task in tasks] for group in groups])
    if digits is not None:
        gains = gains.round(digits)
    return GainTable(tasks, groups, gains)


def brute_force(table, costs, budget, unit):
    """The best value over every set of at most T groups within the budget, and the least cost of any cover."""
    best, cheapest = -np.inf, np.inf
    for count in range(1, len(table.tasks) + 1):
        for chosen in combinations(range(len(table.groups)), count):
            served = np.nan_to_num(table.gains[list(chosen)], nan=-np.inf).max(axis=0)
            if np.isinf(served).any():
                continue
            cost = sum(costs[row] for row in chosen)
            cheapest = min(cheapest, cost)
            if cost <= budget + 1e-12:
                best = max(best, unit @ served)
    return best, cheapest


def groups_of(grouping):
    return {group.trains for group in grouping.groups}


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(2, 4), st.sampled_from([0.4, 1.0]), st.sampled_from([None, 0]))
def test_agrees_with_brute_force_at_random_gains_and_costs(seed, n_tasks, share, digits):
    rng = np.random.default_rng(seed)
    table = random_table(rng, n_tasks, share=share, digits=digits)
    costs = rng.choice([0.0, 0.25, 0.5, 1.0, 1.7], size=len(table.groups))
    budget = rng.uniform(0.2, n_tasks)
    weights = rng.uniform(0.1, 2, size=n_tasks)
    expected, cheapest = brute_force(table, costs, budget, weights / weights.sum())
    prices = dict(zip(table.groups, costs, strict=True))
    if np.isinf(expected):
        with pytest.raises(ValueError, match=f"smallest budget that does is {cheapest:g}"):
            select_groups(table, budget=budget, costs=prices, weights=weights)
        return
    grouping = select_groups(table, budget=budget, costs=prices, weights=weights)
    assert grouping.status == "optimal"
    assert grouping.value == pytest.approx(expected, abs=1e-9)
    assert 0 <= grouping.gap <= 1e-6 * np.nanmax(np.abs(table.gains))
    assert grouping.cost <= budget + 1e-9
    assert sorted(grouping.tasks) == sorted(table.tasks)


@settings(deadline=None, max_examples=5)
@given(st.integers(0, 10_000), st.integers(1, 5))
def test_agrees_with_brute_force_for_five_tasks(seed, budget):
    table = random_table(np.random.default_rng(seed), 5, share=0.5)
    expected, _ = brute_force(table, np.ones(len(table.groups)), budget, np.full(5, 0.2))
    assert select_groups(table, budget=budget).value == pytest.approx(expected, abs=1e-9)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, 4), st.permutations(range(4)), st.sampled_from([None, 0]))
@example(0, 2, [3, 2, 1, 0], 0)
def test_order_of_tasks_and_groups_changes_nothing(seed, budget, order, digits):
    table = random_table(np.random.default_rng(seed), 4, digits=digits)
    rows = np.random.default_rng(seed).permutation(len(table.groups))
    other = GainTable(
        [table.tasks[i] for i in order], [table.groups[row] for row in rows], table.gains[np.ix_(rows, order)]
    )
    one, two = select_groups(table, budget=budget), select_groups(other, budget=budget)
    assert [set(group.trains) for group in one.groups] == [set(group.trains) for group in two.groups]
    assert [set(group.serves) for group in one.groups] == [set(group.serves) for group in two.groups]
    assert one.value == pytest.approx(two.value, abs=1e-12)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, 4), st.floats(-5, 5))
def test_a_constant_on_one_tasks_gains_changes_no_group(seed, budget, constant):
    table = random_table(np.random.default_rng(seed), 4)
    gains = table.gains.copy()
    gains[:, 2] += constant
    shifted = GainTable(table.tasks, table.groups, gains)
    one, two = select_groups(table, budget=budget), select_groups(shifted, budget=budget)
    assert one.groups == two.groups
    assert two.value == pytest.approx(one.value + constant / 4, abs=1e-9)


def test_ties_go_to_the_lower_cost_then_fewer_tasks_then_names():
    groups = all_groups("abc")
    zero = GainTable("abc", groups, [[0.0 if task in group else NAN for task in "abc"] for group in groups])
    assert groups_of(select_groups(zero, budget=3)) == {("a", "b", "c")}
    dear = select_groups(zero, budget=3, costs={("a", "b", "c"): 2.5})
    assert (dear.cost, sum(len(group.trains) for group in dear.groups)) == (2, 3)
    pairs = GainTable("abc", [("b", "c"), ("a", "c"), ("a", "b")], [[NAN, 1, 1], [1, NAN, 1], [1, 1, NAN]])
    assert groups_of(select_groups(pairs, budget=2)) == {("a", "b"), ("a", "c")}


def test_a_network_that_serves_nobody_is_left_out():
    table = GainTable("abc", [("a", "b", "c"), ("a", "b")], [[0.5, 0.5, 0.5], [0.1, 0.1, NAN]])
    grouping = select_groups(table, budget=3)
    assert groups_of(grouping) == {("a", "b", "c")}
    assert serve_groups(table, [("a", "b"), ("a", "b", "c")]).groups == grouping.groups


def test_helpers_train_where_they_are_not_served():
    table = GainTable("abc", [("a", "b", "c"), ("a", "b")], [[-1, 0.1, 0.1], [0.5, -1, NAN]])
    grouping = select_groups(table, budget=2)
    assert grouping.served_by("a").trains == ("a", "b")
    assert grouping.served_by("a").helpers == ("b",)
    assert grouping.value == pytest.approx(0.7 / 3)


def test_leaving_every_task_alone_is_always_possible():
    worse = PairMean(np.full((4, 4), -1.0), "abcd", np.full((4, 4), 0.1))
    grouping = select_groups(worse, budget=4)
    assert groups_of(grouping) == {("a",), ("b",), ("c",), ("d",)}
    assert grouping.value == 0


def test_the_objective_is_chosen_by_the_caller_and_said():
    groups = [("a", "b"), ("a", "c"), ("b", "c"), ("a", "b", "c")]
    gains = [[0.2, 0.2, NAN], [0.1, NAN, 0.1], [NAN, 0.3, 0.3], [-0.5, -0.5, -0.5]]
    losses = GainTable("abc", groups, gains, single_losses=[100.0, 1.0, 1.0])
    total, mean = select_groups(losses, budget=2), select_groups(losses, budget=2, objective="mean_gain")
    assert (total.objective, mean.objective) == ("total_loss", "mean_gain")
    assert groups_of(total) == {("a", "b"), ("b", "c")}
    assert total.value == pytest.approx(100 * 0.2 + 0.3 + 0.3)
    assert mean.value == pytest.approx((0.2 + 0.3 + 0.3) / 3)
    assert select_groups(GainTable("abc", groups, gains), budget=2).objective == "mean_gain"
    with pytest.raises(ValueError, match="needs the loss of every task alone"):
        select_groups(GainTable("abc", groups, gains), budget=2, objective="total_loss")


def test_kappa_deducts_standard_deviations():
    table = GainTable("ab", [("a", "b")], [[0.1, 0.1]], [[0.2, 0.2]])
    assert groups_of(select_groups(table, budget=2)) == {("a",), ("b",)}
    bold = select_groups(table, budget=2, kappa=0)
    assert groups_of(bold) == {("a", "b")}
    forced = select_groups(table, budget=1)
    assert forced.value == pytest.approx(-0.1)
    assert forced.value_at_mean == pytest.approx(bold.value) == pytest.approx(0.1)


def test_costs_may_be_names_sets_or_a_function():
    table = random_table(np.random.default_rng(0), 3)
    expected = select_groups(table, budget=1.5, costs=lambda group: 0.5 if len(group) == 1 else 1.0)
    for keys in (["a", "b", "c"], [("a",), ("b",), ("c",)], [frozenset("a"), frozenset("b"), frozenset("c")]):
        assert select_groups(table, budget=1.5, costs=dict.fromkeys(keys, 0.5)).groups == expected.groups
    assert select_groups(table, budget=0.5, costs={"a+b+c": 0.5}).groups[0].trains == ("a", "b", "c")


def test_max_size_is_kept():
    model = PairMean(np.full((6, 6), 0.5), "abcdef", np.full((6, 6), 0.1))
    grouping = select_groups(model, budget=3, max_size=2)
    assert max(len(group.trains) for group in grouping.groups) == 2
    with pytest.raises(ValueError, match=r"of at most 2 tasks each covers all 6 .* smallest budget that does is 3"):
        select_groups(model, budget=2, max_size=2)


def test_only_measured_groups_of_a_table_are_candidates():
    grouping = select_groups(GainTable("abc", [("a", "b")], [[0.1, 0.1, NAN]]), budget=2)
    assert groups_of(grouping) == {("a", "b"), ("c",)}
    assert all(group.measured for group in grouping.groups)
    with pytest.raises(ValueError, match=r"smallest budget that does is 2, with c, a\+b"):
        select_groups(GainTable("abc", [("a", "b")], [[0.1, 0.1, NAN]]), budget=1)


def test_measured_and_predicted_networks_are_told_apart():
    table = GainTable("abc", [("a", "b"), ("a", "c"), ("b", "c")], [[1, 1, NAN], [1, NAN, 1], [NAN, 1, 1]])
    grouping = select_groups(PairMean.from_pairs(table), budget=1, kappa=0)
    assert [group.measured for group in grouping.groups] == [False]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 0}, "at least 1 network"),
        ({"budget": 0.5}, "Pass budget=1 or more"),
        ({"budget": -1, "costs": {}}, "at least 1 network"),
        ({"budget": NAN}, "must be a finite number"),
        ({"budget": np.inf}, "must be a finite number. Got budget=inf. For no limit"),
        ({"budget": "2"}, "must be a finite number. Got budget='2'"),
        ({"budget": None}, "must be a finite number. Got budget=None"),
        ({"budget": 1.5}, "whole number"),
        ({"budget": 1, "max_size": 0}, "max_size"),
        ({"budget": 1, "time_limit": 0}, "time_limit"),
        ({"budget": 1, "objective": "loss"}, "objective must be"),
        ({"budget": 1, "kappa": -1}, "kappa"),
        ({"budget": 1, "weights": [1, 1]}, "3 finite numbers"),
        ({"budget": 1, "weights": [0, 0, 0]}, "not all 0"),
        ({"budget": 1, "weights": {"a": 1, "b": 1, "x": 1}}, "Wrong or missing: c, x"),
        ({"budget": 1, "costs": {"a+x": 1}}, "unknown task 'x'"),
        ({"budget": 1, "costs": {"a": -1}}, "cost of group a"),
        ({"budget": 1, "costs": lambda group: NAN}, "cost of group"),
        ({"budget": 1, "costs": lambda group: "much"}, "cost of group .* Got 'much'"),
        ({"budget": 1, "costs": np.ones(7)}, "costs are a mapping by group, or a function of a group. Got ndarray"),
        ({"budget": 1, "constraints": {"max_size": 2}}, r"Constraints\(...\). Got dict"),
        ({"budget": 1, "extra": [Candidate(("a",), {}, 0.5, "half")]}, "one gain for each"),
        ({"budget": 1, "extra": [Candidate(("a",), {"a": NAN}, 0.5, "half")]}, "group a is not a finite"),
    ],
)
def test_a_bad_argument_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        select_groups(random_table(np.random.default_rng(0), 3), **options)


@pytest.mark.parametrize(
    "use",
    [
        lambda wrong: select_groups(wrong, budget=1),
        lambda wrong: serve_groups(wrong, [("a", "b")]),
        lambda wrong: selection_stability(wrong, budget=1),
        lambda wrong: partition_tasks(wrong, n_groups=1),
        lambda wrong: judge(wrong, GainTable("ab", [("a", "b")], [[0, 0]])),
        lambda wrong: select_auxiliaries("a", GainTable("ab", [("a", "b")], [[0, 0]]), gains=wrong),
    ],
)
def test_what_is_no_gain_model_is_told_what_makes_one(use):
    affinity = SimpleNamespace(matrix=np.zeros((2, 2)), stderr=np.zeros((2, 2)), tasks=("a", "b"))
    with pytest.raises(ValueError, match=r"Got SimpleNamespace. .* PairMean\(affinity\)"):
        use(affinity)
    with pytest.raises(ValueError, match=r"Got ndarray. .* PairMean\(matrix, tasks\)"):
        use(np.zeros((2, 2)))


def test_what_pandas_holds_by_name_is_read_by_name():
    """By position a weight would go to another task, without a word."""
    table = random_table(np.random.default_rng(3), 3)
    weights, price, floor = {"a": 1.0, "b": 2.0, "c": 5.0}, {"a+b": 0.5, "a+b+c": 9.0}, {"c": 0.0}
    rule = Constraints(min_gain=floor, resources=[Resource("memory", 3, dict.fromkeys(map("+".join, table.groups), 1))])
    by_name = select_groups(table, budget=2, weights=weights, costs=price, constraints=rule)
    turned = Constraints(
        min_gain=pd.Series(floor), resources=[Resource("memory", 3, pd.Series(rule.resources[0].costs))]
    )
    found = select_groups(table, budget=2, weights=pd.Series(weights)[::-1], costs=pd.Series(price), constraints=turned)
    assert (found.groups, found.value) == (by_name.groups, by_name.value)


class Broken:
    """A gain model that answers with whatever it was given."""

    def __init__(self, tasks, mean, std):
        self.tasks, self.mean, self.std = tasks, mean, std

    def predict(self, groups):
        shape = (len(groups), len(self.tasks))
        return np.broadcast_to(self.mean, shape), np.broadcast_to(self.std, shape)

    def measured(self, groups):
        return np.zeros(len(groups), dtype=bool)


def test_gains_that_are_not_finite_are_refused_by_name():
    with pytest.raises(ValueError, match="gain of task 'b' in group b is not a finite"):
        select_groups(Broken(("a", "b"), [0.1, NAN], 0.0), budget=1)
    with pytest.raises(ValueError, match="std of task 'a' in group a is not a finite"):
        select_groups(Broken(("a", "b"), 0.1, [np.inf, 0.0]), budget=1)
    assert select_groups(Broken(("a", "b"), 0.1, NAN), budget=1, kappa=0).value == pytest.approx(0.1)
    with pytest.raises(ValueError, match="at least 2 tasks"):
        select_groups(Broken(("a",), 0.1, 0.0), budget=1)


def test_serve_groups_needs_every_task():
    with pytest.raises(ValueError, match="Task 'c' is in none"):
        serve_groups(random_table(np.random.default_rng(0), 3), [("a", "b")])


def test_out_of_time_the_best_so_far_has_a_valid_bound():
    rng = np.random.default_rng(0)
    groups = all_groups("abcdefghij")
    gains = [[rng.normal() if len(g) > 1 else 0.0 if t in g else NAN for t in "abcdefghij"] for g in groups]
    gains = [
        [v if t in g else NAN for t, v in zip("abcdefghij", row, strict=True)]
        for g, row in zip(groups, gains, strict=True)
    ]
    table = GainTable("abcdefghij", groups, gains)
    hurried, exact = select_groups(table, budget=3, time_limit=1e-6), select_groups(table, budget=3)
    assert hurried.status == "time_limit"
    assert exact.status == "optimal"
    assert hurried.value <= exact.value <= hurried.bound
    assert hurried.gap > 0
    assert sorted(hurried.tasks) == list(table.tasks)


def test_nothing_is_printed_by_the_solver(capfd):
    for seed, budget in permutations(range(1, 6), 2):
        select_groups(random_table(np.random.default_rng(seed), 5), budget=budget)
    assert capfd.readouterr() == ("", "")
