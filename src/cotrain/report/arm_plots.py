"""How the arms compare: total relative loss with its interval, and cost against quality."""

import math
from collections.abc import Sequence
from typing import Any

from cotrain.report.figure import Figure, axis, limits, listed
from cotrain.report.palette import RANDOM_COLOUR, arm_colour
from cotrain.report.results import SINGLE, Check, FrontPoint, RelativeLoss
from cotrain.report.wording import arm_title, plain

ROW = 34
"""Pixels for one arm."""


def relative_loss_figure(check: Check) -> Figure | None:
    """One row per arm: a dot with its interval, the seeds behind it, and a line at the single tasks' 1."""
    reference = RelativeLoss(mean=1.0, low=math.nan, high=math.nan, per_seed=())
    rows = [
        (arm.name, arm.relative or reference) for arm in check.arms if arm.relative is not None or arm.name == SINGLE
    ]
    if not any(name != SINGLE for name, _ in rows):
        return None
    seeds = [(name, value) for name, relative in rows for value in relative.per_seed]
    extent = [value for _, r in rows for value in (r.mean, r.low, r.high, *r.per_seed)]
    return Figure(
        data=[
            {
                "type": "scatter",
                "mode": "markers",
                "x": listed([value for _, value in seeds]),
                "y": [plain(arm_title(name)) for name, _ in seeds],
                "marker": {"symbol": "line-ns-open", "size": 10, "color": [arm_colour(name) for name, _ in seeds]},
                "hovertemplate": "one seed: %{x}<extra></extra>",
            },
            *(_dot(name, relative) for name, relative in rows),
        ],
        layout={
            "xaxis": axis("total test loss, single tasks = 1", range=limits(extent), nticks=7),
            "yaxis": axis(
                "",
                type="category",
                categoryorder="array",
                categoryarray=[plain(arm_title(name)) for name, _ in rows],
                range=[len(rows) - 0.5, -0.5],
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
            "margin": {"l": 112, "r": 14, "t": 6, "b": 50},
        },
        height=60 + ROW * len(rows),
        max_width=820,
    )


def front_figure(points: Sequence[FrontPoint]) -> Figure | None:
    """Networks against relative loss; what no other arm beats in both is joined by a line."""
    if not points:
        return None
    efficient = sorted((p for p in points if not p.dominated), key=lambda p: (p.networks, p.relative_loss))
    return Figure(
        data=[
            {
                "type": "scatter",
                "mode": "lines",
                "x": listed([point.networks for point in efficient]),
                "y": listed([point.relative_loss for point in efficient]),
                "line": {"color": "@muted", "width": 1, "dash": "dot"},
                "hoverinfo": "skip",
                "showlegend": False,
            },
            *(_front_dot(point, widest=max(p.networks for p in points)) for point in points),
        ],
        layout={
            "xaxis": axis("networks to train and serve", rangemode="tozero", nticks=8),
            "yaxis": axis(
                "total test loss, single = 1",
                range=limits([v for p in points for v in (p.relative_loss, p.low, p.high)], include=(1.0,)),
            ),
            "showlegend": False,
            "margin": {"l": 62, "r": 14, "t": 10, "b": 50},
        },
        height=320,
        max_width=620,
    )


def _dot(name: str, relative: RelativeLoss) -> dict[str, Any]:
    colour = arm_colour(name)
    return {
        "type": "scatter",
        "mode": "markers",
        "x": listed([relative.mean]),
        "y": [plain(arm_title(name))],
        "error_x": _interval(relative.mean, relative.low, relative.high, colour),
        "marker": {"symbol": "circle", "size": 11, "color": colour},
        "hovertemplate": "%{y}: %{x}<extra></extra>",
    }


def _front_dot(point: FrontPoint, *, widest: float) -> dict[str, Any]:
    """A dot, with its name beside it on the side that has room; random covers lie too close for names."""
    colour = arm_colour(point.arm)
    return {
        "type": "scatter",
        "mode": "markers" if colour == RANDOM_COLOUR else "markers+text",
        "x": listed([point.networks]),
        "y": listed([point.relative_loss]),
        "error_y": _interval(point.relative_loss, point.low, point.high, colour),
        "marker": {"symbol": "circle-open" if point.dominated else "circle", "size": 10, "color": colour},
        "text": [plain(arm_title(point.arm))],
        "textposition": "middle right" if point.networks < widest / 2 else "middle left",
        "hovertemplate": "%{text}<br>%{x} networks<br>relative loss %{y}<extra></extra>",
    }


def _interval(middle: float, low: float, high: float, colour: str) -> dict[str, Any]:
    return {
        "type": "data",
        "symmetric": False,
        "array": listed([high - middle]),
        "arrayminus": listed([middle - low]),
        "thickness": 2,
        "width": 5,
        "color": colour,
    }
