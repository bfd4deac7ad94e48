"""k-means on distances alone: all restarts at once, and on to where no single point can improve the partition."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from cotrain.grouping.gains import FloatArray
from cotrain.grouping.geometry import IntArray
from cotrain.grouping.single_moves import single_moves

__all__ = ["KMeans", "k_means"]

MAX_ITERATIONS = 300

CHUNK = 2**22
"""Distances to centres held at once, 32 MB, a few times over; restarts beyond it take turns."""


@dataclass(frozen=True, eq=False)
class KMeans:
    """The best of several k-means runs.

    Attributes:
        labels: [U], the nearest centre of every point.
        averages: [K, U], the share of every point in every centre, rows sum to 1: centre = averages @ points.
        squared: [U, K], the squared distance of every point to every centre.
        inertia: Weighted sum of the squared distances of the points to their nearest centre.
        restarts: [n_init, U], the labels of every restart, in order of inertia.
    """

    labels: IntArray
    averages: FloatArray
    squared: FloatArray
    inertia: float
    restarts: IntArray


def k_means(
    squared: FloatArray, n_clusters: int, *, weights: FloatArray, n_init: int, rng: np.random.Generator
) -> KMeans:
    """Greedy k-means++ starts (Arthur and Vassilvitskii, 2007), Lloyd's algorithm, then `single_moves`.

    The squared distance of point i to the mean of the points with shares a is `(D a)_i - a^T D a / 2`, with D the
    squared distances between points. So coordinates are not needed, an iteration takes n_init * U^2 additions for
    any K and any dimension, and a point that is a cluster of its own is exactly 0 away from its centre. A cluster
    that became empty starts again at the point that is farthest from its centre. Lloyd's algorithm takes at most
    300 iterations.

    Args:
        squared: [U, U] squared distances between distinct points.
        n_clusters: K, 1 to U.
        weights: [U], how often each point counts.
        n_init: Restarts; the one of least inertia is taken.
        rng: Decides the starts.

    Returns:
        The best restart, and the labels of all.
    """
    at_once = max(CHUNK // (n_clusters * len(squared)), 1)
    found = []
    for done in range(0, n_init, at_once):
        centres = _plus_plus(squared, n_clusters, weights, min(at_once, n_init - done), rng)
        labels = _lloyd(squared, squared[centres].argmin(axis=1), n_clusters, weights)
        labels = single_moves(squared, labels, n_clusters, weights)
        found.append((labels, _inertia(squared, labels, n_clusters, weights)))
    restarts, inertia = (np.concatenate(part) for part in zip(*found, strict=True))
    restarts = restarts[np.argsort(inertia, kind="stable")]
    averages = _averages(restarts[:1], n_clusters, weights)
    distances = centre_distances(squared, averages)
    return KMeans(
        labels=distances.argmin(axis=0),
        averages=averages.toarray(),
        squared=distances.T.copy(),
        inertia=float(distances.min(axis=0) @ weights),
        restarts=restarts,
    )


def centre_distances(squared: FloatArray, averages: sparse.csr_array | FloatArray) -> FloatArray:
    """[C, U] squared distances of C weighted means of points, `averages` [C, U], to the points."""
    mixed = averages @ squared
    spread = (averages * mixed).sum(axis=1)
    return np.maximum(mixed - spread[:, None] / 2, 0.0)


def _plus_plus(
    squared: FloatArray, n_clusters: int, weights: FloatArray, n_starts: int, rng: np.random.Generator
) -> IntArray:
    """[n_starts, K] points: each is the best of a few, drawn by weight times squared distance to those before it."""
    trials = 2 + int(np.log(n_clusters))
    drawn = _draw(np.tile(weights, (n_starts, 1)), 1, rng)[:, 0]
    centres = np.empty((n_starts, n_clusters), dtype=np.intp)
    centres[:, 0] = drawn
    nearest = squared[drawn]
    every = np.arange(n_starts)
    for k in range(1, n_clusters):
        candidates = _draw(nearest * weights, trials, rng)
        left = np.minimum(nearest[:, None], squared[candidates])
        chosen = (left @ weights).argmin(axis=1)
        centres[:, k] = candidates[every, chosen]
        nearest = left[every, chosen]
    return centres


def _draw(mass: FloatArray, n_draws: int, rng: np.random.Generator) -> IntArray:
    """[R, n_draws] columns, in proportion to the mass [R, U] of each row."""
    sums = mass.cumsum(axis=1)
    targets = rng.random((len(mass), n_draws)) * sums[:, -1:]
    below = (sums[:, None] <= targets[:, :, None]).sum(axis=2)
    return np.asarray(np.minimum(below, mass.shape[1] - 1))  # a target can be rounded up to the whole sum


def _lloyd(squared: FloatArray, start: IntArray, n_clusters: int, weights: FloatArray) -> IntArray:
    """Labels [R, U] of all restarts; those that have converged drop out."""
    labels = start.copy()
    active = np.arange(len(start))
    for _ in range(MAX_ITERATIONS):
        averages = _averages(labels[active], n_clusters, weights)
        distances = centre_distances(squared, averages)
        distances[averages.sum(axis=1) == 0] = np.inf
        distances = distances.reshape(len(active), n_clusters, -1)
        moved = distances.argmin(axis=1)
        _fill_empty(moved, distances.min(axis=1), n_clusters)
        changed = (moved != labels[active]).any(axis=1)
        labels[active] = moved
        active = active[changed]
        if not len(active):
            break
    return labels


def _inertia(squared: FloatArray, labels: IntArray, n_clusters: int, weights: FloatArray) -> FloatArray:
    """[R], the weighted squared distances to the nearest centres."""
    distances = centre_distances(squared, _averages(labels, n_clusters, weights))
    return np.asarray(distances.reshape(len(labels), n_clusters, -1).min(axis=1) @ weights)


def _averages(labels: IntArray, n_clusters: int, weights: FloatArray) -> sparse.csr_array:
    """[R * K, U]: every restart's centres as weighted means of their points; an empty cluster's row is empty."""
    n_starts, n_points = labels.shape
    rows = (labels + n_clusters * np.arange(n_starts)[:, None]).ravel()
    weights = np.tile(weights, n_starts)
    total = np.bincount(rows, weights, minlength=n_starts * n_clusters)
    columns = np.tile(np.arange(n_points), n_starts)
    return sparse.csr_array((weights / total[rows], (rows, columns)), shape=(len(total), n_points))


def _fill_empty(labels: IntArray, nearest: FloatArray, n_clusters: int) -> None:
    """Give every cluster without points one of those that are farthest from their centres, in place."""
    n_starts = len(labels)
    rows = labels + n_clusters * np.arange(n_starts)[:, None]
    empty = np.bincount(rows.ravel(), minlength=n_starts * n_clusters).reshape(n_starts, n_clusters) == 0
    restart, cluster = np.nonzero(empty)
    if len(restart):
        farthest = np.argsort(-nearest[restart], axis=1, kind="stable")
        number = empty.cumsum(axis=1)[restart, cluster] - 1
        labels[restart, farthest[np.arange(len(restart)), number]] = cluster
