import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cotrain.report.arm_plots import front_figure, relative_loss_figure
from cotrain.report.contents import read_study
from cotrain.report.results import Check, FrontPoint


@pytest.fixture
def check(make_folder: Callable[..., Path]) -> Check:
    check = read_study(make_folder(names=("a", "b", "c"))).check
    assert check is not None
    return check


def test_one_dot_per_arm_with_its_interval(check: Check) -> None:
    figure = relative_loss_figure(check)
    assert figure is not None
    seeds, *dots = figure.data
    assert [(dot["y"][0], dot["x"][0]) for dot in dots][:3] == [
        ("Single tasks", 1.0),
        ("All in one", 1.02),
        ("Chosen groups", 0.94),
    ]
    assert dots[2]["error_x"]["array"] == [pytest.approx(0.03)]
    assert dots[2]["error_x"]["arrayminus"] == [pytest.approx(0.03)]
    assert len(seeds["x"]) == 5 * 3
    low, high = figure.layout["xaxis"]["range"]
    assert low < 0.91
    assert high > 1.05


def test_without_an_interval_there_is_no_bar(make_folder: Callable[..., Path]) -> None:
    check = read_study(make_folder(names=("a", "b", "c"), seeds=(0,))).check
    assert check is not None
    figure = relative_loss_figure(check)
    assert figure is not None
    assert all(dot["error_x"]["array"] == [None] for dot in figure.data[1:])


def test_controls_and_covers_are_told_apart_by_their_mark() -> None:
    names = ("grouped", "by-difficulty", "random-1")
    figure = front_figure([FrontPoint(name, 3, 0.9, 0.8, 1.0, False) for name in names])
    assert figure is not None
    marks = [(dot["marker"]["symbol"], dot["marker"]["color"]) for dot in figure.data[1:]]
    assert marks == [("circle", "@grouped"), ("diamond", "@random"), ("circle", "@random")]
    assert figure.data[2]["text"] == ["Groups by difficulty"]


def test_nothing_to_compare_gives_no_figure(check: Check) -> None:
    assert relative_loss_figure(replace(check, arms=check.arms[:1])) is None


def test_only_what_is_not_dominated_is_joined() -> None:
    points = [
        FrontPoint("single", 5, 1.0, math.nan, math.nan, True),
        FrontPoint("grouped", 3, 0.9, 0.8, 1.0, False),
        FrontPoint("all-in-one", 1, 1.1, 1.0, 1.2, False),
        FrontPoint("random-1", 3, 1.2, 1.1, 1.3, True),
    ]
    figure = front_figure(points)
    assert figure is not None
    line, *dots = figure.data
    assert (line["x"], line["y"]) == ([1.0, 3.0], [1.1, 0.9])
    assert [dot["marker"]["symbol"] for dot in dots] == ["circle-open", "circle", "circle", "circle-open"]
    assert front_figure([]) is None
