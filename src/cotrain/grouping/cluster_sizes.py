"""What speaks for how many clusters: agreement between runs and separation, for every number that can be afforded."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cotrain.grouping.agreement import mean_agreement
from cotrain.grouping.feature_runs import read_runs
from cotrain.grouping.gains import FloatArray
from cotrain.grouping.geometry import IntArray, task_geometry
from cotrain.grouping.k_means import k_means

__all__ = ["ClusterSize", "mean_silhouette", "stability_by_size"]


@dataclass(frozen=True)
class ClusterSize:
    """How clusterings into K clusters turned out.

    Attributes:
        n_clusters: K.
        stability: Mean adjusted Rand index between the runs; NaN for one run.
        silhouette: Mean silhouette of the tasks, mean over the runs, -1 to 1; NaN for K = 1.
    """

    n_clusters: int
    stability: float
    silhouette: float


def stability_by_size(
    features: NDArray[Any] | Sequence[NDArray[Any]],
    tasks: Iterable[str],
    sizes: Iterable[int],
    *,
    seed: int = 0,
    n_init: int = 20,
) -> tuple[ClusterSize, ...]:
    """k-means for several K, to read beside `task_dendrogram` and the budget: it does not find the right K.

    No criterion does: with four planted groups the silhouette chose 8 in each of four studies and the eigengap 2
    to 4. A K that is stable between runs can be relied on to come out again, and may still group by difficulty.

    Args:
        features: [T, D], or a sequence of such arrays, one per run, without NaN: leave out tasks without labels.
        tasks: T names.
        sizes: Numbers of clusters K.
        seed: Decides the starts.
        n_init: k-means restarts per run.

    Returns:
        One row per size, in the given order.

    Raises:
        ValueError: If a size is below 1 or above the number of different rows, or the features do not fit the
            tasks or are not finite.
    """
    runs, names, missing = read_runs(features, tasks, 2)
    if missing.any():
        raise ValueError(f"Tasks {[names[t] for t in np.flatnonzero(missing)]} have NaN features. Leave them out.")
    geometries = [task_geometry(run) for run in runs]
    n_distinct = min(geometry.n_distinct for geometry in geometries)
    found = []
    for size in sizes:
        if not 1 <= size <= n_distinct:
            raise ValueError(
                f"A number of clusters must be between 1 and that of tasks with different features. Got {size}"
                f" clusters and {n_distinct} different rows."
            )
        labels, silhouettes = [], []
        for number, geometry in enumerate(geometries):
            rng = np.random.default_rng((seed, number))
            solved = k_means(geometry.squared, size, weights=geometry.weights, n_init=n_init, rng=rng)
            labels.append(solved.labels[geometry.row])
            distances = np.sqrt(geometry.squared)[geometry.row][:, geometry.row]
            silhouettes.append(mean_silhouette(distances, labels[-1]))
        found.append(ClusterSize(size, mean_agreement(labels), float(np.mean(silhouettes))))
    return tuple(found)


def mean_silhouette(distances: FloatArray, labels: IntArray) -> float:
    """Mean over the tasks of `(b - a) / max(a, b)` (Rousseeuw, 1987).

    Args:
        distances: [T, T].
        labels: [T], from 0.

    Returns:
        With a the mean distance to the others of the own cluster and b the least mean distance to another cluster;
        0 for a task alone in its cluster or where a = b = 0. NaN for a single cluster.
    """
    size = np.bincount(labels)
    if np.count_nonzero(size) < 2:
        return math.nan
    sums = distances @ (labels[:, None] == np.arange(len(size)))
    every = np.arange(len(labels))
    own = size[labels]
    inside = sums[every, labels] / np.maximum(own - 1, 1)
    means = np.divide(sums, size, out=np.full_like(sums, np.inf), where=size > 0)
    means[every, labels] = np.inf
    outside = means.min(axis=1)
    wider = np.maximum(inside, outside)
    scores = np.divide(outside - inside, wider, out=np.zeros_like(wider), where=(own > 1) & (wider > 0))
    return float(scores.mean())
