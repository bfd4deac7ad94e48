"""The groups to train before anything is known about them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from cotrain.grouping.design import one_by_one
from cotrain.grouping.gains import check_tasks, membership
from cotrain.grouping.measured_losses import Names

__all__ = ["first_trainings", "only_pairs_afforded"]

SHARE = 0.5
"""Of the trainings that chance may spend; the rest is spent by what they taught."""

TRIES = 200
"""Random partitions that are cut into groups until there are enough."""

FEWEST_AFTER = 2
"""Trainings that must be left for larger groups if all pairs are to be trained first."""

FEW_PAIRS = 10
"""Up to so many pairs, those of five tasks, some are trained first where not all can be afforded."""


def first_trainings(
    tasks: Names,
    trainings: int,
    n_networks: int,
    max_size: int,
    rng: np.random.Generator,
    candidates: Sequence[Names] | None = None,
) -> list[Names]:
    """All pairs where they can be afforded, else all together and some pairs of few tasks, or random groups of many.

    Pairs say of every task who goes with it. On three published tables of 31 groups of 5 tasks the choice of 2 to 4
    networks after ten pairs and two larger groups was on average .1, .2 and 1.4 % worse than the best one, that after
    twelve random groups 3.6, 12.5 and 1.2 %. With the five tasks alone first, which leave 7 of 12 trainings, it was 3.0
    % worse on average after all together and four pairs, 6.5 % after all together and three random groups; so of five
    tasks and fewer some pairs are better than none.
    Where there are too many pairs, groups of the size that will be deployed teach more (mimic27: a correlation of
    .75 from 150 groups of 12 to 16 tasks, .33 from all 351 pairs).

    Args:
        tasks: T names.
        trainings: How many may be spent in all.
        n_networks: How many networks will be deployed; T / n_networks is the least mean size of a group.
        max_size: The most tasks of a network.
        rng: Decides the random groups.
        candidates: The only groups that may be trained, names in the order of the tasks. None: all groups.

    Returns:
        Different groups of two or more tasks, no more than the trainings; names in the order of the tasks.
    """
    names = check_tasks(tasks)
    allowed = None if candidates is None else {group for group in candidates if 1 < len(group) <= max_size}
    pairs = all_pairs(names, candidates)
    if 0 < len(pairs) <= trainings - FEWEST_AFTER:
        return pairs
    if 0 < len(pairs) <= FEW_PAIRS and max_size >= len(names):
        some = [pairs[row] for row in rng.permutation(len(pairs))[: max(trainings - FEWEST_AFTER - 1, 0)]]
        return [names, *some][:trainings]
    smallest = min(max(2, -(-len(names) // n_networks)), max_size)
    largest = min(max(smallest, len(names) - 1, 2), max_size, 2 * smallest)
    whole = max_size >= len(names) and (allowed is None or names in allowed)
    found = dict.fromkeys([names] if whole else [])
    wanted = min(max(len(found) + int(SHARE * (trainings - len(found))), -(-len(names) // smallest)), trainings)
    if allowed is not None:
        sized = sorted(group for group in allowed if smallest <= len(group) <= largest)
        return [*found, *_spread(sized or sorted(allowed - found.keys()), names, wanted - len(found), rng)]
    for _ in range(TRIES):  # few tasks have few different groups
        size = int(rng.integers(smallest, largest + 1))
        order = rng.permutation(len(names))
        for start in range(0, len(names), size):
            part = np.sort(np.roll(order, -start)[:size])  # the last part is filled up from the first
            if len(found) < wanted:
                found[tuple(names[j] for j in part)] = None
    return list(found)


def only_pairs_afforded(tasks: Names, trainings: int, alone: int, candidates: Sequence[Names] | None) -> bool:
    """Whether all pairs and what must follow can be trained, but not beside `alone` tasks by themselves."""
    wanted = len(all_pairs(tasks, candidates)) + FEWEST_AFTER
    return FEWEST_AFTER < wanted <= trainings < wanted + alone


def all_pairs(tasks: Names, candidates: Sequence[Names] | None) -> list[Names]:
    """All pairs of tasks; none if some are no candidates."""
    pairs: list[Names] = list(combinations(tasks, 2))
    return pairs if candidates is None or set(pairs) <= set(candidates) else []


def _spread(groups: Sequence[Names], tasks: Names, count: int, rng: np.random.Generator) -> list[Names]:
    """Random groups, each one that holds as many tasks as possible that are in fewest of those before it."""
    members = membership(groups, tasks)
    rows = one_by_one(members, count, lambda left, held: -(left @ held) / left.sum(axis=1), rng)
    return [groups[row] for row in rows]
