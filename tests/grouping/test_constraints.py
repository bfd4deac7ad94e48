"""What a selection respects: every constraint against every choice of candidates, and what contradicts itself."""

from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cotrain.grouping import Candidate, GainTable, PairMean, select_groups
from cotrain.grouping.constraints import Constraints, Resource

NAN = np.nan
NAMES = "abcde"


def all_groups(tasks):
    return [group for size in range(1, len(tasks) + 1) for group in combinations(tasks, size)]


def random_table(rng, n_tasks, share=1.0):
    tasks = NAMES[:n_tasks]
    groups = [group for group in all_groups(tasks) if len(group) in (1, n_tasks) or rng.random() < share]
    gains = [
        [(rng.normal() if len(group) > 1 else 0.0) if task in group else NAN for task in tasks] for group in groups
    ]
    return GainTable(tasks, groups, gains)


def random_constraints(rng, table):
    """A few constraints at random, most of which can be met."""
    tasks = table.tasks
    some = {}
    if rng.random() < 0.4:
        weights = dict(zip(table.groups, rng.integers(1, 4, len(table.groups)).astype(float), strict=True))
        some["resources"] = [Resource("memory", float(rng.integers(3, 9)), weights)]
    if rng.random() < 0.3:
        some["max_size"] = int(rng.integers(1, len(tasks) + 1))
    if rng.random() < 0.2:
        some["min_size"] = 2
    if rng.random() < 0.3:
        some["must_link"] = [tuple(rng.choice(list(tasks), 2, replace=False))]
    if rng.random() < 0.3:
        some["cannot_link"] = [tuple(rng.choice(list(tasks), 2, replace=False))]
    if rng.random() < 0.3:
        some["served_alone"] = (str(rng.choice(list(tasks))),)
    if rng.random() < 0.3:
        some["min_gain"] = {str(rng.choice(list(tasks))): float(rng.choice([-0.5, 0.0, 0.3]))}
    if rng.random() < 0.3:
        some["helpers"] = False
    if rng.random() < 0.3:
        some["networks_per_task"] = int(rng.integers(1, 4))
    if rng.random() < 0.4:
        some["n_networks"] = int(rng.integers(1, len(tasks) + 1))
    if rng.random() < 0.3:
        some["trained"] = [table.groups[int(rng.integers(len(table.groups)))]]
    return some


def serving_values(gains, allowed, n_networks):
    """The best total gain over all ways to let k networks [k, T] serve the tasks; every way is looked at."""
    worth = np.where(allowed, gains, -np.inf)
    if n_networks is None:
        return worth.max(axis=0).sum()
    best = -np.inf
    for servers in np.ndindex(*[len(worth)] * worth.shape[1]):
        if len(set(servers)) == len(worth):
            best = max(best, sum(worth[i, j] for j, i in enumerate(servers)))
    return best


def brute_force(table, some, costs, budget):
    """The best mean gain of every set of candidates that meets all constraints, and the least cost of any such set."""
    tasks = table.tasks
    usable, allowed = [], []
    floors = some.get("min_gain", {})
    for row, group in enumerate(table.groups):
        ok = some.get("min_size", 1) <= len(group) <= some.get("max_size", len(tasks))
        ok &= all(len(set(link) & set(group)) in (0, 2) for link in some.get("must_link", []))
        ok &= all(len(set(link) & set(group)) < 2 for link in some.get("cannot_link", []))
        serves = [
            task in group
            and not (task in some.get("served_alone", ()) and len(group) > 1)
            and table.gains[row, j] >= floors.get(task, -np.inf)
            for j, task in enumerate(tasks)
        ]
        if not some.get("helpers", True):
            ok &= sum(serves) == len(group)
        if ok and any(serves):
            usable.append(row)
            allowed.append(serves)
    price = np.array([0.0 if group in some.get("trained", []) else costs[group] for group in table.groups])
    exactly = some.get("n_networks")
    best, cheapest = -np.inf, np.inf
    for count in range(1, len(tasks) + 1) if exactly is None else [exactly]:
        for places in combinations(range(len(usable)), count):
            chosen = [usable[place] for place in places]
            members = ~np.isnan(table.gains[chosen])
            if not some.get("helpers", True) and (members.sum(axis=0) > 1).any():
                continue
            if (members.sum(axis=0) > some.get("networks_per_task", count)).any():
                continue
            if any(sum(r.costs[table.groups[row]] for row in chosen) > r.limit for r in some.get("resources", [])):
                continue
            value = serving_values(table.gains[chosen], np.array([allowed[place] for place in places]), exactly)
            if np.isinf(value):
                continue
            cheapest = min(cheapest, price[chosen].sum())
            if price[chosen].sum() <= budget + 1e-12:
                best = max(best, value / len(tasks))
    return best, cheapest


