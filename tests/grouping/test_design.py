"""Groups that are trained first, to learn about all tasks."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotrain.grouping import spread_groups

TASKS = ("a", "b", "c", "d", "e", "f")


def all_groups(sizes):
    return [group for size in sizes for group in combinations(TASKS, size)]


def taught(groups):
    """Of every task the first training teaches 1, the second 1/2, the third 1/3."""
    return sum(sum(1 / count for count in range(1, sum(task in group for group in groups) + 1)) for task in TASKS)


@given(st.integers(0, 12), st.integers(0, 9))
def test_each_group_is_the_one_that_teaches_most_after_those_before_it(number, seed):
    groups = all_groups((2, 3))
    found = spread_groups(groups, number, tasks=TASKS, seed=seed)
    assert len(found) == len(set(found)) == number
    for count in range(number):
        left = [group for group in groups if group not in found[:count]]
        best = max(taught([*found[:count], group]) for group in left)
        assert taught(found[: count + 1]) == pytest.approx(best)


def test_every_task_is_held_as_often_as_the_others():
    found = spread_groups(all_groups((3,)), 6, tasks=TASKS, seed=0)
    assert {sum(task in group for group in found) for task in TASKS} == {3}


def test_ties_are_broken_by_the_seed_alone():
    groups = all_groups((3,))
    found = spread_groups(groups, 4, tasks=TASKS, seed=3)
    assert found == spread_groups([group[::-1] for group in groups[::-1]], 4, tasks=TASKS, seed=3)
    assert len({tuple(spread_groups(groups, 4, tasks=TASKS, seed=seed)) for seed in range(9)}) > 1


def test_there_are_no_more_than_all():
    found = spread_groups([("a", "b"), ("b", "a"), ("c", "d")], 9, tasks=TASKS, seed=np.random.default_rng(0))
    assert sorted(found) == [("a", "b"), ("c", "d")]
    assert spread_groups([], 2, tasks=TASKS, seed=0) == []


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"number must not be negative\. Got -1"):
        spread_groups([("a", "b")], -1, tasks=TASKS, seed=0)
    with pytest.raises(ValueError, match=r"a\+x names the unknown task 'x'"):
        spread_groups([("a", "x")], 1, tasks=TASKS, seed=0)
