import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cotrain.report.contents import Study, read_study
from cotrain.report.gain_plot import gain_figure, has_realised
from cotrain.report.results import Gain


@pytest.fixture
def study(make_folder: Callable[..., Path]) -> Study:
    return read_study(make_folder(names=("a", "b", "c")))


def gain(task: str, realised: tuple[float, ...], arm: str = "grouped", *, served: bool = True) -> Gain:
    return Gain(arm, "0", "a+b", task, served, 0.01, 0.002, realised)


def test_mean_and_deviation_over_the_seeds(study: Study) -> None:
    figure = gain_figure(replace(study, gains=(gain("a", (0.1, 0.3)), gain("b", (0.5,)))))
    assert figure is not None
    (trace,) = figure.data
    assert trace["x"] == [0.01, 0.01]
    assert trace["y"] == [0.2, 0.5]
    assert trace["error_x"]["array"] == [0.002, 0.002]
    assert trace["error_y"]["array"] == [pytest.approx(np.std([0.1, 0.3], ddof=1), rel=1e-3), None]


def test_bars_and_zero_lie_inside_the_axes(study: Study) -> None:
    figure = gain_figure(replace(study, gains=(gain("a", (0.1, 0.3)),)))
    assert figure is not None
    low, high = figure.layout["yaxis"]["range"]
    assert low < 0
    assert high > 0.2 + np.std([0.1, 0.3], ddof=1)


def test_helpers_are_hollow_and_arms_have_marks_of_their_own(study: Study) -> None:
    gains = (
        gain("a", (0.1,)),
        gain("b", (0.1,), served=False),
        gain("a", (0.2,), "all-in-one"),
        gain("a", (0.2,), "random-1"),
        gain("b", (0.3,), "random-2"),
        gain("b", (0.3,), "by-difficulty"),
        gain("a", (0.3,), "label-correlation"),
    )
    figure = gain_figure(replace(study, gains=gains))
    assert figure is not None
    assert [(trace["name"], trace["marker"]["symbol"], len(trace["x"])) for trace in figure.data] == [
        ("Chosen groups", "circle", 1),
        ("Chosen groups, helper", "circle-open", 1),
        ("All in one", "diamond", 1),
        ("Controls", "triangle-up", 2),
        ("Random covers", "square", 2),
    ]


def test_predictions_alone_are_ranked(study: Study) -> None:
    gains = (
        replace(gain("a", ()), predicted=math.nan),
        replace(gain("b", ()), predicted=0.1),
        replace(gain("c", ()), predicted=0.3),
        gain("c", (), "all-in-one"),
    )
    unchecked = replace(study, gains=gains)
    assert not has_realised(unchecked)
    figure = gain_figure(unchecked)
    assert figure is not None
    assert figure.data[0]["y"] == ["c", "b", "a"]


def test_a_task_alone_has_no_gain_to_show(study: Study) -> None:
    alone = replace(gain("a", (0.01,)), trains="a")
    assert gain_figure(replace(study, gains=(alone,))) is None
    assert gain_figure(replace(study, gains=())) is None


def test_long_lists_of_members_are_cut_beside_the_pointer(study: Study) -> None:
    crowd = replace(gain("a", (0.1,)), trains="+".join(f"task{k}" for k in range(50)))
    figure = gain_figure(replace(study, gains=(crowd,)))
    assert figure is not None
    assert len(figure.data[0]["text"][0]) < 110


@pytest.mark.parametrize("realised", [(), (0.1, 0.2)])
def test_predictions_that_no_trained_group_stands_behind_are_unverified(
    make_searched: Callable[..., Path], realised: tuple[float, ...]
) -> None:
    searched = read_study(make_searched(names=("a", "b", "c")))
    gains = (gain("a", realised), gain("b", realised))
    titles = {}
    for method in ("search", "linearized", "transference"):
        known = searched.trainings if method == "search" else None
        selection = replace(searched.selection, method=method)
        figure = gain_figure(replace(searched, gains=gains, trainings=known, selection=selection))
        assert figure is not None
        titles[method] = figure.layout["xaxis"]["title"]["text"]
    assert titles == {
        "search": "predicted gain",
        "linearized": "predicted gain, unverified",
        "transference": "predicted (affinity, per step), unverified",
    }


def test_only_gains_have_a_line_on_which_they_came_true(study: Study) -> None:
    for method, n_lines in (("search", 1), ("pairs", 1), ("linearized", 1), ("transference", 0), ("data-maps", 0)):
        selection = replace(study.selection, method=method)
        figure = gain_figure(replace(study, gains=(gain("a", (0.1, 0.3)),), selection=selection))
        assert figure is not None
        assert len(figure.layout["shapes"]) == n_lines
        for line in figure.layout["shapes"]:
            assert (line["x0"], line["x1"]) == (line["y0"], line["y1"]) == tuple(figure.layout["xaxis"]["range"])
