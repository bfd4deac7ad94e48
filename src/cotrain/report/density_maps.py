"""Data maps: where a task's samples lie between easy, hard and ambiguous, as densities of all samples."""

import numpy as np
from numpy.typing import NDArray

from cotrain.report.contents import DataMaps, Study
from cotrain.report.figure import Figure, axis, listed
from cotrain.report.palette import SEQUENTIAL

MAX_PANELS = 60
BINS = 36
USUAL_VARIABILITY = 0.5
"""The largest standard deviation of numbers in [0, 1]; the unbiased one of few epochs can exceed it."""


def data_map_figures(study: Study) -> list[tuple[int, Figure]]:
    """One panel per task, as (position of the task, picture), all on the same axes."""
    if study.maps is None:
        return []
    widest = np.fmax.reduce(study.maps.variability, axis=None, initial=USUAL_VARIABILITY)
    return [(t, _panel(study.maps, t, float(widest))) for t in study.display_order[:MAX_PANELS]]


def density(confidence: NDArray[np.float32], variability: NDArray[np.float32], widest: float) -> NDArray[np.float64]:
    """Samples per cell, [BINS, BINS]: rows = confidence from 0 to 1, columns = variability from 0."""
    known = np.isfinite(confidence) & np.isfinite(variability)
    counts, _, _ = np.histogram2d(confidence[known], variability[known], bins=BINS, range=[[0.0, 1.0], [0.0, widest]])
    return counts


def _panel(maps: DataMaps, t: int, widest: float) -> Figure:
    counts = density(maps.confidence[:, t], maps.variability[:, t], widest)
    counts[counts == 0] = np.nan
    centres = (np.arange(BINS) + 0.5) / BINS
    small = {"tickfont": {"size": 10}, "showgrid": False, "zeroline": False, "showline": True, "mirror": True}
    return Figure(
        data=[
            {
                "type": "heatmap",
                "x": listed(centres * widest),
                "y": listed(centres),
                "z": listed(np.log10(counts)),
                "text": listed(counts),
                "hoverongaps": False,
                "hovertemplate": "confidence %{y}<br>variability %{x}<br>%{text} samples<extra></extra>",
                "colorscale": SEQUENTIAL,
                "zmin": 0.0,
                "zmax": max(1.0, float(np.log10(np.nanmax(counts)))) if np.isfinite(counts).any() else 1.0,
                "showscale": False,
            }
        ],
        layout={
            "xaxis": axis("variability", range=[0.0, widest], tickvals=[0.0, 0.25, 0.5], **small),
            "yaxis": axis("confidence", range=[0.0, 1.0], tickvals=[0.0, 0.5, 1.0], **small),
            "font": {"size": 10},
            "margin": {"l": 42, "r": 14, "t": 9, "b": 34},
        },
        height=168,
        max_width=240,
    )