def check_kept(grouping, some, table):
    for group in grouping.groups:
        members = set(group.trains)
        assert some.get("min_size", 1) <= len(members) <= some.get("max_size", 99)
        assert all(len(members & set(link)) in (0, 2) for link in some.get("must_link", []))
        assert all(len(members & set(link)) < 2 for link in some.get("cannot_link", []))
        assert some.get("helpers", True) or group.helpers == ()
    for task in some.get("served_alone", ()):
        assert grouping.served_by(task).trains == (task,)
    for task, floor in some.get("min_gain", {}).items():
        mean, _ = table.predict([grouping.served_by(task).trains])
        assert mean[0, table.tasks.index(task)] >= floor - 1e-9
    if "n_networks" in some:
        assert grouping.n_networks == some["n_networks"]
        assert all(group.serves for group in grouping.groups)
    for task in table.tasks:
        assert sum(task in group.trains for group in grouping.groups) <= some.get("networks_per_task", 99)
    for resource in some.get("resources", []):
        assert sum(resource.costs[group.trains] for group in grouping.groups) <= resource.limit
    assert sorted(task for group in grouping.groups for task in group.serves) == sorted(table.tasks)


def check_against_brute_force(seed, n_tasks, share):
    rng = np.random.default_rng(seed)
    table = random_table(rng, n_tasks, share)
    some = random_constraints(rng, table)
    counts = rng.random() < 0.5
    costs = {group: 1.0 if counts else float(rng.choice([0.5, 1.0, 1.7])) for group in table.groups}
    budget = int(rng.integers(1, n_tasks + 1))
    expected, cheapest = brute_force(table, some, costs, budget)

    def select():
        return select_groups(
            table,
            budget=budget,
            costs=None if counts else costs,
            constraints=Constraints(**some),
            objective="mean_gain",
        )

    if np.isinf(expected):
        with pytest.raises(ValueError, match=r"contradict|cannot be met|smallest budget that does is") as raised:
            select()
        if "smallest budget" in str(raised.value):
            assert f"smallest budget that does is {cheapest:g}," in str(raised.value)
        return
    grouping = select()
    assert grouping.status == "optimal"
    assert grouping.value == pytest.approx(expected, abs=1e-9)
    assert grouping.bound >= grouping.value
    assert grouping.cost <= budget + 1e-9
    check_kept(grouping, some, table)


@settings(max_examples=120)
@given(st.integers(0, 100_000), st.integers(2, 4), st.sampled_from([0.5, 1.0]))
def test_agrees_with_brute_force_at_random_gains_costs_and_constraints(seed, n_tasks, share):
    check_against_brute_force(seed, n_tasks, share)


@settings(max_examples=8)
@given(st.integers(0, 100_000))
def test_agrees_with_brute_force_for_five_tasks(seed):
    check_against_brute_force(seed, 5, 0.3)


def full_model(n_tasks, seed=0):
    matrix = np.random.default_rng(seed).normal(size=(n_tasks, n_tasks))
    tasks = [f"t{number:02d}" for number in range(n_tasks)]
    return PairMean(matrix, tasks, np.full((n_tasks, n_tasks), 0.1))


