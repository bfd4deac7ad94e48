"""The choice of groups as a linear program with 0/1 variables, for HiGHS."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import csr_array, vstack

from cotrain.grouping.gains import FloatArray

SHORTEST_LIMIT = 0.05
"""Seconds HiGHS is always given: it needs them to say anything at all."""


SHARP = 1e3
"""HiGHS stops within 1e-6 of the best objective, and scipy cannot ask for less: so the objective is enlarged."""

NOT_SERVED = -1e4
"""What counts as the worth of an uncovered task where infinities cannot be added up; worths are at most about 1."""

LEAST_COST = 1e-12
"""What a free column counts as where worth per cost is compared."""


@dataclass(frozen=True)
class Program:
    """Cover every task once: choose columns (`y`, 0/1) and who serves whom (`z`), spending at most the budget.

    Attributes:
        worth: [n, T], minus infinity where the task is not in the column.
        cost: [n], at least 0.
        budget: What the chosen columns may cost together.
    """

    worth: FloatArray
    cost: FloatArray
    budget: float

    def subset(self, columns: NDArray[np.intp]) -> Program:
        """The same program with some of the columns only."""
        return Program(self.worth[columns], self.cost[columns], self.budget)

    def prices(self, deadline: float) -> tuple[FloatArray, float] | None:
        """Dual prices of the linear relaxation: one per task [T], one per unit of budget; None if out of time."""
        objective, equal, below, limit = self._matrices()
        # A pair's limit of 1 follows from its column's: given twice, part of the price would go to the wrong one.
        n = len(self.cost)
        bounds: list[tuple[float, float | None]] = [(0.0, 1.0)] * n
        bounds += [(0.0, None)] * (len(objective) - n)
        result = linprog(  # type: ignore[call-overload]  # the stubs do not know sparse tables
            -objective,
            A_ub=below,
            b_ub=limit,
            A_eq=equal,
            b_eq=np.ones(self.worth.shape[1]),
            bounds=bounds,
            method="highs",
            options={"time_limit": _seconds_left(deadline)},
        )
        if result.status != 0:
            return None
        return -result.eqlin.marginals, max(float(-result.ineqlin.marginals[-1]), 0.0)

    def best(self, deadline: float) -> tuple[NDArray[np.intp], float]:
        """The columns of the largest worth and an upper bound on it; no columns if none were found in time."""
        objective, equal, below, limit = self._matrices()
        constraints = [LinearConstraint(equal, 1, 1), LinearConstraint(below, -np.inf, limit)]
        chosen, lowest = _solve(-SHARP * objective, len(self.cost), constraints, deadline)
        return chosen, -lowest / SHARP

    def _matrices(self) -> tuple[FloatArray, csr_array, csr_array, FloatArray]:
        """Objective, equalities (each task served once), inequalities (`z <= y`, budget last) and their limits."""
        n, n_tasks = self.worth.shape
        column, task = np.nonzero(np.isfinite(self.worth))
        pairs = np.arange(len(column))
        one = np.ones(len(column))
        size = n + len(column)
        objective = np.concatenate([np.zeros(n), self.worth[column, task]])
        equal = csr_array((one, (task, n + pairs)), shape=(n_tasks, size))
        link = csr_array(
            (np.concatenate([one, -one]), (np.tile(pairs, 2), np.concatenate([n + pairs, column]))),
            shape=(len(column), size),
        )
        spend = csr_array((self.cost, (np.zeros(n, dtype=np.intp), np.arange(n))), shape=(1, size))
        return objective, equal, csr_array(vstack([link, spend])), np.append(np.zeros(len(column)), self.budget)


def largest_worth(worth: FloatArray) -> float:
    """The largest finite worth by size: what to divide by, as the tolerances here expect; 1 if all are 0."""
    return float(np.abs(worth[np.isfinite(worth)]).max()) or 1.0


def cheapest_cover(members: NDArray[np.bool_], cost: FloatArray, deadline: float) -> tuple[NDArray[np.intp], float]:
    """The columns that cover every task at the least cost, and a lower bound on that cost; [n, T] and [n]."""
    rows = LinearConstraint(csr_array(members.T.astype(np.float64)), 1, np.inf)
    return _solve(cost, len(cost), [rows], deadline)


def _solve(
    charge: FloatArray, n_binary: int, constraints: list[LinearConstraint], deadline: float
) -> tuple[NDArray[np.intp], float]:
    integrality = np.zeros(len(charge), dtype=np.intp)
    integrality[:n_binary] = 1
    result = milp(
        charge,
        integrality=integrality,
        bounds=Bounds(0, 1),
        constraints=constraints,
        options={"mip_rel_gap": 0.0, "time_limit": _seconds_left(deadline)},
    )
    chosen = np.empty(0, np.intp) if result.x is None else np.flatnonzero(result.x[:n_binary] > 0.5)
    lowest = getattr(result, "mip_dual_bound", None)
    return chosen, -np.inf if lowest is None else float(lowest)


def _seconds_left(deadline: float) -> float:
    return max(deadline - time.monotonic(), SHORTEST_LIMIT)
