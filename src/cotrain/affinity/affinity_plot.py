"""A heat map of an affinity, as a figure to look at or to go on with."""

import html
import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cotrain.extras import require

if TYPE_CHECKING:
    from cotrain.affinity.affinity import Affinity

__all__ = ["heat_map"]

# Orange against blue is the pair that every common colour-vision deficiency keeps apart.
COLOURS = [[0.0, "#b04a00"], [0.25, "#eeb07c"], [0.5, "#faf9f6"], [0.75, "#86b7e0"], [1.0, "#0a4d8c"]]
NO_VALUE = "#d3d8de"
INK, MUTED = "#1b1f24", "#5b6470"

ROBUST_QUANTILE = 0.95
"""Colours saturate here, or one pair of near-duplicates would leave all others white."""

MOST_NAMED = 60
"""Tasks up to which their names stand at the axes; beyond, they run into each other."""

LABEL_LENGTH = 24
CHARACTER = 6.6
"""Pixels of one character of a task's name."""

CELL = 28
RIGHT = 130
SMALLEST_SIDE, LARGEST_SIDE = 320, 760
"""Pixels of a cell where there is room, of the colour bar, and of the whole square."""


def heat_map(affinity: "Affinity") -> Any:
    """A `plotly.graph_objects.Figure`; see `Affinity.plot`.

    Raises:
        ImportError: If plotly is not installed; the message holds the command.
    """
    plotly = require("plotly.graph_objects", extra="report")
    names = [_plain(task) for task in affinity.tasks]
    named = len(names) <= MOST_NAMED
    labels = [_plain(_short(task)) for task in affinity.tasks]
    side = min(max(CELL * len(names), SMALLEST_SIDE), LARGEST_SIDE)
    room = 34 + (round(CHARACTER * max(map(len, map(_short, affinity.tasks)), default=0)) if named else 0)
    pairs = affinity.matrix.clone().fill_diagonal_(torch.nan)
    limit = robust_limit(pairs)
    trace = plotly.Heatmap(
        z=pairs.numpy(),
        x=names,
        y=names,
        customdata=_details(affinity),
        hovertemplate="%{y} → %{x}<br>%{z:+.3g}%{customdata}<extra></extra>",
        hoverongaps=False,
        colorscale=COLOURS,
        zmin=-limit,
        zmax=limit,
        xgap=1 if named else 0,
        ygap=1 if named else 0,
        colorbar={
            "title": {"text": _unit(affinity.form), "side": "right"},
            "thickness": 12,
            "outlinewidth": 0,
            "ypad": 0,
            "tickvals": [-limit, -limit / 2, 0, limit / 2, limit],
            "ticktext": [f"≤ {-limit:.2g}", f"{-limit / 2:.2g}", "0", f"{limit / 2:.2g}", f"≥ {limit:.2g}"],
        },
    )
    axis = {
        "type": "category",
        "tickmode": "array",
        "tickvals": list(range(len(names))),
        "ticktext": labels,
        "showticklabels": named,
        "ticks": "",
        "showgrid": False,
        "zeroline": False,
        "tickfont": {"size": 12 if len(names) <= 27 else 10},
    }
    top = room + 70
    return plotly.Figure(
        data=[trace],
        layout={
            "title": {
                "text": _title(affinity),
                "x": 0.0,
                "xref": "paper",
                "y": 1 - 22 / (top + side),
                "yanchor": "top",
            },
            "font": {"family": "system-ui, sans-serif", "size": 12, "color": INK},
            "xaxis": {**axis, "side": "top", "tickangle": -90, "title": {"text": "target: whose loss changes"}},
            "yaxis": {**axis, "autorange": "reversed", "title": {"text": "source: whose step is taken"}},
            "plot_bgcolor": NO_VALUE,
            "paper_bgcolor": "#ffffff",
            "margin": {"l": room, "t": top, "r": RIGHT, "b": 12},
            "width": room + side + RIGHT,
            "height": top + side + 12,
        },
    )


def robust_limit(pairs: Tensor) -> float:
    """Where the colours saturate; 1 where nothing is known or everything is 0."""
    sizes = pairs[pairs.isfinite()].abs().sort().values  # `quantile` refuses more than 16 million values
    limit = float(sizes[math.ceil(ROBUST_QUANTILE * len(sizes)) - 1]) if len(sizes) else 0.0
    return limit or (float(sizes[-1]) if len(sizes) else 0.0) or 1.0


def _details(affinity: "Affinity") -> list[list[str]]:
    """What a cell says beside its value: the error bar, where there is one, and the number of observations."""
    return [
        [f"{'' if math.isnan(s) else f' ± {s:.2g}'}<br>{n} observations" for s, n in zip(*row, strict=True)]
        for row in zip(affinity.stderr.tolist(), affinity.observations.tolist(), strict=True)
    ]


def _title(affinity: "Affinity") -> str:
    form = f", {affinity.form}" if affinity.form else ""
    rule = f" ({_plain(affinity.rule)})" if affinity.rule else ""
    batches = f"{affinity.n_observations:,} batches"
    head = f"Affinity of {len(affinity.tasks)} tasks{_plain(form)}"
    return f'{head}<br><span style="font-size:12px;color:{MUTED}">{_plain(affinity.estimator)}{rule}, {batches}</span>'


def _unit(form: str) -> str:
    if "normalised" in form:
        return "standard deviations of the target's column"
    return "relative fall of the target's loss"


def _short(name: str) -> str:
    return name if len(name) <= LABEL_LENGTH else name[: LABEL_LENGTH - 1] + "…"


def _plain(text: str) -> str:
    """Text as it is, for plotly, which reads a subset of HTML."""
    return html.escape(text, quote=False)
