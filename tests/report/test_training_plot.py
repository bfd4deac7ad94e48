import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cotrain.report.contents import read_study
from cotrain.report.training_plot import MARKS, training_figure
from cotrain.report.trainings import WHY, TrainingRound, Trainings

NAMES = ("a", "b", "c", "d", "e", "noise")


@pytest.fixture
def trainings(make_searched: Callable[..., Path]) -> Trainings:
    found = read_study(make_searched(names=NAMES)).trainings
    assert found is not None
    return found


def test_the_line_runs_through_every_round_with_a_value(trainings: Trainings) -> None:
    figure = training_figure(trainings)
    assert figure is not None
    line, *marks = figure.data
    assert list(zip(line["x"], line["y"], strict=True)) == [
        (done.spent, done.value) for done in trainings.rounds if np.isfinite(done.value)
    ]
    shown = sorted((x, y) for trace in marks for x, y in zip(trace["x"], trace["y"], strict=True))
    assert shown == sorted(zip(line["x"], line["y"], strict=True))
    assert [trace["name"] for trace in marks] == [WHY["first"], WHY["chosen"], WHY["improvement"]]


def test_rounds_say_their_size_and_what_was_expected(trainings: Trainings) -> None:
    figure = training_figure(trainings)
    assert figure is not None
    assert [text for trace in figure.data[1:] for text in trace["text"]][:3] == [
        "1 in this round",
        "2 in this round",
        "1 in this round<br>expected improvement 0.2",
    ]


def test_the_axis_reaches_from_nothing_to_all_that_was_allowed(trainings: Trainings) -> None:
    for limit in (3, 40):
        figure = training_figure(replace(trainings, limit=limit))
        assert figure is not None
        low, high = figure.layout["xaxis"]["range"]
        assert low == 0
        assert high > max(limit, trainings.spent)


def test_one_value_is_no_line(trainings: Trainings) -> None:
    assert training_figure(replace(trainings, rounds=trainings.rounds[:2])) is None
    assert training_figure(replace(trainings, rounds=())) is None


def test_every_reason_has_a_mark_of_its_own_and_others_are_text(trainings: Trainings) -> None:
    assert set(MARKS) == set(WHY)
    assert len({symbol for symbol, _ in MARKS.values()}) == len(MARKS)
    rounds = [TrainingRound(k, 1, why, np.nan, k / 10) for k, why in enumerate((*MARKS, "<b>"), 1)]
    figure = training_figure(replace(trainings, rounds=tuple(rounds)))
    assert figure is not None
    symbols = [trace["marker"]["symbol"] for trace in figure.data[1:]]
    assert len(set(symbols)) == len(rounds)
    assert "<b>" not in json.dumps([trace["name"] for trace in figure.data[1:]])
