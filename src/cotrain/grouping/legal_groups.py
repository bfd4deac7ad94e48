"""Groups that sizes and links allow, where not all groups can be listed and the rest be struck out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from cotrain.grouping.candidates import in_order
from cotrain.grouping.constraints import Constraints
from cotrain.grouping.gains import BoolArray, membership
from cotrain.grouping.requirements import allowed_columns

__all__ = ["legal", "repaired", "task_blocks"]


def task_blocks(constraints: Constraints, tasks: Sequence[str]) -> BoolArray:
    """[U, T], the smallest sets of tasks that can be trained: linked tasks together, every other task by itself."""
    linked = membership(tuple(map(tuple, constraints.blocks)), tasks)
    free = np.eye(len(tasks), dtype=np.bool_)[~linked.any(axis=0)]
    return np.concatenate([linked, free])


def legal(groups: BoolArray, constraints: Constraints, tasks: Sequence[str]) -> BoolArray:
    """Those of the groups [n, T] that are not empty and respect sizes and links."""
    kept = groups.any(axis=1)
    for each in allowed_columns(constraints, tasks, groups):
        if each.columns is not None:
            kept &= each.columns
    return groups[kept]


def repaired(groups: BoolArray, constraints: Constraints, tasks: Sequence[str]) -> BoolArray:
    """The groups [n, T] made legal: linked tasks join, of two that may not be together one leaves; and all blocks.

    Which of the two leaves is tried both ways for all pairs at once, so that each task is kept in some group.
    """
    blocks = task_blocks(constraints, tasks)
    place = {task: j for j, task in enumerate(tasks)}
    owner = blocks.argmax(axis=0)
    whole = (groups.astype(np.intp) @ blocks.T.astype(np.intp) > 0) @ blocks
    pairs = [
        (blocks[owner[place[a]]], blocks[owner[place[b]]])
        for group in constraints.cannot_link
        for a, b in combinations(sorted(group), 2)
    ]
    found = [blocks]
    for way in (0, 1):
        fixed = whole.copy()
        for pair in pairs:
            both = (fixed & pair[0]).any(axis=1) & (fixed & pair[1]).any(axis=1)
            fixed[both] &= ~pair[way]
        found.append(fixed)
    return in_order(legal(np.concatenate(found), constraints, tasks))
