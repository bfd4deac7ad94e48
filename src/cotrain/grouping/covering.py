"""A first choice of groups that respects every limit, or the reason why there is none."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from textwrap import shorten

import numpy as np
from numpy.typing import NDArray

from cotrain.grouping.candidates import Pool
from cotrain.grouping.constraints import contradiction
from cotrain.grouping.gains import FloatArray, group_name
from cotrain.grouping.least_cover import least_cover
from cotrain.grouping.program import LEAST_COST, SLACK, Program
from cotrain.grouping.requirements import Requirement, restricted_program

__all__ = ["covering"]

MOST_LETTERS = 200
"""How much of the groups an error message lists."""

PROVEN = 1e-6
"""HiGHS's own tolerance on the least cost."""

MOST_COUNTS = 5
"""Disjoint groups of equal size are tried for up to this number of them, and every task alone."""

FIRST_ANSWER = 4.0
"""Seconds that the search for any choice at all is always given, whatever the time limit."""


def covering(
    pool: Pool,
    worth: FloatArray,
    budget: float,
    max_size: int | None,
    deadline: float,
    required: Sequence[Requirement] = (),
    n_networks: int | None = None,
) -> NDArray[np.intp]:
    """Rows of candidates that cover all tasks within the budget and all requirements, whatever they are worth.

    Args:
        pool: n candidates.
        worth: [n, T], minus infinity where a candidate does not hold the task.
        budget: The budget.
        max_size: Of the candidates, for messages.
        deadline: When to stop, as `time.monotonic` counts; but see `FIRST_ANSWER`.
        required: What else must hold.
        n_networks: The number of networks that the requirements ask for.

    Raises:
        ValueError: If there are none. If a larger budget is enough, the message names the smallest; else it names
            requirements that contradict each other, none of which can be left out for that.
    """
    program, alive = restricted_program(worth, pool, budget, required)
    if program.disjoint or n_networks is not None:
        counts = {n_networks} if n_networks is not None else {*range(1, MOST_COUNTS + 1), len(pool.tasks)}
        starts = [start for start in (_balanced(program, count) for count in counts) if program.allows(start)]
        if starts:
            return alive[np.sort(max(starts, key=program.value))]
    chosen = _greedy(program)
    if program.allows(chosen):
        return alive[chosen]
    deadline = max(deadline, time.monotonic() + FIRST_ANSWER)
    for charge in program.limits.each if len(program.limits.limit) else program.cost[None]:
        least_of = least_cover(program, charge, n_networks, deadline)
        if least_of is not None and program.allows(least_of):
            return alive[least_of]
    if not replace(program, budget=np.inf).allows(chosen):
        chosen = chosen[:0]
    exact, least = _cheapest(program, program.cost, deadline)
    chosen = exact if len(exact) else chosen
    size = "" if max_size is None else f" of at most {max_size} tasks each"
    none = f"No choice among the {len(pool.members)} candidate groups{size} covers all {len(pool.tasks)} tasks within"
    if len(chosen) == 0 and least < np.inf:
        raise ValueError(f"{none} all constraints, as far as the time allowed to search. Allow more time.")
    if len(chosen) == 0:
        raise _refusal(worth, pool, required, deadline, f" for the {len(pool.members)} candidate groups{size}")
    cheapest = float(program.cost[chosen].sum())
    if cheapest <= budget + SLACK:
        return alive[chosen]
    groups = shorten(", ".join(group_name(pool.names(row)) for row in alive[chosen]), MOST_LETTERS)
    found = f"The smallest budget that does is {cheapest:g}, with {groups}."
    if least < cheapest - PROVEN:
        found = f"In the time given, {cheapest:g} was found to be enough, with {groups}. Allow more time or budget."
    raise ValueError(f"{none} budget={budget:g}. {found}")


def _greedy(program: Program) -> NDArray[np.intp]:
    """The column with the most new tasks per cost, again and again; not all tasks if none of the rest fits."""
    missing = np.ones(program.worth.shape[1], dtype=np.bool_)
    chosen: list[int] = []
    while missing.any():
        new = (program.able & missing).sum(axis=1)
        if program.disjoint:
            new[(program.able & ~missing).any(axis=1)] = 0
        if new.max(initial=0) == 0:
            break
        best = int(np.argmax(np.where(new > 0, new / np.maximum(program.cost, LEAST_COST), -1.0)))
        chosen.append(best)
        missing &= ~program.able[best]
    return np.array(chosen, dtype=np.intp)


def _balanced(program: Program, n_networks: int) -> NDArray[np.intp]:
    """The column that is nearest to an equal share of the tasks that are left, again and again; no two overlap."""
    missing = np.ones(program.worth.shape[1], dtype=np.bool_)
    size = program.able.sum(axis=1)
    gross = np.where(program.able, program.worth, 0.0).sum(axis=1)
    chosen: list[int] = []
    for left in range(n_networks, 0, -1):
        fits = ~(program.able & ~missing).any(axis=1) & (missing.sum() - size >= left - 1)
        if not fits.any():
            break
        away = np.where(fits, np.abs(size - missing.sum() / left), np.inf)
        chosen.append(int(np.lexsort((-gross, program.cost, away))[0]))
        missing &= ~program.able[chosen[-1]]
    return np.array(chosen, dtype=np.intp)


def _cheapest(program: Program, charge: FloatArray, deadline: float) -> tuple[NDArray[np.intp], float]:
    """As `Program.cheapest`, by subsets of the tasks where these are few: HiGHS overruns its time on such programs."""
    nothing = np.empty(0, np.intp)
    if not program.able.any(axis=0).all():
        return nothing, np.inf
    free = replace(program, budget=np.inf)
    limits = program.limits
    if len(limits.limit) == 0 and not program.each_serves:
        chosen = least_cover(free, charge, None, deadline)
        if chosen is not None:
            return chosen, float(charge[chosen].sum()) if len(chosen) else np.inf
    for taken, limit in zip(limits.each, limits.limit, strict=True):
        least = least_cover(free, taken, None, deadline) if (taken >= 0).all() else None
        if least is not None and (len(least) == 0 or taken[least].sum() > limit + SLACK):
            return nothing, np.inf
    return program.cheapest(charge, deadline)


def _refusal(worth: FloatArray, pool: Pool, required: Sequence[Requirement], deadline: float, among: str) -> ValueError:
    """The error for requirements that no budget can meet: of these it names a set that has no needless member."""
    kept = list(required)
    for each in required:
        others = [other for other in kept if other is not each]
        program, _ = restricted_program(worth, pool, np.inf, others)
        if _cheapest(program, np.zeros(len(program.cost)), deadline)[1] == np.inf:
            kept = others
    if len(kept) == 1 and kept[0].resource is not None:
        others = [other for other in required if other is not kept[0]]
        program, alive = restricted_program(worth, pool, np.inf, others)
        used = pool.used[alive, kept[0].resource]
        chosen, _ = _cheapest(program, used, deadline)
        if len(chosen):
            among += f": the smallest limit that can be is {used[chosen].sum():g}"
    return contradiction([each.name for each in kept], among)
