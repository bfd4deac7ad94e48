"""Which group to train next: the one that promises most for the choice that will be made."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from cotrain.grouping.gains import FloatArray

__all__ = ["expected_improvement"]

SQRT_TAU = float(np.sqrt(2 * np.pi))

LEAST_STD = 1e-12
"""Avoids 0 / 0 for a group whose gain is certain."""


def expected_improvement(
    mean: FloatArray, std: FloatArray, cost: FloatArray, chosen: FloatArray, chosen_cost: FloatArray, budget: float
) -> FloatArray:
    """How much better the choice is expected to become if a group is trained and may then join it.

    A trained group takes the place of one of the chosen ones, or of none where the budget has room, and serves the
    tasks for which it turned out better than all that stay. With worths X ~ N(mean, std^2) and `a` what the others
    offer, that is the sum over its tasks of E max(X, a), which has a closed form (Mockus, 1975), less the present
    value. So a group counts by what it could change, and not by being good or being uncertain.

    Args:
        mean: [n, T], predicted worth of serving each task; NaN where the task is not in the group.
        std: [n, T], its standard deviation.
        cost: [n].
        chosen: [k, T], worth of the chosen groups, minus infinity where the task is not in the group.
        chosen_cost: [k].
        budget: What the chosen groups may cost together.

    Returns:
        [n] in units of the worth, never negative: the choice may stay as it is. 0 for a group that could not be
        afforded, or that would leave tasks unserved whatever it replaced.
    """
    value = chosen.max(axis=0).sum()
    member, width = ~np.isnan(mean), np.maximum(np.nan_to_num(std), LEAST_STD)
    room = budget - chosen_cost.sum()
    best = np.zeros(len(mean))
    for dropped in [None, *range(len(chosen))]:
        kept = chosen if dropped is None else np.delete(chosen, dropped, axis=0)
        free = room if dropped is None else room + chosen_cost[dropped]
        others = kept.max(axis=0, initial=-np.inf)
        served = np.isfinite(others)
        floor = np.where(served, others, 0.0)
        score = (np.nan_to_num(mean) - floor) / width
        either = floor + width * (score * ndtr(score) + np.exp(-0.5 * score**2) / SQRT_TAU)
        offered = np.where(member, np.where(served, either, mean), others)
        best = np.maximum(best, np.where(cost <= free + 1e-9, offered.sum(axis=1) - value, -np.inf))
    return best
