"""How alike tasks are, from three sources: training dynamics, predictions, labels; and all of them in one matrix."""

from collections.abc import Iterable

import torch
from torch import Tensor

from cotrain.affinity.data_map import DataMaps
from cotrain.affinity.overlap import CHUNK, FEWEST_SAMPLES, ROUNDING, overlap_correlation, shrunk
from cotrain.task import Outputs, Task, TaskSet, as_tasks

__all__ = ["dynamics_correlation", "kinship", "prediction_correlation"]

LABELS, PREDICTIONS, DYNAMICS = 0.5, 0.25, 0.25
"""Shares of the sources in the kinship. Labels weigh most because they hold no noise of a training; where they say
nothing, as among classes of one label, they add the same to every pair and leave the order to the others."""

ONE_MAP = 1 - 1e-9
"""Maps with this correlation are one and the same but for the rounding of float32."""


def dynamics_correlation(maps: DataMaps) -> Tensor:
    """How alike the data maps of every pair of tasks are, freed from how hard the tasks are.

    Confidence and variability are standardised per task over the samples, which takes each task's own level and
    spread out, and correlated; the result is the mean over both, and over the snapshots if there are any.
    A pair with labels missing is compared over the n samples that both have: its correlation is multiplied by
    n / (n + 50), and NaN below 30. Two tasks with one map, such as a task and its complement, keep theirs.
    Takes about 4 N T^2 operations for each pair of maps, and four times that where labels are missing.

    Args:
        maps: What a `DataMap` recorded.

    Returns:
        [T, T] float64, diagonal 1. A map that does not vary has correlation 0 with all and itself, as its
        standardised values are 0: where only one of a task's maps varies, its diagonal is 1/2. NaN for a task
        without labels.
    """
    shots = maps.snapshots or (maps,)
    parts = [part for shot in shots for part in (shot.confidence, shot.variability)]
    return torch.stack([_standardised_products(part) for part in parts]).mean(0)


def prediction_correlation(tasks: Iterable[Task], outputs: Outputs) -> Tensor:
    """How alike the predictions for every pair of tasks are, whatever the labels: 0 to 1.

    For two binary tasks it is the absolute correlation of their probabilities, which does not see which class is
    called 1. For predictions of several columns (probabilities of a multiclass task, regression outputs) it is the
    square root of the RV coefficient (Escoufier, 1973), which is the absolute correlation for one column each.

    Args:
        tasks: The tasks.
        outputs: Of any samples, best of samples that were not trained on; packed [M, O] or {task name: tensor}.

    Returns:
        [T, T] float64, diagonal 1; 0 beside a task whose predictions do not vary beyond the rounding of float32.
        NaN for a task with predictions that are not finite.
    """
    tasks = as_tasks(tasks)
    packed = tasks.pack(outputs).detach().cpu()
    centre = _predictions(tasks, packed[:CHUNK]).mean(0)  # near enough to all: squares of what is left do not cancel
    products = torch.zeros(tasks.n_outputs, tasks.n_outputs, dtype=torch.float64)
    total = torch.zeros_like(centre)
    for part in packed.split(CHUNK):
        x = _predictions(tasks, part) - centre
        products += x.T @ x
        total += x.sum(0)
    mean = total / len(packed)
    covariance = products / len(packed) - mean[:, None] * mean

    n_outputs = torch.tensor([task.n_outputs for task in tasks])
    owner = torch.arange(len(tasks)).repeat_interleave(n_outputs)

    def by_task(values: Tensor) -> Tensor:  # not a product with 0 and 1, in which one NaN would spread to all tasks
        return torch.zeros(len(tasks), *values.shape[1:], dtype=values.dtype).index_add(0, owner, values)

    variance = by_task(covariance.diagonal())
    # Probabilities are measured against 1, so that it does not matter whether nearly all are 0 or nearly all are 1.
    size = torch.where(_are_probabilities(tasks), 1.0, by_task((centre + mean) ** 2) + variance)
    finite, varies = variance.isfinite(), variance > ROUNDING * size
    squares = by_task(by_task(covariance**2).T)
    length = squares.diagonal().sqrt()
    found = (squares / length / length[:, None]).clamp(max=1).sqrt()
    found = torch.where(varies & varies[:, None], found, 0).fill_diagonal_(1.0)
    return torch.where(finite & finite[:, None], found, torch.nan)


