"""Improve partitions point by point, where k-means stops too early: few points of many dimensions."""

from __future__ import annotations

import numpy as np

from cotrain.grouping.gains import FloatArray
from cotrain.grouping.geometry import IntArray

__all__ = ["single_moves"]

ROUNDING = 1e-12
"""An improvement below this share of the largest squared distance is that of rounding."""


def single_moves(squared: FloatArray, labels: IntArray, n_clusters: int, weights: FloatArray) -> IntArray:
    """Hartigan's method (Hartigan, 1975; Telgarsky and Vattani, 2010), for many partitions at once.

    Lloyd's algorithm compares distances to centres, and a point pulls the centre of its own cluster towards itself:
    by 1/n of its distance in a cluster of n. In many dimensions all distances are alike, so that alone keeps points
    where they are, and hardly any start leads to the best clusters. Here a point of weight w moves from a to b if
    the inertia falls: if `W_a w / (W_a - w) d_a^2 > W_b w / (W_b + w) d_b^2`, with W the weight of a cluster. On
    1,000 tasks of 50 planted groups in 1,000 dimensions, the adjusted Rand index with the groups is 0.96 with and
    0.1 without.

    Args:
        squared: [U, U] squared distances between points.
        labels: [R, U], R partitions.
        n_clusters: K.
        weights: [U], how often each point counts.

    Returns:
        [R, U] labels at which no single move lowers the inertia.
    """
    labels = labels.copy()
    least = ROUNDING * squared.max()
    members = (labels[:, None] == np.arange(n_clusters)[:, None]) * weights
    sums = members @ squared
    total = members.sum(axis=2)
    spread = (members * sums).sum(axis=2)
    active = np.arange(len(labels))
    while len(active):
        gain, target = _best_moves(sums, total, spread, labels[active], weights)
        restart, point = _independent(gain, labels[active], target, least, n_clusters)
        source, target, weight = labels[active][restart, point], target[restart, point], weights[point]
        spread[restart, source] -= 2 * weight * sums[restart, source, point]
        spread[restart, target] += 2 * weight * sums[restart, target, point]
        sums[restart, source] -= weight[:, None] * squared[point]
        sums[restart, target] += weight[:, None] * squared[point]
        total[restart, source] -= weight
        total[restart, target] += weight
        labels[active[restart], point] = target
        moving = np.unique(restart)
        if len(moving) < len(active):
            active, sums, total, spread = active[moving], sums[moving], total[moving], spread[moving]
    return labels


def _best_moves(
    sums: FloatArray, total: FloatArray, spread: FloatArray, labels: IntArray, weights: FloatArray
) -> tuple[FloatArray, IntArray]:
    """By how much the inertia falls with each point's best move, [R, U], and to which cluster it goes."""
    size = np.where(total > 0, total, 1.0)
    distances = sums / size[:, :, None]
    distances -= (spread / (2 * size**2))[:, :, None]
    own = (np.arange(len(labels))[:, None], labels, np.arange(labels.shape[1]))
    around = total[own[:2]]
    shared = around > weights
    left = np.where(shared, around - weights, 1.0)
    leave = np.where(shared, around * weights / left * distances[own], -np.inf)
    distances *= total[:, :, None] * weights / (total[:, :, None] + weights)
    distances[own] = np.inf
    target = distances.argmin(axis=1)
    return leave - distances.min(axis=1), target


def _independent(
    gain: FloatArray, source: IntArray, target: IntArray, least: float, n_clusters: int
) -> tuple[IntArray, IntArray]:
    """Improving moves, as restart and point: each is the best of all that touch either of its two clusters.

    No two touch the same cluster, so they can be made at once and their improvements add up.
    """
    every = np.arange(len(gain))[:, None]
    place = np.empty_like(source)
    place[every, np.argsort(-gain, axis=1, kind="stable")] = np.arange(gain.shape[1])
    place[gain <= least] = gain.shape[1]
    first = np.full((len(gain), n_clusters), gain.shape[1])
    np.minimum.at(first, (every, source), place)
    np.minimum.at(first, (every, target), place)
    chosen = (gain > least) & (place == first[every, source]) & (place == first[every, target])
    restart, point = np.nonzero(chosen)
    return restart, point
