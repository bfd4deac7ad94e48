"""Cluster all points of all data maps in the plane, and describe a task by where its points lie."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cotrain.grouping.gains import FloatArray
from cotrain.grouping.geometry import IntArray, task_geometry
from cotrain.grouping.k_means import MAX_ITERATIONS, k_means

__all__ = ["point_shares"]

SAMPLE = 2000
"""Points on which the restarts are run: in the plane, enough to place a few dozen centres."""

CHUNK = 2**20
"""Distances held at once."""

SETTLED = 1e-6
"""Squared shift of all centres in one iteration, as a share of the points' variance, below which they stay."""


def point_shares(
    points: NDArray[Any], order: IntArray, n_clusters: int, *, n_init: int, rng: np.random.Generator
) -> tuple[FloatArray, IntArray]:
    """The share of every task's points (mu, sigma) in each of K clusters of points.

    It forgets which sample a point belongs to, so two tasks are alike if they have as many samples of each kind.
    The restarts of k-means++ are run on a random sample of 2,000 points; the best of them goes on with all points,
    in chunks, so that memory stays small for any number of points.

    Args:
        points: [T, P, 2]; points with NaN are ignored.
        order: [n], the tasks that take part, each with a point, in the order in which points are drawn and summed.
        n_clusters: K.
        n_init: Restarts.
        rng: Decides the sample and the starts.

    Returns:
        [n, K] shares, rows sum to 1, in the order of `order`, and [n_init, S] labels of the sample's points in every
        restart, in order of inertia.

    Raises:
        ValueError: If there are fewer different points than clusters.
    """
    valid = np.flatnonzero(~np.isnan(points).any(axis=2)[order])
    drawn = np.sort(rng.choice(valid, size=min(SAMPLE, len(valid)), replace=False, shuffle=False))
    sample = points[order[drawn // points.shape[1]], drawn % points.shape[1]].astype(np.float64)
    geometry = task_geometry(sample)
    if n_clusters > geometry.n_distinct:
        raise ValueError(
            f"n_clusters must be at most the number of different points. Got {n_clusters} clusters and"
            f" {geometry.n_distinct} different points in a sample of {len(sample)}."
        )
    solved = k_means(geometry.squared, n_clusters, weights=geometry.weights, n_init=n_init, rng=rng)
    centres = solved.averages @ sample[geometry.position]
    variance = float(sample.var(axis=0).sum())
    for _ in range(MAX_ITERATIONS):
        sums, counts = _sums(points, order, centres)
        total = counts.sum(axis=0)
        # A cluster that lost its last point keeps its centre; starting from every cluster of a sample, few ever do.
        moved = np.where(total[:, None] > 0, sums / np.maximum(total, 1)[:, None], centres)
        shift = float(((moved - centres) ** 2).sum())
        centres = moved
        if shift <= SETTLED * variance:
            break
    counts = _sums(points, order, centres)[1]
    return counts / counts.sum(axis=1, keepdims=True), solved.restarts[:, geometry.row]


def _sums(points: NDArray[Any], order: IntArray, centres: FloatArray) -> tuple[FloatArray, FloatArray]:
    """[K, 2] sums of the points nearest to each centre, and [n, K] how many of each task."""
    n_tasks, n_clusters = len(order), len(centres)
    sums, counts = np.zeros((n_clusters, 2)), np.zeros((n_tasks, n_clusters))
    width = max(CHUNK // (n_tasks * n_clusters), 1)
    for start in range(0, points.shape[1], width):
        block = points[order, start : start + width].astype(np.float64)
        task, place = np.nonzero(~np.isnan(block).any(axis=2))
        x, y = block[task, place].T
        # Differences, not products: a point's nearest centre must not depend on its place in the chunk.
        nearest = ((x[:, None] - centres[:, 0]) ** 2 + (y[:, None] - centres[:, 1]) ** 2).argmin(axis=1)
        sums[:, 0] += np.bincount(nearest, x, minlength=n_clusters)
        sums[:, 1] += np.bincount(nearest, y, minlength=n_clusters)
        counts += np.bincount(task * n_clusters + nearest, minlength=counts.size).reshape(counts.shape)
    return sums, counts