@pytest.mark.parametrize(
    ("some", "names"),
    [
        ({"min_size": 3, "max_size": 2}, ["min_size=3", "max_size=2"]),
        ({"min_size": 2, "served_alone": ("a",)}, ["served_alone a", "min_size=2"]),
        ({"must_link": [("a", "b"), ("b", "c")], "max_size": 2}, [r"must_link a\+b\+c", "max_size=2"]),
        ({"must_link": [("a", "b"), ("b", "c")], "cannot_link": [("d", "a", "c")]}, ["must_link", r"cannot_link a\+c"]),
        ({"must_link": [("a", "b")], "served_alone": ("d", "b")}, [r"must_link a\+b", "served_alone b"]),
        ({"n_networks": 5}, ["n_networks=5", "number of tasks, 4"]),
        ({"n_networks": 1, "max_size": 3}, ["n_networks=1", "max_size=3"]),
        ({"n_networks": 4}, ["n_networks=4", "budget=3"]),
        ({"served_alone": ("a",), "min_gain": {"a": 0.1}}, ["served_alone a", "min_gain=0.1 of task a"]),
        ({"n_networks": 2, "min_size": 3, "helpers": False}, ["min_size=3", "n_networks=2", "helpers=False"]),
        ({"n_networks": 1, "cannot_link": [("b", "d")]}, [r"cannot_link b\+d", "n_networks=1"]),
        (
            {"n_networks": 3, "resources": [Resource("memory", 2, lambda _: 1.0)]},
            ["limit 2 of resource 'memory'", "n_networks=3"],
        ),
    ],
)
def test_what_contradicts_is_named(some, names):
    groups = all_groups("abcd")
    gains = [[(0.2 if len(group) > 1 else 0.0) if task in group else NAN for task in "abcd"] for group in groups]
    with pytest.raises(ValueError, match="contradict each other") as raised:
        select_groups(GainTable("abcd", groups, gains), budget=3, constraints=Constraints(**some))
    for name in names:
        assert raised.match(name)
    assert str(raised.value).count("=") <= sum(name.count("=") for name in names)


def test_one_constraint_that_no_candidate_meets_is_named():
    table = random_table(np.random.default_rng(0), 4)
    few = GainTable("abcd", [("a", "b"), ("c", "d")], [[0.1, 0.1, NAN, NAN], [NAN, NAN, 0.1, 0.1]])
    with pytest.raises(ValueError, match=r"must_link a\+c cannot be met for the 6 candidate groups\. Loosen"):
        select_groups(few, budget=4, constraints=Constraints(must_link=[("a", "c")]))
    small = Constraints(resources=[Resource("memory", 1.0, lambda group: 1.0 + len(group))])
    with pytest.raises(ValueError, match=r"limit 1 of resource 'memory' cannot be met .* smallest limit .* is 5\."):
        select_groups(table, budget=4, constraints=small)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Constraints(min_size=0), "min_size must be a whole number, 1 or more"),
        (lambda: Constraints(n_networks=1.5), "n_networks must be a whole number"),
        (lambda: Constraints(min_gain=NAN), "min_gain must be finite"),
        (lambda: Constraints(min_gain={"a": np.inf}), "min_gain must be finite"),
        (lambda: Constraints(min_gain=np.zeros(3)), "min_gain is a number for all tasks, or one by name"),
        (lambda: Constraints(served_alone="a"), r"Write \('a',\)"),
        (lambda: Constraints(trained=["ab"]), r"trained holds groups of tasks, such as \('a', 'b'\). Got 'ab'"),
        (lambda: Constraints(resources=Resource("m", 1)), r"resources is a collection .* Write \(Resource"),
        (lambda: Constraints(must_link=["ab"]), "must_link holds groups of 2 or more"),
        (lambda: Constraints(cannot_link=[("a", "a")]), "cannot_link holds groups of 2 or more"),
        (lambda: Constraints(resources=[Resource("m", 1), Resource("m", 2)]), "a name of its own"),
        (lambda: Resource("", 1), "needs a name"),
        (lambda: Resource("memory", NAN), "limit of resource 'memory' must be"),
        (lambda: Resource("memory", -1), "limit of resource 'memory' must be"),
    ],
)
def test_a_constraint_that_makes_no_sense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_tasks_costs_and_candidates_are_checked_against_the_gains():
    table = random_table(np.random.default_rng(0), 3)
    for some, message in (
        ({"must_link": [("a", "x")]}, "unknown task 'x'"),
        ({"resources": [Resource("memory", 9, {"a": 1.0})]}, "memory cost of group b is not given"),
        ({"resources": [Resource("memory", 9, lambda _: -1.0)]}, "memory cost of group a must be a finite"),
    ):
        with pytest.raises(ValueError, match=message):
            select_groups(table, budget=3, constraints=Constraints(**some))
    half = Candidate(("a",), {"a": 0.5}, 0.5, "half")
    with pytest.raises(ValueError, match="does not say what it takes of 'memory'"):
        select_groups(table, budget=3, extra=[half], constraints=Constraints(resources=[Resource("memory", 9)]))


