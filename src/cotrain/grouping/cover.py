"""The exact choice of groups: a good one by exchange, a bound by prices, the rest by HiGHS on what can still win."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cotrain.grouping.program import NOT_SERVED, SLACK, Program
from cotrain.grouping.relaxation import Relaxation, relax

OPTIMAL_GAP = 1e-6
"""A choice is proven optimal within this gap; worths are scaled to at most 1 first."""

TIE = 1e-9
"""Choices whose scaled values differ by less are tied."""

FIRST_COLUMNS = 100
"""Columns of the first exact solve; it rarely needs a second, with more."""

MOST_COLUMNS = 8_000
"""HiGHS overshoots its time limit on programs that are much larger."""

MOST_TIED_COLUMNS = 1_000
"""Ties are broken among this many columns; more can only be where nearly all gains are equal."""


@dataclass(frozen=True)
class Choice:
    """Chosen columns, what they are worth by plain addition, and a bound on all choices (units of the worth)."""

    columns: NDArray[np.intp]
    value: float
    bound: float
    optimal: bool


def choose(program: Program, start: NDArray[np.intp], deadline: float) -> Choice:
    """The columns of the largest worth within the budget; ties by cost, total size, then order of the columns.

    Args:
        program: Its columns stand in the order that is to break ties; its worths are at most about 1.
        start: A feasible choice.
        deadline: When to stop, as `time.monotonic` counts.
    """
    chosen = exchange(program, start, deadline)
    relaxation = relax(program, chosen, deadline)
    value, bound, limit = program.value(chosen), relaxation.bound, FIRST_COLUMNS
    while bound > value + TIE and time.monotonic() < deadline:
        reach = relaxation.bound_with()
        able = np.flatnonzero(reach > value + TIE)
        kept = np.union1d(able[np.argsort(-reach[able], kind="stable")[:limit]], chosen)
        found, most = program.subset(kept).best(deadline)
        if len(found) and program.value(kept[found]) > value:
            chosen = exchange(program, kept[found], deadline)
            value = program.value(chosen)
        left_out = reach[np.setdiff1d(able, kept)]
        bound = max(value, min(bound, max(most, left_out.max(initial=-np.inf))))
        if len(left_out) == 0 or limit == MOST_COLUMNS:
            break
        limit = min(limit * 5, MOST_COLUMNS)
    optimal = bound <= value + OPTIMAL_GAP
    if optimal:
        chosen = _break_ties(program, chosen, relaxation, deadline)
        value = program.value(chosen)
    return Choice(chosen, value, max(bound, value), optimal)


def exchange(program: Program, start: NDArray[np.intp], deadline: float) -> NDArray[np.intp]:
    """Adds a column, or else exchanges one for another, while that raises the worth within all limits.

    Disjoint columns, or columns that must each serve, cannot be judged one by one: they are left as they are.
    """
    if program.disjoint or program.each_serves:
        return np.sort(start)
    worth = np.where(program.able, program.worth, NOT_SERVED)
    chosen = list(start)
    value = float(worth[chosen].max(axis=0).sum())
    while time.monotonic() < deadline:
        for dropped in [None, *chosen]:
            kept = np.array([column for column in chosen if column != dropped], dtype=np.intp)
            served = worth[kept].max(axis=0, initial=NOT_SERVED)
            reached = np.where(_fits(program, kept), np.maximum(worth, served).sum(axis=1), -np.inf)
            best = int(reached.argmax())
            if reached[best] > value + TIE:
                chosen, value = [*kept, best], float(reached[best])
                break
        else:
            break
    return np.sort(np.array(chosen, dtype=np.intp))


def _fits(program: Program, kept: NDArray[np.intp]) -> NDArray[np.bool_]:
    """[n], whether each column fits beside the kept ones."""
    within = program.cost <= program.budget - program.cost[kept].sum() + SLACK
    if len(program.limits.limit):
        within = within & (program.limits.each <= program.limits.room(kept)[:, None] + SLACK).all(axis=0)
    return np.asarray(within)


def _break_ties(
    program: Program, chosen: NDArray[np.intp], relaxation: Relaxation, deadline: float
) -> NDArray[np.intp]:
    """An equal choice at the lowest cost; then single exchanges for fewer tasks and an earlier place."""
    floor = program.value(chosen) - TIE
    tied = np.flatnonzero(relaxation.bound_with() >= floor)
    if len(tied) > MOST_TIED_COLUMNS:
        tied = np.union1d(tied[np.argsort(program.cost[tied], kind="stable")[:MOST_TIED_COLUMNS]], chosen)
    small = program.subset(tied)
    while time.monotonic() < deadline:
        less = float(program.cost[chosen].sum()) - 2 * SLACK
        if less < 0:
            break
        found, _ = replace(small, budget=less).best(deadline)
        if len(found) == 0 or small.cost[found].sum() > less or small.value(found) < floor:
            break
        chosen = tied[found]
    ranked = tied[np.argsort(small.cost, kind="stable")]
    while (simpler := _simpler(program, chosen, ranked, floor)) is not None:
        chosen = simpler
    return chosen


def _simpler(
    program: Program, chosen: NDArray[np.intp], ranked: NDArray[np.intp], floor: float
) -> NDArray[np.intp] | None:
    """The choice without a needless column, or with a column exchanged for one that is ranked before it."""
    rank = {int(column): position for position, column in enumerate(ranked)}
    for column in sorted(chosen.tolist(), key=rank.__getitem__, reverse=True):
        kept: NDArray[np.intp] = chosen[chosen != column]
        if len(kept) and program.value(kept) >= floor and program.allows(kept):
            return kept
        if program.disjoint or program.each_serves:
            continue
        before = ranked[: rank[column]]
        served = program.worth[kept].max(axis=0, initial=-np.inf)
        reached = np.maximum(program.worth[before], served).sum(axis=1)
        fits = _fits(program, kept)[before] & (program.cost[before] <= program.cost[column])
        fit = before[(reached >= floor) & fits]
        if len(fit):
            return np.sort(np.append(kept, fit[0]))
    return None
