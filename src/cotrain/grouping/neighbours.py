"""The groups next to given ones, where searches for better ones look."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cotrain.grouping.gains import BoolArray, Groups, ListedGroups, membership

__all__ = ["one_task_apart", "toggled"]

MOST_TASKS_TO_SWAP = 40
"""Exchanges are quadratic in number; for more tasks an addition and a drop in two steps have to do."""


def one_task_apart(groups: Groups, tasks: Sequence[str], max_size: int | None = None) -> ListedGroups:
    """All groups that differ from one of the given ones by a task added, dropped, or exchanged for another.

    Args:
        groups: n groups of the tasks.
        tasks: T names.
        max_size: The most tasks of a group; None: no limit.

    Returns:
        Different groups of two or more tasks, their names in the order of the tasks. A given one is among them only
        if it is next to another. Nothing is exchanged among more than 40 tasks.
    """
    members = membership(groups, tasks)
    near = toggled(members, np.eye(len(tasks), dtype=np.bool_), swap=True)
    before = np.repeat(members.sum(axis=1), len(near) // len(members))
    sizes = near.sum(axis=1)
    # Of two tasks that change, one comes and one goes.
    kept = (np.abs(sizes - before) <= 1) & (sizes >= 2) & (sizes <= (max_size or len(tasks)))
    return ListedGroups.of(np.unique(near[kept], axis=0), tasks)


def toggled(groups: BoolArray, blocks: BoolArray, *, swap: bool) -> BoolArray:
    """[m, T], all groups that differ from one of [n, T] by one block of tasks [b, T], or also by two.

    The neighbours of one group stand together. Two blocks are changed only if there are at most 40.
    """
    toggle = blocks
    if swap and len(blocks) <= MOST_TASKS_TO_SWAP:
        first, second = np.triu_indices(len(blocks), 1)
        toggle = np.concatenate([toggle, toggle[first] | toggle[second]])
    return (groups[:, None, :] ^ toggle[None]).reshape(-1, groups.shape[1])
