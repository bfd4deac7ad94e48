"""Heat maps of what each task does to each other task: the affinity, its error, and the controls."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cotrain.report.contents import Study
from cotrain.report.figure import Figure, label_room, listed
from cotrain.report.palette import DIVERGING, SEQUENTIAL
from cotrain.report.wording import label, plain

MAX_TASKS = 120
"""More tasks than this are neither readable nor light: the page then shows those with the strongest affinities."""

ROBUST_QUANTILE = 0.95
"""Colours saturate here, or one pair of near-duplicates would leave all others white."""

CELL = 13
"""Pixels of the smallest readable cell."""

LARGEST_CELL, LARGEST_CONTROL_CELL = 30, 22
"""Pixels of a cell where there is room: the controls stay smaller than the affinity."""

SIDE_BY_SIDE = 20
"""Tasks up to which two controls fit beside each other, on a screen and on paper."""

ERROR_STEPS = 2.0
"""An affinity within this many standard errors of 0 is not told from 0."""


def affinity_figure(study: Study) -> Figure:
    """The affinity with its standard error and |z| as further views of the same picture."""
    order = shown_tasks(study)
    names = [study.names[t] for t in order]
    affinity = off_diagonal(study.pairs["affinity"], order)
    stderr = off_diagonal(study.pairs["stderr"], order)
    with np.errstate(divide="ignore", invalid="ignore"):
        z_score = np.abs(affinity) / stderr
    traces = [
        _heat_map(names, affinity, "affinity", _diverging(robust_limit(affinity))),
        _heat_map(names, stderr, "standard error", _sequential(robust_limit(stderr))),
        _heat_map(names, z_score, "|z|", _sequential(max(robust_limit(z_score), ERROR_STEPS))),
    ]
    traces[0]["text"] = listed(stderr)
    traces[0]["hovertemplate"] = "%{y} → %{x}<br>affinity %{z} ± %{text}<extra></extra>"
    return _square(
        names, traces, largest_cell=LARGEST_CELL, colour_bar=True, views=("affinity", "standard error", "|z|")
    )


def control_figure(study: Study, column: str) -> Figure:
    """A control in [-1, 1]: label correlation or gradient cosine."""
    order = shown_tasks(study)
    names = [study.names[t] for t in order]
    trace = _heat_map(names, off_diagonal(study.pairs[column], order), column, _diverging(1.0))
    return _square(names, [trace], largest_cell=LARGEST_CONTROL_CELL)


def shown_tasks(study: Study) -> list[int]:
    """Positions of the tasks in the heat maps, in the order in which they are drawn."""
    order = study.display_order
    if len(order) <= MAX_TASKS:
        return order
    strength = np.abs(off_diagonal(study.pairs["affinity"], range(len(order))))
    strongest = np.nan_to_num(np.fmax(np.fmax.reduce(strength, axis=0), np.fmax.reduce(strength, axis=1)))
    kept = set(np.argsort(-strongest, kind="stable")[:MAX_TASKS].tolist())
    return [t for t in order if t in kept]


def off_diagonal(matrix: NDArray[np.float64], order: Sequence[int]) -> NDArray[np.float64]:
    """The matrix in this order, with NaN on the diagonal: what a task does to itself is no affinity."""
    ordered = matrix[np.ix_(order, order)].copy()
    np.fill_diagonal(ordered, np.nan)
    return ordered


def robust_limit(matrix: NDArray[np.float64]) -> float:
    """Where the colours of a matrix saturate; 1 where it is empty or 0 throughout."""
    sizes = np.abs(matrix[np.isfinite(matrix)])
    limit = float(np.quantile(sizes, ROBUST_QUANTILE)) if sizes.size else 0.0
    return limit or 1.0


def distinct_share(study: Study) -> float:
    """The share of pairs whose affinity is more than two standard errors from 0; NaN if none has an error."""
    everyone = range(len(study.tasks))
    affinity = off_diagonal(study.pairs["affinity"], everyone)
    stderr = off_diagonal(study.pairs["stderr"], everyone)
    known = np.isfinite(affinity) & np.isfinite(stderr)
    if not known.any():
        return float("nan")
    return float(np.mean(np.abs(affinity[known]) > ERROR_STEPS * stderr[known]))


def agreement(study: Study, column: str) -> float:
    """Pearson correlation of the affinity with a control over all pairs of tasks; NaN where it is undefined."""
    everyone = range(len(study.tasks))
    pair = [off_diagonal(study.pairs[name], everyone).ravel() for name in ("affinity", column)]
    known = np.isfinite(pair[0]) & np.isfinite(pair[1])
    left, right = pair[0][known], pair[1][known]
    if left.size < 3 or np.ptp(left) == 0 or np.ptp(right) == 0:
        return float("nan")
    return float(np.corrcoef(left, right)[0, 1])


def _heat_map(names: Sequence[str], matrix: NDArray[np.float64], what: str, scale: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "heatmap",
        "x": [plain(name) for name in names],
        "y": [plain(name) for name in names],
        "z": listed(matrix),
        "xgap": 1,
        "ygap": 1,
        "hoverongaps": False,
        "hovertemplate": f"%{{y}} → %{{x}}<br>{what.replace('_', ' ')} %{{z}}<extra></extra>",
        "colorbar": {
            "orientation": "h",
            "y": 0,
            "yanchor": "top",
            "thickness": 10,
            "outlinewidth": 0,
            "nticks": 5,
            "title": {"text": what, "side": "bottom"},
        },
        **scale,
    }


def _diverging(limit: float) -> dict[str, Any]:
    return {"colorscale": DIVERGING, "zmin": -limit, "zmax": limit}


def _sequential(limit: float) -> dict[str, Any]:
    return {"colorscale": SEQUENTIAL, "zmin": 0.0, "zmax": limit}


def _square(
    names: Sequence[str],
    traces: Sequence[dict[str, Any]],
    *,
    largest_cell: int,
    colour_bar: bool = False,
    views: Sequence[str] = (),
) -> Figure:
    """A map with tasks down the side and across the top, on a grey that shows where there is no value."""
    labels = [label(name) for name in names]
    room = label_room(names)
    ticks = {
        "type": "category",
        "tickmode": "array",
        "tickvals": list(range(len(names))),
        "ticktext": labels,
        "ticks": "",
        "ticklabelstandoff": 3,
        "showgrid": False,
        "zeroline": False,
        "fixedrange": True,
        "tickfont": {"size": 11 if len(names) <= 30 else 9},
    }
    for trace in traces:
        trace["showscale"] = colour_bar
    below = 60 if colour_bar else 4
    return Figure(
        data=traces,
        layout={
            "xaxis": {**ticks, "side": "top", "tickangle": -90},
            "yaxis": {**ticks, "autorange": "reversed"},
            "plot_bgcolor": "@missing",
            "margin": {"l": room, "r": 6, "t": room, "b": below},
        },
        height=None,
        min_width=room + 6 + CELL * len(names),
        max_width=max(room + largest_cell * len(names), room + 260),
        views=views,
    )
