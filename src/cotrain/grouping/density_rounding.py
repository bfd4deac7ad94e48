"""Partitions to start from: the eigenvectors of the relaxation or of the affinity itself, rounded by k-means."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.linalg import eigh
from scipy.sparse.linalg import eigsh

from cotrain.grouping.gains import FloatArray
from cotrain.grouping.geometry import IntArray, task_geometry
from cotrain.grouping.k_means import k_means

__all__ = ["rounded", "seeded", "spectral_points", "top_eigenvectors"]

RESTARTS_AT_ONCE = 5
"""k-means restarts between two looks at the clock."""

DENSE, FEW = 2000, 0.1
"""Beyond 2,000 tasks, eigenvectors are found by Lanczos' method if fewer than this share of them is wanted."""


def rounded(points: FloatArray, n_clusters: int, *, n_init: int, rng: np.random.Generator) -> Iterator[IntArray]:
    """The labels [T] of k-means restarts on points [T, D], a few restarts at a time and the best of each time first.

    Points that coincide are one, so fewer than K different points give fewer clusters; these are filled up with
    single tasks of the largest ones.
    """
    found = task_geometry(points)
    at_most = min(n_clusters, found.n_distinct)
    for done in range(0, n_init, RESTARTS_AT_ONCE):
        restarts = min(RESTARTS_AT_ONCE, n_init - done)
        solved = k_means(found.squared, at_most, weights=found.weights, n_init=restarts, rng=rng)
        for labels in solved.restarts:
            yield _filled(labels[found.row], n_clusters)


def top_eigenvectors(matrix: FloatArray, count: int) -> FloatArray:
    """[T, count], the eigenvectors of the largest eigenvalues of a symmetric matrix times the roots of these.

    A negative eigenvalue counts as 0.
    """
    n_tasks = len(matrix)
    if n_tasks <= DENSE or count > FEW * n_tasks:
        values, vectors = eigh(matrix, subset_by_index=(n_tasks - count, n_tasks - 1))
    else:
        values, vectors = eigsh(matrix, count, which="LA", v0=np.cos(np.arange(n_tasks)), tol=1e-6)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))


def spectral_points(similarity: FloatArray, n_clusters: int) -> FloatArray:
    """[T, K] points of normalised spectral clustering (Ng, Jordan and Weiss, 2001), rows of length 1.

    It needs weights of at least 0, so the smallest similarity of two tasks is subtracted; with negative weights its
    degrees are meaningless.
    """
    weights = similarity.copy()
    np.fill_diagonal(weights, np.inf)
    weights -= weights.min()
    np.fill_diagonal(weights, 0.0)
    degree = weights.sum(axis=1)
    root = np.sqrt(np.where(degree > 0, degree, 1.0))
    points = top_eigenvectors(weights / root[:, None] / root, n_clusters)
    length = np.linalg.norm(points, axis=1, keepdims=True)
    return np.asarray(points / np.where(length > 0, length, 1.0))


def seeded(similarity: FloatArray, n_clusters: int) -> IntArray:
    """K tasks that are far from each other, one after another, and every task with the most similar of them: [T].

    It takes K passes over a row, so there is a partition to return whatever the time limit.
    """
    seeds = [int(similarity.sum(axis=1).argmin())]
    nearest = similarity[seeds[0]].copy()
    nearest[seeds] = np.inf
    for _ in range(1, n_clusters):
        seeds.append(int(nearest.argmin()))
        nearest = np.maximum(nearest, similarity[seeds[-1]])
        nearest[seeds] = np.inf
    labels = similarity[seeds].argmax(axis=0)
    labels[seeds] = np.arange(n_clusters)
    return np.asarray(labels)


def _filled(labels: IntArray, n_clusters: int) -> IntArray:
    """Labels 0 to K - 1, each used: where some are missing, tasks of the largest clusters take them."""
    labels = np.unique(labels, return_inverse=True)[1]
    for missing in range(int(labels.max()) + 1, n_clusters):
        largest = np.bincount(labels).argmax()
        labels[np.flatnonzero(labels == largest)[-1]] = missing
    return labels
