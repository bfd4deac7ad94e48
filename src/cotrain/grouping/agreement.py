"""How far several clusterings of the same tasks agree, and what they agree on."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike
from scipy.cluster.hierarchy import linkage
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import squareform

from cotrain.grouping.dendrogram import cut_tree
from cotrain.grouping.gains import FloatArray
from cotrain.grouping.geometry import IntArray

__all__ = [
    "adjusted_rand_index",
    "average_memberships",
    "certainty",
    "coassociation",
    "consensus_labels",
    "mean_agreement",
]


def adjusted_rand_index(first: ArrayLike, second: ArrayLike) -> float:
    """Agreement of two partitions, corrected for chance (Hubert and Arabie, 1985).

    Args:
        first: [T] integer labels; the numbers themselves do not matter. A negative label means that the task was
            left out; tasks that either partition leaves out are not compared.
        second: [T].

    Returns:
        1.0 for the same partition, 0.0 on average for independent ones, NaN for fewer than two tasks to compare.

    Raises:
        ValueError: If the two are not labels of the same tasks.
    """
    one, other = np.asarray(first), np.asarray(second)
    if one.ndim != 1 or one.shape != other.shape:
        raise ValueError(
            f"Both partitions must be labels [T] of the same tasks. Got {list(one.shape)} and {list(other.shape)}."
        )
    both = (one >= 0) & (other >= 0)
    n = int(both.sum())
    if n < 2:
        return np.nan
    rows, columns = (np.unique(labels[both], return_inverse=True)[1] for labels in (one, other))
    width = int(columns.max()) + 1
    table = np.bincount(rows * width + columns, minlength=(int(rows.max()) + 1) * width).reshape(-1, width)
    together = _pairs(table)
    in_one, in_other = _pairs(table.sum(axis=1)), _pairs(table.sum(axis=0))
    by_chance = in_one * in_other / (n * (n - 1) / 2)
    possible = (in_one + in_other) / 2
    if possible == by_chance:
        return 1.0  # both are one cluster, or both are single tasks
    return float((together - by_chance) / (possible - by_chance))


def mean_agreement(labellings: Sequence[ArrayLike]) -> float:
    """The mean adjusted Rand index of all pairs of labellings; NaN for fewer than two."""
    if len(labellings) < 2:
        return np.nan
    return float(np.mean([adjusted_rand_index(one, other) for one, other in combinations(labellings, 2)]))


def coassociation(labellings: Sequence[ArrayLike]) -> FloatArray:
    """[T, T], the share of the labellings [T] in which two tasks are in one cluster.

    A labelling counts for the tasks it does not leave out (by a negative label); a pair that it never counts for
    is NaN.

    Raises:
        ValueError: If there is no labelling, or they are of different numbers of tasks.
    """
    shapes = {np.shape(labels) for labels in labellings}
    if len(shapes) != 1 or len(next(iter(shapes))) != 1:
        raise ValueError(f"Give one or more labellings [T] of the same tasks. Got the shapes {sorted(shapes)}.")
    n_tasks = next(iter(shapes))[0]
    together, counted = np.zeros((n_tasks, n_tasks)), np.zeros((n_tasks, n_tasks))
    for labelling in labellings:
        labels = np.asarray(labelling)
        both = np.logical_and.outer(labels >= 0, labels >= 0)
        counted += both
        together += both & np.equal.outer(labels, labels)
    return np.divide(together, counted, out=np.full_like(together, np.nan), where=counted > 0)


def consensus_labels(coassociated: FloatArray, n_clusters: int) -> IntArray:
    """The partition into K clusters by average linkage of `1 - coassociation` (Fred and Jain, 2005).

    Tasks that are always together stay together, even if fewer than K clusters are left.

    Args:
        coassociated: [T, T] without NaN.
        n_clusters: K, 1 to T.

    Returns:
        [T] labels from 0.
    """
    if len(coassociated) == 1:
        return np.zeros(1, dtype=np.intp)
    tree = linkage(squareform(1 - coassociated, checks=False), "average")
    return cut_tree(tree, min(n_clusters, len(coassociated) - int((tree[:, 2] == 0).sum())))


def average_memberships(memberships: Sequence[FloatArray], labels: IntArray) -> FloatArray:
    """The mean of several memberships [T, K], each with its columns in the order that fits the labels best.

    Columns are assigned to clusters so that the memberships of the clusters' tasks sum to the most.
    """
    n_clusters = memberships[0].shape[1]
    belongs = (labels[:, None] == np.arange(n_clusters)).astype(np.float64)
    aligned = np.zeros_like(memberships[0])
    for weights in memberships:
        cluster, column = linear_sum_assignment(belongs.T @ weights, maximize=True)
        aligned[:, cluster] += weights[:, column]
    return np.asarray(aligned / aligned.sum(axis=1, keepdims=True))


def certainty(coassociated: FloatArray, labels: IntArray) -> FloatArray:
    """[T], how surely each task is in its cluster: its mean coassociation with the other members, 1.0 if alone.

    Args:
        coassociated: [T, T].
        labels: [T]; the result is NaN where negative.
    """
    members = np.equal.outer(labels, labels) & (labels >= 0)[:, None]
    count = members.sum(axis=1) - 1
    # The task itself is summed and deducted, not skipped: tasks that are always together then get the same result.
    total = np.where(members, coassociated, 0.0).sum(axis=1) - coassociated.diagonal()
    found = np.where(count > 0, total / np.maximum(count, 1), 1.0)
    return np.where(labels >= 0, found, np.nan)


def _pairs(counts: IntArray) -> float:
    return float((counts * (counts - 1)).sum()) / 2
