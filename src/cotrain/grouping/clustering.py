"""Cluster tasks by their features: memberships, and how far they can be relied on."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from cotrain.grouping.agreement import (
    average_memberships,
    certainty,
    coassociation,
    consensus_labels,
    mean_agreement,
)
from cotrain.grouping.cluster_runs import ClusteredRun, ClusterMode, cluster_points, cluster_vectors
from cotrain.grouping.feature_runs import read_runs
from cotrain.grouping.gains import FloatArray
from cotrain.grouping.geometry import IntArray, distinct_rows
from cotrain.grouping.grouping import Group, Grouping

__all__ = ["ClusterMode", "Clustering", "cluster_tasks"]


@dataclass(frozen=True, eq=False)
class Clustering:
    """Clusters of tasks.

    Attributes:
        tasks: T names.
        labels: [T] the cluster of each task, a largest entry of its row of memberships; -1 if it was left out.
        memberships: [T, K] float64, rows sum to 1, or are 0 for tasks that were left out. The order of the columns
            depends on the features only, not on the order of the tasks or the numbers that k-means gave.
        mode: How memberships were computed.
        fuzziness: What was used, given or calibrated; None in the modes without.
        stability: Mean adjusted Rand index between the runs; NaN for one run.
        restart_agreement: Mean adjusted Rand index between a run's k-means restarts and the best of them: 1 if the
            solver always ends in one place. Mean over the runs; NaN for a single restart. Of points in mode "points".
        coassociation: [T, T] share of labellings with both tasks in one cluster; NaN for tasks that were left out.
            Labellings are all restarts of all runs; in mode "points" the runs.
        certainty: [T] mean coassociation of a task with the others of its cluster, 1.0 if it is alone in it, NaN if
            it was left out.
        noise: Tasks left out because they cannot be told from chance.
        universal: Tasks left out because every network learns them.
    """

    tasks: tuple[str, ...]
    labels: IntArray
    memberships: FloatArray
    mode: ClusterMode
    fuzziness: float | None
    stability: float
    restart_agreement: float
    coassociation: FloatArray
    certainty: FloatArray
    noise: tuple[str, ...]
    universal: tuple[str, ...]

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """K tuples of task names, one per column of the memberships; empty where no task belongs there most."""
        return tuple(
            tuple(self.tasks[t] for t in np.flatnonzero(self.labels == k)) for k in range(self.memberships.shape[1])
        )

    def grouping(self) -> Grouping:
        """One network per cluster, which trains and serves the tasks that belong there most.

        Tasks that were left out are in no group; clusters without a task get no network.
        """
        groups = tuple(Group(trains=group, serves=group) for group in self.groups if group)
        return Grouping(groups, status="given", solver=self.mode)


def cluster_tasks(
    features: NDArray[Any] | Sequence[NDArray[Any]],
    tasks: Iterable[str],
    n_clusters: int,
    *,
    mode: ClusterMode = "fuzzy_kmeans",
    fuzziness: float | None = None,
    n_init: int = 20,
    seed: int = 0,
    noise: Collection[str] = (),
    universal: Collection[str] = (),
) -> Clustering:
    """Cluster tasks whose features are close, as STG-MTL does with data maps (Sherif et al., arXiv 2307.03374).

    Modes: "fuzzy_kmeans" (the paper's default) turns the distances to the centres of k-means into memberships once;
    "fuzzy_c_means" goes on to alternate memberships and centres; "hard" is the k-means label; "points" clusters all
    points (mu, sigma) of the maps, and a task's memberships are the shares of its points in each cluster.

    Several runs, that is trainings of the measuring network with other seeds, are clustered one by one. Their
    co-association gives a consensus partition; each run's memberships get their columns in the order that fits it
    best and are averaged, and a task's label is the largest of the average.

    The same seed gives the same result, and permuted tasks get the same memberships, bit for bit. Tasks of equal
    features get equal memberships.

    Args:
        features: [T, D], one row per task, or a sequence of such arrays, one per run. For "points" [T, P, 2], where
            points with NaN are ignored.
        tasks: T names.
        n_clusters: K. There is no rule that finds a right K; see `task_dendrogram` and `stability_by_size`.
        mode: See above.
        fuzziness: m > 1 of the fuzzy modes. By default calibrated so that the largest membership is 0.7 in the mean
            over the tasks and runs, as the paper's 1.07 does not transfer to other data: on Fashion-MNIST it
            gives rows that are one-hot. For "fuzzy_c_means" that is at the k-means centres it starts from.
        n_init: k-means restarts per run. A single one often ends in a worse place; 20 is the least to rely on.
        seed: Decides the starts.
        noise: Names of tasks that cannot be told from chance. They would take a cluster for themselves or blur
            another one, so they join none.
        universal: Names of tasks that every network learns whatever else it learns. They join none either.

    Returns:
        The clustering. All modes give float memberships with rows that sum to 1.

    Warns:
        UserWarning: If tasks have NaN features (no point without NaN) in some run; they are named, and join no cluster.

    Raises:
        ValueError: If K is below 1 or above the number of different rows of features (or of points), a name is
            unknown, an option is out of its range, or the features do not fit the tasks or are infinite.
    """
    if mode not in get_args(ClusterMode):
        raise ValueError(f"mode must be one of {', '.join(get_args(ClusterMode))}. Got {mode!r}.")
    if n_init < 1:
        raise ValueError(f"n_init must be the number of restarts, at least 1. Got {n_init}.")
    if fuzziness is not None and not 1 < fuzziness < math.inf:
        raise ValueError(f"fuzziness must be a finite number above 1. Got {fuzziness}.")
    runs, names, missing = read_runs(features, tasks, 3 if mode == "points" else 2)
    unknown = [name for name in (*noise, *universal) if name not in names]
    if unknown:
        raise ValueError(f"noise and universal name unknown tasks {unknown}. Known tasks: {', '.join(names)}.")
    flagged = np.array([name in noise or name in universal for name in names])
    absent = [names[t] for t in np.flatnonzero(missing & ~flagged)]
    if absent:
        warnings.warn(f"Tasks {absent} have NaN features and join no cluster. Do they have labels?", stacklevel=2)
    kept = ~(flagged | missing)
    distinct = [distinct_rows(run, kept) for run in runs]
    n_distinct = min(rows.n_distinct for rows in distinct)
    if not 1 <= n_clusters <= n_distinct:
        raise ValueError(
            f"n_clusters must be between 1 and the number of tasks with different features. Got {n_clusters}"
            f" clusters and {n_distinct} different rows of {int(kept.sum())} tasks."
        )
    rngs = [np.random.default_rng((seed, number)) for number in range(len(runs))]
    used = None
    if mode == "points":
        positions = np.flatnonzero(kept)
        found = [
            cluster_points(run, positions, rows, n_clusters, n_init, rng)
            for run, rows, rng in zip(runs, distinct, rngs, strict=True)
        ]
    else:
        found, used = cluster_vectors(runs, distinct, n_clusters, mode, fuzziness, n_init, rngs)
    # Ties are broken by position from here on: in the features' own order, not in that of the tasks.
    order = np.lexsort([rows.row for rows in reversed(distinct)])
    together = coassociation([labels[order] for run in found for labels in run.labellings])
    memberships, labels = _combined(found, order, together, mode)
    place = np.flatnonzero(kept)[order]
    return Clustering(
        tasks=names,
        labels=_spread(labels, place, len(names), -1),
        memberships=_spread(memberships, place, len(names), 0.0),
        mode=mode,
        fuzziness=used,
        stability=mean_agreement([run.labels for run in found]),
        restart_agreement=float(np.mean([run.restart_agreement for run in found])),
        coassociation=_spread(_spread(together, place, len(names), np.nan).T, place, len(names), np.nan),
        certainty=_spread(certainty(together, labels), place, len(names), np.nan),
        noise=tuple(name for name in names if name in noise),
        universal=tuple(name for name in names if name in universal),
    )


def _combined(
    found: Sequence[ClusteredRun], order: IntArray, together: FloatArray, mode: ClusterMode
) -> tuple[FloatArray, IntArray]:
    """Memberships and labels of all runs as one, tasks in the given order, columns by their first task in it."""
    memberships, labels = found[0].memberships[order], found[0].labels[order]
    n_clusters = memberships.shape[1]
    if len(found) > 1:
        agreed = consensus_labels(together, n_clusters)
        memberships = average_memberships([run.memberships[order] for run in found], agreed)
        labels = memberships.argmax(axis=1)
        if mode == "hard":
            memberships = np.eye(n_clusters)[labels]
    mine = labels[:, None] == np.arange(n_clusters)
    first = np.where(mine.any(axis=0), mine.argmax(axis=0), len(labels))
    columns = np.lexsort([*memberships[::-1], first])
    return memberships[:, columns], np.argsort(columns)[labels]


def _spread(values: NDArray[Any], place: IntArray, n_tasks: int, absent: float) -> NDArray[Any]:
    """Rows of the tasks that take part at their places among all tasks; the rest is filled."""
    full = np.full((n_tasks, *values.shape[1:]), absent, dtype=values.dtype)
    full[place] = values
    return full