def test_an_extra_network_takes_of_a_resource_what_it_says():
    zero = GainTable("ab", [("a", "b")], [[-1.0, -1.0]])
    memory = Constraints(resources=[Resource("memory", 3.0, lambda _: 2.0)])
    small = Candidate(("a",), {"a": 0.0}, 1.0, "half", resources={"memory": 1.0})
    assert select_groups(zero, budget=2, constraints=memory).value == -1
    assert select_groups(zero, budget=2, constraints=memory, extra=[small]).served_by("a").label == "half"
    assert select_groups(zero, budget=2, constraints=Constraints(resources=[Resource("networks", 1)])).n_networks == 1


def test_networks_that_are_there_already_cost_nothing():
    table = random_table(np.random.default_rng(3), 3)
    trained = Constraints(trained=[("b", "a"), ("c",)])
    grouping = select_groups(table, budget=0, constraints=trained)
    assert {group.trains for group in grouping.groups} <= {("a", "b"), ("c",)}
    assert grouping.cost == 0
    assert select_groups(table, budget=1, constraints=trained).value >= grouping.value
    with pytest.raises(ValueError, match="at least 1 network"):
        select_groups(table, budget=0, constraints=Constraints())
    few = GainTable("abc", [("b", "c")], [[NAN, 0.1, 0.1]])
    with pytest.raises(ValueError, match=r"gain of task 'a' in group a\+b is not a finite"):
        select_groups(few, budget=2, constraints=Constraints(trained=[("a", "b")]))


def test_both_size_limits_hold():
    table = random_table(np.random.default_rng(1), 4)
    for given_size, own in ((2, 3), (3, 2), (2, None)):
        grouping = select_groups(table, budget=4, max_size=given_size, constraints=Constraints(max_size=own))
        assert max(len(group.trains) for group in grouping.groups) <= 2


def test_the_floor_is_compared_with_the_gain_after_the_deduction():
    table = GainTable("ab", [("a", "b")], [[0.5, 0.1]], [[0.2, 0.2]])
    safe = Constraints(min_gain=0.0)
    assert select_groups(table, budget=2, kappa=1, constraints=safe).served_by("b").trains == ("b",)
    assert select_groups(table, budget=2, kappa=0, constraints=safe).n_networks == 1
    assert Constraints(min_gain={"a": 0.1}).floor("b") is None


@given(st.integers(0, 10_000), st.permutations(range(4)))
def test_permuting_tasks_permutes_the_constrained_answer(seed, order):
    rng = np.random.default_rng(seed)
    table = random_table(rng, 4)
    some = {
        name: value for name, value in random_constraints(rng, table).items() if name not in ("resources", "trained")
    }
    other = GainTable([table.tasks[i] for i in order], table.groups, table.gains[:, order])
    one, two = (answer(gains, some) for gains in (table, other))
    if isinstance(one, str):
        assert one == two
        return
    assert [set(group.trains) for group in one.groups] == [set(group.trains) for group in two.groups]
    assert [set(group.serves) for group in one.groups] == [set(group.serves) for group in two.groups]


def answer(gains, some):
    """The grouping, or what is said where there is none."""
    try:
        return select_groups(gains, budget=3, constraints=Constraints(**some))
    except ValueError as error:
        return str(error)


