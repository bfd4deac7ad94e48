"""Find the candidates worth having when there are too many groups to list: price, move, add, and again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from cotrain.grouping.candidates import Candidate, Pool, Valuer, first_groups, in_order, merge, take, with_extra
from cotrain.grouping.cover import TIE, cover_value, exchange
from cotrain.grouping.covering import covering
from cotrain.grouping.gains import BoolArray, FloatArray
from cotrain.grouping.program import NOT_SERVED, Program, largest_worth
from cotrain.grouping.relaxation import PRICE_TOLERANCE, near_prices, reduced_values

SEEDS = 20
"""Groups that are improved at a time: enough variety, and a thousand neighbours for a hundred tasks."""

STEPS = 6
"""Moves between two solves for new prices; prices age as the groups improve."""

MOST_TASKS_TO_SWAP = 40
"""Exchanges are quadratic in number; for more tasks an addition and a drop in two steps have to do."""

MOST_CANDIDATES = 5_000
"""The pool keeps at most this many predicted groups: the best at the current prices."""

PATIENCE = 3
"""Rounds of new prices without a better choice."""


def generated_pool(
    valuer: Valuer,
    value_of: Callable[[Pool], FloatArray],
    budget: float,
    extra: Sequence[Candidate],
    deadline: float,
) -> tuple[Pool, NDArray[np.intp]]:
    """The first candidates and all that column generation adds to them, with the extra networks; and a good choice.

    With dual prices `pi` of the tasks and `mu` of the budget, a missing group is worth having if
    `sum over its tasks of max(0, worth - pi) > mu * cost`. The best groups at hand are improved towards that by
    adding, dropping and swapping single tasks, until new prices find nothing more. It is a local search: what it
    finds is good and has no proof. The same input gives the same pool, unless the time runs out.

    Args:
        valuer: Values groups.
        value_of: What each of a pool's candidates is worth [n, T] for the objective, in any unit.
        budget: The budget.
        extra: Networks outside the gain model.
        deadline: When to stop, as `time.monotonic` counts.

    Raises:
        ValueError: If the first candidates cannot cover all tasks within the budget.
    """
    base = pool = valuer.value(first_groups(valuer.gains, valuer.max_size))
    scale = largest_worth(value_of(base))

    def worth_of(some: Pool) -> FloatArray:
        return value_of(some) / scale

    now = with_extra(pool, extra)
    chosen = covering(now, budget, valuer.max_size, deadline)
    best_value, waited = -np.inf, 0
    while True:
        program = Program(worth_of(now), now.cost, budget)
        chosen = exchange(program, chosen, deadline)
        value = cover_value(program.worth, chosen)
        waited = 0 if value > best_value + TIE else waited + 1
        best_value = max(value, best_value)
        if waited == PATIENCE or time.monotonic() > deadline:
            return now, chosen
        prices = near_prices(program, chosen, deadline)
        leaders = np.argsort(-prices.reduced, kind="stable")[:SEEDS]
        seeds = now.members[np.union1d(leaders, chosen)]
        found = _improve(valuer, worth_of, (prices.pi, prices.mu), 0.0, seeds, deadline)
        for column in chosen:
            # What the other chosen groups give each task is its price for whoever takes the place of this one.
            others = chosen[chosen != column]
            served = program.worth[others].max(axis=0, initial=NOT_SERVED)
            own = reduced_values(program.worth[[column]], program.cost[[column]], served, prices.mu)
            found += _improve(valuer, worth_of, (served, prices.mu), float(own[0]), now.members[[column]], deadline)
        without_helpers = np.arange(len(chosen))[:, None] == program.worth[chosen].argmax(axis=0)
        found.append(valuer.value(in_order(without_helpers[without_helpers.any(axis=1)])))
        grown = merge([pool, *found])
        if len(grown.members) == len(pool.members):
            return now, chosen
        if len(grown.members) > MOST_CANDIDATES + len(base.members):
            reduced = reduced_values(worth_of(grown), grown.cost, prices.pi, prices.mu)
            best = np.sort(np.argsort(-reduced, kind="stable")[:MOST_CANDIDATES])
            grown = merge([base, valuer.value(in_order(now.members[chosen])), take(grown, best)])
        pool, before = grown, take(now, chosen)
        now = with_extra(pool, extra)
        chosen = _rows_of(before, now)


def _improve(
    valuer: Valuer,
    worth_of: Callable[[Pool], FloatArray],
    prices: tuple[FloatArray, float],
    floor: float,
    seeds: BoolArray,
    deadline: float,
) -> list[Pool]:
    """The groups within a few moves of the seeds [k, T] that are worth more than the floor at these prices."""
    found: list[Pool] = []
    for step in range(STEPS):
        if time.monotonic() > deadline:
            break
        tried = valuer.value(_neighbours(seeds, valuer.max_size, swap=step == 0))
        reduced = reduced_values(worth_of(tried), tried.cost, *prices)
        better = np.flatnonzero(reduced > floor + PRICE_TOLERANCE)
        if len(better) == 0:
            break
        better = better[np.argsort(-reduced[better], kind="stable")]
        found.append(take(tried, np.sort(better[: MOST_CANDIDATES // STEPS])))
        seeds = tried.members[better[:SEEDS]]
    return found


def _rows_of(some: Pool, pool: Pool) -> NDArray[np.intp]:
    """Where each of some candidates stands in a pool that holds them."""
    same = (pool.members == some.members[:, None]).all(axis=2) & (pool.cost == some.cost[:, None])
    return np.asarray((same & (pool.labels == some.labels[:, None])).argmax(axis=1))


def _neighbours(groups: BoolArray, max_size: int | None, *, swap: bool) -> BoolArray:
    """[m, T], all groups that differ by one task, or also by one task exchanged for another."""
    count = groups.shape[1]
    toggle = np.eye(count, dtype=np.bool_)
    if swap and count <= MOST_TASKS_TO_SWAP:
        first, second = np.triu_indices(count, 1)
        toggle = np.concatenate([toggle, toggle[first] | toggle[second]])
    near = (groups[:, None, :] ^ toggle[None]).reshape(-1, count)
    size = near.sum(axis=1)
    return in_order(near[(size >= 1) & (size <= (max_size or count))])
