from itertools import combinations

import numpy as np
import pytest

from cotrain.grouping import GainTable, PairMean
from cotrain.grouping.candidates import first_groups, in_order, listed_groups


def names(members, tasks="abcdefghijklmnopqrstuvwxyz"):
    return ["".join(task for task, is_in in zip(tasks, row, strict=False) if is_in) for row in members]


def model(count):
    matrix = np.random.default_rng(0).normal(size=(count, count))
    return PairMean(matrix, "abcdefghijklmnopqrstuvwxyz"[:count][::-1])


def test_all_groups_are_listed_by_size_then_names():
    expected = ["".join(group) for size in range(1, 5) for group in combinations("abcd", size)]
    assert names(listed_groups(model(4), None)) == expected
    assert names(listed_groups(model(4), 2)) == [group for group in expected if len(group) <= 2]


@pytest.mark.parametrize(("count", "max_size", "number"), [(15, None, 2**15 - 1), (16, None, None), (20, 4, 6195)])
def test_too_many_groups_are_not_listed(count, max_size, number):
    listed = listed_groups(model(count), max_size)
    assert (None if listed is None else len(listed)) == number


def test_a_table_lists_what_it_measured_and_every_task_alone():
    table = GainTable("cab", [("c", "a"), ("a",)], [[1, 1, np.nan], [np.nan, 0, np.nan]])
    assert names(listed_groups(table, None)) == ["a", "b", "c", "ac"]
    assert names(listed_groups(table, 1)) == ["a", "b", "c"]


def test_order_is_by_size_then_names_without_repeats():
    members = np.array([[0, 1, 1], [0, 0, 1], [1, 1, 0], [1, 0, 0], [0, 1, 1], [1, 1, 1]], dtype=bool)
    assert names(in_order(members)) == ["a", "c", "ab", "bc", "abc"]


@pytest.mark.parametrize("max_size", [None, 1, 5])
def test_the_first_groups_hold_what_is_promised(max_size):
    found = set(names(first_groups(model(17), max_size)))
    everything = "abcdefghijklmnopq"
    largest = max_size or 17
    assert set(everything) <= found
    assert (everything in found) == (max_size is None)
    assert all(("".join(pair) in found) == (largest >= 2) for pair in combinations(everything, 2))
    assert max(map(len, found)) == largest
