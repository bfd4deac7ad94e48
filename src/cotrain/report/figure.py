"""The shape of a picture: Plotly's own description, and what the page needs to lay it out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cotrain.report.wording import LABEL_LENGTH

PLOT_DIGITS = 4
CHARACTER = 6.6
"""Pixels of one character of an axis label."""


@dataclass(frozen=True)
class Figure:
    """One picture, without colours of its own (see `palette`) and without a width.

    Attributes:
        data: Plotly traces.
        layout: Plotly layout; margins are fixed, so that every picture on the page lines up.
        height: Pixels; None for square cells, whose height follows from the width.
        min_width: Pixels below which the picture scrolls in its box rather than shrinks.
        max_width: Pixels above which the picture stops growing.
        views: Names of alternative views, one per trace, of which one is shown; or none.
    """

    data: Sequence[dict[str, Any]]
    layout: dict[str, Any]
    height: int | None
    min_width: int = 0
    max_width: int = 1200
    views: Sequence[str] = field(default=())


def listed(values: ArrayLike) -> list[Any]:
    """An array as nested lists with a few significant digits, and null for what is not finite."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim > 1:
        return [listed(row) for row in array]
    return [float(f"{value:.{PLOT_DIGITS}g}") if math.isfinite(value) else None for value in array.tolist()]


def axis(title: str, **options: Any) -> dict[str, Any]:
    """An axis in the page's style: thin grid, no frame, no zooming by accident on a touch screen."""
    return {
        "title": {"text": title, "standoff": 8},
        "gridcolor": "@rule",
        "zerolinecolor": "@muted",
        "linecolor": "@rule",
        "fixedrange": True,
        **options,
    }


def label_room(names: Sequence[str]) -> int:
    """Pixels that the longest of the names needs beside an axis, as `label` shortens them."""
    return round(CHARACTER * max(min(len(name), LABEL_LENGTH) for name in names)) + 12


def limits(values: ArrayLike, *, include: Sequence[float] = (), margin: float = 0.06) -> list[float]:
    """A range around all finite values and those to include, with some room."""
    array = np.append(np.asarray(values, dtype=np.float64).ravel(), include)
    finite = array[np.isfinite(array)]
    low, high = float(finite.min()), float(finite.max())
    room = margin * (high - low) or abs(high) * margin or 1.0
    return [low - room, high + room]
