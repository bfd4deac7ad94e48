"""Cluster the tasks of one training of the measuring network, or of several, each by itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cotrain.grouping.agreement import adjusted_rand_index
from cotrain.grouping.fuzzy_c_means import fuzzy_c_means
from cotrain.grouping.gains import FloatArray
from cotrain.grouping.geometry import DistinctRows, IntArray, squared_distances
from cotrain.grouping.k_means import k_means
from cotrain.grouping.memberships import calibrated_fuzziness, fuzzy_memberships
from cotrain.grouping.point_clusters import point_shares

__all__ = ["ClusterMode", "ClusteredRun", "cluster_points", "cluster_vectors"]

ClusterMode: TypeAlias = Literal["fuzzy_kmeans", "fuzzy_c_means", "hard", "points"]


@dataclass(frozen=True, eq=False)
class ClusteredRun:
    """One run's clustering of the n tasks that take part.

    Attributes:
        memberships: [n, K] float64, rows sum to 1.
        labels: [n], a largest entry of each row.
        labellings: [L, n], the labels of tasks in every k-means restart, or of "points" the labels only.
        restart_agreement: Mean adjusted Rand index of the best restart with the others.
    """

    memberships: FloatArray
    labels: IntArray
    labellings: IntArray
    restart_agreement: float


def cluster_vectors(
    runs: Sequence[NDArray[Any]],
    distinct: Sequence[DistinctRows],
    n_clusters: int,
    mode: ClusterMode,
    fuzziness: float | None,
    n_init: int,
    rngs: Sequence[np.random.Generator],
) -> tuple[list[ClusteredRun], float | None]:
    """Cluster runs [T, D] in one of the modes that compare vectors; all runs have the same fuzziness.

    Returns:
        The runs, and the fuzziness that was used, None for mode "hard".
    """
    squared = [squared_distances(run, rows) for run, rows in zip(runs, distinct, strict=True)]
    solved = [
        k_means(apart, n_clusters, weights=rows.weights, n_init=n_init, rng=rng)
        for apart, rows, rng in zip(squared, distinct, rngs, strict=True)
    ]
    distances = [np.sqrt(best.squared) for best in solved]
    if mode == "hard":
        memberships = [np.eye(n_clusters)[best.labels] for best in solved]
        used = None
    else:
        of_tasks = np.concatenate([apart[rows.row] for apart, rows in zip(distances, distinct, strict=True)])
        used = calibrated_fuzziness(of_tasks) if fuzziness is None else fuzziness
        if mode == "fuzzy_c_means":
            distances = [
                fuzzy_c_means(apart, best.averages, used, weights=rows.weights)
                for apart, best, rows in zip(squared, solved, distinct, strict=True)
            ]
        memberships = [fuzzy_memberships(apart, used) for apart in distances]
    found = [
        ClusteredRun(
            memberships=weights[rows.row],
            # Of the distances: for a large fuzziness memberships can be equal that differ in their distance.
            labels=apart.argmin(axis=1)[rows.row],
            labellings=best.restarts[:, rows.row],
            restart_agreement=_agreement_with_best(best.restarts[:, rows.row]),
        )
        for weights, apart, best, rows in zip(memberships, distances, solved, distinct, strict=True)
    ]
    return found, used


def cluster_points(
    points: NDArray[Any],
    kept: IntArray,
    distinct: DistinctRows,
    n_clusters: int,
    n_init: int,
    rng: np.random.Generator,
) -> ClusteredRun:
    """Cluster a run of points [T, P, 2], of which the tasks `kept` [n] take part."""
    order = np.argsort(distinct.row, kind="stable")
    shares, restarts = point_shares(points, kept[order], n_clusters, n_init=n_init, rng=rng)
    memberships = np.empty_like(shares)
    memberships[order] = shares
    labels = memberships.argmax(axis=1)
    return ClusteredRun(memberships, labels, labels[None], _agreement_with_best(restarts))


def _agreement_with_best(restarts: IntArray) -> float:
    if len(restarts) < 2:
        return math.nan
    return float(np.mean([adjusted_rand_index(restarts[0], other) for other in restarts[1:]]))
