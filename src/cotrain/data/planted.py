"""Synthetic tasks whose groups, relatedness and label noise are known: the ground truth of a grouping method."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from cotrain.data.dataset import MultiTaskData, Split
from cotrain.data.splits import SHARES, random_split
from cotrain.errors import DataError
from cotrain.task import Kind, Task, TaskSet

__all__ = ["make_planted_tasks"]

Array = NDArray[np.float32]

_HIDDEN = 32  # units per feature: enough to bend it, few enough to be learned from a few thousand samples
_OWN_FEATURES = 128  # shared stock from which every task mixes its own part; the cost of 10,000 tasks is one product
_GAIN = 2.0  # of the hidden units' input: tanh saturates, so that no feature is linear


def make_planted_tasks(
    n_tasks: int = 24,
    n_groups: int = 4,
    *,
    n_samples: int = 3000,
    n_features: int = 10,
    relatedness: float | Sequence[float] = 0.9,
    label_noise: float | Sequence[float] = 0.0,
    kinds: Kind | Sequence[Kind] = "binary",
    n_classes: int = 3,
    seed: int = 0,
) -> MultiTaskData:
    """Tasks in planted groups, on Gaussian inputs.

    Every group g has a nonlinear feature f_g of the inputs, every task t one of its own, h_t, all of unit variance;
    features of different groups are uncorrelated. Task t of group g has the score
    `sqrt(r_g) f_g + sqrt(1 - r_g) h_t`, so that scores within a group correlate by about its relatedness r_g and
    scores of different groups hardly. The label is the score itself (regression), its sign (binary) or its
    quantile (multiclass, classes of equal size), before noise.

    Args:
        n_tasks: T; task t belongs to group t modulo `n_groups`. 10,000 tasks take seconds.
        n_groups: Of the tasks, at most `n_tasks`.
        n_samples: In all; 60/20/20 for training, validation and test.
        n_features: Width of the inputs.
        relatedness: From 0 (no kin) to 1 (the same labels up to noise), one for all groups or one per group.
        label_noise: From 0 to 1, one for all tasks or one per task. Binary: chance that a label is flipped (at most
            .5, pure noise). Multiclass: chance that it is drawn anew among all classes. Regression: share of the
            target's variance that is noise.
        kinds: One for all tasks or one per task.
        n_classes: Of multiclass tasks.
        seed: Of everything; the same seed gives the same data.

    Returns:
        Data with `groups` filled, inputs [N, n_features].

    Raises:
        DataError: If a number is out of its range, or a list has another length than it must.
    """
    _check_sizes(n_tasks=n_tasks, n_groups=n_groups, n_features=n_features, n_samples=n_samples, n_classes=n_classes)
    related = _per_item(relatedness, n_groups, "relatedness", "group")
    noise = _per_item(label_noise, n_tasks, "label_noise", "task")
    task_kinds = _kinds(kinds, n_tasks)
    if np.any(noise[task_kinds == "binary"] > 0.5):
        raise DataError("label_noise of a binary task is at most 0.5, where its labels are coin flips. Lower it.")
    random = np.random.default_rng(seed)
    inputs = random.standard_normal((n_samples, n_features), dtype=np.float32)
    groups = np.arange(n_tasks) % n_groups
    scores = _scores(inputs, groups, related.astype(np.float32), random)
    targets = _labels(scores, task_kinds, noise, n_classes, random)
    names = [f"g{group}_t{number}" for number, group in enumerate(groups)]
    width = {"binary": 1, "regression": 1, "multiclass": n_classes}
    train, valid, test = (
        Split(torch.from_numpy(inputs[part]), torch.from_numpy(targets[part]))
        for part in random_split(n_samples, shares=SHARES, seed=seed)
    )
    return MultiTaskData(
        "planted",
        TaskSet(Task(name, kind, width[kind]) for name, kind in zip(names, task_kinds.tolist(), strict=True)),
        train,
        valid,
        test,
        notes={
            name: f"{kind} task of group {group}, relatedness {related[group]:g}, label noise {level:g}"
            for name, kind, group, level in zip(names, task_kinds, groups, noise, strict=True)
        },
        groups=tuple(groups.tolist()),
    )


def _scores(inputs: Array, groups: NDArray[np.integer], related: Array, random: np.random.Generator) -> Array:
    """[N, T]: the group's feature and the task's own, mixed by relatedness, each of mean 0 and variance 1."""
    n_groups, n_tasks = len(related), len(groups)
    features = _nonlinear(inputs, n_groups + _OWN_FEATURES, random)
    shared, stock = features[:, :n_groups], features[:, n_groups:]
    # Orthonormal group features, changed as little as possible: the nearest such matrix is U V of the SVD.
    left, _, right = np.linalg.svd(shared, full_matrices=False)
    shared = left @ right * np.float32(len(inputs) ** 0.5)
    own = _standardised(stock @ random.standard_normal((_OWN_FEATURES, n_tasks), dtype=np.float32))
    own *= np.sqrt(1 - related)[groups]
    own += shared[:, groups] * np.sqrt(related)[groups]
    return own


def _nonlinear(inputs: Array, n_features: int, random: np.random.Generator) -> Array:
    """[N, n_features]: one small random network per feature."""
    n_inputs = inputs.shape[1]
    weights = random.standard_normal((n_features, n_inputs, _HIDDEN), dtype=np.float32) * _GAIN / n_inputs**0.5
    shifts = random.standard_normal((n_features, 1, _HIDDEN), dtype=np.float32)
    readout = random.standard_normal((n_features, _HIDDEN, 1), dtype=np.float32)
    # One feature after the other: all hidden units at once would be N x features x 32 numbers.
    values = [
        np.tanh(inputs @ weight + shift) @ out for weight, shift, out in zip(weights, shifts, readout, strict=True)
    ]
    return _standardised(np.concatenate(values, axis=1))


def _standardised(values: Array) -> Array:
    values = values - values.mean(axis=0)
    values /= values.std(axis=0)
    return values


def _labels(
    scores: Array, kinds: NDArray[np.str_], noise: NDArray[np.float64], n_classes: int, random: np.random.Generator
) -> Array:
    """[N, T]; the scores are used up. Every kind draws its noise for all its tasks at once."""
    binary, multiclass, regression = (np.flatnonzero(kinds == kind) for kind in ("binary", "multiclass", "regression"))
    flipped = random.random((len(scores), len(binary)), dtype=np.float32) < noise[binary]
    redrawn = random.random((len(scores), len(multiclass)), dtype=np.float32) < noise[multiclass]
    drawn = random.integers(n_classes, size=redrawn.shape)
    added = random.standard_normal((len(scores), len(regression)), dtype=np.float32)
    level = noise[regression].astype(np.float32)
    rank = scores[:, multiclass].argsort(axis=0).argsort(axis=0)
    scores[:, binary] = (scores[:, binary] > 0) != flipped
    scores[:, multiclass] = np.where(redrawn, drawn, rank * n_classes // len(scores))
    scores[:, regression] = np.sqrt(1 - level) * scores[:, regression] + np.sqrt(level) * added
    return scores


def _check_sizes(*, n_groups: int, n_tasks: int, n_samples: int, **others: int) -> None:
    for name, size in {"n_groups": n_groups, "n_tasks": n_tasks, **others}.items():
        least = 2 if name == "n_classes" else 1
        if size < least:
            raise DataError(f"{name} must be at least {least}. Got {size}.")
    if n_groups > n_tasks:
        raise DataError(f"Every group needs a task. Got {n_groups} groups for {n_tasks} tasks: use at most {n_tasks}.")
    if n_samples < n_groups:
        raise DataError(f"{n_groups} groups need at least as many samples. Got n_samples={n_samples}.")


def _per_item(value: float | Sequence[float], count: int, name: str, item: str) -> NDArray[np.float64]:
    values = np.atleast_1d(np.asarray(value, dtype=np.float64))
    if values.shape not in ((1,), (count,)):
        raise DataError(f"{name} must be one number or one per {item}, {count}. Got {values.size} numbers.")
    if not np.all((values >= 0) & (values <= 1)):
        raise DataError(f"{name} must be from 0 to 1. Got {values.min():g} to {values.max():g}.")
    return np.broadcast_to(values, (count,))


def _kinds(kinds: Kind | Sequence[Kind], n_tasks: int) -> NDArray[np.str_]:
    values = np.atleast_1d(np.asarray(kinds, dtype=np.str_))
    if values.shape not in ((1,), (n_tasks,)):
        raise DataError(f"kinds must be one kind or one per task, {n_tasks}. Got {values.size} kinds.")
    if unknown := set(values.tolist()) - {"binary", "multiclass", "regression"}:
        raise DataError(f"Planted tasks are binary, multiclass or regression. Got {sorted(unknown)}.")
    return np.broadcast_to(values, (n_tasks,))
