"""The densest partition of a few tasks, exactly: a dynamic programme over all subsets."""

from __future__ import annotations

import math
import time

import numpy as np

from cotrain.grouping.gains import FloatArray
from cotrain.grouping.geometry import IntArray

__all__ = ["MOST_TASKS", "densest_partition"]

MOST_TASKS = 16
"""3^T / 6 steps, each for every number of clusters: 0.2 s at 14 tasks, 3 times that for each further one."""


def densest_partition(
    similarity: FloatArray, n_clusters: int | None, deadline: float = math.inf
) -> tuple[IntArray, int] | None:
    """The partition of the highest density, by `best_j[m] = max of v(c) + best_{j-1}[m - c]`.

    c runs over the subsets of m that hold m's lowest task. Ties go to fewer clusters.

    Args:
        similarity: [T, T] symmetric.
        n_clusters: K, or None for any number.
        deadline: Of `time.monotonic`.

    Returns:
        [T] labels and how many subsets were compared; None if the deadline came first.
    """
    n_tasks = len(similarity)
    most = n_tasks if n_clusters is None else n_clusters
    value = _densities(similarity)
    best = np.full((len(value), most + 1), -np.inf)
    best[0, 0] = 0.0
    # Tasks from the last to the second: what is left after a cluster that holds task b has later tasks only.
    for b in range(n_tasks - 1, 0, -1):
        later = np.arange(1 << (n_tasks - 1 - b)) << (b + 1)
        for chosen in later:
            if time.monotonic() >= deadline:
                return None
            cluster = chosen | (1 << b)
            rest = later[(later & chosen) == 0]
            whole = rest | cluster
            best[whole, 1:] = np.maximum(best[whole, 1:], value[cluster] + best[rest, :-1])
    return _traced(value, best, n_tasks, n_clusters), len(value) - 1


def _densities(similarity: FloatArray) -> FloatArray:
    """[2^T], the density of every subset as a cluster, subsets numbered by their bits; 0 for none."""
    inside, size = np.zeros(1), np.zeros(1)
    for t in range(len(similarity)):
        across = np.zeros(1)
        for i in range(t):
            across = np.concatenate([across, across + similarity[t, i]])
        inside = np.concatenate([inside, inside + 2 * across + similarity[t, t]])
        size = np.concatenate([size, size + 1])
    return inside / np.maximum(size, 1)


def _traced(value: FloatArray, best: FloatArray, n_tasks: int, n_clusters: int | None) -> IntArray:
    """Labels of the best partition, from all tasks downwards."""
    labels = np.empty(n_tasks, dtype=np.intp)
    left, number, count = (1 << n_tasks) - 1, 0, n_clusters
    bits = np.arange(n_tasks)
    while left:
        lowest = left & -left
        others = np.array([t for t in bits if left >> t & 1 and 1 << t != lowest], dtype=np.int64)
        clusters = np.array([lowest])
        for t in others:
            clusters = np.concatenate([clusters, clusters | (1 << t)])
        worth = value[clusters][:, None] + best[left ^ clusters]
        if count is None:
            count = int(worth.max(axis=0).argmax()) + 1
        cluster = int(clusters[worth[:, count - 1].argmax()])
        labels[(cluster >> bits & 1) == 1] = number
        left, number, count = left ^ cluster, number + 1, count - 1
    return labels
