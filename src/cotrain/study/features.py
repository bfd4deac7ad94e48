"""What the measuring runs leave of every pair of tasks, small enough to keep: the inputs of a clustering."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cotrain.affinity import (
    DataMaps,
    FeatureKind,
    TaskFeatures,
    dynamics_correlation,
    embedded,
    kinship,
    kinship_features,
    prediction_correlation,
    task_features,
)
from cotrain.errors import ArgumentsError
from cotrain.files import read_state, write_state
from cotrain.grouping.geometry import task_geometry
from cotrain.task import TaskSet

__all__ = ["FEATURE_FILE", "labels_of", "pair_matrices", "read_features", "write_pair_matrices"]

FEATURE_FILE = "task_pairs.safetensors"
LABELS = "labels"
RAW = "raw_distances"


def pair_matrices(tasks: TaskSet, maps: DataMaps, outputs: Tensor) -> dict[str, Tensor]:
    """What one measuring run says of every pair of tasks, each [T, T].

    Args:
        tasks: The tasks.
        maps: Their data maps.
        outputs: Packed outputs of the validation samples.

    Returns:
        dynamics and predictions, and the squared distances of the raw maps where every sample has every label.
    """
    matrices = {
        "dynamics": dynamics_correlation(maps),
        "predictions": prediction_correlation(tasks, outputs),
    }
    if not bool(maps.confidence.isnan().any()):
        geometry = task_geometry(task_features(maps, "raw").matrix.numpy())
        matrices[RAW] = torch.from_numpy(geometry.squared[np.ix_(geometry.row, geometry.row)])
    return matrices


def write_pair_matrices(path: Path, labels: Tensor, runs: Sequence[Mapping[str, Tensor]]) -> None:
    """Write the matrices of all runs, and the labels' correlation, into one file."""
    write_state(path, {LABELS: labels, "runs": list(runs)})


def read_features(
    path: Path, kind: FeatureKind, tasks: tuple[str, ...], left_out: Collection[str]
) -> list[TaskFeatures]:
    """The features of the tasks from every run.

    Args:
        path: Written by `write_pair_matrices`.
        kind: As in `task_features`.
        tasks: The tasks' names, in the order of the matrices.
        left_out: Names of tasks that take no part.

    Raises:
        ArgumentsError: If raw features are asked for where labels are missing.
    """
    stored = read_state(path)
    kept = torch.tensor([task not in left_out for task in tasks])

    features = []
    for run in stored["runs"]:
        own = run["dynamics"].diagonal()
        labelled = kept & ~own.isnan()  # a task without labels has predictions, of a head that nothing has trained
        flat = tuple(task for task, share in zip(tasks, own.tolist(), strict=True) if share == 0)
        if kind == "raw" and RAW not in run:
            raise ArgumentsError("Raw features need all labels of all samples. Use --features standardised.")
        parts = {name: _only(matrix, labelled) for name, matrix in {**run, LABELS: stored[LABELS]}.items()}
        if kind == "combined":
            names = ("dynamics", "predictions", LABELS)
            features.append(kinship_features(kinship(**{name: parts[name] for name in names}), tasks, flat))
        elif kind == "raw":
            features.append(TaskFeatures(_from_distances(parts[RAW], labelled), tasks, kind))
        else:
            source = "dynamics" if kind == "standardised" else "predictions"
            features.append(TaskFeatures(embedded(parts[source]), tasks, kind, flat))
    return features


def labels_of(path: Path) -> Tensor:
    """[T, T] correlation of the labels."""
    labels: Tensor = read_state(path)[LABELS]
    return labels


def _only(matrix: Tensor, kept: Tensor) -> Tensor:
    """The same matrix with NaN where a task takes no part."""
    return torch.where(kept & kept[:, None], matrix.double(), torch.nan)


def _from_distances(squared: Tensor, kept: Tensor) -> Tensor:
    """Rows with these squared distances: the eigenvectors of their doubly centred matrix."""
    known = torch.where(kept & kept[:, None], squared, 0)
    mean = known.sum(1) / kept.sum()
    inner = (mean[:, None] + mean - mean.sum() / kept.sum() - known) / 2
    return embedded(_only(inner, kept))
