"""Predicted against realised gains: did the affinity foresee what sharing would do?"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cotrain.report.contents import Study
from cotrain.report.figure import Figure, axis, limits, listed
from cotrain.report.palette import arm_colour
from cotrain.report.results import ALL_IN_ONE, GROUPED, RANDOM, Gain
from cotrain.report.wording import arm_title, label, plain

ROW = 24
"""Pixels for one task where gains are listed one under the other."""

HOVER_LENGTH = 60
"""Characters of a network's members that fit beside the pointer."""

CONTROL = "control"
KIND_TITLES = {RANDOM: "Random covers", CONTROL: "Controls"}
"""Arms that share a mark, for they differ in how they were drawn and not in what they are there for."""

SPREAD_NEEDS = 2
"""Seeds from which a spread can be computed."""


def gain_figure(study: Study) -> Figure | None:
    """Realised against predicted gain, or, with nothing realised, the predictions alone; None without either."""
    realised = [gain for gain in _shared(study) if gain.realised and math.isfinite(gain.predicted)]
    if realised:
        return _realised_figure(realised, study)
    predicted = [gain for gain in _shared(study) if gain.arm == GROUPED and gain.served]
    return _predicted_figure(predicted, study) if predicted else None


def has_realised(study: Study) -> bool:
    """Whether any gain was checked by a real training."""
    return any(gain.realised for gain in _shared(study))


def _shared(study: Study) -> list[Gain]:
    """The gains of tasks that share a network; a task alone has none by definition."""
    return [gain for gain in study.gains if gain.trains != gain.task]


def _realised_figure(gains: Sequence[Gain], study: Study) -> Figure:
    kinds = {GROUPED: "circle", ALL_IN_ONE: "diamond", CONTROL: "triangle-up", RANDOM: "square"}
    traces = []
    for kind, symbol in kinds.items():
        for served in (True, False):
            chosen = [gain for gain in gains if _kind(gain.arm) == kind and gain.served == served]
            if chosen:
                traces.append(_trace(chosen, kind, symbol if served else f"{symbol}-open", served))
    predicted = [(gain.predicted, gain.predicted_std) for gain in gains]
    realised = [(float(np.mean(gain.realised)), _spread(gain)) for gain in gains]
    return Figure(
        data=traces,
        layout={
            "xaxis": axis(_predicted_title(study), range=_range(predicted), nticks=6),
            "yaxis": axis("realised gain", range=_range(realised)),
            "shapes": [_came_true(_range(predicted))] if study.selection.predicts_gains else [],
            "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
            "margin": {"l": 62, "r": 12, "t": 64, "b": 50},
        },
        height=420,
        max_width=720,
    )


def _predicted_title(study: Study) -> str:
    """What is predicted, and whether any training stands behind it."""
    words = "predicted gain" if study.selection.predicts_gains else "predicted (affinity, per step)"
    return words if study.is_verified else f"{words}, unverified"


def _came_true(ends: Sequence[float]) -> dict[str, Any]:
    """The line on which a gain is as predicted."""
    low, high = ends
    line = {"color": "@muted", "width": 1, "dash": "dot"}
    return {"type": "line", "x0": low, "x1": high, "y0": low, "y1": high, "line": line, "layer": "below"}


def _trace(gains: Sequence[Gain], kind: str, symbol: str, served: bool) -> dict[str, Any]:
    colour = arm_colour(kind)
    title = KIND_TITLES.get(kind) or arm_title(kind)
    return {
        "type": "scatter",
        "mode": "markers",
        "name": title if served else f"{title}, helper",
        "x": listed([gain.predicted for gain in gains]),
        "y": listed([float(np.mean(gain.realised)) for gain in gains]),
        "error_x": _bars(listed([gain.predicted_std for gain in gains]), colour),
        "error_y": _bars(listed([_spread(gain) for gain in gains]), colour),
        "text": [f"{plain(gain.task)}<br>in {_members(gain)} ({arm_title(gain.arm)})" for gain in gains],
        "hovertemplate": "%{text}<br>predicted %{x}<br>realised %{y}<extra></extra>",
        "marker": {"symbol": symbol, "size": 8, "color": colour},
    }


def _members(gain: Gain) -> str:
    return plain(gain.trains if len(gain.trains) <= HOVER_LENGTH else f"{gain.trains[:HOVER_LENGTH]}…")


def _predicted_figure(gains: Sequence[Gain], study: Study) -> Figure:
    ordered = sorted(gains, key=lambda gain: -gain.predicted if math.isfinite(gain.predicted) else math.inf)
    colour = arm_colour(GROUPED)
    return Figure(
        data=[
            {
                "type": "scatter",
                "mode": "markers",
                "x": listed([gain.predicted for gain in ordered]),
                "y": [plain(gain.task) for gain in ordered],
                "error_x": _bars(listed([gain.predicted_std for gain in ordered]), colour),
                "hovertemplate": "%{y}<br>predicted %{x}<extra></extra>",
                "marker": {"symbol": "circle", "size": 9, "color": colour},
            }
        ],
        layout={
            "xaxis": axis(_predicted_title(study), nticks=6),
            "yaxis": axis(
                "",
                type="category",
                autorange="reversed",
                tickmode="array",
                tickvals=list(range(len(ordered))),
                ticktext=[label(gain.task) for gain in ordered],
            ),
            "showlegend": False,
            "margin": {"l": 130, "r": 12, "t": 8, "b": 50},
        },
        height=80 + ROW * len(ordered),
        max_width=720,
    )


def _spread(gain: Gain) -> float:
    return float(np.std(gain.realised, ddof=1)) if len(gain.realised) >= SPREAD_NEEDS else math.nan


def _range(marks: Sequence[tuple[float, float]]) -> list[float]:
    """A range that holds 0 and every mark with its bar."""
    ends = [end for middle, size in marks for end in (middle - size, middle, middle + size)]
    return limits(ends, include=(0.0,))


def _bars(sizes: list[Any], colour: str) -> dict[str, Any]:
    return {"type": "data", "array": sizes, "thickness": 1, "width": 0, "color": colour}


def _kind(arm: str) -> str:
    if arm.startswith(RANDOM):
        return RANDOM
    return arm if arm in (GROUPED, ALL_IN_ONE) else CONTROL
