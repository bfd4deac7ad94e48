"""Groups by data maps: the learnable tasks, clustered, and how far the clusters can be believed."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cotrain.affinity import kinship, kinship_features
from cotrain.files import write_json
from cotrain.grouping import (
    Clustering,
    Group,
    Grouping,
    between_share,
    cluster_tasks,
    difficulty_matched,
    difficulty_order,
    stability_by_size,
    task_dendrogram,
)
from cotrain.grouping.geometry import distinct_rows
from cotrain.study.config import StudyConfig
from cotrain.study.features import FEATURE_FILE, labels_of, read_features
from cotrain.study.folder import StudyFolder

__all__ = [
    "CLUSTER_FILE",
    "CONTROL_WORDS",
    "cluster_grouping",
    "cluster_study",
    "control_groupings",
    "read_memberships",
    "write_clusters",
]

CLUSTER_FILE = "clusters.json"
BY_LABELS, BY_DIFFICULTY, MATCHED = "label-correlation", "by-difficulty", "difficulty-matched"
CONTROL_WORDS = {
    BY_LABELS: "groups by label correlation, which need no measuring",
    BY_DIFFICULTY: "groups of equally hard tasks",
    MATCHED: "groups with the members exchanged for equally hard tasks",
}
SIZES_AROUND = 3
"""The stability is shown for so many clusters more and fewer than the budget."""


def cluster_study(folder: StudyFolder, config: StudyConfig) -> Clustering:
    """Cluster the tasks of a measured study into as many clusters as the budget allows.

    Tasks that cannot be told from chance, and those that every network learns, take no cluster. There are fewer
    clusters than the budget where there are fewer different tasks.

    Args:
        folder: A study that is measured.
        config: Features, fuzziness, budget and seed.
    """
    tasks, noise, universal = _flagged(folder)
    features = _features(folder, config)
    n_clusters = min(config.budget, _n_different(features, tasks, (*noise, *universal)))
    return cluster_tasks(
        features, tasks, n_clusters, fuzziness=config.fuzziness, seed=config.seed, noise=noise, universal=universal
    )


def cluster_grouping(clustering: Clustering) -> Grouping:
    """One network per cluster. Tasks that every network learns go to the largest, noise to none."""
    return _grouping(clustering.labels, clustering.tasks, clustering.universal, solver=f"clusters ({clustering.mode})")


def write_clusters(folder: StudyFolder, config: StudyConfig, clustering: Clustering) -> None:
    """Write clusters.json: memberships, flags, stability, the tree of tasks, and the controls."""
    tasks, difficulty = clustering.tasks, _mean_confidence(folder)
    features = _features(folder, config)
    clustered = clustering.labels >= 0
    n_different = _n_different(features, tasks, (*clustering.noise, *clustering.universal))
    around = range(max(2, config.budget - SIZES_AROUND), min(n_different, config.budget + SIZES_AROUND) + 1)
    rows = [matrix[clustered] for matrix in features]
    names = [task for task, yes in zip(tasks, clustered.tolist(), strict=True) if yes]
    controls = {BY_DIFFICULTY: difficulty_order(clustering.labels, difficulty).tolist()}
    by_labels = _label_clusters(folder, config, clustering)
    if by_labels is not None:
        controls[BY_LABELS] = by_labels.tolist()
    tree = task_dendrogram(rows[0], names)
    write_json(
        folder.path / CLUSTER_FILE,
        {
            "features": config.features,
            "runs": len(features),
            "mode": clustering.mode,
            "fuzziness": clustering.fuzziness,
            "tasks": list(tasks),
            "labels": clustering.labels.tolist(),
            "memberships": clustering.memberships.tolist(),
            "certainty": _plain(clustering.certainty),
            "stability": _plain(clustering.stability),
            "restart_agreement": _plain(clustering.restart_agreement),
            "noise": list(clustering.noise),
            "universal": list(clustering.universal),
            "difficulty": _plain(difficulty),
            "difficulty_share": _plain(between_share(difficulty, clustering.labels)),
            "sizes": [
                {
                    "n_clusters": size.n_clusters,
                    "stability": _plain(size.stability),
                    "silhouette": _plain(size.silhouette),
                }
                for size in stability_by_size(rows, names, around, seed=config.seed)
            ],
            "tree": {"tasks": list(tree.tasks), "linkage": tree.linkage.tolist()},
            "controls": controls,
        },
    )


def control_groupings(folder: StudyFolder, seed: int) -> dict[str, Grouping]:
    """What clusters must be compared with: by label correlation, by difficulty, and with difficulty kept equal.

    Args:
        folder: A study whose clusters are written.
        seed: Of the difficulty-matched groups, which are drawn anew for every seed.
    """
    record = folder.read_json(CLUSTER_FILE)
    tasks, labels = tuple(record["tasks"]), np.array(record["labels"])
    difficulty = np.array(record["difficulty"], dtype=float)
    controls = {name: np.array(found) for name, found in record["controls"].items()}
    controls[MATCHED] = difficulty_matched(labels, difficulty, np.random.default_rng(seed))
    return {name: _grouping(found, tasks, record["universal"], solver=name) for name, found in sorted(controls.items())}


def read_memberships(folder: StudyFolder) -> NDArray[np.float64]:
    """[T, K] memberships for the trainings; a task that every network learns belongs to all equally."""
    record = folder.read_json(CLUSTER_FILE)
    memberships = np.array(record["memberships"])
    memberships[[record["tasks"].index(task) for task in record["universal"]]] = 1 / memberships.shape[1]
    return memberships


def _flagged(folder: StudyFolder) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """All tasks, those that cannot be told from chance, and of the others those that every network learns."""
    records = folder.read_json("measure.json")["tasks"]
    noise = tuple(task["name"] for task in records if not task["learnable"])
    universal = tuple(task["name"] for task in records if task["learned_by_everybody"] and task["learnable"])
    if len(noise) + len(universal) == len(records):
        universal = ()  # all that can be learned is learned by everybody: one cluster is as good as any
    return tuple(task["name"] for task in records), noise, universal


def _features(folder: StudyFolder, config: StudyConfig) -> list[NDArray[np.float64]]:
    """[T, D] of every run."""
    tasks, noise, universal = _flagged(folder)
    found = read_features(folder.path / FEATURE_FILE, config.features, tasks, (*noise, *universal))
    return [features.matrix.numpy() for features in found]


def _n_different(features: Sequence[NDArray[np.float64]], tasks: Sequence[str], left_out: Sequence[str]) -> int:
    kept = np.array([task not in left_out for task in tasks]) & ~np.isnan(features[0]).any(axis=1)
    return min(distinct_rows(matrix, kept).n_distinct for matrix in features)


def _label_clusters(folder: StudyFolder, config: StudyConfig, clustering: Clustering) -> NDArray[np.intp] | None:
    """[T] clusters of the same tasks by label correlation alone; None where labels tell nothing of some task."""
    labels = labels_of(folder.path / FEATURE_FILE)
    out = clustering.labels < 0
    labels[out] = labels[:, out] = float("nan")
    features = kinship_features(kinship(labels=labels), clustering.tasks).matrix.numpy()
    if np.isnan(features[~out]).any():
        return None
    left_out = (*clustering.noise, *clustering.universal)
    n_clusters = min(clustering.memberships.shape[1], _n_different([features], clustering.tasks, left_out))
    return cluster_tasks(
        features, clustering.tasks, n_clusters, mode="hard", seed=config.seed,
        noise=clustering.noise, universal=clustering.universal,
    ).labels  # fmt: skip


def _mean_confidence(folder: StudyFolder) -> NDArray[np.float64]:
    records = folder.read_json("measure.json")["tasks"]
    return np.array([task["confidence"] for task in records], dtype=float)


def _grouping(labels: NDArray[np.intp], tasks: Sequence[str], universal: Sequence[str], *, solver: str) -> Grouping:
    members = [
        [task for task, its in zip(tasks, labels, strict=True) if its == label]
        for label in np.unique(labels[labels >= 0])
    ]
    members.sort(key=lambda names: tasks.index(names[0]))
    max(members, key=len).extend(universal)
    return Grouping(tuple(Group(tuple(names), tuple(names)) for names in members), solver=solver)


def _plain(values: Any) -> Any:
    """Numbers for JSON, which has no NaN."""
    array = np.asarray(values, dtype=float)
    if array.ndim:
        return [_plain(value) for value in array]
    return float(array) if np.isfinite(array) else None
