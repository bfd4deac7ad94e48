"""What a partition of tasks is worth by an affinity: the sum over clusters of their density."""

from __future__ import annotations

import math

import numpy as np

from cotrain.grouping.gains import FloatArray
from cotrain.grouping.geometry import IntArray

__all__ = ["cluster_members", "density", "in_order", "is_proven"]

PROVEN = 1e-6
"""A gap below this share of the largest entry counts as none: solvers and sums of floats are not more exact."""


def density(similarity: FloatArray, labels: IntArray) -> float:
    """The sum over clusters of `(sum of similarity[i, j] over i and j in the cluster) / (its size)`.

    Args:
        similarity: [T, T], the diagonal is what a task is worth alone.
        labels: [T], the cluster of every task; the numbers themselves do not matter.

    Returns:
        The density, in units of the similarity times tasks.
    """
    return math.fsum(similarity[np.ix_(members, members)].sum() / len(members) for members in cluster_members(labels))


def cluster_members(labels: IntArray) -> list[IntArray]:
    """The positions of every cluster's tasks, clusters in the order of their first task."""
    ordered = in_order(labels)
    return np.split(np.argsort(ordered, kind="stable"), np.bincount(ordered).cumsum()[:-1])


def in_order(labels: IntArray) -> IntArray:
    """[T] labels 0 to K - 1 of the same partition, numbered in the order of their first task."""
    _, first, numbered = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[numbered]


def is_proven(similarity: FloatArray, value: float, bound: float) -> bool:
    """Whether a bound leaves no room above a value but that of rounding."""
    return bound - value <= PROVEN * float(np.abs(similarity).max())