@given(st.integers(0, 10_000))
def test_a_larger_budget_never_lowers_the_value(seed):
    rng = np.random.default_rng(seed)
    table = random_table(rng, 4)
    some = {"cannot_link": [("a", "c")], "min_gain": {"b": 0.0}, "networks_per_task": 2}
    some["resources"] = [Resource("memory", 9.0, lambda group: 1.0 + len(group))]
    values = [select_groups(table, budget=budget, constraints=Constraints(**some)).value for budget in (2, 3, 4)]
    assert values == sorted(values)


@pytest.mark.parametrize("helpers", [True, False])
def test_constraints_hold_where_not_all_groups_can_be_listed(helpers):
    model = full_model(17)
    some = Constraints(
        resources=[Resource("memory", 30.0, lambda group: 2.0 + len(group))],
        max_size=9,
        must_link=[("t00", "t05"), ("t05", "t11")],
        cannot_link=[("t01", "t02"), ("t03", "t05")],
        served_alone=("t16",),
        min_gain={"t07": 0.0},
        n_networks=6,
        helpers=helpers,
        trained=[("t08", "t09")],
    )
    grouping = select_groups(model, budget=6, constraints=some, time_limit=100)
    assert grouping.status == "heuristic"
    assert grouping.n_networks == 6
    assert sorted(grouping.tasks) == list(model.tasks)
    for group in grouping.groups:
        members = set(group.trains)
        assert len(members) <= 9
        assert len(members & {"t00", "t05", "t11"}) in (0, 3)
        assert not members >= {"t01", "t02"}
        assert not members >= {"t03", "t05"}
        assert helpers or group.helpers == ()
    assert grouping.served_by("t16").trains == ("t16",)
    assert sum(2.0 + len(group.trains) for group in grouping.groups) <= 30
    with pytest.raises(ValueError, match="served_alone t16 and min_gain=1 of task t16 contradict"):
        select_groups(
            model, budget=6, constraints=Constraints(served_alone=("t16",), min_gain={"t16": 1.0}, helpers=helpers)
        )


def test_out_of_time_a_constrained_answer_is_there_with_a_valid_bound():
    tasks = "abcdefghi"
    rng = np.random.default_rng(0)
    groups = all_groups(tasks)
    table = GainTable(tasks, groups, [[rng.normal() if task in group else NAN for task in tasks] for group in groups])
    for some in (
        {},
        {"n_networks": 3},
        {"helpers": False},
        {"helpers": False, "n_networks": 4},
        {"resources": [Resource("memory", 14.0, lambda group: 1.0 + len(group))]},
        {"must_link": [("a", "e")], "cannot_link": [("b", "c")], "networks_per_task": 1},
    ):
        hurried = select_groups(table, budget=4, time_limit=1e-3, constraints=Constraints(**some))
        exact = select_groups(table, budget=4, constraints=Constraints(**some))
        assert exact.status == "optimal"
        assert hurried.status in ("time_limit", "optimal")
        assert hurried.value <= exact.value + 1e-9 <= hurried.bound + 2e-9


def test_the_order_of_resources_and_links_changes_nothing():
    table = random_table(np.random.default_rng(5), 4)
    resources = [Resource("memory", 8.0, lambda group: 1.0 + len(group)), Resource("flops", 3.0)]
    answers = [
        select_groups(table, budget=3, constraints=Constraints(resources=order)).groups
        for order in permutations(resources)
    ]
    assert answers[0] == answers[1]


def test_what_can_be_read_once_only_is_kept():
    gains = PairMean(np.ones((3, 3)), "abc")
    given = {"must_link": [("a", "b")], "cannot_link": [("a", "c")], "served_alone": ["c"], "trained": [("a", "b")]}
    once = Constraints(**{name: iter(groups) for name, groups in given.items()}, resources=iter([Resource("n", 3)]))
    kept = Constraints(**given, resources=[Resource("n", 3)])
    assert once.named_tasks() == kept.named_tasks()
    found, wanted = (select_groups(gains, budget=3, constraints=one) for one in (once, kept))
    assert found.groups == wanted.groups
    apart = Constraints(cannot_link=combinations("abc", 2))
    assert all(len(group.trains) == 1 for group in select_groups(gains, budget=3, constraints=apart).groups)
