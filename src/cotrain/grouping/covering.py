"""A first choice of groups that covers all tasks within the budget, or the reason why there is none."""

from __future__ import annotations

from textwrap import shorten

import numpy as np
from numpy.typing import NDArray

from cotrain.grouping.candidates import Pool
from cotrain.grouping.cover import BUDGET_SLACK
from cotrain.grouping.gains import group_name
from cotrain.grouping.program import LEAST_COST, cheapest_cover

MOST_LETTERS = 200
"""How much of the groups an error message lists."""

PROVEN = 1e-6
"""HiGHS's own tolerance on the least cost."""


def covering(pool: Pool, budget: float, max_size: int | None, deadline: float) -> NDArray[np.intp]:
    """Rows of candidates that cover all tasks within the budget, whatever they are worth.

    Raises:
        ValueError: If there are none; the message names the smallest budget for which there are.
    """
    chosen, least = _greedy(pool), -np.inf
    if pool.cost[chosen].sum() > budget + BUDGET_SLACK:
        exact, least = cheapest_cover(pool.members, pool.cost, deadline)
        chosen = exact if len(exact) else chosen
    cheapest = float(pool.cost[chosen].sum())
    if cheapest <= budget + BUDGET_SLACK:
        return chosen
    size = "" if max_size is None else f" of at most {max_size} tasks each"
    groups = shorten(", ".join(group_name(pool.names(row)) for row in chosen), MOST_LETTERS)
    found = f"The smallest budget that does is {cheapest:g}, with {groups}."
    if least < cheapest - PROVEN:
        found = f"In the time given, {cheapest:g} was found to be enough, with {groups}. Allow more time or budget."
    raise ValueError(
        f"No choice among the {len(pool.members)} candidate groups{size} covers all {len(pool.tasks)} tasks within"
        f" budget={budget:g}. {found}"
    )


def _greedy(pool: Pool) -> NDArray[np.intp]:
    """The candidate with the most new tasks per cost, again and again."""
    missing = np.ones(len(pool.tasks), dtype=np.bool_)
    chosen: list[int] = []
    while missing.any():
        new = (pool.members & missing).sum(axis=1)
        best = int(np.argmax(np.where(new > 0, new / np.maximum(pool.cost, LEAST_COST), -1.0)))
        chosen.append(best)
        missing &= ~pool.members[best]
    return np.array(chosen, dtype=np.intp)
