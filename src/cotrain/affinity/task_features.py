"""Task features: one row of numbers per task, whose distances a clustering reads."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from cotrain.affinity.data_map import DataMaps
from cotrain.affinity.kinship import dynamics_correlation, kinship

__all__ = ["FeatureKind", "TaskFeatures", "embedded", "kinship_features", "task_features"]

FeatureKind = Literal["combined", "standardised", "signed", "raw"]

ROUNDING = 1e-7
"""Similarities that differ by less, as a share of the largest one, are the same: their tasks get the same row. They
come from float32, and the last digit of a sigmoid depends on the position in the tensor."""


@dataclass(frozen=True, eq=False)
class TaskFeatures:
    """One row of numbers per task.

    Attributes:
        matrix: [T, D]; NaN for a task without labels, and for those that were left out.
        tasks: The tasks' names, in the order of the rows.
        kind: What the rows are.
        flat: Tasks with labels whose maps are the same for all samples. Standardised they are 0, and say nothing.
    """

    matrix: Tensor
    tasks: tuple[str, ...]
    kind: str
    flat: tuple[str, ...] = ()


def task_features(
    maps: DataMaps,
    kind: FeatureKind = "combined",
    *,
    predictions: Tensor | None = None,
    labels: Tensor | None = None,
    left_out: Collection[str] = (),
) -> TaskFeatures:
    """Features of tasks from their data maps.

    raw: all confidences and variabilities of a task, as STG-MTL has them (arXiv 2307.03374). Their distances are
        ruled by how hard tasks are, not by what they share.
    standardised: the same, standardised per task over the samples, by snapshot. Given as rows [T, D <= T] with the
        same distances, which no longer grow with the samples.
    signed: from the predictions only, whose correlations do not depend on which class is called 1.
    combined: from labels, predictions and dynamics together (`kinship`); without `predictions` and `labels` from
        dynamics only. It found planted groups best of the four, which is why it is the default.

    Args:
        maps: What a `DataMap` recorded. If it has snapshots, these are used, else the final maps.
        kind: Which of the four.
        predictions: [T, T] from `prediction_correlation`.
        labels: [T, T] from `label_correlation`.
        left_out: Names of tasks that take no part, such as those that cannot be told from chance. Tasks without
            labels take none either.

    Raises:
        ValueError: If raw features are asked for where labels are missing, signed ones without predictions, if a name
            is unknown, or a matrix is of other tasks.
    """
    if kind not in get_args(FeatureKind):
        raise ValueError(f"kind must be combined, standardised, signed or raw. Got {kind!r}.")
    unknown = sorted(set(left_out) - set(maps.tasks))
    if unknown:
        raise ValueError(f"Unknown tasks {unknown} in left_out. Known tasks: {', '.join(maps.tasks)}.")
    kept = torch.tensor([task not in left_out for task in maps.tasks])
    kept &= ~torch.isnan(maps.confidence).all(0)
    if kind == "raw":
        return TaskFeatures(_raw(maps, kept), maps.tasks, kind)
    if kind == "signed":
        if predictions is None:
            raise ValueError("signed features need predictions, from prediction_correlation(tasks, outputs).")
        return TaskFeatures(embedded(_only(predictions, kept)), maps.tasks, kind)
    dynamics = _only(dynamics_correlation(maps), kept)
    flat = tuple(task for task, own in zip(maps.tasks, dynamics.diagonal().tolist(), strict=True) if own == 0)
    if kind == "standardised":
        return TaskFeatures(embedded(dynamics), maps.tasks, kind, flat)
    return kinship_features(
        kinship(
            dynamics=dynamics,
            predictions=None if predictions is None else _only(predictions, kept),
            labels=None if labels is None else _only(labels, kept),
        ),
        maps.tasks,
        flat,
    )


def kinship_features(matrix: Tensor, tasks: tuple[str, ...], flat: tuple[str, ...] = ()) -> TaskFeatures:
    """Features of tasks from a matrix of how alike they are.

    The matrix, divided by the square roots of its row and column sums, is embedded and every row brought to length 1:
    tasks with noisy labels, which are less alike to all others, then stand as near to their kin as the rest
    (normalised spectral embedding; Ng, Jordan and Weiss 2002, with all positive eigenvalues instead of the largest K,
    so that the features do not depend on the number of clusters).

    Args:
        matrix: [T, T] from `kinship`; its diagonal is not looked at.
        tasks: T names.
        flat: Passed on.

    Returns:
        Rows of length 1; 0 for a task that is like no other, NaN for one of which no pair is known.
    """
    pairs = matrix.double().clone().fill_diagonal_(torch.nan)
    present = ~pairs.isnan().all(1)
    # A task is as near to itself as to its nearest kin: a larger diagonal would push tasks with few kin out alone.
    nearest = pairs.nan_to_num(nan=-torch.inf).amax(1)
    weights = _filled(pairs).diagonal_scatter(nearest)
    degree = torch.where(present, weights, 0).sum(1)
    scale = torch.where(degree > 0, degree, 1).rsqrt()
    rows = embedded(torch.where(present & present[:, None], scale[:, None] * weights * scale, torch.nan))
    rows = torch.where(present[:, None] & (degree == 0)[:, None], 0, rows / rows.norm(dim=1, keepdim=True))
    return TaskFeatures(rows, tasks, "combined", flat)


def embedded(matrix: Tensor) -> Tensor:
    """Rows whose inner products are the matrix, as nearly as real rows allow: negative eigenvalues are left out.

    Args:
        matrix: [T, T] symmetric. A pair that is NaN is filled with the mean of the pairs that its tasks have with
            others: neither near nor far. A task of which no pair is known gets a row of NaN, unless it is the only
            one with a diagonal.

    Returns:
        [T, D] float64, D the number of different tasks; tasks with equal rows in the matrix have equal rows here,
        to the bit.
    """
    pairs = matrix.double().clone().fill_diagonal_(torch.nan)
    own = matrix.double().diagonal()
    alone = ~own.isnan() & ((~own.isnan()).sum() == 1)
    present = ~pairs.isnan().all(1) | alone
    if not bool(present.any()):
        return torch.full((len(matrix), 1), torch.nan, dtype=torch.float64)
    whole = _filled(pairs).diagonal_scatter(own.nan_to_num())[present][:, present]
    number, first = _different(whole)
    values, vectors = torch.linalg.eigh(whole[first][:, first])
    # The square root of an eigenvalue that is rounding would not be small: 1e-8 for 1e-16.
    rounding = len(values) * torch.finfo(torch.float64).eps * values.abs().max()
    rows = torch.full((len(matrix), len(first)), torch.nan, dtype=torch.float64)
    rows[present] = (vectors * torch.where(values > rounding, values, 0).sqrt())[number]
    return rows


def _different(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Which of the D different rows each row is [T], and the first of each kind [D].

    Equal rows have equal products with any vector, so sorting by one product, with a random vector, puts them side
    by side. Rounding the entries instead would part rows on either side of a half.
    """
    direction = torch.randn(len(matrix), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    order = (matrix @ direction).argsort()
    step = matrix[order].diff(dim=0).abs().amax(1) > ROUNDING * matrix.abs().max()
    number = torch.zeros_like(order)
    number[order[1:]] = step.cumsum(0)
    n_different = int(step.sum()) + 1
    first = torch.full((n_different,), len(matrix)).scatter_reduce(0, number, torch.arange(len(matrix)), "amin")
    return number, first


def _raw(maps: DataMaps, kept: Tensor) -> Tensor:
    """[T, snapshots * N * 2]: every snapshot's confidences, then its variabilities; NaN for tasks not kept."""
    shots = maps.snapshots or (maps,)
    matrix = torch.cat([part.T for shot in shots for part in (shot.confidence, shot.variability)], dim=1)
    partly = kept & torch.isnan(matrix).any(1)
    if bool(partly.any()):
        names = [task for task, yes in zip(maps.tasks, partly.tolist(), strict=True) if yes]
        raise ValueError(
            f"Raw features compare every sample, and {names} have samples without labels. Use standardised features."
        )
    matrix[~kept] = torch.nan
    return matrix


def _only(matrix: Tensor, kept: Tensor) -> Tensor:
    """The same matrix with NaN where a task takes no part."""
    if matrix.shape != (len(kept), len(kept)):
        raise ValueError(
            f"predictions and labels must be [{len(kept)}, {len(kept)}], for the tasks of the maps."
            f" Got {list(matrix.shape)}."
        )
    return torch.where(kept & kept[:, None], matrix.double(), torch.nan)


def _filled(pairs: Tensor) -> Tensor:
    """Unknown pairs as the mean of what is known of the two tasks; NaN stays where nothing is known of one."""
    mean = pairs.nanmean(1)
    return torch.where(pairs.isnan(), (mean[:, None] + mean) / 2, pairs)
