"""The choice of groups as a linear program with 0/1 variables, for HiGHS."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, linear_sum_assignment, linprog, milp
from scipy.sparse import csr_array, eye_array, hstack, vstack

from cotrain.grouping.gains import BoolArray, FloatArray
from cotrain.grouping.geometry import IntArray

SHORTEST_LIMIT = 0.05
"""Seconds HiGHS is always given: it needs them to say anything at all."""

SHARP = 1e3
"""HiGHS stops within 1e-6 of the best objective, and scipy cannot ask for less: so the objective is enlarged."""

NOT_SERVED = -1e4
"""What counts as the worth of an uncovered task where infinities cannot be added up; worths are at most about 1."""

LEAST_COST = 1e-12
"""What a free column counts as where worth per cost is compared."""

SLACK = 1e-9
"""Rounding that a sum of costs is forgiven, and a row whose limit and entries are scaled to at most 1."""

INFEASIBLE = 2
"""The status by which scipy says that there is no solution."""


@dataclass(frozen=True)
class Rows:
    """Further limits on the chosen columns `y`: `each @ y <= limit`.

    Attributes:
        each: [m, n], what each column takes, at most 1 by size.
        limit: [m], at most 1 by size.
    """

    each: FloatArray
    limit: FloatArray

    @classmethod
    def scaled(cls, each: FloatArray, limit: FloatArray) -> Rows:
        """The rows divided by their largest number, as the tolerances here expect."""
        largest = np.maximum(np.abs(each).max(axis=1, initial=0.0), np.abs(limit))
        scale = np.where(largest > 0, largest, 1.0)
        return cls(each / scale[:, None], limit / scale)

    def room(self, chosen: NDArray[np.intp]) -> FloatArray:
        """[m], what the chosen columns leave of each limit."""
        return np.asarray(self.limit - self.each[:, chosen].sum(axis=1))


@dataclass(frozen=True)
class Program:
    """Cover every task once: choose columns (`y`, 0/1) and who serves whom (`z`), spending at most the budget.

    Attributes:
        worth: [n, T], minus infinity where the column cannot serve the task.
        cost: [n], at least 0.
        budget: What the chosen columns may cost together; infinity becomes what all columns cost together.
        rows: Further limits; None: there are none.
        disjoint: A column serves all tasks that it can serve (`z = y`), so that no two chosen columns share a task.
        each_serves: A chosen column serves at least one task.
    """

    worth: FloatArray
    cost: FloatArray
    budget: float
    rows: Rows | None = None
    disjoint: bool = False
    each_serves: bool = False
    able: BoolArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "able", np.isfinite(self.worth))
        object.__setattr__(self, "budget", float(self.cost.sum()) if np.isinf(self.budget) else self.budget)
        if self.rows is None:
            object.__setattr__(self, "rows", Rows(np.zeros((0, len(self.cost))), np.zeros(0)))

    @property
    def limits(self) -> Rows:
        """The further limits, possibly none."""
        assert self.rows is not None
        return self.rows

    @property
    def size(self) -> int:
        """How many variables the linear program has beside the columns, or as well."""
        return len(self.cost) if self.disjoint else int(self.able.sum())

    def subset(self, columns: NDArray[np.intp]) -> Program:
        """The same program with some of the columns only."""
        rows = Rows(self.limits.each[:, columns], self.limits.limit)
        return replace(self, worth=self.worth[columns], cost=self.cost[columns], rows=rows)

    def allows(self, chosen: NDArray[np.intp]) -> bool:
        """Whether some columns are a choice: within the budget and all limits, every task served as it must be."""
        if self.cost[chosen].sum() > self.budget + SLACK or (self.limits.room(chosen) < -SLACK).any():
            return False
        return bool(np.isfinite(self.value(chosen)))

    def value(self, chosen: NDArray[np.intp]) -> float:
        """The worth of a choice, each task served as well as the program allows; minus infinity if it is none."""
        return choice_value(self.worth[chosen], disjoint=self.disjoint, each_serves=self.each_serves)

    def prices(self, deadline: float) -> tuple[FloatArray, float, FloatArray] | None:
        """Dual prices of the linear relaxation: of each task [T], of a unit of budget, of each row [m].

        None if the time runs out.
        """
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
        of_limits = np.maximum(-result.ineqlin.marginals, 0.0)
        m = len(self.limits.limit)
        return -result.eqlin.marginals, float(of_limits[-1]), of_limits[len(of_limits) - 1 - m : -1]

    def best(self, deadline: float) -> tuple[NDArray[np.intp], float]:
        """The columns of the largest worth and an upper bound on it; no columns if none were found in time."""
        objective, equal, below, limit = self._matrices()
        constraints = [LinearConstraint(equal, 1, 1), LinearConstraint(below, -np.inf, limit)]
        chosen, lowest = _solve(-SHARP * objective, len(self.cost), constraints, deadline)
        # HiGHS forgives a limit more than we do: what it overdraws is no choice.
        return chosen if len(chosen) and self.allows(chosen) else chosen[:0], -lowest / SHARP

    def cheapest(self, charge: FloatArray, deadline: float) -> tuple[NDArray[np.intp], float]:
        """A choice that takes the least of a charge [n], whatever the budget and the worth, and a lower bound on it.

        No columns if none were found; then the bound is infinite if it is proven that there are none.
        """
        free = replace(self, budget=np.inf)
        served = LinearConstraint(csr_array(self.able.T.astype(np.float64)), 1, 1 if self.disjoint else np.inf)
        rows = LinearConstraint(self.limits.each, -np.inf, self.limits.limit)
        # Who serves whom is not asked at first: a program over the columns alone is much smaller.
        chosen, least = _solve(charge, len(charge), [served, rows] if len(self.limits.limit) else [served], deadline)
        if len(chosen) and free.allows(chosen):
            return chosen, least
        if not self.each_serves or np.isposinf(least):
            return chosen[:0], least
        _, equal, below, limit = free._matrices()
        padded = np.concatenate([charge, np.zeros(below.shape[1] - len(charge))])
        both = [LinearConstraint(equal, 1, 1), LinearConstraint(below, -np.inf, limit)]
        chosen, least = _solve(padded, len(charge), both, deadline)
        return chosen if len(chosen) and free.allows(chosen) else chosen[:0], least

    def _matrices(self) -> tuple[FloatArray, csr_array, csr_array, FloatArray]:
        """Objective, equalities (each task served once), inequalities (budget last) and their limits."""
        n, n_tasks = self.worth.shape
        own = vstack([csr_array(self.limits.each), csr_array(self.cost[None])])
        own_limits = np.append(self.limits.limit, self.budget)
        if self.disjoint:
            gross = np.where(self.able, self.worth, 0.0).sum(axis=1)
            return gross, csr_array(self.able.T.astype(np.float64)), csr_array(own), own_limits
        column, task = np.nonzero(self.able)
        pairs = np.arange(len(column))
        one = np.ones(len(column))
        size = n + len(column)
        objective = np.concatenate([np.zeros(n), self.worth[column, task]])
        equal = csr_array((one, (task, n + pairs)), shape=(n_tasks, size))
        link = csr_array(
            (np.concatenate([one, -one]), (np.tile(pairs, 2), np.concatenate([n + pairs, column]))),
            shape=(len(column), size),
        )
        blocks = [link]
        if self.each_serves:
            serving = csr_array((-one, (column, pairs)), shape=(n, len(column)))
            blocks.append(csr_array(hstack([csr_array(eye_array(n)), serving])))
        blocks.append(csr_array(hstack([own, csr_array((own.shape[0], len(column)))])))
        below = csr_array(vstack(blocks))
        return objective, equal, below, np.concatenate([np.zeros(below.shape[0] - len(own_limits)), own_limits])


def servers(worth: FloatArray, *, each_serves: bool = False) -> IntArray | None:
    """[T], which of k networks serves each task best, [k, T]; None if they cannot serve as they must.

    Args:
        worth: Minus infinity where a network cannot serve a task. Of equally good networks the first serves.
        each_serves: Whether every network must serve at least one task. Then each gets one of its own, such that the
            least is lost (an assignment), and the other tasks go to the best.
    """
    if len(worth) == 0 or np.isinf(worth.max(axis=0)).any():
        return None
    serving: IntArray = worth.argmax(axis=0)
    if each_serves and len(np.unique(serving)) < len(worth):
        if len(worth) > worth.shape[1]:
            return None
        lost = np.minimum(worth.max(axis=0) - worth, -NOT_SERVED)
        network, task = linear_sum_assignment(lost)
        if np.isinf(worth[network, task]).any():
            return None
        serving[task] = network
    return serving


def choice_value(worth: FloatArray, *, disjoint: bool, each_serves: bool) -> float:
    """What k chosen networks [k, T] are worth together; minus infinity if they are no choice."""
    if disjoint and (np.isfinite(worth).sum(axis=0) > 1).any():
        return -np.inf
    serving = servers(worth, each_serves=each_serves)
    return -np.inf if serving is None else float(worth[serving, np.arange(len(serving))].sum())


def largest_worth(worth: FloatArray) -> float:
    """The largest finite worth by size: what to divide by, as the tolerances here expect; 1 if all are 0."""
    return float(np.abs(worth[np.isfinite(worth)]).max(initial=0.0)) or 1.0


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
    if result.status == INFEASIBLE:
        return chosen, np.inf
    lowest = getattr(result, "mip_dual_bound", None)
    return chosen, -np.inf if lowest is None else float(lowest)


def _seconds_left(deadline: float) -> float:
    return max(deadline - time.monotonic(), SHORTEST_LIMIT)
