import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cotrain.report.loss_rows import TITLE_LENGTH, LossRow, loss_figure, wrapped
from cotrain.report.results import RelativeLoss


def row(title: str, mean: float, half: float = math.nan, seeds: tuple[float, ...] = ()) -> LossRow:
    return LossRow(title, RelativeLoss(mean, mean - half, mean + half, seeds), "@grouped")


@settings(deadline=None)
@given(st.lists(st.floats(0.1, 3), min_size=1, max_size=6), st.floats(0, 1))
def test_axes_hold_every_interval_every_seed_and_one(means: list[float], half: float) -> None:
    figure = loss_figure([row(f"way {k}", mean, half, (mean + 2 * half,)) for k, mean in enumerate(means)])
    low, high = figure.layout["xaxis"]["range"]
    assert low < min(1.0, min(means) - half)
    assert high > max(1.0, max(means) + 2 * half)


def test_ticks_of_the_seeds_stand_in_the_row_they_belong_to() -> None:
    seeds, first, second = loss_figure([row("a", 0.9, seeds=(0.8, 1.0)), row("b", 1.1, seeds=(1.1,))]).data
    assert list(zip(seeds["y"], seeds["x"], strict=True)) == [("a", 0.8), ("a", 1.0), ("b", 1.1)]
    assert first["error_x"]["array"] == second["error_x"]["arrayminus"] == [None]


@pytest.mark.parametrize("title", ["Groups by label correlation", "Soft, weighted probabilities", "Hard", "<b> & co"])
def test_titles_have_short_lines_without_markup(title: str) -> None:
    lines = wrapped(title).split("<br>")
    assert all(
        len(line.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")) <= TITLE_LENGTH for line in lines
    )
    assert " ".join(lines).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") == title
    assert "<b>" not in wrapped(title)


def test_the_margin_holds_the_longest_line() -> None:
    short = loss_figure([row("Hard", 1.0)]).layout["margin"]["l"]
    assert loss_figure([row("Groups by label correlation", 1.0)]).layout["margin"]["l"] > short >= 4 * 6
