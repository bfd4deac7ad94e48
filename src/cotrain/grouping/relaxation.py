"""A bound on every choice of groups, and on every choice that holds a given group, from prices of the tasks."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cotrain.grouping.gains import FloatArray
from cotrain.grouping.program import LEAST_COST, Program

PRICE_TOLERANCE = 1e-7
"""HiGHS's own tolerance on reduced values: below it a column cannot improve the relaxation."""

COLUMNS_PER_ROUND = 150
"""Enough to end within a few rounds, few enough for a linear program of some hundredths of a second."""

MOST_PAIRS = 3_000
"""Pairs of column and task in a linear program: with more it takes seconds."""

MOST_STEPS = 200
"""Subgradient steps; after them the bound hardly falls."""

PATIENCE = 8
"""Steps without a better bound before the steps become shorter."""


@dataclass(frozen=True)
class Relaxation:
    """Prices and what follows from them, for any prices (Lagrange).

    With `pi` [T], `mu >= 0` and `rho >= 0` [m], no choice is worth more than
    `sum(pi) + mu * budget + rho @ limits + sum over columns of max(0, reduced)`, where
    `reduced = sum over tasks of max(0, worth - pi) - mu * cost - rho @ rows`. Of a column that must serve all its
    tasks the negative summands count too.

    Attributes:
        pi: [T], price of each task.
        mu: Price of a unit of budget.
        reduced: [n], what each column is worth at these prices.
        bound: The bound above.
    """

    pi: FloatArray
    mu: float
    reduced: FloatArray
    bound: float

    def bound_with(self) -> FloatArray:
        """[n], an upper bound on every choice that holds the column."""
        return self.bound + np.minimum(self.reduced, 0.0)


def reduced_values(worth: FloatArray, cost: FloatArray, pi: FloatArray, mu: float) -> FloatArray:
    """[n], what each column is worth at the prices `pi` [T] of the tasks and `mu` of the budget."""
    return np.asarray(np.maximum(worth - pi, 0.0).sum(axis=1) - mu * cost)


def price_at(program: Program, pi: FloatArray, mu: float, rho: FloatArray | None = None) -> Relaxation:
    """The bound that given prices prove for a program; without `rho` its rows are not priced."""
    price = np.zeros(len(program.limits.limit)) if rho is None else rho
    over = program.worth - pi
    counted = program.able if program.disjoint else over > 0
    value = np.where(counted, over, 0.0).sum(axis=1)
    reduced = value - mu * program.cost - price @ program.limits.each
    spent = mu * program.budget + price @ program.limits.limit
    return Relaxation(pi, mu, reduced, float(pi.sum() + spent + np.maximum(reduced, 0.0).sum()))


def near_prices(program: Program, start: NDArray[np.intp], deadline: float) -> Relaxation:
    """Good prices in a time that grows only with the size of the table: subgradient steps (Polyak, 1969).

    A task that the best columns at these prices would serve twice becomes dearer, one that none would serve cheaper;
    the step is such that the bound would meet the worth of `start` if it fell in a straight line.

    Args:
        program: All columns.
        start: A feasible choice.
        deadline: When to stop, as `time.monotonic` counts; the bound is valid at any time.
    """
    pi = program.worth[start].max(axis=0)
    target, stride, waited = program.value(start), 1.0, 0
    best = min(price_at(program, pi, 0.0), price_at(program, _highest(program), 0.0), key=lambda each: each.bound)
    for _ in range(MOST_STEPS):
        over = program.worth - pi
        serving = program.able if program.disjoint else over > 0
        value = np.maximum(np.where(serving, over, 0.0).sum(axis=1), 0.0)
        taken, mu = _fill(value, program.cost, program.budget)
        now = price_at(program, pi, mu)
        if now.bound < best.bound:
            best, waited = now, 0
        else:
            waited += 1
            if waited == PATIENCE:
                stride, waited, pi = stride / 2, 0, best.pi
                continue
        slope = 1.0 - (taken * (value > 0)) @ serving
        steep = float(slope @ slope)
        if steep == 0 or best.bound <= target + PRICE_TOLERANCE or time.monotonic() > deadline:
            break
        pi = pi - stride * (now.bound - target) / steep * slope
    return best


def relax(program: Program, start: NDArray[np.intp], deadline: float) -> Relaxation:
    """The best prices: those of the linear relaxation over all columns, or near ones where that would take long.

    Only few columns are in the linear program at a time; those that the prices find profitable join (Dantzig and
    Wolfe, 1960) until there are none. So tens of thousands of columns take a fraction of a second.

    Args:
        program: All columns.
        start: A feasible choice.
        deadline: When to stop, as `time.monotonic` counts; the bound is valid at any time.
    """
    best = near_prices(program, start, deadline)
    active = np.union1d(start, np.argsort(-best.reduced, kind="stable")[:COLUMNS_PER_ROUND])
    while time.monotonic() < deadline and program.subset(active).size <= MOST_PAIRS:
        prices = program.subset(active).prices(deadline)
        if prices is None:
            break
        now = price_at(program, *prices)
        best = min(best, now, key=lambda relaxation: relaxation.bound)
        outside = np.setdiff1d(np.flatnonzero(now.reduced > PRICE_TOLERANCE), active)
        if len(outside) == 0:
            break
        order = np.argsort(-now.reduced[outside], kind="stable")
        active = np.union1d(active, outside[order[:COLUMNS_PER_ROUND]])
    return best


def _highest(program: Program) -> FloatArray:
    """[T], prices at which no column is worth having: of each task its best column's worth, or share of the worth."""
    if not program.disjoint:
        return np.asarray(program.worth.max(axis=0))
    share = np.where(program.able, program.worth, 0.0).sum(axis=1) / program.able.sum(axis=1)
    return np.asarray(np.where(program.able, share[:, None], -np.inf).max(axis=0))


def _fill(value: FloatArray, cost: FloatArray, budget: float) -> tuple[FloatArray, float]:
    """The share [n] taken of each column when the budget buys the most value, and the value of one more unit."""
    order = np.argsort(-value / np.maximum(cost, LEAST_COST), kind="stable")
    spent = np.cumsum(cost[order])
    taken = np.zeros(len(cost))
    fits = int(np.searchsorted(spent, budget, side="right"))
    taken[order[:fits]] = 1.0
    if fits == len(order):
        return taken, 0.0
    last = order[fits]
    taken[last] = (budget - (spent[fits] - cost[last])) / cost[last]
    return taken, float(value[last] / cost[last])
