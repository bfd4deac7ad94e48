"""Controls beside a clustering: partitions of the same sizes, by chance, by difficulty, and with difficulty kept."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cotrain.grouping.gains import BoolArray, FloatArray
from cotrain.grouping.geometry import IntArray

__all__ = ["between_share", "difficulty_matched", "difficulty_order", "random_partition"]


def random_partition(labels: ArrayLike, rng: np.random.Generator) -> IntArray:
    """The same cluster sizes, with chance deciding who is where; every permutation is equally likely.

    Args:
        labels: [T] cluster numbers; tasks that were left out, -1, stay so.
        rng: Decides the permutation.

    Returns:
        [T] labels.

    Raises:
        ValueError: If the labels are no list of integers.
    """
    found, kept = _labels(labels)
    found[kept] = rng.permutation(found[kept])
    return found


def difficulty_order(labels: ArrayLike, difficulty: ArrayLike) -> IntArray:
    """The same cluster sizes, with tasks sorted by difficulty and cut: what is left if difficulty alone decides.

    The clusters take their turn by their own mean difficulty, so each gets tasks as close to its own as this allows.

    Args:
        labels: [T] cluster numbers; tasks that were left out, -1, stay so.
        difficulty: [T], such as the mean confidence of each task; not looked at where the label is -1.

    Returns:
        [T] labels.

    Raises:
        ValueError: If the two do not fit, or the difficulty of a task in a cluster is not finite.
    """
    found, kept = _labels(labels)
    values = _of_kept(difficulty, kept, "difficulty")
    numbers, cluster, size = np.unique(found[kept], return_inverse=True, return_counts=True)
    turn = np.argsort(np.bincount(cluster, values, minlength=len(numbers)) / size, kind="stable")
    place = np.flatnonzero(kept)[np.argsort(values, kind="stable")]
    found[place] = np.repeat(numbers[turn], size[turn])
    return found


def difficulty_matched(labels: ArrayLike, difficulty: ArrayLike, rng: np.random.Generator, n_bins: int = 4) -> IntArray:
    """Random clusters that are as hard as the given ones: labels permuted among tasks of about equal difficulty.

    If the given clusters are no better than these, they were good for their difficulty and not for kinship.

    Args:
        labels: [T] cluster numbers; tasks that were left out, -1, stay so.
        difficulty: [T], such as the mean confidence of each task; not looked at where the label is -1.
        rng: Decides the permutations.
        n_bins: Tasks are sorted by difficulty and cut into so many bins, equal in size up to one task. 1 is
            `random_partition`; as many as tasks changes nothing. By default quarters, which still leaves a few
            tasks in each bin of a dozen or more.

    Returns:
        [T] labels.

    Raises:
        ValueError: If the labels and difficulties do not fit, the difficulty of a task in a cluster is not finite,
            or n_bins is below 1.
    """
    if n_bins < 1:
        raise ValueError(f"n_bins must be at least 1. Got {n_bins}.")
    found, kept = _labels(labels)
    values = _of_kept(difficulty, kept, "difficulty")
    n = len(values)
    place = np.flatnonzero(kept)[np.argsort(values, kind="stable")]
    bins = np.arange(n) * n_bins // max(n, 1)
    found[place] = found[place][np.lexsort([rng.random(n), bins])]
    return found


def between_share(values: ArrayLike, labels: ArrayLike) -> float:
    """The share of a quantity's variance over the tasks that lies between the clusters (eta squared).

    Of mean confidence it says how far clusters are clusters of difficulty. Even random clusters have
    (K - 1) / (T - 1) in the mean, so compare it with that of `random_partition`.

    Args:
        values: [T]; not looked at where the label is -1.
        labels: [T] cluster numbers, -1 for tasks that were left out.

    Returns:
        0 to 1; NaN if the values do not vary.

    Raises:
        ValueError: If the two do not fit, or the value of a task in a cluster is not finite.
    """
    found, kept = _labels(labels)
    inside = _of_kept(values, kept, "value")
    if not len(inside) or (inside == inside[0]).all():
        return np.nan
    deviation = inside - inside.mean()
    _, cluster, size = np.unique(found[kept], return_inverse=True, return_counts=True)
    between = (np.bincount(cluster, deviation) ** 2 / size).sum()
    return min(float(between / (deviation**2).sum()), 1.0)


def _labels(labels: ArrayLike) -> tuple[IntArray, BoolArray]:
    """A copy of the labels, and which tasks are in a cluster."""
    found = np.array(labels)
    if found.ndim != 1 or not np.issubdtype(found.dtype, np.integer):
        raise ValueError(f"labels must be [T] integers. Got {found.dtype} {list(found.shape)}.")
    return found.astype(np.intp), found >= 0


def _of_kept(values: ArrayLike, kept: BoolArray, what: str) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != kept.shape:
        raise ValueError(f"Give one {what} per label, {list(kept.shape)}. Got {list(array.shape)}.")
    if not np.isfinite(array[kept]).all():
        task = int(np.flatnonzero(kept & ~np.isfinite(array))[0])
        raise ValueError(f"The {what} of task {task} is {array[task]}. Label it -1 to leave it out.")
    return array[kept]
