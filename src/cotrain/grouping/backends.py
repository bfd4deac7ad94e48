"""What the back-ends share: a function from the real groups at hand to a gain model of any group."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from cotrain.grouping.gains import BoolArray, FloatArray, GainModel, Groups, group_name, membership
from cotrain.grouping.table import GainTable

Backend: TypeAlias = Callable[[GainTable], GainModel]
"""From the groups that were really trained to a gain model. A class whose constructor takes the table is one
(`MembershipRidge`), so is `functools.partial(CalibratedGains, score=model)`, and `lambda table: model` for a model
that does not look at the table. It keeps no state: with more groups it is applied again, to the longer table."""

PRIOR_STD = 0.2
"""The s.d. of a gain of which nothing is known: about that of all entries of the published tables (.1 to .3)."""

PRIOR_COUNT = 4.0
"""A task's own residual variance counts as much as the pooled one when the task is in this many groups."""

SMALLEST_STD = 1e-6
"""No prediction is said to be more certain, even where all residuals are 0."""


def trained_together(table: GainTable) -> tuple[BoolArray, FloatArray]:
    """Membership [n, T] and gains [n, T] (NaN off members) of the table's groups of two or more tasks."""
    members = ~np.isnan(table.gains)
    rows = members.sum(axis=1) > 1
    return members[rows], table.gains[rows]


def predicted(model: GainModel, groups: Groups, tasks: tuple[str, ...]) -> tuple[FloatArray, FloatArray]:
    """A model's mean and std [n, T] with the columns in the order of `tasks`.

    Raises:
        ValueError: If the model has other tasks, or the mean or std of a member is not finite.
    """
    if set(model.tasks) != set(tasks):
        raise ValueError(
            "All gain models must have the tasks of the table."
            f" Got {', '.join(model.tasks)}; the table has {', '.join(tasks)}."
        )
    order = [model.tasks.index(task) for task in tasks]
    mean, std = (values[:, order] for values in model.predict(groups))
    wrong = membership(groups, tasks) & ~(np.isfinite(mean) & np.isfinite(std))
    if wrong.any():
        row, j = np.argwhere(wrong)[0]
        raise ValueError(
            f"The prediction for task {tasks[j]!r} in group {group_name(groups[row])} is not a finite number: mean"
            f" {mean[row, j]}, std {std[row, j]}. Use a gain model that covers every group."
        )
    return mean, std


def completed(table: GainTable, groups: Groups, mean: FloatArray, std: FloatArray) -> tuple[FloatArray, FloatArray]:
    """A prediction with NaN off members, 0 for a task alone, and the table's own measurements where there are any."""
    members = membership(groups, table.tasks)
    mean = np.where(members, mean, np.nan)
    std = np.where(members, np.maximum(std, SMALLEST_STD), np.nan)
    known = table.measured(groups)
    mean[known], std[known] = table.predict([group for group, is_known in zip(groups, known, strict=True) if is_known])
    return mean, std


def variance_by_task(squares: FloatArray) -> FloatArray:
    """Residual variance of every task, drawn to that of all tasks together.

    Args:
        squares: [n, T], squared residuals, NaN where a task is not in the group.

    Returns:
        [T], above 0; `PRIOR_STD` squared for all tasks if there is no residual at all.
    """
    count = (~np.isnan(squares)).sum(axis=0)
    if not count.any():
        return np.full(squares.shape[1], PRIOR_STD**2)
    total = np.nansum(squares, axis=0)
    pooled = total.sum() / count.sum()
    return np.asarray(np.maximum((PRIOR_COUNT * pooled + total) / (PRIOR_COUNT + count), SMALLEST_STD**2))


def grand_mean(gains: FloatArray) -> float:
    """The mean over all entries that are not NaN; 0 if there is none."""
    return float(np.nanmean(gains)) if gains.size else 0.0
