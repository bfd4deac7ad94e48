"""What was chosen over time, as a figure: how often each task was in, and which candidates won."""

import html
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cotrain.extras import require

if TYPE_CHECKING:
    from cotrain.aggregation.transference_record import ChoiceRecord

__all__ = ["plot_choices"]

# From little to much in one hue, which every colour vision reads; bars of different candidates differ in lightness too.
SCALE = [[0.0, "#faf9f6"], [0.5, "#86b7e0"], [1.0, "#0a4d8c"]]
BARS = ["#8d97a5", "#0b63b0", "#c4570c", "#5f9fd6", "#3c444f", "#eeb07c"]
NO_VALUE, INK = "#d3d8de", "#1b1f24"

MOST_BARS = 5
"""Candidates that are shown by name; the rest are one bar."""

MOST_NAMED = 60
"""Tasks up to which their names stand at the axis; beyond, they run into each other."""


def plot_choices(record: "ChoiceRecord") -> Any:
    """A `plotly.graph_objects.Figure`: above the tasks' shares as a heat map, below the candidates that won.

    Args:
        record: From `TransferenceAggregation.record()`.

    Raises:
        ImportError: If plotly is not installed; the message holds the command.
    """
    plotly = require("plotly.graph_objects", extra="report")
    names = [html.escape(task, quote=False) for task in record.tasks]
    start = record.start.tolist()
    shares = plotly.Heatmap(
        z=record.share.T.numpy(),
        x=start,
        y=names,
        zmin=0,
        zmax=1,
        colorscale=SCALE,
        hovertemplate="%{y}, from step %{x}: in %{z:.0%} of the steps<extra></extra>",
        hoverongaps=False,
        colorbar={
            "title": {"text": "share of steps in the sum", "side": "right"},
            "tickformat": ".0%",
            "len": 0.66,
            "y": 0.67,
        },
        yaxis="y",
    )
    bars = [
        plotly.Bar(
            x=start,
            y=counts.tolist(),
            name=html.escape(name, quote=False),
            marker={"color": colour},
            yaxis="y2",
            hovertemplate="from step %{x}: %{y} steps<extra>%{fullData.name}</extra>",
        )
        for (name, counts), colour in zip(_most_frequent(record.picked).items(), BARS, strict=False)
    ]
    return plotly.Figure(
        data=[shares, *bars],
        layout={
            "title": {"text": "What was chosen over time"},
            "font": {"family": "system-ui, sans-serif", "size": 12, "color": INK},
            "barmode": "stack",
            "bargap": 0,
            "xaxis": {"title": {"text": "training step"}, "anchor": "y2"},
            "yaxis": {
                "domain": [0.34, 1],
                "type": "category",
                "autorange": "reversed",
                "showticklabels": len(names) <= MOST_NAMED,
            },
            "yaxis2": {"domain": [0, 0.26], "title": {"text": "steps"}},
            "legend": {"orientation": "h", "y": -0.12},
            "plot_bgcolor": NO_VALUE,
            "paper_bgcolor": "#ffffff",
        },
    )


def _most_frequent(picked: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The candidates that won most often, by name, and all others together."""
    ordered = sorted(picked.items(), key=lambda item: -int(item[1].sum()))
    shown = dict(ordered[:MOST_BARS])
    if len(ordered) > MOST_BARS:
        shown["others"] = torch.stack([counts for _, counts in ordered[MOST_BARS:]]).sum(0)
    return shown
