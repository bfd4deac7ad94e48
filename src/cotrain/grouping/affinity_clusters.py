"""Cluster tasks by an affinity: the partition of the highest density, with a bound on what any other could reach."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike

from cotrain.grouping.affinity_scale import read_affinity, read_alone, similarity_of
from cotrain.grouping.density import cluster_members, density, in_order
from cotrain.grouping.density_exact import MOST_TASKS
from cotrain.grouping.density_search import DensitySearch, DensitySolver
from cotrain.grouping.gains import FloatArray
from cotrain.grouping.geometry import IntArray
from cotrain.grouping.grouping import Group, Grouping

__all__ = ["AffinityClusters", "cluster_affinity"]


@dataclass(frozen=True, eq=False)
class AffinityClusters:
    """Clusters of tasks, how dense they are and how dense any could be.

    Attributes:
        tasks: T names.
        labels: [T], the cluster of every task, numbered in the order of their first task.
        grouping: The clusters as networks, one each, with `value` = density, `bound`, `gap`, `status` and `solver`.
            Status "optimal": proven, `gap` at most 1e-6 of the largest entry. "heuristic": the gap is what is
            not proven. "time_limit": the same, and more time might have changed it.
        similarity: [T, T], the scaled and symmetric affinity that the density is of; the diagonal is what a task
            counts alone, minus the cost of a cluster.
        seed: Of the k-means restarts.
    """

    tasks: tuple[str, ...]
    labels: IntArray
    grouping: Grouping
    similarity: FloatArray
    seed: int

    @property
    def n_clusters(self) -> int:
        """K."""
        return self.grouping.n_networks

    def __str__(self) -> str:
        """One line on density and proof, then one per cluster."""
        found = self.grouping
        head = f"{self.n_clusters} clusters of {len(self.tasks)} tasks; density {found.value:.5g}, {found.standing}"
        return "\n".join([head, *(f"{number}. {group}" for number, group in enumerate(found.groups, 1))])


def cluster_affinity(
    affinity: Any,
    tasks: Iterable[Any] | None = None,
    n_clusters: int | None = None,
    *,
    standardise: bool = True,
    alone: ArrayLike | None = None,
    cost: float = 0.0,
    solver: DensitySolver = "auto",
    n_init: int = 20,
    time_limit: float = 60.0,
    seed: int = 0,
) -> AffinityClusters:
    """The partition into K clusters that maximises `sum over clusters C of (sum of S_ij over i, j in C) / |C|`.

    S is the affinity with every target's entries standardised and both directions averaged. This is the semidefinite
    programme of Peng and Wei (SIAM J. Optim. 2007) and the mathematical programme of PTG with each task in exactly
    one group. Up to 16 tasks it is solved exactly. Beyond, the relaxation gives a bound; its eigenvectors, and those
    of a spectral clustering, are rounded by k-means, and moves of one task and swaps of two improve the true
    density. The order of the tasks does not matter: they are sorted by name first.

    Adding a constant to a target's column (how easy it is) or to all entries changes no cluster, nor does multiplying
    a column by a positive number. Without `standardise`, a constant added to a row or a column together with its
    entry of `alone` changes none either.

    Args:
        affinity: [T, T], row = source, column = target, positive = the source helps the target. Or an object with
            the attributes `matrix` and `tasks`, such as an `Affinity`. The diagonal is not used and may be NaN.
        tasks: T names, or objects with a `name`; None: those of the affinity.
        n_clusters: K. None: any number. Then the highest density decides, and noise favours many small clusters,
            as the best pairs of many are good by chance; say by `cost` what a further cluster must be worth.
        standardise: Whether each target's entries are put in units of their standard deviation around their mean.
            Without it a target with larger numbers counts more.
        alone: [T] or one number, the score of every task trained alone, in the units of its column, which stands on
            the diagonal. A large one favours clusters of one task. None: 0 after scaling, so with `standardise` a
            task alone is as good as with its average source.
        cost: Deducted from the density for every cluster, in units of S.
        solver: "auto": "exact" to 16 tasks, "splitting" to 2,000, "spectral" beyond. "exact": a dynamic programme
            over all subsets, to 16 tasks. "splitting": our own solver of the relaxation. "clarabel" and "scs": other
            solvers of it (extras `sdp`, `scs`), slower and no tighter, to check it by. "spectral": without
            a relaxation, and with a loose bound only.
        n_init: k-means restarts for every number of clusters that is tried.
        time_limit: Seconds, after which the best partition so far is returned with its bound. One step that cannot be
            interrupted (an eigendecomposition, a few k-means restarts) may run over it.
        seed: Decides the restarts.

    Returns:
        The clusters, with density, bound and gap.

    Raises:
        ValueError: If K is not between 1 and T, an argument is out of its range, an entry off the diagonal is not
            finite, or the shapes do not agree.
        ImportError: If the solver asked for is not installed.
    """
    started = time.monotonic()
    matrix, names = read_affinity(affinity, tasks)
    _check(len(names), n_clusters, cost, solver, n_init, time_limit)
    order = np.argsort(np.array(names))
    scores = read_alone(alone, len(names))
    sorted_scores = None if scores is None else scores[order]
    similarity = similarity_of(matrix[np.ix_(order, order)], sorted_scores, standardise=standardise)
    similarity[np.diag_indices_from(similarity)] -= cost
    search = DensitySearch(similarity, n_clusters, n_init, seed, started, time_limit)
    found, status, how = search.run(solver)
    back = np.argsort(order)
    labels = in_order(found[back])
    value = density(similarity, found)
    groups = [tuple(names[t] for t in members) for members in cluster_members(labels)]
    grouping = Grouping(
        tuple(Group(trains=group, serves=group) for group in groups),
        value=value,
        bound=max(search.bound + search.constant, value),
        status=status,
        solver=how,
        seconds=time.monotonic() - started,
        objective="density",
        value_at_mean=value,
        n_candidates=search.n_compared,
    )
    return AffinityClusters(names, labels, grouping, similarity[np.ix_(back, back)], seed)


def _check(n_tasks: int, n_clusters: int | None, cost: float, solver: str, n_init: int, time_limit: float) -> None:
    if n_clusters is not None and not 1 <= n_clusters <= n_tasks:
        raise ValueError(f"n_clusters must be between 1 and the number of tasks, {n_tasks}. Got {n_clusters}.")
    if not math.isfinite(cost):
        raise ValueError(f"cost is a finite number, in units of the density. Got {cost!r}.")
    if solver not in get_args(DensitySolver):
        raise ValueError(f"solver must be one of {', '.join(get_args(DensitySolver))}. Got {solver!r}.")
    if solver == "exact" and n_tasks > MOST_TASKS:
        raise ValueError(f"The exact solver takes up to {MOST_TASKS} tasks. Got {n_tasks}. Use solver='auto'.")
    if n_init < 1:
        raise ValueError(f"n_init must be the number of restarts, at least 1. Got {n_init}.")
    if not time_limit > 0:
        raise ValueError(f"time_limit is a number of seconds above 0. Got {time_limit!r}.")
