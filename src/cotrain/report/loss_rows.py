"""A picture with one row per way to train: its total relative loss, the interval, and the seeds behind it."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cotrain.report.figure import CHARACTER, Figure, axis, limits, listed
from cotrain.report.results import RelativeLoss
from cotrain.report.wording import plain

ROW = 34
"""Pixels for one row, with a title of up to two lines."""

TITLE_LENGTH = 18
"""Characters of a title before it goes on in a second line: longer ones leave no room for a picture on a phone."""


@dataclass(frozen=True)
class LossRow:
    """A row's title, its value and the role of its colour."""

    title: str
    relative: RelativeLoss
    colour: str


def loss_figure(rows: Sequence[LossRow], against: str = "single tasks") -> Figure:
    """A dot with its interval per row, a tick per seed, and a line at 1.

    Args:
        rows: One or more, with different titles, as they stand from top to bottom.
        against: What has the loss 1.
    """
    titles = [wrapped(row.title) for row in rows]
    seeds = [(place, value) for place, row in enumerate(rows) for value in row.relative.per_seed]
    extent = [v for row in rows for v in (row.relative.mean, row.relative.low, row.relative.high)]
    longest = max(len(line) for row in rows for line in textwrap.wrap(row.title, TITLE_LENGTH))
    return Figure(
        data=[
            {
                "type": "scatter",
                "mode": "markers",
                "x": listed([value for _, value in seeds]),
                "y": [titles[place] for place, _ in seeds],
                "marker": {"symbol": "line-ns-open", "size": 10, "color": [rows[place].colour for place, _ in seeds]},
                "hovertemplate": "one seed: %{x}<extra></extra>",
            },
            *(_dot(title, row) for title, row in zip(titles, rows, strict=True)),
        ],
        layout={
            "xaxis": axis(
                f"total test loss, {against} = 1",
                range=limits([*extent, *(value for _, value in seeds)], include=(1.0,)),
                nticks=7,
            ),
            "yaxis": axis(
                "", type="category", categoryorder="array", categoryarray=titles, range=[len(rows) - 0.5, -0.5]
            ),
            "shapes": [
                {
                    "type": "line",
                    "yref": "paper",
                    "y0": 0,
                    "y1": 1,
                    "x0": 1,
                    "x1": 1,
                    "line": {"color": "@ink", "width": 1.5, "dash": "dot"},
                    "layer": "below",
                }
            ],
            "showlegend": False,
            "margin": {"l": round(CHARACTER * longest) + 14, "r": 14, "t": 6, "b": 50},
        },
        height=60 + ROW * len(rows),
        max_width=820,
    )


def wrapped(title: str) -> str:
    """A title in lines of some length, safe for Plotly."""
    return "<br>".join(plain(line) for line in textwrap.wrap(title, TITLE_LENGTH))


def interval_bar(middle: float, low: float, high: float, colour: str) -> dict[str, Any]:
    """The interval as Plotly's error bar; no bar where there is none."""
    return {
        "type": "data",
        "symmetric": False,
        "array": listed([high - middle]),
        "arrayminus": listed([middle - low]),
        "thickness": 2,
        "width": 5,
        "color": colour,
    }


def _dot(title: str, row: LossRow) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": listed([row.relative.mean]),
        "y": [title],
        "error_x": interval_bar(row.relative.mean, row.relative.low, row.relative.high, row.colour),
        "marker": {"symbol": "circle", "size": 11, "color": row.colour},
        "hovertemplate": "%{y}: %{x}<extra></extra>",
    }
