"""How far a selection depends on gains that are not known exactly: draw them again, and select again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cotrain.grouping.candidates import Candidate
from cotrain.grouping.constraints import Constraints
from cotrain.grouping.costs import Costs
from cotrain.grouping.gains import BoolArray, FloatArray, GainModel, check_model
from cotrain.grouping.grouping import Grouping
from cotrain.grouping.objective import ObjectiveName, Weights, make_objective
from cotrain.grouping.problem import Problem, make_problem
from cotrain.grouping.selection import check_budget, checked_limit, with_size

__all__ = ["SelectionStability", "selection_stability"]


@dataclass(frozen=True, eq=False)
class SelectionStability:
    """A selection, and what would be selected if the gains were others that are as likely.

    Attributes:
        grouping: The selection from the predicted gains.
        tasks: T names.
        together: [T, T], the share of the draws in which one network serves both tasks; 1 on the diagonal.
        chosen: The share of the draws in which each group was trained, by its names in the order of `tasks`; the most
            frequent first. Groups that were never chosen are not there.
        gain: [T], the predicted gain of each task in the selection.
        std: [T], its standard deviation.
        n_draws: How many draws there were: fewer than asked for if the time ran out.
    """

    grouping: Grouping
    tasks: tuple[str, ...]
    together: FloatArray
    chosen: dict[tuple[str, ...], float]
    gain: FloatArray
    std: FloatArray
    n_draws: int

    @property
    def distinguishable(self) -> BoolArray:
        """[T], whether the gain over training alone is at least its own standard deviation.

        A task that is served by a network of its own has gain 0 and standard deviation 0, and is at the singles.
        """
        return np.asarray((self.gain >= self.std) & (self.gain > 0))

    @property
    def group_shares(self) -> tuple[float, ...]:
        """How often each network of the selection was chosen again, in the order of `grouping.groups`."""
        return tuple(self.chosen.get(group.trains, 0.0) for group in self.grouping.groups)

    def __str__(self) -> str:
        """A line per network, how often it was chosen again and which of its gains cannot be told from none."""
        place = {task: j for j, task in enumerate(self.tasks)}
        clear = self.distinguishable
        lines = [f"Chosen again in {self.n_draws} draws of the gains:"]
        for group, share in zip(self.grouping.groups, self.group_shares, strict=True):
            unclear = [task for task in group.serves if len(group.trains) > 1 and not clear[place[task]]]
            text = "" if group.measured else "; predicted, unverified"
            text += f"; not distinguishable from training alone: {', '.join(unclear)}" if unclear else ""
            lines.append(f"{share:4.0%} {group}{text}")
        return "\n".join(lines)


def selection_stability(
    gains: GainModel,
    *,
    budget: float,
    draws: int = 100,
    seed: int = 0,
    costs: Costs | None = None,
    max_size: int | None = None,
    time_limit: float = 60.0,
    objective: ObjectiveName = "auto",
    weights: Weights | None = None,
    kappa: float = 1.0,
    extra: Sequence[Candidate] = (),
    constraints: Constraints | None = None,
) -> SelectionStability:
    """Selects from the predicted gains, and again from gains drawn around them.

    Each draw is a table of gains from `N(mean, std)`, independent for every task of every candidate, and taken as
    exact; what is not uncertain stays as it is. The candidates, and which of them the constraints allow, are those
    of the predicted gains in every draw.

    Args:
        gains: The gain model; its standard deviations must be finite.
        budget: See `select_groups`, as all that is not named here.
        draws: How many tables are drawn. With 100 the standard error of a share is at most 0.05.
        seed: Decides the draws.
        costs: See `select_groups`.
        max_size: See `select_groups`.
        time_limit: Seconds for everything; the selection itself may take half, and at least one draw is made.
        objective: See `select_groups`.
        weights: See `select_groups`.
        kappa: Of the selection; the draws deduct nothing.
        extra: See `select_groups`; their gains are taken as exact.
        constraints: See `select_groups`.

    Raises:
        ValueError: As `select_groups`; or if fewer than 1 draw is asked for, or a standard deviation is not finite.
    """
    started = time.monotonic()
    deadline = started + checked_limit(time_limit)
    if draws < 1:
        raise ValueError(f"At least 1 draw is needed. Got draws={draws!r}.")
    tasks = check_model(gains)
    respected = with_size(constraints, max_size)
    check_budget(budget, counts_networks=costs is None and not extra, some_are_free=bool(respected.trained))
    goal = make_objective(gains, objective, weights, kappa)
    problem = make_problem(
        gains, goal, budget=budget, costs=costs, constraints=respected, extra=extra, time_limit=time_limit / 2
    )
    if not np.isfinite(problem.pool.std[problem.pool.members]).all():
        raise ValueError("Every std must be a finite number, or there is nothing to draw from. Got one that is not.")
    grouping = problem.solve(started, started + time_limit / 2)
    rows = _rows(problem, grouping)
    problem = replace(problem, start=np.sort(rows))
    rng = np.random.default_rng(seed)
    together, chosen, done = np.zeros((len(tasks), len(tasks))), Counter[tuple[str, ...]](), 0
    while done < draws and (done == 0 or time.monotonic() < deadline):
        drawn = _drawn(problem, rng).solve(time.monotonic(), deadline)
        for group in drawn.groups:
            serves = np.array([task in group.serves for task in tasks])
            together += np.outer(serves, serves)
        chosen.update({group.trains for group in drawn.groups})
        done += 1
    place = {task: j for j, task in enumerate(problem.pool.tasks)}
    row_of = {task: row for row, group in zip(rows, grouping.groups, strict=True) for task in group.serves}
    served = [row_of[task] for task in tasks], [place[task] for task in tasks]
    return SelectionStability(
        grouping,
        tasks,
        together / done,
        {group: count / done for group, count in sorted(chosen.items(), key=lambda item: (-item[1], item[0]))},
        problem.pool.mean[served],
        problem.pool.std[served],
        done,
    )


def _drawn(problem: Problem, rng: np.random.Generator) -> Problem:
    pool = problem.pool
    return problem.with_gains(pool.mean + pool.std * rng.standard_normal(pool.mean.shape))


def _rows(problem: Problem, grouping: Grouping) -> list[int]:
    """Where the networks of a selection stand in the problem's pool."""
    pool = problem.pool
    row_of = {
        (frozenset(pool.names(row)), str(pool.labels[row]), float(pool.cost[row])): row
        for row in reversed(range(len(pool.members)))
    }
    return [row_of[frozenset(group.trains), group.label, group.cost] for group in grouping.groups]
