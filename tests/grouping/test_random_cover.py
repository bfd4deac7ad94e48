from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cotrain.grouping.grouping import Group, Grouping
from cotrain.grouping.random_cover import random_cover, random_like


def all_covers(tasks, count):
    groups = [frozenset(c) for size in range(1, len(tasks) + 1) for c in combinations(tasks, size)]
    return {frozenset(s) for s in combinations(groups, count) if frozenset().union(*s) == frozenset(tasks)}


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 30), st.integers(1, 40), st.integers(0, 99))
def test_random_cover_covers_with_different_groups(n_tasks, n_networks, seed):
    tasks = [f"t{i}" for i in range(n_tasks)]
    n_networks = min(n_networks, 2**n_tasks - 1)
    grouping = random_cover(tasks, n_networks, np.random.default_rng(seed))
    assert len({frozenset(group.trains) for group in grouping.groups}) == n_networks
    assert sorted(grouping.tasks) == sorted(tasks)
    assert grouping == random_cover(tasks, n_networks, np.random.default_rng(seed))


@pytest.mark.parametrize("n_networks", [1, 2, 3, 5])
def test_every_cover_is_equally_likely(n_networks):
    rng = np.random.default_rng(0)
    covers = all_covers("abc", n_networks)
    draws = 100 * len(covers)
    counts = Counter(
        frozenset(frozenset(group.trains) for group in random_cover("abc", n_networks, rng).groups)
        for _ in range(draws)
    )
    assert set(counts) == covers
    chi_square = sum((count - 100) ** 2 / 100 for count in counts.values())
    # Mean len - 1, variance 2 (len - 1); five standard deviations.
    assert chi_square < (len(covers) - 1) + 5 * np.sqrt(2 * len(covers))


@pytest.mark.parametrize("n_networks", [0, 4])
def test_an_impossible_number_is_refused(n_networks):
    with pytest.raises(ValueError, match="3 different groups"):
        random_cover("ab", n_networks, np.random.default_rng(0))


def test_random_like_keeps_everything_but_the_names():
    chosen = Grouping(
        (Group(("a", "b", "c"), ("a",), cost=2.0), Group(("b", "c"), ("b", "c")), Group(("d",), ("d",))),
        value=1.0, budget=4.0, status="optimal",
    )  # fmt: skip
    drawn = random_like(chosen, np.random.default_rng(0))
    assert sorted(drawn.tasks) == sorted(chosen.tasks)
    assert [(len(g.trains), len(g.serves), g.cost) for g in drawn.groups] == [(3, 1, 2.0), (2, 2, 1.0), (1, 1, 1.0)]
    assert set(drawn.groups[1].trains) < set(drawn.groups[0].trains)
    assert drawn.status == "random"
    assert np.isnan(drawn.value)


def test_random_like_draws_every_permutation_alike():
    chosen = Grouping((Group(("a", "b"), ("a", "b")), Group(("c",), ("c",))))
    rng = np.random.default_rng(0)
    alone = Counter(random_like(chosen, rng).groups[1].trains[0] for _ in range(3000))
    assert all(abs(alone[task] - 1000) < 130 for task in "abc")
