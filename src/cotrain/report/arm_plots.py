"""How the arms compare: total relative loss with its interval, and cost against quality."""

import math
from collections.abc import Sequence
from typing import Any

from cotrain.report.figure import Figure, axis, limits, listed
from cotrain.report.loss_rows import LossRow, interval_bar, loss_figure
from cotrain.report.palette import RANDOM_COLOUR, arm_colour
from cotrain.report.results import RANDOM, SINGLE, Check, FrontPoint, RelativeLoss
from cotrain.report.wording import arm_title, plain


def relative_loss_figure(check: Check) -> Figure | None:
    """One row per arm: a dot with its interval, the seeds behind it, and a line at the single tasks' 1."""
    reference = RelativeLoss(mean=1.0, low=math.nan, high=math.nan, per_seed=())
    rows = [
        LossRow(arm_title(arm.name), arm.relative or reference, arm_colour(arm.name))
        for arm in check.arms
        if arm.relative is not None or arm.name == SINGLE
    ]
    compared = any(arm.relative is not None for arm in check.arms if arm.name != SINGLE)
    return loss_figure(rows) if compared else None


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


def _front_dot(point: FrontPoint, *, widest: float) -> dict[str, Any]:
    """A dot, with its name beside it on the side that has room; controls and random covers lie too close for names."""
    colour = arm_colour(point.arm)
    is_control = colour == RANDOM_COLOUR and not point.arm.startswith(RANDOM)
    symbol = "diamond" if is_control else "circle"
    return {
        "type": "scatter",
        "mode": "markers" if colour == RANDOM_COLOUR else "markers+text",
        "x": listed([point.networks]),
        "y": listed([point.relative_loss]),
        "error_y": interval_bar(point.relative_loss, point.low, point.high, colour),
        "marker": {"symbol": f"{symbol}-open" if point.dominated else symbol, "size": 10, "color": colour},
        "text": [plain(arm_title(point.arm))],
        "textposition": "middle right" if point.networks < widest / 2 else "middle left",
        "hovertemplate": "%{text}<br>%{x} networks<br>relative loss %{y}<extra></extra>",
    }
