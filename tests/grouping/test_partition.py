"""Disjoint partitions: against all partitions, on the published tables, under constraints and out of time."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotrain.grouping import GainTable, PairMean, select_groups, serve_groups
from cotrain.grouping import candidates as candidates_module
from cotrain.grouping import subset_partition as subset_module
from cotrain.grouping.constraints import Constraints, Resource
from cotrain.grouping.partition import partition_tasks

NAN = np.nan


def all_partitions(tasks):
    """Every partition, as lists of tuples in the order of the tasks."""
    if not tasks:
        yield []
        return
    first, rest = tasks[0], tasks[1:]
    for size in range(len(rest) + 1):
        for others in combinations(rest, size):
            for parts in all_partitions(tuple(task for task in rest if task not in others)):
                yield [(first, *others), *parts]


def random_worth(seed, tasks, digits=None):
    rng = np.random.default_rng(seed)
    worth = {group: rng.normal() for size in range(1, len(tasks) + 1) for group in combinations(tasks, size)}
    return {group: round(value, digits) if digits is not None else value for group, value in worth.items()}


def parts(grouping):
    return sorted(tuple(sorted(group.trains)) for group in grouping.groups)


@given(st.integers(0, 10_000), st.integers(2, 6), st.sampled_from([None, 0]), st.data())
def test_agrees_with_all_partitions(seed, n_tasks, digits, data):
    tasks = tuple("abcdef"[:n_tasks])
    worth = random_worth(seed, tasks, digits)
    n_groups = data.draw(st.none() | st.integers(1, n_tasks))
    budget = data.draw(st.none() | st.integers(n_groups or 1, n_tasks))
    choices = [
        choice
        for choice in all_partitions(tasks)
        if (n_groups is None or len(choice) == n_groups) and len(choice) <= (budget or n_tasks)
    ]
    best = max(sum(worth[group] for group in choice) for choice in choices)
    grouping = partition_tasks(worth.__getitem__, tasks, n_groups=n_groups, budget=budget)
    assert grouping.status == "optimal"
    assert grouping.solver == "subset dynamic programme"
    assert grouping.objective == "worth"
    assert grouping.value == pytest.approx(best, abs=1e-9)
    assert grouping.bound >= grouping.value
    assert sorted(task for group in grouping.groups for task in group.trains) == sorted(tasks)
    fewest = min(len(choice) for choice in choices if sum(map(worth.__getitem__, choice)) >= best - 1e-9)
    assert grouping.n_networks == fewest


@given(st.integers(0, 10_000), st.sampled_from([[0.5, 1.0, 2.0], [0.3, 1.0, 1.7]]), st.floats(0.5, 5))
def test_costs_in_half_units_or_any_other_agree_with_all_partitions(seed, prices, budget):
    tasks = tuple("abcde")
    worth = random_worth(seed, tasks)
    rng = np.random.default_rng(seed)
    cost = {group: float(rng.choice(prices)) for group in worth}
    totals = [(sum(map(cost.__getitem__, choice)), choice) for choice in all_partitions(tasks)]
    able = [choice for total, choice in totals if total <= budget + 1e-12]
    if not able:
        with pytest.raises(ValueError, match=f"smallest budget that does is {min(totals)[0]:g},"):
            partition_tasks(worth.__getitem__, tasks, budget=budget, costs=cost)
        return
    grouping = partition_tasks(worth.__getitem__, tasks, budget=budget, costs=cost)
    assert grouping.solver == ("subset dynamic programme" if 0.5 in prices else "HiGHS")
    assert grouping.value == pytest.approx(max(sum(map(worth.__getitem__, choice)) for choice in able), abs=1e-9)
    assert grouping.cost <= budget + 1e-9


@given(st.integers(0, 10_000))
def test_the_two_exact_solvers_agree_also_on_constraints(seed):
    tasks = tuple("abcdef")
    worth = random_worth(seed, tasks)
    rng = np.random.default_rng(seed)
    some = {
        "max_size": int(rng.integers(2, 7)),
        "must_link": [("b", "e")],
        "cannot_link": [("a", "b", "d")],
        "served_alone": ("f",) if rng.random() < 0.5 else (),
    }
    n_groups = int(rng.integers(4, 6))
    exact = partition_tasks(worth.__getitem__, tasks, n_groups=n_groups, constraints=Constraints(**some))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subset_module, "MOST_TASKS", 1)
        other = partition_tasks(worth.__getitem__, tasks, n_groups=n_groups, constraints=Constraints(**some))
    assert (exact.solver, other.solver) == ("subset dynamic programme", "HiGHS")
    assert other.status == "optimal"
    assert exact.value == pytest.approx(other.value, abs=1e-8)
    for grouping in (exact, other):
        assert grouping.n_networks == n_groups
        for group in map(set, parts(grouping)):
            assert len(group) <= some["max_size"]
            assert len(group & {"b", "e"}) in (0, 2)
            assert len(group & {"a", "b", "d"}) < 2
            assert group.isdisjoint(some["served_alone"]) or len(group) == 1


@given(st.integers(0, 10_000))
def test_a_resource_row_agrees_with_all_partitions(seed):
    tasks = tuple("abcde")
    worth = random_worth(seed, tasks)
    memory = {group: 1.0 + 0.37 * len(group) ** 2 for group in worth}
    limit = float(np.random.default_rng(seed).uniform(4.6, 8))
    able = [choice for choice in all_partitions(tasks) if sum(map(memory.__getitem__, choice)) <= limit]
    row = Constraints(resources=[Resource("memory", limit, memory)])
    if not able:
        with pytest.raises(ValueError, match=f"limit {limit:g} of resource 'memory' cannot be met"):
            partition_tasks(worth.__getitem__, tasks, constraints=row)
        return
    grouping = partition_tasks(worth.__getitem__, tasks, constraints=row)
    assert grouping.status == "optimal"
    assert grouping.value == pytest.approx(max(sum(map(worth.__getitem__, choice)) for choice in able), abs=1e-8)


@given(st.integers(0, 10_000), st.permutations(range(5)), st.sampled_from([None, 0]))
def test_permuting_tasks_permutes_the_partition(seed, order, digits):
    tasks = tuple("abcde")
    worth = random_worth(seed, tasks, digits)
    other = [tasks[i] for i in order]
    one = partition_tasks(worth.__getitem__, tasks)
    two = partition_tasks(lambda group: worth[tuple(sorted(group))], other)
    assert parts(one) == parts(two)


def test_ties_go_to_fewer_groups():
    zero = partition_tasks(lambda _: 0.0, "abcd")
    assert parts(zero) == [("a", "b", "c", "d")]
    rounded = {("a",): 0.1, ("b",): 0.2, ("a", "b"): 0.3}  # 0.1 + 0.2 is above 0.3 by its rounding
    assert parts(partition_tasks(rounded.__getitem__, "ab")) == [("a", "b")]
    assert parts(partition_tasks(lambda _: 0.0, "abcd", n_groups=2)) == parts(
        partition_tasks(lambda _: 0.0, "dcba", n_groups=2)
    )


def test_a_group_is_given_to_the_function_in_the_callers_order():
    seen = []
    partition_tasks(lambda group: seen.append(group) or 0.0, ["c", "a", "b"])
    assert sorted(seen) == sorted(group for size in (1, 2, 3) for group in combinations(("c", "a", "b"), size))


# Disjoint groups of the published tables: the least sum of validation losses, and the sum of test losses.
STANDLEY = {
    ("setting1", 2): (0.46648, 0.46052), ("setting1", 3): (0.45786, 0.45334), ("setting1", 4): (0.45764, 0.45235),
    ("setting1", 5): (0.45313, None), ("large", 2): (0.33485, 0.33196), ("large", 3): (0.32819, None),
    ("large", 4): (0.32775, 0.32439), ("small_data", 2): (0.42467, 0.42022), ("small_data", 3): (0.39855, 0.39524),
}  # fmt: skip
GROUPS = {
    ("setting1", 2): "s dnke", ("setting1", 3): "sdn k e", ("setting1", 4): "sk d n e", ("large", 2): "sde nk",
    ("large", 3): "se d nk", ("small_data", 2): "sdn ke", ("small_data", 3): "s dn ke",
}  # fmt: skip
NAMES = {"s": "segmentation", "d": "depth", "n": "normals", "k": "keypoints", "e": "edges"}


@pytest.mark.parametrize(("setting", "k"), STANDLEY)
def test_the_published_tables_are_partitioned_exactly(group_tables, setting, k):
    path = group_tables / f"standley_{setting}.csv"
    validation, test = (GainTable.from_csv(path, column) for column in ("validation_loss", "test_loss"))
    grouping = partition_tasks(validation, n_groups=k)
    assert (grouping.status, grouping.n_networks) == ("optimal", k)
    expected, on_test = STANDLEY[setting, k]
    assert round(validation.single_losses.sum() - grouping.value, 5) == expected
    if on_test is not None:
        mean = [test.predict([grouping.served_by(task).trains])[0][0, j] for j, task in enumerate(test.tasks)]
        assert round(float(test.single_losses @ (1 - np.array(mean))), 5) == on_test
    if (setting, k) in GROUPS:
        words = GROUPS[setting, k].split()
        assert parts(grouping) == sorted(tuple(sorted(NAMES[letter] for letter in word)) for word in words)


@pytest.mark.parametrize(
    ("k", "mean"), [(2, 0.13189), (3, 0.08904), (4, 0.06977), (5, 0.04386), (6, 0.03031), (7, 0.0), (None, 0.13189)]
)
def test_ettm1_is_partitioned_exactly(group_tables, k, mean):
    table = GainTable.from_csv(group_tables / "ettm1.csv", "validation_gain")
    grouping = partition_tasks(table, n_groups=k)
    assert round(grouping.value, 5) == mean
    assert grouping.n_networks == (k or 2)
    if k == 2:
        assert ("LUFL",) in parts(grouping)


def test_a_partition_is_a_selection_without_helpers():
    rng = np.random.default_rng(0)
    table = PairMean(rng.normal(size=(6, 6)), "abcdef", np.full((6, 6), 0.1))
    one = partition_tasks(table, budget=3, weights=[1, 2, 1, 1, 1, 3], kappa=0.5)
    two = select_groups(
        table, budget=3, weights=[1, 2, 1, 1, 1, 3], kappa=0.5, constraints=Constraints(networks_per_task=1)
    )
    assert one.value == pytest.approx(two.value)
    assert parts(one) == parts(two)
    assert all(group.helpers == () for group in two.groups)


@pytest.mark.parametrize("options", [{}, {"n_groups": 4}, {"budget": 2}])
def test_out_of_time_the_best_so_far_has_a_valid_bound(options):
    tasks = [f"t{number:02d}" for number in range(11)]
    worth = random_worth(0, tasks)
    exact = partition_tasks(worth.__getitem__, tasks, **options)
    hurried = partition_tasks(worth.__getitem__, tasks, time_limit=1e-3, **options)
    assert (exact.status, hurried.status) == ("optimal", "time_limit")
    assert hurried.value <= exact.value <= hurried.bound
    assert hurried.gap > 0
    assert sorted(hurried.tasks) == tasks


def planted(n_tasks, n_clusters, seed):
    rng = np.random.default_rng(seed)
    cluster = np.arange(n_tasks) % n_clusters
    matrix = 0.1 * (cluster[:, None] == cluster) - 0.05 + rng.normal(0, 0.01, (n_tasks, n_tasks))
    tasks = [f"t{number:02d}" for number in range(n_tasks)]
    found = sorted(tuple(np.array(tasks)[cluster == c].tolist()) for c in range(n_clusters))
    return PairMean(matrix, tasks, np.full((n_tasks, n_tasks), 0.01)), found


def test_beyond_fifteen_tasks_what_was_planted_is_found_and_called_a_heuristic():
    model, clusters = planted(24, 3, 0)
    for options in ({"n_groups": 3}, {"budget": 3}):
        grouping = partition_tasks(model, time_limit=100, **options)
        assert grouping.status == "heuristic"
        assert grouping.bound is None
        assert grouping.pool_gap >= 0
        assert grouping.solver.startswith("local search")
        assert parts(grouping) == clusters
    together = serve_groups(model, clusters).value
    assert partition_tasks(model, time_limit=100).value >= together - 1e-9
    assert partition_tasks(model, n_groups=5, time_limit=100).n_networks == 5


def test_a_pool_comes_close_to_all_groups(monkeypatch):
    tasks = [f"t{number}" for number in range(9)]
    rng = np.random.default_rng(0)
    model = PairMean(rng.normal(size=(9, 9)), tasks, np.full((9, 9), 0.1))
    some = Constraints(must_link=[("t1", "t2")], cannot_link=[("t2", "t3")], max_size=4)
    exact = partition_tasks(model, constraints=some)
    monkeypatch.setattr(candidates_module, "MOST_LISTED", 50)
    monkeypatch.setattr("cotrain.grouping.partition_pool.MOST_CANDIDATES", 150)
    pool = partition_tasks(model, constraints=some)
    assert (exact.status, pool.status) == ("optimal", "heuristic")
    assert exact.value - 0.05 <= pool.value <= exact.value + 1e-9
    assert pool.n_candidates < exact.n_candidates


def test_a_pool_that_ran_out_of_time_still_gives_a_partition():
    model, _ = planted(20, 3, 0)
    grouping = partition_tasks(model, budget=4, time_limit=1e-3)
    assert sorted(grouping.tasks) == list(model.tasks)
    assert grouping.n_networks <= 4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: partition_tasks(lambda _: 0.0), "needs the names of the tasks"),
        (lambda: partition_tasks(lambda _: 0.0, "a"), "at least 2 tasks"),
        (lambda: partition_tasks(GainTable("ab", [], np.zeros((0, 2))), "ab"), "tasks of its own"),
        (lambda: partition_tasks(lambda _: NAN, "ab"), "worth of group a is not a finite"),
        (lambda: partition_tasks(lambda _: 0.0, "ab", budget=0), "at least 1 network"),
        (lambda: partition_tasks(lambda _: 0.0, "ab", time_limit=0), "time_limit"),
        (lambda: partition_tasks(lambda _: 0.0, "ab", n_groups=3), "n_networks=3 and the number of tasks"),
        (
            lambda: partition_tasks(lambda _: 0.0, "ab", n_groups=2, constraints=Constraints(n_networks=1)),
            "n_groups=2 and n_networks=1 contradict",
        ),
        (
            lambda: partition_tasks(lambda _: 0.0, "abcd", n_groups=3, constraints=Constraints(min_size=2)),
            "min_size=2",
        ),
    ],
)
def test_a_bad_argument_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_text_names_the_worth():
    assert "worth of the groups 2; proven best" in str(partition_tasks(lambda group: 1.0 * (len(group) == 2), "abcd"))
