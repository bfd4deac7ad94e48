"""Choose the networks to train: the best set of groups within a budget, each task served by one of them."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cotrain.grouping.candidates import Candidate, Costs, Pool, Valuer, in_order, listed_groups, with_extra
from cotrain.grouping.cover import choose
from cotrain.grouping.covering import covering
from cotrain.grouping.gains import FloatArray, GainModel, Groups, check_tasks, membership
from cotrain.grouping.generation import generated_pool
from cotrain.grouping.grouping import Group, Grouping, Status
from cotrain.grouping.objective import Objective, ObjectiveName, Weights, make_objective
from cotrain.grouping.program import Program, largest_worth

GENERATION_SHARE = 0.5
"""Share of the time limit for finding candidates; the rest is for choosing among them."""


def select_groups(
    gains: GainModel,
    *,
    budget: float,
    costs: Costs | None = None,
    max_size: int | None = None,
    time_limit: float = 60.0,
    objective: ObjectiveName = "auto",
    weights: Weights | None = None,
    kappa: float = 1.0,
    extra: Sequence[Candidate] = (),
) -> Grouping:
    """The networks to train under a budget; tasks may be in several, each is served by the one that is best for it.

    Maximises `sum_t unit_t * (gain - kappa * std)` of the serving networks: the cover with overlap of Standley et
    al. (ICML 2020), a p-median problem, solved exactly by HiGHS. Every task alone is always a candidate. Ties go to
    the lower cost, then, as far as exchanging one network at a time reaches, to fewer trained tasks and to the order
    of names: the same input, in any order, gives the same answer.

    For a `GainTable` the candidates are the measured groups. For a model that predicts they are all groups up to 15
    tasks (more under a small `max_size`: up to 32,768 groups); beyond, the singles, all together, the pairs and
    what column generation finds, and then the status is "heuristic", without a bound.

    Args:
        gains: The gain model, such as `GainTable` or `PairMean`.
        budget: How many networks; with `costs` or `extra`, what they may cost together.
        costs: The cost of each group: a mapping (names joined by `+`, a tuple or a frozenset; a group that is absent
            costs 1), or a function of the tuple of names. By default every network costs 1.
        max_size: The most tasks that one network may train; None: no limit.
        time_limit: Seconds, after which the best choice so far is returned with its bound.
        objective: "total_loss" minimises the sum of the tasks' losses, so a task with a large loss counts more;
            "mean_gain" counts every relative improvement alike. "auto": the total loss if the gain model was made
            from losses, else the mean gain. The two choose different groups; the result says which it was.
        weights: [T] or by name, >= 0, the importance of each task on top of the objective; None: all 1.
        kappa: Standard deviations deducted from every gain, against choosing what is only by chance predicted high.
            1 loses at most .002 of mean gain where 0 loses up to .012, on the tables it was tried on.
        extra: Further networks, such as single-task networks of half the size and cost.

    Returns:
        The `Grouping`; its value is recomputed from the groups. A network that serves nobody is left out.

    Raises:
        ValueError: If there are fewer than 2 tasks, a gain is not finite, an argument is out of range, or no choice
            of groups covers all tasks within the budget; the message then names the smallest budget that is enough.
    """
    started = time.monotonic()
    deadline = started + _checked_limit(time_limit)
    check_tasks(gains.tasks)
    _check_budget(budget, counts_networks=costs is None and not extra)
    if max_size is not None and max_size < 1:
        raise ValueError(f"max_size must allow 1 task or more. Got {max_size}. Leave it out for no limit.")
    goal = make_objective(gains, objective, weights, kappa)
    valuer = Valuer(gains, costs, kappa, max_size)
    listed = listed_groups(gains, max_size)
    if listed is None:
        share = started + GENERATION_SHARE * time_limit
        pool, start = generated_pool(valuer, lambda some: _worth(some, gains.tasks, goal), budget, extra, share)
    else:
        pool = with_extra(valuer.value(listed), extra)
        start = covering(pool, budget, max_size, deadline)
    worth = _worth(pool, gains.tasks, goal)
    scale = largest_worth(worth)
    program = Program(worth / scale, pool.cost, budget)
    choice = choose(program, start, deadline)
    proven: Status = "optimal" if choice.optimal else "time_limit"
    grouping = _grouping(pool, choice.columns, gains.tasks, goal, proven if listed is not None else "heuristic")
    bound = max(choice.bound * scale, grouping.value)
    return replace(
        grouping,
        bound=None if listed is None else bound,
        pool_gap=bound - grouping.value,
        solver="HiGHS" if listed is not None else "column generation, HiGHS",
        seconds=time.monotonic() - started,
        budget=float(budget),
    )


def serve_groups(
    gains: GainModel,
    groups: Groups,
    *,
    costs: Costs | None = None,
    objective: ObjectiveName = "auto",
    weights: Weights | None = None,
    kappa: float = 1.0,
) -> Grouping:
    """Values groups that were chosen elsewhere, and lets the best of them serve each task.

    For example all tasks in one group, a partition by hand, or a selection by predicted gains that is now judged by
    the measured ones. Of equally good groups the smaller serves, then the first by name.

    Args:
        gains: The gain model.
        groups: Groups of task names that cover all tasks.
        costs: See `select_groups`.
        objective: See `select_groups`.
        weights: See `select_groups`.
        kappa: See `select_groups`.

    Returns:
        A `Grouping` with status "given" and no bound. A group that serves nobody is left out.

    Raises:
        ValueError: If a task is in no group, or a gain is not finite.
    """
    tasks = check_tasks(gains.tasks)
    members = membership(groups, tuple(sorted(tasks)))
    if not members.any(axis=0).all():
        missing = sorted(tasks)[int((~members.any(axis=0)).argmax())]
        raise ValueError(
            f"Task {missing!r} is in none of the groups. Add a group that holds it, such as ({missing!r},)."
        )
    goal = make_objective(gains, objective, weights, kappa)
    pool = Valuer(gains, costs, kappa, None).value(in_order(members))
    return _grouping(pool, np.arange(len(pool.members)), tasks, goal, "given")


def _checked_limit(time_limit: float) -> float:
    if not time_limit > 0:
        raise ValueError(f"time_limit is a number of seconds above 0. Got {time_limit!r}.")
    return time_limit


def _check_budget(budget: float, *, counts_networks: bool) -> None:
    if not (math.isfinite(budget) and budget > 0) or (counts_networks and budget < 1):
        raise ValueError(f"The budget must allow at least 1 network. Got budget={budget!r}. Pass budget=1 or more.")
    if counts_networks and budget != int(budget):
        raise ValueError(
            f"Without costs the budget counts networks and must be a whole number. Got budget={budget!r}."
            " Pass costs=... to budget anything else."
        )


def _worth(pool: Pool, tasks: tuple[str, ...], goal: Objective) -> FloatArray:
    """[n, T] in the pool's order of tasks."""
    unit = goal.unit[np.argsort(np.array(tasks))]
    return Objective(goal.name, unit, goal.kappa).worth(pool.mean, pool.std)


def _grouping(pool: Pool, rows: NDArray[np.intp], tasks: tuple[str, ...], goal: Objective, status: Status) -> Grouping:
    """The grouping of the chosen candidates, valued by plain addition over the tasks."""
    worth = _worth(pool, tasks, goal)[rows]
    server = worth.argmax(axis=0)
    each = np.arange(len(pool.tasks))
    certain = Objective(goal.name, goal.unit, kappa=0.0)
    groups = []
    for i, row in enumerate(rows):
        if not (server == i).any():
            continue
        served = {pool.tasks[j] for j in np.flatnonzero(server == i)}
        trained = pool.names(row)
        groups.append(
            Group(
                trains=tuple(task for task in tasks if task in trained),
                serves=tuple(task for task in tasks if task in served),
                cost=float(pool.cost[row]),
                measured=bool(pool.measured[row]),
                label=str(pool.labels[row]),
            )
        )
    return Grouping(
        tuple(groups),
        value=math.fsum(worth[server, each]),
        value_at_mean=math.fsum(_worth(pool, tasks, certain)[rows][server, each]),
        objective=goal.name,
        kappa=goal.kappa,
        status=status,
        n_candidates=len(pool.members),
    )
