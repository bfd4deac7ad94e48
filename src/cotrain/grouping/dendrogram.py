"""The tree of tasks: which join first as clusters get fewer, for choosing how many the budget allows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import squareform

from cotrain.grouping.feature_runs import read_runs
from cotrain.grouping.gains import FloatArray
from cotrain.grouping.geometry import IntArray, task_geometry

__all__ = ["Dendrogram", "cut_tree", "task_dendrogram"]


@dataclass(frozen=True, eq=False)
class Dendrogram:
    """Tasks merged step by step, from T clusters to one.

    Attributes:
        tasks: T names.
        linkage: [T - 1, 4] as in scipy.cluster.hierarchy: the two clusters that merge (below T: a task), at which
            distance, and how many tasks they have together.
    """

    tasks: tuple[str, ...]
    linkage: FloatArray

    @property
    def heights(self) -> FloatArray:
        """[T - 1], the distance of every merge; `heights[-k]` is what going from k + 1 clusters to k costs."""
        return self.linkage[:, 2]

    @property
    def leaves(self) -> tuple[str, ...]:
        """The tasks as they stand below the tree, from left to right."""
        return tuple(self.tasks[leaf] for leaf in leaves_list(self.linkage))

    def cut(self, n_clusters: int) -> IntArray:
        """[T] labels of the partition into K clusters, numbered from left to right.

        Raises:
            ValueError: If K is not between 1 and the number of tasks.
        """
        if not 1 <= n_clusters <= len(self.tasks):
            raise ValueError(
                f"n_clusters must be between 1 and the number of tasks. Got {n_clusters} clusters and"
                f" {len(self.tasks)} tasks."
            )
        labels = cut_tree(self.linkage, n_clusters)
        first = np.unique(labels[leaves_list(self.linkage)], return_index=True)[1]
        return np.argsort(np.argsort(first))[labels]


def task_dendrogram(
    features: NDArray[Any], tasks: Iterable[str], *, method: Literal["average", "ward"] = "average"
) -> Dendrogram:
    """Hierarchical clustering of tasks by the Euclidean distance of their features.

    Args:
        features: [T, D], without NaN: leave out tasks that have no labels.
        tasks: T names.
        method: How far apart clusters are: "average" is the mean distance of their tasks, "ward" what k-means
            would lose by merging them.

    Returns:
        The tree, which is the same for any order of the tasks.

    Raises:
        ValueError: If the features do not fit the tasks or are not finite, or the method is another.
    """
    if method not in ("average", "ward"):
        raise ValueError(f'method must be "average" or "ward". Got {method!r}.')
    runs, names, missing = read_runs([features], tasks, 2)
    if missing.any():
        raise ValueError(f"Tasks {[names[t] for t in np.flatnonzero(missing)]} have NaN features. Leave them out.")
    geometry = task_geometry(runs[0])
    order = np.argsort(geometry.row, kind="stable")
    row = geometry.row[order]
    tree = linkage(squareform(np.sqrt(geometry.squared)[row][:, row], checks=False), method)
    # Linkage breaks ties by position, so it was computed in the features' own order; now name the leaves.
    joined = tree[:, :2].astype(np.intp)
    tree[:, :2] = np.where(joined < len(names), order[np.minimum(joined, len(names) - 1)], joined)
    return Dendrogram(names, tree)


def cut_tree(tree: FloatArray, n_clusters: int) -> IntArray:
    """[T] labels from 0 of exactly K clusters: the first T - K merges are made, however the heights tie."""
    n_tasks = len(tree) + 1
    n_merges = n_tasks - n_clusters
    parents = np.repeat(np.arange(n_tasks, n_tasks + n_merges), 2)
    children = tree[:n_merges, :2].astype(np.intp).ravel()
    size = n_tasks + n_merges
    edges = coo_array((np.ones(len(parents)), (parents, children)), shape=(size, size))
    return connected_components(edges, directed=False)[1][:n_tasks].astype(np.intp)
