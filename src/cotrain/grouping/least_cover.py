"""The choice that takes least of one thing, exactly, where the tasks are few enough for all their subsets."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cotrain.grouping.gains import BoolArray, FloatArray
from cotrain.grouping.program import SLACK, Program
from cotrain.grouping.subset_partition import MOST_TASKS, subset_worths, trace

__all__ = ["least_cover"]


def least_cover(
    program: Program, charge: FloatArray, n_networks: int | None, deadline: float
) -> NDArray[np.intp] | None:
    """The columns of a program that cover all tasks and take least of a charge together, whatever their worth.

    A group that covers a subset of the tasks may hold others besides: each subset takes the least that any group
    takes that holds it, and the best partition into such subsets is the best cover. For tight limits this finds in a
    second or two what HiGHS does not find in minutes (12 to 15 tasks).

    Args:
        program: Its limits are not looked at, its budget only as a number of networks.
        charge: [n], what each column takes.
        n_networks: Exactly how many columns; None: as many as the budget allows where all cost the same, else any.
        deadline: When to give up, as `time.monotonic` counts.

    Returns:
        The columns; none if there is no such cover. None if it cannot be said: more than 16 tasks, or no time.
    """
    n_tasks = program.worth.shape[1]
    if n_tasks > MOST_TASKS or len(charge) == 0:
        return None
    columns = np.arange(len(charge))
    members, least = program.able, charge
    if not program.disjoint:
        members, least, columns = _subsets(program.able, charge)
    price = program.cost.max()
    counted = price > 0 and (program.cost == price).all()
    most = n_networks or (min(int(program.budget / price + SLACK), n_tasks) if counted else 0)
    units = np.full(len(least), int(most > 0), dtype=np.intp)
    best = subset_worths(members, -least, units, most, deadline)
    if best is None:
        return None
    reached = best[(1,) * n_tasks]
    level = n_networks or int(reached.argmax())
    if not np.isfinite(reached[level]):
        return np.empty(0, np.intp)
    return np.unique(columns[trace(best, members, -least, units, level)])


def _subsets(members: BoolArray, charge: FloatArray) -> tuple[BoolArray, FloatArray, NDArray[np.intp]]:
    """All subsets [m, T] of the groups, the least charge of a group that holds each, and which group that is."""
    n_tasks = members.shape[1]
    code = members @ (1 << np.arange(n_tasks - 1, -1, -1))
    order = np.argsort(-charge, kind="stable")  # of equal groups the last, the cheapest, stays
    least, holder = np.full(2**n_tasks, np.inf), np.zeros(2**n_tasks, dtype=np.intp)
    least[code[order]], holder[code[order]] = charge[order], order
    least, holder = least.reshape((2,) * n_tasks), holder.reshape((2,) * n_tasks)
    for task in range(n_tasks):
        absent, present = ((slice(None),) * task + (side,) for side in (0, 1))
        cheaper = least[present] < least[absent]
        least[absent] = np.where(cheaper, least[present], least[absent])
        holder[absent] = np.where(cheaper, holder[present], holder[absent])
    held = np.isfinite(least.ravel())
    held[0] = False
    subsets = (np.arange(2**n_tasks)[:, None] >> np.arange(n_tasks - 1, -1, -1)) & 1
    return subsets[held].astype(np.bool_), least.ravel()[held], holder.ravel()[held]
