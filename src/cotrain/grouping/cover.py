"""The exact choice of groups: a good one by exchange, a bound by prices, the rest by HiGHS on what can still win."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cotrain.grouping.gains import FloatArray
from cotrain.grouping.program import NOT_SERVED, Program
from cotrain.grouping.relaxation import Relaxation, relax

OPTIMAL_GAP = 1e-6
"""A choice is proven optimal within this gap; worths are scaled to at most 1 first."""

TIE = 1e-9
"""Choices whose scaled values differ by less are tied."""

BUDGET_SLACK = 1e-9
"""Rounding that a sum of costs is forgiven."""

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
    value, bound, limit = cover_value(program.worth, chosen), relaxation.bound, FIRST_COLUMNS
    while bound > value + TIE and time.monotonic() < deadline:
        reach = relaxation.bound_with()
        able = np.flatnonzero(reach > value + TIE)
        kept = np.union1d(able[np.argsort(-reach[able], kind="stable")[:limit]], chosen)
        found, most = program.subset(kept).best(deadline)
        if len(found) and cover_value(program.worth, kept[found]) > value:
            chosen = exchange(program, kept[found], deadline)
            value = cover_value(program.worth, chosen)
        left_out = reach[np.setdiff1d(able, kept)]
        bound = max(value, min(bound, max(most, left_out.max(initial=-np.inf))))
        if len(left_out) == 0 or limit == MOST_COLUMNS:
            break
        limit = min(limit * 5, MOST_COLUMNS)
    optimal = bound <= value + OPTIMAL_GAP
    if optimal:
        chosen = _break_ties(program, chosen, relaxation, deadline)
        value = cover_value(program.worth, chosen)
    return Choice(chosen, value, max(bound, value), optimal)


def cover_value(worth: FloatArray, chosen: NDArray[np.intp]) -> float:
    """The worth of a choice, each task served by its best chosen column; minus infinity if one has none."""
    return float(worth[chosen].max(axis=0).sum())


def exchange(program: Program, start: NDArray[np.intp], deadline: float) -> NDArray[np.intp]:
    """Adds a column, or else exchanges one for another, while that raises the worth within the budget."""
    worth = np.where(np.isfinite(program.worth), program.worth, NOT_SERVED)
    chosen = list(start)
    value = float(worth[chosen].max(axis=0).sum())
    while time.monotonic() < deadline:
        for dropped in [None, *chosen]:
            kept = [column for column in chosen if column != dropped]
            room = program.budget - program.cost[kept].sum() + BUDGET_SLACK
            served = worth[kept].max(axis=0, initial=NOT_SERVED)
            reached = np.where(program.cost <= room, np.maximum(worth, served).sum(axis=1), -np.inf)
            best = int(reached.argmax())
            if reached[best] > value + TIE:
                chosen, value = [*kept, best], float(reached[best])
                break
        else:
            break
    return np.sort(np.array(chosen, dtype=np.intp))


def _break_ties(
    program: Program, chosen: NDArray[np.intp], relaxation: Relaxation, deadline: float
) -> NDArray[np.intp]:
    """An equal choice at the lowest cost; then single exchanges for fewer tasks and an earlier place."""
    floor = cover_value(program.worth, chosen) - TIE
    tied = np.flatnonzero(relaxation.bound_with() >= floor)
    size = np.isfinite(program.worth).sum(axis=1)
    if len(tied) > MOST_TIED_COLUMNS:
        tied = np.union1d(tied[np.argsort(program.cost[tied], kind="stable")[:MOST_TIED_COLUMNS]], chosen)
    small = program.subset(tied)
    while time.monotonic() < deadline:
        less = float(program.cost[chosen].sum()) - 2 * BUDGET_SLACK
        found, _ = replace(small, budget=less).best(deadline)
        if len(found) == 0 or small.cost[found].sum() > less or cover_value(small.worth, found) < floor:
            break
        chosen = tied[found]
    place = np.lexsort((np.arange(len(tied)), size[tied], small.cost))
    ranked = tied[place]
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
        if len(kept) and cover_value(program.worth, kept) >= floor:
            return kept
        before = ranked[: rank[column]]
        served = program.worth[kept].max(axis=0, initial=-np.inf)
        reached = np.maximum(program.worth[before], served).sum(axis=1)
        fits = before[(reached >= floor) & (program.cost[before] <= program.cost[column])]
        if len(fits):
            return np.sort(np.append(kept, fits[0]))
    return None
