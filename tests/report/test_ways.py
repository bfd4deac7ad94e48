from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cotrain.report.contents import read_study
from cotrain.report.results import Check
from cotrain.report.ways import way_figure, way_rows, ways_of

Make = Callable[..., Path]


@pytest.fixture
def check(make_clustered: Make) -> Check:
    check = read_study(make_clustered(names=("a", "b", "c", "known", "noise"))).check
    assert check is not None
    return check


def test_every_way_with_its_cost_and_loss_hard_first(check: Check) -> None:
    assert way_rows(ways_of(check)) == [
        ("Hard", "3", "3", "0.940 [0.910, 0.970]"),
        ("Soft, weighted logits", "3", "3", "0.910 [0.890, 0.930]"),
        ("Soft, weighted probabilities", "3", "3", "0.920 [0.900, 0.940]"),
        ("Soft, best network", "3", "3", "0.930 [0.910, 0.950]"),
        ("Sparse, weighted logits", "3", "3", "0.940 [0.920, 0.960]"),
        ("Sparse, weighted probabilities", "3", "3", "0.950 [0.930, 0.970]"),
        ("Sparse, best network", "3", "3", "0.960 [0.940, 0.980]"),
        ("One wider network", "1", "3.01", "0.890 [0.870, 0.910]"),
    ]


def test_the_picture_has_the_same_rows(check: Check) -> None:
    ways = ways_of(check)
    figure = way_figure(ways)
    assert figure is not None
    _, *dots = figure.data
    assert [dot["x"][0] for dot in dots] == pytest.approx([way.relative.mean for way in ways])
    assert [dot["marker"]["color"] for dot in dots] == ["@grouped"] * 7 + ["@all-in-one"]


def test_nothing_is_shown_where_no_other_way_was_trained(check: Check) -> None:
    assert ways_of(None) == ()
    assert ways_of(replace(check, ways=())) == ()
    assert way_figure(()) is None


def test_hard_clusters_without_a_loss_are_left_out(check: Check) -> None:
    assert ways_of(replace(check, arms=check.arms[:2])) == check.ways
    bare = tuple(replace(arm, relative=None) for arm in check.arms)
    assert ways_of(replace(check, arms=bare)) == check.ways
