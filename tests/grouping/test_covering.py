import time

import numpy as np
import pytest

from cotrain.grouping import GainTable
from cotrain.grouping.candidates import Valuer, listed_groups
from cotrain.grouping.covering import covering
from cotrain.grouping.program import Program


def pool(costs=None):
    groups = [("a", "b", "c"), ("c", "d"), ("a", "c"), ("b", "d")]
    gains = [[0.0 if task in group else np.nan for task in "abcd"] for group in groups]
    table = GainTable("abcd", groups, gains)
    return Valuer(table, costs, 0.0, None).value(listed_groups(table, None))


def cover(found, budget):
    return covering(found, found.mean, budget, None, time.monotonic() + 60)


def test_greed_is_enough_where_it_fits():
    found = pool()
    rows = cover(found, 2)
    assert found.members[rows].any(axis=0).all()
    assert found.cost[rows].sum() == 2


def test_the_cheapest_is_found_where_greed_is_too_dear():
    found = pool({"a+b+c": 0.9, "c+d": 1.0, "d": 1.0, "a+c": 0.7, "b+d": 0.7})
    rows = cover(found, 1.4)
    assert {found.names(row) for row in rows} == {("a", "c"), ("b", "d")}


def test_an_impossible_budget_names_the_smallest_possible_one():
    with pytest.raises(
        ValueError, match=r"No choice among the 8 .* covers all 4 tasks within budget=1\. .* is 2, with"
    ):
        cover(pool(), 1)


def test_what_was_not_proven_is_not_claimed(monkeypatch):
    # As with too many tasks for all their subsets, or without time.
    monkeypatch.setattr("cotrain.grouping.covering.least_cover", lambda *_: None)
    monkeypatch.setattr(Program, "cheapest", lambda *_: (np.empty(0, np.intp), 1.5))
    with pytest.raises(ValueError, match="In the time given, 2 was found to be enough"):
        cover(pool(), 1)
