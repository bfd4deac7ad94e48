"""Clusters of tasks by data maps as values: memberships, and everything that says how far to trust them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import is_valid_linkage

from cotrain.grouping import Dendrogram
from cotrain.report.reading import number
from cotrain.report.results import Group

SUM_TOLERANCE = 1e-6


@dataclass(frozen=True)
class ClusterSize:
    """How clusterings into `n_clusters` turned out; NaN where stability or silhouette is not defined."""

    n_clusters: int
    stability: float
    silhouette: float


@dataclass(frozen=True, eq=False)
class Clusters:
    """The clusters that the groups of a study are made of, numbered as its networks.

    Attributes:
        features: What the tasks were compared by.
        runs: Trainings of the measuring network.
        fuzziness: Of the memberships; NaN where they are all 0 or 1.
        labels: [T] the network of each task, counted from 0, or -1 for a task that took no part.
        memberships: [T, K], rows sum to 1, or to 0 for tasks that took no part. The columns are the networks, and
            after them the clusters that no task belongs to most.
        certainty: [T], how often a task is with the others of its cluster, NaN for tasks that took no part.
        stability: Adjusted Rand index between the runs, NaN for one run.
        restart_agreement: The same between the restarts of one run, NaN for a single restart.
        difficulty_share: Share of the variance of the tasks' mean confidence that lies between clusters.
        noise: Tasks left out because they cannot be told from chance.
        universal: Tasks left out because every network learns them.
        sizes: Other numbers of clusters.
        tree: Tasks merged step by step, or None for fewer than two.
        controls: Name -> [T] labels of the same tasks without their data maps.
    """

    features: str
    runs: int
    fuzziness: float
    labels: NDArray[np.intp]
    memberships: NDArray[np.float64]
    certainty: NDArray[np.float64]
    stability: float
    restart_agreement: float
    difficulty_share: float
    noise: tuple[str, ...]
    universal: tuple[str, ...]
    sizes: tuple[ClusterSize, ...]
    tree: Dendrogram | None
    controls: Mapping[str, NDArray[np.intp]]

    @property
    def n_clusters(self) -> int:
        """K, with clusters that no task belongs to most."""
        return len(self.memberships.T)


def clusters_from(record: Mapping[str, Any], names: Sequence[str], groups: Sequence[Group]) -> Clusters:
    """The content of clusters.json.

    Args:
        record: As written.
        names: The study's tasks.
        groups: Its chosen groups.

    Raises:
        KeyError: If a field is missing.
        ValueError: If the tasks are not those of the study, the clusters are not its groups, or parts of the file
            do not fit each other.
    """
    if list(record["tasks"]) != list(names):
        raise ValueError("its tasks are not those of measure.json")
    memberships = np.array(record["memberships"], dtype=np.float64).reshape(len(names), -1)
    sums = memberships.sum(axis=1)
    if not ((memberships >= 0).all() and np.isclose(sums[:, None], (0, 1), atol=SUM_TOLERANCE).any(axis=1).all()):
        raise ValueError("memberships are shares of 1, or all 0")
    labels = _labels(record["labels"], len(names), memberships.shape[1])
    if labels.max() < 0:
        raise ValueError("no task is in a cluster")
    networks = _networks(labels, names, tuple(record["universal"]), groups)
    order = [*networks, *(k for k in range(memberships.shape[1]) if k not in networks)]
    place = np.argsort(order)
    certainty = np.array([number(value) for value in record["certainty"]])
    if certainty.shape != labels.shape:
        raise ValueError(f"{len(certainty)} values of certainty for {len(labels)} tasks")
    return Clusters(
        features=str(record["features"]),
        runs=int(record["runs"]),
        fuzziness=number(record["fuzziness"]),
        labels=np.where(labels >= 0, place[labels], -1),
        memberships=memberships[:, order],
        certainty=certainty,
        stability=number(record["stability"]),
        restart_agreement=number(record["restart_agreement"]),
        difficulty_share=number(record["difficulty_share"]),
        noise=_known(record["noise"], names),
        universal=_known(record["universal"], names),
        sizes=tuple(
            ClusterSize(int(size["n_clusters"]), number(size["stability"]), number(size["silhouette"]))
            for size in record["sizes"]
        ),
        tree=_tree(record["tree"], names),
        controls={name: _labels(found, len(names), len(names)) for name, found in sorted(record["controls"].items())},
    )


def _networks(
    labels: NDArray[np.intp], names: Sequence[str], universal: Sequence[str], groups: Sequence[Group]
) -> list[int]:
    """The cluster of every network. Tasks that every network learns are served by one without being of its cluster."""
    clusters = {
        tuple(name for name, label in zip(names, labels.tolist(), strict=True) if label == k): k
        for k in {*labels.tolist()} - {-1}
    }
    served = [tuple(name for name in names if name in group.serves and name not in universal) for group in groups]
    if sorted(served) != sorted(clusters):
        raise ValueError("its clusters are not the groups of grouping.json")
    return [clusters[tasks] for tasks in served]


def _labels(values: Sequence[int], n_tasks: int, n_clusters: int) -> NDArray[np.intp]:
    labels = np.array(values)
    if labels.shape != (n_tasks,) or labels.dtype.kind != "i" or labels.min() < -1 or labels.max() >= n_clusters:
        raise ValueError(f"labels are {n_tasks} whole numbers from -1 to {n_clusters - 1}")
    return labels.astype(np.intp)


def _tree(entry: Mapping[str, Any], names: Sequence[str]) -> Dendrogram | None:
    tasks = _known(entry["tasks"], names)
    if len(tasks) < 2:
        return None
    linkage = np.array(entry["linkage"], dtype=np.float64)
    fits = linkage.shape == (len(tasks) - 1, 4) and is_valid_linkage(linkage)
    # SciPy lets a single merge name any two nodes.
    if not fits or np.unique(linkage[:, :2]).tolist() != list(range(2 * len(tasks) - 2)):
        raise ValueError(f"the tree does not merge {len(tasks)} tasks step by step")
    return Dendrogram(tasks, linkage)


def _known(tasks: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    for task in tasks:
        if task not in names:
            raise KeyError(task)
    return tuple(tasks)
