"""The groups that a study's search begins with, where there are too many to predict all of them."""

from collections.abc import Sequence

import numpy as np

from cotrain.grouping import Names

__all__ = ["search_candidates"]

MOST_CONSIDERED = 2_047
"""All groups of up to 11 tasks. The linearised network needs about a millisecond per group, and far fewer are trained:
predicting all 16,383 groups of the 14 digits tasks took longer than training the 28 that were chosen."""


def search_candidates(tasks: Sequence[str], budget: int, max_size: int | None, seed: int) -> tuple[Names, ...] | None:
    """Random groups of all sizes alike, so drawn that they cover the tasks within the budget.

    Args:
        tasks: T names.
        budget: How many networks there may be.
        max_size: The most tasks of a network; None: no limit. `budget * max_size` must be T or more.
        seed: Decides the groups.

    Returns:
        Different groups of two or more tasks, names in their order: all tasks together if they may be, then groups of
        random covers. None: all groups may be considered.
    """
    count = len(tasks)
    largest = count if max_size is None else min(max_size, count)
    if 2**count - 1 <= MOST_CONSIDERED or largest < 2:
        return None
    rng = np.random.default_rng(seed)
    found: dict[Names, None] = {}
    # With few tasks or a small limit there may be fewer groups than wanted: as many draws as groups are enough.
    for draw in range(MOST_CONSIDERED):
        # The first two make the budget enough.
        size = (largest, max(2, -(-count // budget)))[draw] if draw < 2 else int(rng.integers(2, largest + 1))
        order = rng.permutation(count)
        for start in range(0, count, size):
            part = np.sort(np.roll(order, -start)[:size])  # the last part is filled up from the first
            if len(found) < MOST_CONSIDERED:
                found[tuple(tasks[j] for j in part)] = None
    return tuple(found)
