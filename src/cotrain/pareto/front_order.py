"""Whether more preference for a task gives a better task: the order of a front."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from cotrain.pareto.front import Front

__all__ = ["CornerOrder", "OrderViolations", "Step", "corners_in_order", "neighbours", "order_violations"]

SAME = 1e-5
"""Preferences and their distances that differ by less are equal up to float32."""


@dataclass(frozen=True)
class Step:
    """One step between neighbouring preferences that runs the wrong way.

    Args:
        name: What gets more preference.
        start: Index of the point with less of it.
        end: Index of the point with more.
        rise: By how much the loss rises.
    """

    name: str
    start: int
    end: int
    rise: float


@dataclass(frozen=True)
class OrderViolations:
    """Steps on which a share rises and its loss rises too.

    Args:
        count: How many run the wrong way.
        total: How many steps there are; a step on which several shares change counts for each.
        steps: Those that run the wrong way, the largest rise first.
    """

    count: int
    total: int
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class CornerOrder:
    """Whether a task, or group, is best where it is preferred most.

    Args:
        of_corners: Its loss at its own corner is the lowest of all corners.
        of_points: It is the lowest of all points, which noise alone may break on a flat front.
    """

    of_corners: bool
    of_points: bool


def order_violations(front: "Front") -> OrderViolations:
    """Count the steps between neighbouring preferences on which a share rises and its loss rises too."""
    losses, preferences = front.knob_losses(), front.preferences
    found: list[Step] = []
    total = 0
    for first, second in neighbours(preferences):
        change = preferences[second] - preferences[first]
        for number, name in enumerate(front.names):
            if abs(float(change[number])) <= SAME:
                continue
            start, end = (first, second) if change[number] > 0 else (second, first)
            rise = float(losses[end, number] - losses[start, number])
            if rise != rise:  # no label: nothing to order
                continue
            total += 1
            if rise > 0:
                found.append(Step(name, start, end, rise))
    found.sort(key=lambda step: -step.rise)
    return OrderViolations(len(found), total, tuple(found))


def corners_in_order(front: "Front") -> dict[str, CornerOrder]:
    """For each name whether its loss is lowest at its own corner: the point with its largest share."""
    losses = front.knob_losses()
    corners = front.preferences.argmax(0)
    return {
        name: CornerOrder(
            # Without labels a loss is NaN, and nothing is out of order.
            not bool(losses[corners[number], number] > losses[corners, number].min()),
            not bool(losses[corners[number], number] > losses[:, number].min()),
        )
        for number, name in enumerate(front.names)
    }


def neighbours(preferences: Tensor) -> list[tuple[int, int]]:
    """Pairs of preferences with no third one between them: inside or on the sphere over the two (Gabriel, 1969).

    On an evenly spaced line these are the adjacent points, on a lattice the pairs one division apart, and on any other
    set of points its natural neighbours, so that one definition serves all grids.

    Args:
        preferences: [K, G].
    """
    points = preferences.double()
    squared = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist") ** 2
    apart = squared > SAME**2
    near = apart.clone()
    for third in range(len(points)):
        own = squared[third]
        between = (own[:, None] + own[None, :] <= squared * (1 + SAME)) & apart[third][:, None] & apart[third][None, :]
        near &= ~between
    return [(int(first), int(second)) for first, second in near.triu(1).nonzero()]
