"""Task features as they come in: one matrix or one per training of the measuring network, checked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cotrain.grouping.gains import BoolArray, check_tasks

__all__ = ["read_runs"]


def read_runs(
    features: NDArray[Any] | Sequence[NDArray[Any]], tasks: Iterable[str], n_dims: int
) -> tuple[list[NDArray[Any]], tuple[str, ...], BoolArray]:
    """Features of one or several trainings as a list, without copying them.

    Args:
        features: An array of `n_dims` dimensions whose first is the tasks, or a sequence of such arrays. Their other
            sizes may differ from run to run.
        tasks: T names.
        n_dims: 2 for vectors [T, D], 3 for points [T, P, 2].

    Returns:
        The runs, the names, and [T] whether a task has a NaN anywhere (of points: no point without NaN in a run).

    Raises:
        ValueError: If the shapes do not fit, an entry is infinite, or the names are not names.
    """
    names = check_tasks(tasks)
    wanted = f"[{len(names)}, D]" if n_dims == 2 else f"[{len(names)}, P, 2]"
    is_one = len(features) > 0 and np.ndim(features[0]) < n_dims
    runs = [np.asarray(run) for run in ([features] if is_one else features)]
    if not runs:
        raise ValueError(f"features must be {wanted}, or a sequence of such arrays. Got an empty one.")
    missing = np.zeros(len(names), dtype=np.bool_)
    for run in runs:
        fits = run.ndim == n_dims and len(run) == len(names) and run.shape[1] > 0 and (n_dims == 2 or run.shape[2] == 2)
        if not fits:
            raise ValueError(f"features must be {wanted} for {len(names)} tasks. Got {list(run.shape)}.")
        # Extremes show what is not finite without an array of the size of the features: numpy's own keep NaN,
        # fmin and fmax see past it.
        extremes = np.stack([np.fmin.reduce(run, axis=1), np.fmax.reduce(run, axis=1)])
        infinite = np.isinf(extremes).reshape(2, len(names), -1).any(axis=(0, 2))
        if infinite.any():
            raise ValueError(
                f"The features of task {names[int(infinite.argmax())]!r} are infinite. They must be finite."
            )
        if n_dims == 2:
            missing |= np.isnan(run.max(axis=1))
        else:
            missing |= np.isnan(run).any(axis=2).all(axis=1)
    return runs, names, missing
