"""Fuzzy c-means on distances alone: memberships and centres in turn, until the centres stay."""

from __future__ import annotations

import numpy as np

from cotrain.grouping.gains import FloatArray
from cotrain.grouping.k_means import centre_distances
from cotrain.grouping.memberships import fuzzy_memberships

__all__ = ["fuzzy_c_means"]

MAX_ROUNDS = 300

SETTLED = 1e-6
"""Squared shift of all centres in one round, as a share of the points' variance, below which they stay."""


def fuzzy_c_means(squared: FloatArray, start: FloatArray, fuzziness: float, *, weights: FloatArray) -> FloatArray:
    """Alternate memberships W and centres `C_k = sum_t w_tk^m x_t / sum_t w_tk^m` (Bezdek, 1981).

    Centres are kept as weighted means of the points, as in `k_means`. In high dimension all centres can end in one
    place unless m is near 1 (Winkler, Klawonn and Kruse, 2010); memberships are then all equal.

    Args:
        squared: [U, U] squared distances between points.
        start: [K, U] the shares of the points in the first centres, rows sum to 1.
        fuzziness: m > 1.
        weights: [U], how often each point counts.

    Returns:
        [U, K] distances to the centres; `fuzzy_memberships` of them are the memberships. Stops when the centres
        move by less than 1e-6 of the variance, or after 300 rounds.
    """
    overall = weights / weights.sum()
    variance = float(overall @ squared @ overall) / 2
    averages = start
    distances = np.sqrt(centre_distances(squared, averages)).T
    for _ in range(MAX_ROUNDS):
        moved = _averages(fuzzy_memberships(distances, fuzziness), fuzziness, weights, averages)
        change = moved - averages
        shift = -float((change * (change @ squared)).sum()) / 2
        averages = moved
        distances = np.sqrt(centre_distances(squared, averages)).T
        if shift <= SETTLED * variance:
            break
    return distances


def _averages(memberships: FloatArray, fuzziness: float, weights: FloatArray, before: FloatArray) -> FloatArray:
    """[K, U]. A centre whose memberships are all rounded to 0 stays where it was."""
    peak = memberships.max(axis=0)
    # Relative to the largest of its column: the power of small numbers alone would round a whole column to 0.
    shares = (memberships / np.where(peak > 0, peak, 1.0)) ** fuzziness * weights[:, None]
    total = shares.sum(axis=0)
    return np.where(peak[:, None] > 0, (shares / np.where(total > 0, total, 1.0)).T, before)
