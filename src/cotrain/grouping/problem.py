"""A selection with everything that it depends on: candidates, what they are worth, limits; and its solution."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cotrain.grouping.appraisal import Appraisal
from cotrain.grouping.candidates import Candidate, Pool, Valuer, listed_groups, take
from cotrain.grouping.constraints import Constraints
from cotrain.grouping.costs import Costs
from cotrain.grouping.cover import choose
from cotrain.grouping.covering import covering
from cotrain.grouping.gains import FloatArray, GainModel
from cotrain.grouping.generation import generated_pool
from cotrain.grouping.grouping import Group, Grouping, Status
from cotrain.grouping.objective import Objective
from cotrain.grouping.partition_pool import partition_pool
from cotrain.grouping.program import Program, largest_worth, servers
from cotrain.grouping.requirements import check_named_tasks
from cotrain.grouping.subset_partition import best_partition

__all__ = ["Problem", "make_problem", "valued_grouping"]

GENERATION_SHARE = 0.5
"""Share of the time limit for finding candidates; the rest is for choosing among them."""


@dataclass(frozen=True)
class Problem:
    """Candidates, and the program that chooses among them.

    Attributes:
        candidates: All of them.
        alive: Which of them can serve a task under the constraints.
        pool: These.
        appraisal: Says what candidates are worth.
        program: Over the pool; its worths are divided by `scale`.
        scale: The largest worth by size.
        budget: What the networks may cost together; None: no limit.
        generated_by: How the candidates were found; empty if all groups that may be chosen were listed.
        start: A choice from the pool that respects all limits; None if none was sought yet.
    """

    candidates: Pool
    alive: NDArray[np.intp]
    pool: Pool
    appraisal: Appraisal
    program: Program
    scale: float
    budget: float | None
    generated_by: str
    start: NDArray[np.intp] | None = None

    def started(self, deadline: float) -> Problem:
        """The same with a choice to start from, which a dynamic programme over subsets does not need.

        Raises:
            ValueError: See `covering`.
        """
        if self.start is not None:
            return self
        constraints = self.appraisal.constraints
        required = self.appraisal.required(self.candidates)
        rows = covering(
            self.candidates,
            self.appraisal.worth(self.candidates),
            np.inf if self.budget is None else self.budget,
            constraints.max_size,
            deadline,
            required,
            constraints.n_networks,
        )
        return replace(self, start=np.searchsorted(self.alive, rows))

    def solve(self, started: float, deadline: float) -> Grouping:
        """The best choice; both times as `time.monotonic` counts."""
        solver, choice = "subset dynamic programme", None
        constraints = self.appraisal.constraints
        if self.program.disjoint and not constraints.resources:
            choice = best_partition(self.program, constraints.n_networks, deadline)
        if choice is None:
            start = self.started(deadline).start
            assert start is not None, "a problem that was started has a start"
            solver, choice = "HiGHS", choose(self.program, start, deadline)
        proven: Status = "optimal" if choice.optimal else "time_limit"
        grouping = valued_grouping(
            self.pool,
            choice.columns,
            self.appraisal,
            "heuristic" if self.generated_by else proven,
            allowed=self.program.able,
            each_serves=self.program.each_serves,
        )
        bound = max(choice.bound * self.scale, grouping.value)
        return replace(
            grouping,
            bound=None if self.generated_by else bound,
            pool_gap=bound - grouping.value,
            solver=", ".join(filter(None, [self.generated_by, solver])),
            seconds=time.monotonic() - started,
            budget=self.budget,
            n_candidates=len(self.candidates.members),
        )

    def with_gains(self, mean: FloatArray) -> Problem:
        """The same candidates and limits with other gains [n, T], taken as exact."""
        pool = replace(self.pool, mean=mean, std=np.where(self.pool.members, 0.0, np.nan))
        appraisal = replace(self.appraisal, goal=replace(self.appraisal.goal, kappa=0.0))
        worth = np.where(self.program.able, appraisal.worth(pool), -np.inf)
        scale = largest_worth(worth)
        program = replace(self.program, worth=worth / scale)
        return replace(self, pool=pool, appraisal=appraisal, program=program, scale=scale)


def make_problem(
    gains: GainModel,
    goal: Objective,
    *,
    budget: float,
    costs: Costs | None,
    constraints: Constraints,
    extra: Sequence[Candidate],
    time_limit: float,
) -> Problem:
    """Lists or finds the candidates, values them and applies the constraints; see `select_groups`."""
    started = time.monotonic()
    check_named_tasks(constraints, gains.tasks, budget, counts_networks=costs is None and not extra)
    largest = constraints.max_size
    trained = frozenset(map(frozenset, constraints.trained))
    valuer = Valuer(gains, costs, goal.kappa, largest, tuple(constraints.resources), trained)
    appraisal = Appraisal(goal, tuple(gains.tasks), constraints)
    listed, by, known = listed_groups(gains, largest, tuple(map(tuple, trained))), "", None
    share = started + GENERATION_SHARE * time_limit
    if listed is not None:
        pool = valuer.with_extra(valuer.value(listed), extra)
    elif constraints.helpers:
        (pool, known), by = generated_pool(valuer, appraisal, budget, extra, share), "column generation"
    else:
        (pool, known), by = partition_pool(valuer, appraisal, budget, extra, share), "local search"
    program, alive = appraisal.program(pool, budget)
    exactly = constraints.n_networks
    if exactly is not None:
        # What the dearest cost together is never exceeded: a budget that binds makes the first bounds much tighter.
        most = float(np.sort(program.cost)[-exactly:].sum())
        program = replace(program, budget=min(program.budget, most))
    start = None
    if known is not None and exactly in (None, len(known)):
        start = np.searchsorted(alive, known)
    scale = largest_worth(program.worth)
    return Problem(
        pool,
        alive,
        take(pool, alive),
        appraisal,
        replace(program, worth=program.worth / scale),
        scale,
        float(budget) if math.isfinite(budget) else None,
        by,
        start,
    )


def valued_grouping(
    pool: Pool,
    rows: NDArray[np.intp],
    appraisal: Appraisal,
    status: Status,
    *,
    allowed: NDArray[np.bool_] | None = None,
    each_serves: bool = False,
) -> Grouping:
    """The grouping of the chosen candidates, valued by plain addition over the tasks.

    Args:
        pool: The candidates.
        rows: Those chosen.
        appraisal: Says what they are worth.
        status: Of the grouping.
        allowed: [n, T], which candidate may serve which of its tasks; None: all.
        each_serves: Whether each of the chosen must serve a task; else one that serves nobody is left out.
    """
    goal, tasks = appraisal.goal, appraisal.tasks
    worth = appraisal.worth(pool)[rows]
    possible = worth if allowed is None else np.where(allowed[rows], worth, -np.inf)
    server = servers(possible, each_serves=each_serves)
    assert server is not None, "a choice of groups serves every task"
    each = np.arange(len(pool.tasks))
    certain = replace(appraisal, goal=replace(goal, kappa=0.0))
    groups = []
    for i, row in enumerate(rows):
        if not (server == i).any():
            continue
        served = {pool.tasks[j] for j in np.flatnonzero(server == i)}
        trains = pool.names(row)
        groups.append(
            Group(
                trains=tuple(task for task in tasks if task in trains),
                serves=tuple(task for task in tasks if task in served),
                cost=float(pool.cost[row]),
                measured=bool(pool.measured[row]),
                label=str(pool.labels[row]),
            )
        )
    return Grouping(
        tuple(groups),
        value=math.fsum(worth[server, each]),
        value_at_mean=math.fsum(certain.worth(pool)[rows][server, each]),
        objective=goal.name,
        kappa=goal.kappa,
        status=status,
        n_candidates=len(pool.members),
    )
