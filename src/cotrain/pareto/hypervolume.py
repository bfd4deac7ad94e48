"""How much of the space of metrics a set of points dominates, and which points no other dominates."""

from collections.abc import Sequence

import moocore
import torch
from torch import Tensor

__all__ = ["hypervolume", "nondominated"]

MOST_METRICS = 8
FEW_POINTS = 15
"""Exact hypervolume is exponential in the metrics, or in the points where these are few: beyond both it never ends."""


def hypervolume(points: Tensor, reference: Tensor, *, maximize: bool | Sequence[bool] = True) -> float:
    """Volume dominated by `points` above `reference` (Zitzler and Thiele, 1998), exactly.

    Args:
        points: [K, T], one metric vector per preference. Dominated points add nothing.
        reference: [T], worse than the points; what a point lacks to it in any metric makes the point count nothing.
        maximize: Whether larger metrics are better, for all or for each metric.

    Returns:
        The volume, in the product of the metrics' units; 0.0 for no point.

    Raises:
        ValueError: If a point is not finite, the shapes do not agree, or there are more than 8 metrics and more than
            15 non-dominated points.
    """
    if points.dim() != 2 or reference.shape != points.shape[1:]:
        raise ValueError(
            f"Points must be [K, T] and the reference [T]. Got {list(points.shape)} and {list(reference.shape)}."
        )
    up = _directions(points, maximize)
    if not bool(points.isfinite().all()) or not bool(reference.isfinite().all()):
        raise ValueError("Points and reference must be finite. Leave out tasks without labels (tasks=).")
    costs = torch.where(up, -points, points).double()
    worst = torch.where(up, -reference.to(points.device), reference.to(points.device)).double()
    counted = costs[(costs < worst).all(1)]
    if len(counted) == 0:
        return 0.0
    counted = counted[nondominated(counted, maximize=False)].unique(dim=0)
    if counted.shape[1] > MOST_METRICS and len(counted) > FEW_POINTS:
        raise ValueError(
            f"The exact hypervolume of {len(counted)} points in {counted.shape[1]} metrics takes too long. Name at most"
            f" {MOST_METRICS} tasks (tasks=), or give at most {FEW_POINTS} points."
        )
    return float(moocore.hypervolume(counted.cpu().numpy(), worst.cpu().numpy()))


def nondominated(points: Tensor, *, maximize: bool | Sequence[bool] = True) -> Tensor:
    """Which points no other is at least as good as in every metric and better in one.

    Args:
        points: [K, T]; equal points do not dominate each other. A point with NaN is dominated.
        maximize: Whether larger metrics are better, for all or for each metric.

    Returns:
        [K] booleans.

    Raises:
        ValueError: If the shapes do not agree.
    """
    if points.dim() != 2:
        raise ValueError(f"Points must be [K, T]. Got {list(points.shape)}.")
    up = _directions(points, maximize)
    known = ~points.isnan().any(1)
    kept = torch.zeros(len(points), dtype=torch.bool, device=points.device)
    if not bool(known.any()):
        return kept
    costs = torch.where(up, -points, points)[known].double()
    mask = torch.from_numpy(moocore.is_nondominated(costs.cpu().numpy(), keep_weakly=True))
    kept[known] = mask.to(points.device, torch.bool)
    return kept


def _directions(points: Tensor, maximize: bool | Sequence[bool]) -> Tensor:
    """[T] booleans: larger is better."""
    directions = [maximize] * points.shape[1] if isinstance(maximize, bool) else list(maximize)
    if len(directions) != points.shape[1]:
        raise ValueError(f"maximize needs one entry per metric, {points.shape[1]}. Got {len(directions)}.")
    return torch.tensor(directions, dtype=torch.bool, device=points.device)
