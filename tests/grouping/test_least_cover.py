import time
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotrain.grouping import Constraints, PairMean, Resource, partition_tasks, select_groups
from cotrain.grouping.least_cover import least_cover
from cotrain.grouping.program import Program

FOREVER = float("inf")


def planted(rng, n_tasks, n_columns, disjoint):
    members = np.concatenate([np.eye(n_tasks, dtype=bool), rng.random((n_columns, n_tasks)) < 0.4])
    members = members[members.any(axis=1)]
    worth = np.where(members, rng.normal(size=members.shape), -np.inf)
    return Program(worth, np.ones(len(members)), float(rng.integers(1, n_tasks + 1)), disjoint=disjoint)


def covers(program, n_networks):
    most = n_networks or int(program.budget)
    for size in range(n_networks or 1, most + 1):
        for rows in combinations(range(len(program.cost)), size):
            held = program.able[list(rows)].sum(axis=0)
            if (held == 1).all() if program.disjoint else (held >= 1).all():
                yield list(rows)


@given(st.integers(0, 10_000), st.integers(2, 4), st.integers(0, 5), st.booleans(), st.booleans())
def test_it_takes_least_of_all_covers(seed, n_tasks, n_columns, disjoint, exactly):
    rng = np.random.default_rng(seed)
    program = planted(rng, n_tasks, n_columns, disjoint)
    charge = rng.choice([0.0, 0.25, 0.5, 1.0, 3.0], len(program.cost))
    n_networks = int(program.budget) if exactly and disjoint else None
    found = least_cover(program, charge, n_networks, FOREVER)
    possible = list(covers(program, n_networks))
    if not possible:
        assert len(found) == 0
        return
    assert charge[found].sum() == pytest.approx(min(charge[rows].sum() for rows in possible))
    assert program.able[found].any(axis=0).all()
    assert len(found) <= program.budget


def test_without_time_or_with_too_many_tasks_it_says_nothing():
    rng = np.random.default_rng(0)
    many = planted(rng, 17, 5, False)
    assert least_cover(many, many.cost, None, FOREVER) is None
    few = planted(rng, 5, 5, False)
    assert least_cover(few, few.cost, None, time.monotonic() - 1) is None


def needle(n_tasks, n_networks):
    """A model, and a resource that only one partition of all can respect."""
    rng = np.random.default_rng(3)
    names = [f"t{number:02d}" for number in range(n_tasks)]
    order = rng.permutation(n_tasks)
    good = {frozenset(names[j] for j in order[i::n_networks]) for i in range(n_networks)}
    more = dict.fromkeys(names, 0.0) | {name: rng.uniform(0.1, 0.5) for name in names}

    def takes(group):
        return 1.0 if frozenset(group) in good else 1.02 + sum(more[name] for name in group)

    model = PairMean(rng.normal(size=(n_tasks, n_tasks)), names, np.full((n_tasks, n_tasks), 0.1))
    return model, takes, good


@pytest.mark.parametrize("choose", [select_groups, partition_tasks])
def test_the_only_choice_that_a_resource_allows_is_found_in_however_little_time(choose):
    model, takes, good = needle(12, 4)
    limit = Constraints(resources=[Resource("memory", 4.01, takes)], n_networks=4)
    budget = {"budget": 4} if choose is select_groups else {}
    found = choose(model, constraints=limit, time_limit=0.01, **budget)
    assert {frozenset(group.trains) for group in found.groups} == good
    with pytest.raises(ValueError, match=r"memory.*the smallest limit that can be is 4"):
        choose(model, constraints=Constraints(resources=[Resource("memory", 3.9, takes)]), time_limit=0.01, **budget)


@pytest.mark.parametrize(("n_tasks", "budget"), [(16, 2), (18, 2)])
def test_beyond_all_groups_a_tight_resource_is_respected_and_a_partition_is_no_better(n_tasks, budget):
    # Time for the local search to end: what a selection starts from are then the partitions that it ends with.
    rng = np.random.default_rng(0)
    names = [f"t{number:02d}" for number in range(n_tasks)]
    model = PairMean(rng.normal(size=(n_tasks, n_tasks)), names, np.full((n_tasks, n_tasks), 0.1))
    sizes = [len(part) for part in np.array_split(np.arange(n_tasks), budget)]
    tightest = float(sum(size**2 for size in sizes))
    limit = Constraints(resources=[Resource("memory", tightest, lambda group: float(len(group) ** 2))])
    chosen = select_groups(model, budget=budget, constraints=limit, time_limit=100)
    split = partition_tasks(model, budget=budget, constraints=limit, time_limit=100)
    for grouping in (chosen, split):
        assert sum(len(group.trains) ** 2 for group in grouping.groups) <= tightest
        assert grouping.n_networks <= budget
    assert chosen.value >= split.value - 1e-9
