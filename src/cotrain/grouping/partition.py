"""Split the tasks into disjoint groups: the best partition by predicted gains, or by any worth of a group."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from cotrain.grouping.constraints import Constraints, contradiction
from cotrain.grouping.costs import Costs
from cotrain.grouping.gains import (
    BoolArray,
    FloatArray,
    GainModel,
    Groups,
    check_model,
    check_tasks,
    group_name,
    membership,
)
from cotrain.grouping.grouping import Grouping
from cotrain.grouping.objective import Objective, ObjectiveName, Weights, make_objective
from cotrain.grouping.problem import make_problem
from cotrain.grouping.selection import check_budget, checked_limit

__all__ = ["SetFunction", "partition_tasks"]

SetFunction: TypeAlias = Callable[[tuple[str, ...]], float]
"""What a group is worth: a finite number for any non-empty tuple of task names."""


def partition_tasks(
    gains: GainModel | SetFunction,
    tasks: Iterable[str] | None = None,
    *,
    n_groups: int | None = None,
    budget: float | None = None,
    costs: Costs | None = None,
    constraints: Constraints | None = None,
    time_limit: float = 60.0,
    objective: ObjectiveName = "auto",
    weights: Weights | None = None,
    kappa: float = 1.0,
) -> Grouping:
    """The best split of the tasks into disjoint groups, each of which trains and serves its tasks.

    `select_groups` without helpers. Up to 15 tasks the partition is exact for any gains and any worth of a group,
    without an assumption on its form: a dynamic programme over the subsets of the tasks if costs are multiples of 0.5
    and there are no resources, else set partitioning by HiGHS. Beyond 15 tasks a local search finds the groups to
    choose among and the status is "heuristic". Ties go to the lower cost, so with costs of 1 to fewer groups.

    Args:
        gains: The gain model, or a function that says what a group is worth; the total worth is maximised.
        tasks: The tasks, for a function only.
        n_groups: Exactly how many groups; None: any number.
        budget: How many groups at most; with `costs`, what they may cost together. None: no limit.
        costs: See `select_groups`.
        constraints: See `select_groups`.
        time_limit: Seconds, after which the best partition so far is returned with its bound.
        objective: See `select_groups`; not for a function.
        weights: See `select_groups`; not for a function.
        kappa: See `select_groups`; not for a function.

    Returns:
        A `Grouping`; for a function its objective is "worth".

    Raises:
        ValueError: If there are fewer than 2 tasks, a gain or a worth is not finite, an argument is out of range, or
            no partition meets all constraints; the message names those that contradict each other.
    """
    started = time.monotonic()
    deadline = started + checked_limit(time_limit)
    if isinstance(gains, GainModel) or not callable(gains):
        check_model(gains)
        if tasks is not None:
            raise ValueError("A gain model has tasks of its own. Leave tasks out, or pass a function of a group.")
        model: GainModel = gains
        goal = make_objective(model, objective, weights, kappa)
    else:
        if tasks is None:
            raise ValueError("A function of a group needs the names of the tasks. Pass tasks=[...].")
        model = _GroupWorth(gains, check_tasks(tasks))
        goal = Objective("worth", np.ones(len(model.tasks)), kappa=0.0)
    if budget is not None:
        check_budget(budget, counts_networks=costs is None)
    problem = make_problem(
        model,
        goal,
        budget=np.inf if budget is None else budget,
        costs=costs,
        constraints=_disjoint(constraints or Constraints(), n_groups),
        extra=(),
        time_limit=time_limit,
    )
    return problem.solve(started, deadline)


class _GroupWorth:
    """A function of groups as a gain model: each member has an equal share of what its group is worth."""

    def __init__(self, function: SetFunction, tasks: tuple[str, ...]) -> None:
        self.tasks = tasks
        self._function = function

    def predict(self, groups: Groups) -> tuple[FloatArray, FloatArray]:
        """The shares, [n, T], and zeros."""
        members = membership(groups, self.tasks)
        worth = np.array([self._worth(tuple(task for task in self.tasks if task in group)) for group in groups])
        share = worth / members.sum(axis=1)
        return np.where(members, share[:, None], np.nan), np.where(members, 0.0, np.nan)

    def measured(self, groups: Groups) -> BoolArray:
        """[n], False: a worth is no gain that was measured."""
        return np.zeros(len(groups), dtype=np.bool_)

    def _worth(self, group: tuple[str, ...]) -> float:
        worth = float(self._function(group))
        if not np.isfinite(worth):
            raise ValueError(
                f"The worth of group {group_name(group)} is not a finite number. Got {worth}."
                " Forbid a group by constraints instead."
            )
        return worth


def _disjoint(constraints: Constraints, n_groups: int | None) -> Constraints:
    if n_groups is None:
        return replace(constraints, helpers=False)
    if constraints.n_networks not in (None, n_groups):
        raise contradiction([f"n_groups={n_groups}", f"n_networks={constraints.n_networks}"])
    return replace(constraints, helpers=False, n_networks=n_groups)