def kinship(
    *, dynamics: Tensor | None = None, predictions: Tensor | None = None, labels: Tensor | None = None
) -> Tensor:
    """One matrix of how alike tasks are, from the sources that there are.

    Each source is freed from its sign (dynamics that run against each other count as 0), divided by its mean over all
    pairs and averaged: labels with weight 1/2, the others with 1/4. A pair that a source does not know is judged by
    the others.

    Args:
        dynamics: [T, T] from `dynamics_correlation`, or the correlation of a `TaskGram`.
        predictions: [T, T] from `prediction_correlation`.
        labels: [T, T] from `label_correlation`.

    Returns:
        [T, T] float64, symmetric and not negative, 1 for an average pair; NaN on the diagonal and for pairs that no
        source knows.

    Raises:
        ValueError: If there is no source, or they are not square and of one size.
    """
    sources = [
        (matrix, weight)
        for matrix, weight in (
            (None if dynamics is None else dynamics.clamp(min=0), DYNAMICS),
            (None if predictions is None else predictions.abs(), PREDICTIONS),
            (None if labels is None else labels.abs(), LABELS),
        )
        if matrix is not None
    ]
    sizes = sorted({tuple(matrix.shape) for matrix, _ in sources})
    if len(sizes) != 1 or len(sizes[0]) != 2 or sizes[0][0] != sizes[0][1]:
        raise ValueError(f"kinship needs one or more matrices of one size, [T, T]. Got {sizes or 'none'}.")
    scaled = torch.stack([_per_average_pair(matrix.double()) for matrix, _ in sources])
    weights = torch.tensor([weight for _, weight in sources], dtype=torch.float64)[:, None, None]
    known = ~torch.isnan(scaled)
    total = (scaled.nan_to_num() * weights).sum(0) / (known * weights).sum(0)
    return (total + total.T) / 2


def _standardised_products(columns: Tensor) -> Tensor:
    """[T, T] mean products of standardised columns; 0 for one that does not vary, NaN for one without values."""
    correlation, common = overlap_correlation(columns)
    n = common.diagonal()
    known = n > 0
    constant = correlation.diagonal().isnan() & known
    complete = common == len(columns)
    one_map = (correlation > ONE_MAP) & (common == n) & (common == n[:, None]) & (common >= FEWEST_SAMPLES)
    found = torch.where(complete | one_map, correlation, shrunk(correlation, common))
    found.diagonal().copy_(torch.where(known, 1.0, torch.nan))
    return torch.where((constant | constant[:, None]) & known & known[:, None], 0, found)


def _predictions(tasks: TaskSet, packed: Tensor) -> Tensor:
    """Packed outputs [B, O] in float64, as probabilities where they are logits."""
    values = packed.double()
    columns = torch.cat([torch.full((task.n_outputs,), task.kind == "binary") for task in tasks])
    values = torch.where(columns, values.sigmoid(), values)
    for task in tasks:
        if task.kind == "multiclass":
            values[:, tasks.slices[task.name]] = values[:, tasks.slices[task.name]].softmax(1)
    return values


def _are_probabilities(tasks: TaskSet) -> Tensor:
    return torch.tensor([task.kind in ("binary", "multiclass") for task in tasks])


def _per_average_pair(matrix: Tensor) -> Tensor:
    """Divided by the mean over pairs; NaN on the diagonal. A source that is 0 everywhere stays 0."""
    pairs = matrix.clone().fill_diagonal_(torch.nan)
    mean = pairs.nanmean()
    return pairs / mean if bool(mean > 0) else pairs
