"""The best partition into disjoint groups of any worth: a dynamic programme over the subsets of the tasks."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from cotrain.grouping.cover import TIE, Choice
from cotrain.grouping.gains import BoolArray, FloatArray
from cotrain.grouping.program import Program

__all__ = ["MOST_TASKS", "best_partition", "subset_worths", "trace"]

MOST_TASKS = 16
"""The programme takes 3^T / 2 steps of a few nanoseconds for each number of networks."""

MOST_LEVELS = 64
"""Different sums of costs that are kept apart; with more, HiGHS is as fast."""


def best_partition(program: Program, n_networks: int | None, deadline: float) -> Choice | None:
    """The columns of the largest total worth that split the tasks among them, within the budget.

    `best[l, m]`, the largest worth of columns that split the subset m of the tasks and cost l units together, is
    the largest over the columns c inside m that hold m's first task of `worth(c) + best[l - cost(c), m - c]`. Any
    worth will do. Ties go to the lower cost, then to the columns that stand first.

    Args:
        program: Of disjoint columns; its rows are not looked at.
        n_networks: Exactly how many columns are chosen; None: any number.
        deadline: When to give up, as `time.monotonic` counts.

    Returns:
        None if it cannot be done: more than 16 tasks, costs that are no multiples of 0.5, both costs and an exact
        number of networks to be kept, no such partition, or no time.
    """
    members, n_tasks = program.able, program.worth.shape[1]
    units, most = _units(program, n_networks)
    if n_tasks > MOST_TASKS or units is None or most > MOST_LEVELS:
        return None
    gross = np.where(members, program.worth, 0.0).sum(axis=1)
    best = subset_worths(members, gross, units, most, deadline)
    if best is None:
        return None
    reached = best[(1,) * n_tasks]
    level = int(np.argmax(reached >= reached.max() - TIE)) if n_networks is None else n_networks
    if not np.isfinite(reached[level]):
        return None
    columns = trace(best, members, gross, units, level)
    value = program.value(columns)
    return Choice(columns, value, max(value, float(reached.max() if n_networks is None else reached[level])), True)


def _units(program: Program, n_networks: int | None) -> tuple[NDArray[np.intp] | None, int]:
    """What each column takes in whole units [n], None if it cannot be said so; and how many units may be taken."""
    cost, n_tasks = program.cost, program.worth.shape[1]
    if n_networks is not None:
        # A choice holds at most one column per task: the budget does not bind if the dearest fit into it.
        if np.sort(cost)[-n_networks:].sum() > program.budget + TIE:
            return None, 0
        return np.ones(len(cost), dtype=np.intp), n_networks
    doubled = 2 * cost
    units = doubled.round().astype(np.intp)
    if np.abs(doubled - units).max(initial=0.0) > TIE:
        return None, 0
    unit = max(int(np.gcd.reduce(units)), 1)
    highest = int(units.max(initial=0)) * n_tasks
    return units // unit, int(min(2 * program.budget + TIE, highest)) // unit


def subset_worths(
    members: BoolArray, gross: FloatArray, units: NDArray[np.intp], most: int, deadline: float
) -> FloatArray | None:
    """`best` as an array [2] * T + [most + 1]: an axis for each task, absent or there; None if out of time.

    The subsets that a column can be taken of are a view into it, since axes of tasks that are free keep both entries.
    """
    n_tasks = members.shape[1]
    best = np.full((2,) * n_tasks + (most + 1,), -np.inf)
    best[(0,) * n_tasks + (0,)] = 0.0
    first = members.argmax(axis=1)
    both = slice(None)
    for number, column in enumerate(np.argsort(-first, kind="stable").tolist()):
        if number % 256 == 0 and time.monotonic() > deadline:
            return None
        unit = int(units[column])
        if unit > most:
            continue
        row = members[column].tolist()
        lowest = int(first[column])
        with_it = tuple(1 if is_in else (0 if j < lowest else both) for j, is_in in enumerate(row))
        without = tuple(0 if is_in or j < lowest else both for j, is_in in enumerate(row))
        target = best[with_it][..., unit:]
        np.maximum(target, best[without][..., : most + 1 - unit] + gross[column], out=target)
    return best


def trace(
    best: FloatArray, members: BoolArray, gross: FloatArray, units: NDArray[np.intp], level: int
) -> NDArray[np.intp]:
    """The columns that a table's best worth of all tasks is the sum of."""
    left = np.ones(members.shape[1], dtype=np.bool_)
    chosen = []
    while left.any():
        inside = members[:, left.argmax()] & ~(members & ~left).any(axis=1) & (units <= level)
        able = np.flatnonzero(inside)
        rest = (left & ~members[able]).astype(np.intp)
        reached = best[(*rest.T, level - units[able])] + gross[able]
        column = int(able[np.argmax(reached == best[(*left.astype(np.intp), level)])])
        chosen.append(column)
        left &= ~members[column]
        level -= int(units[column])
    return np.sort(np.array(chosen, dtype=np.intp))
