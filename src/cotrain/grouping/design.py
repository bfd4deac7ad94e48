"""Which groups to train first, when nothing is known: those that say most about all tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import compress

import numpy as np

from cotrain.grouping.gains import BoolArray, FloatArray, Groups, membership
from cotrain.grouping.measured_losses import Names

__all__ = ["one_by_one", "spread_groups"]


def spread_groups(groups: Groups, number: int, *, tasks: Sequence[str], seed: int | np.random.Generator) -> list[Names]:
    """Groups to train so that a few trainings calibrate a prediction for every task.

    One after the other, each the group with the largest sum of `1 / (1 + held)` over its tasks, where `held` is how
    often a task is in the groups before it: every further training of a task teaches less, and large groups teach
    about more tasks at once. Ties are broken at random. `CalibratedGains` by 8 of them instead of 8 random groups
    was better in all five cases of benchmarks/predicted_gains.py. Designs that spread pairs, or that maximise the
    determinant of the regression on membership, were no better there.

    Args:
        groups: Those that may be trained, of two or more tasks.
        number: How many to take; fewer if there are fewer groups.
        tasks: The names of all tasks.
        seed: Of the order among equals.

    Returns:
        Different groups, names in the order of the tasks.

    Raises:
        ValueError: If number is negative, or a group holds an unknown task.
    """
    if number < 0:
        raise ValueError(f"number must not be negative. Got {number}.")
    members = np.unique(membership(groups, tuple(tasks)), axis=0)
    rows = one_by_one(members, number, lambda left, held: left @ (1 / (1 + held)), np.random.default_rng(seed))
    return [tuple(compress(tasks, row)) for row in members[rows].tolist()]


def one_by_one(
    members: BoolArray,
    number: int,
    worth: Callable[[BoolArray, FloatArray], FloatArray],
    rng: np.random.Generator,
) -> list[int]:
    """Rows of groups [n, T], each the one of largest worth after those before it.

    Args:
        members: [n, T].
        number: How many rows to take; fewer if there are fewer.
        worth: From the groups that are left [m, T], and how often every task is in those that are taken, to [m].
        rng: Of the order among equals.
    """
    left = rng.permutation(len(members))
    held = np.zeros(members.shape[1])
    found: list[int] = []
    while len(left) and len(found) < number:
        best = int(worth(members[left], held).argmax())
        found.append(int(left[best]))
        held += members[left[best]]
        left = np.delete(left, best)
    return found
