"""Choose the networks to train: the best set of groups within a budget, each task served by one of them."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from numbers import Real
from typing import Any

import numpy as np

from cotrain.grouping.appraisal import Appraisal
from cotrain.grouping.candidates import Candidate, Valuer, in_order
from cotrain.grouping.constraints import Constraints, whole_number
from cotrain.grouping.costs import Costs
from cotrain.grouping.gains import GainModel, Groups, check_model, membership
from cotrain.grouping.grouping import Grouping
from cotrain.grouping.objective import ObjectiveName, Weights, make_objective
from cotrain.grouping.problem import make_problem, valued_grouping


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
    constraints: Constraints | None = None,
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
        weights: [T], or by name (a mapping or a pandas Series), >= 0, the importance of each task on top of the
            objective; None: all 1.
        kappa: Standard deviations deducted from every gain, against choosing what is only by chance predicted high.
            1 loses at most .002 of mean gain where 0 loses up to .012, on the tables it was tried on.
        extra: Further networks, such as single-task networks of half the size and cost.
        constraints: What every choice must respect besides: resources, sizes, links, floors and numbers of networks.

    Returns:
        The `Grouping`; its value is recomputed from the groups. A network that serves nobody is left out. Where the
        time ran out, it is the best that was found, with its bound; asking the gain model is not part of the limit.

    Raises:
        ValueError: If `gains` is no gain model (an affinity needs `PairMean(affinity)`), there are fewer than 2 tasks,
            a gain is not finite, an argument is out of range, or no choice of groups covers all tasks within the
            budget; the message then names the smallest budget that is enough. If constraints contradict each other,
            it names them.
    """
    started = time.monotonic()
    deadline = started + checked_limit(time_limit)
    check_model(gains)
    respected = with_size(constraints, max_size)
    check_budget(budget, counts_networks=costs is None and not extra, some_are_free=bool(respected.trained))
    problem = make_problem(
        gains,
        make_objective(gains, objective, weights, kappa),
        budget=budget,
        costs=costs,
        constraints=respected,
        extra=extra,
        time_limit=time_limit,
    )
    return problem.solve(started, deadline)


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
    tasks = check_model(gains)
    members = membership(groups, tuple(sorted(tasks)))
    if not members.any(axis=0).all():
        missing = sorted(tasks)[int((~members.any(axis=0)).argmax())]
        raise ValueError(
            f"Task {missing!r} is in none of the groups. Add a group that holds it, such as ({missing!r},)."
        )
    goal = make_objective(gains, objective, weights, kappa)
    pool = Valuer(gains, costs, kappa, None).value(in_order(members))
    return valued_grouping(pool, np.arange(len(pool.members)), Appraisal(goal, tasks, Constraints()), "given")


def with_size(constraints: Constraints | None, max_size: int | None) -> Constraints:
    """The constraints with a further limit on the tasks of a network.

    Raises:
        ValueError: If the limit is below 1, or contradicts them.
    """
    known = Constraints() if constraints is None else constraints
    if not isinstance(known, Constraints):
        raise ValueError(  # noqa: TRY004  # as for every other wrong argument
            f"Constraints are given as Constraints(...). Got {type(known).__name__}: {known!r}."
        )
    if max_size is None:
        return known
    max_size = whole_number("max_size", max_size)
    return replace(known, max_size=max_size if known.max_size is None else min(max_size, known.max_size))


def checked_limit(time_limit: float) -> float:
    """The time limit, refused if it is not above 0."""
    if not time_limit > 0:
        raise ValueError(f"time_limit is a number of seconds above 0. Got {time_limit!r}.")
    return time_limit


def check_budget(budget: Any, *, counts_networks: bool, some_are_free: bool = False) -> None:
    """Refuses a budget that is no finite number, allows no network or, where it counts networks, is not whole."""
    is_number = isinstance(budget, Real)
    if not is_number or not math.isfinite(budget):
        raise ValueError(
            f"The budget must be a finite number. Got budget={budget!r}. For no limit pass a large one, such as the"
            " number of tasks where networks are counted."
        )
    least = 0 if some_are_free else 1
    too_small = budget < least if counts_networks else not (budget > 0 or (some_are_free and budget == 0))
    if too_small:
        raise ValueError(f"The budget must allow at least 1 network. Got budget={budget!r}. Pass budget=1 or more.")
    if counts_networks and budget != int(budget):
        raise ValueError(
            f"Without costs the budget counts networks and must be a whole number. Got budget={budget!r}."
            " Pass costs=... to budget anything else."
        )
