"""The groups to train before anything is known about them."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from cotrain.grouping.gains import check_tasks

__all__ = ["first_trainings"]

SHARE = 0.5
"""Of the trainings that chance may spend; the rest is spent by what they taught."""

TRIES = 200
"""Random partitions that are cut into groups until there are enough."""

FEWEST_AFTER = 2
"""Trainings that must be left for larger groups if all pairs are to be trained first."""

Names = tuple[str, ...]


def first_trainings(
    tasks: Names, trainings: int, n_networks: int, max_size: int, rng: np.random.Generator
) -> list[Names]:
    """All pairs where they can be afforded, else all tasks together and random partitions into groups to deploy.

    Pairs say of every task who goes with it. On three published tables of 31 groups of 5 tasks the choice after ten
    pairs and two larger groups was .2 to .8 % worse than the best one, that after twelve random groups 1 to 9 %.
    Where there are too many pairs, groups of the size that will be deployed teach more (mimic27: a correlation of
    .75 from 150 groups of 12 to 16 tasks, .33 from all 351 pairs).

    Args:
        tasks: T names.
        trainings: How many may be spent in all.
        n_networks: How many networks will be deployed; T / n_networks is the least mean size of a group.
        max_size: The most tasks of a network.
        rng: Decides the random groups.

    Returns:
        Different groups of two or more tasks, no more than the trainings; names in the order of the tasks.
    """
    names = check_tasks(tasks)
    pairs: list[Names] = list(combinations(names, 2))
    if len(pairs) + FEWEST_AFTER <= trainings:
        return pairs
    smallest = min(max(2, -(-len(names) // n_networks)), max_size)
    largest = min(max(smallest, len(names) - 1, 2), max_size, 2 * smallest)
    found = dict.fromkeys([names] if max_size >= len(names) else [])
    wanted = max(len(found) + int(SHARE * (trainings - len(found))), -(-len(names) // smallest))
    for _ in range(TRIES):  # few tasks have few different groups
        size = int(rng.integers(smallest, largest + 1))
        order = rng.permutation(len(names))
        for start in range(0, len(names), size):
            part = np.sort(np.roll(order, -start)[:size])  # the last part is filled up from the first
            if len(found) < min(wanted, trainings):
                found[tuple(names[j] for j in part)] = None
    return list(found)
