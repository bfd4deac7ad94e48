"""An affinity as it comes in, made ready for clustering: targets on one scale, both directions averaged."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cotrain.grouping.gains import FloatArray, check_tasks

__all__ = ["read_affinity", "read_alone", "similarity_of"]

CONSTANT = 1e-12
"""A target whose entries differ by less than this share of their size has equal entries: the rest is rounding."""


def read_affinity(affinity: Any, tasks: Iterable[Any] | None) -> tuple[FloatArray, tuple[str, ...]]:
    """The [T, T] entries, with 0 on the diagonal, and the T names.

    Args:
        affinity: A matrix, or an object with the attributes `matrix` and `tasks`, such as an `Affinity`.
        tasks: T names, or objects with a `name`; None: those of the affinity.

    Raises:
        ValueError: If there are no names, the shapes do not agree, or an entry off the diagonal is not finite.
    """
    if hasattr(affinity, "matrix"):
        tasks = affinity.tasks if tasks is None else tasks
        affinity = affinity.matrix
    if tasks is None:
        raise ValueError("A matrix does not name its tasks. Pass tasks=[...], one name per row.")
    names = check_tasks(getattr(task, "name", task) for task in tasks)
    matrix = np.asarray(affinity, dtype=np.float64).copy()
    if matrix.shape != (len(names), len(names)):
        raise ValueError(f"The affinity of {len(names)} tasks must be [T, T]. Got {list(matrix.shape)}.")
    np.fill_diagonal(matrix, 0.0)
    if not np.isfinite(matrix).all():
        i, j = np.argwhere(~np.isfinite(matrix))[0]
        raise ValueError(
            f"The affinity of task {names[i]!r} for task {names[j]!r} is not a finite number. Got {matrix[i, j]}."
            " Observe this pair (more often), or leave one of the two tasks out."
        )
    return matrix, names


def read_alone(alone: ArrayLike | None, n_tasks: int) -> FloatArray | None:
    """[T] from one number or one for every task; None stays.

    Raises:
        ValueError: If the shape is another one, or a number is not finite.
    """
    if alone is None:
        return None
    scores = np.asarray(alone, dtype=np.float64)
    if scores.shape not in [(), (n_tasks,)] or not np.isfinite(scores).all():
        raise ValueError(f"alone must be a finite number, or one for each of the {n_tasks} tasks. Got {alone!r}.")
    return np.broadcast_to(scores, (n_tasks,))


def similarity_of(matrix: FloatArray, alone: FloatArray | None, *, standardise: bool) -> FloatArray:
    """The symmetric [T, T] that density is summed of.

    Args:
        matrix: [T, T], row = source, column = target; the diagonal is not used.
        alone: [T], the score of every task alone in the units of its column, which takes the diagonal; None: 0 on
            the final scale.
        standardise: Whether every column, with its diagonal, is put in units of its own spread: minus the mean,
            divided by the standard deviation (divisor n) of its entries off the diagonal. A column of equal entries
            becomes 0.
    """
    n_tasks = len(matrix)
    mean, unit = np.zeros(n_tasks), np.ones(n_tasks)
    if standardise:
        others = ~np.eye(n_tasks, dtype=np.bool_)
        mean = matrix.mean(axis=0, where=others)
        deviation = matrix.std(axis=0, where=others)
        unit = np.where(deviation > CONSTANT * np.abs(matrix).max(axis=0), deviation, np.inf)
    scaled = (matrix - mean) / unit
    scaled = (scaled + scaled.T) / 2
    np.fill_diagonal(scaled, 0.0 if alone is None else (alone - mean) / unit)
    return np.asarray(scaled)
