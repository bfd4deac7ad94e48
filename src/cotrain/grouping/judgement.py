"""How good a gain model is: correlation with gains that it has not seen, and what is lost by choosing with it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from cotrain.grouping.backends import predicted
from cotrain.grouping.gains import BoolArray, FloatArray, GainModel, Groups, check_model, group_name, membership
from cotrain.grouping.grouping import Grouping
from cotrain.grouping.objective import ObjectiveName, Weights, make_objective
from cotrain.grouping.selection import select_groups
from cotrain.grouping.table import GainTable

__all__ = ["Judgement", "judge", "judge_entries", "random_regret", "regret"]

FEWEST = 3
"""A correlation of fewer entries is not defined here: two always lie on a line."""

DRAWN_AT_ONCE = 10_000

MOST_DRAWS = 1_000_000
"""Random choices after which it is given up that one covers all tasks."""


@dataclass(frozen=True)
class Judgement:
    """How well predictions agree with gains that they have not seen; None where a correlation is not defined.

    Attributes:
        pearson: Over all (group, task) entries.
        spearman: The same of ranks, which single tasks with extreme gains do not rule.
        within_task: Mean over tasks of the correlation within the task: what is known about partners.
        within_task_spearman: The same of ranks: does it put the groups of a task in the right order.
        task_mean_baseline: Pearson of the task's mean gain in the other judged groups: what knowing only the task
            gives. A prediction with a larger `pearson` need not know more, look at `within_task`.
        n: The number of entries.
    """

    pearson: float | None
    spearman: float | None
    within_task: float | None
    within_task_spearman: float | None
    task_mean_baseline: float | None
    n: int


def judge(model: GainModel, table: GainTable, *, min_size: int = 2) -> Judgement:
    """Compares a model with a table, on those groups that the model was not fitted on.

    These are the groups that `model.measured` does not know. To judge what validation gains are worth on test gains,
    fit the model on the ones and pass the table of the others.

    Args:
        model: The gain model, of the tasks of the table.
        table: The gains that are taken for true.
        min_size: The fewest members of a judged group, 2 or more: a task alone has gain 0 by definition.

    Raises:
        ValueError: If the model has other tasks or predicts a value that is not finite, or min_size is below 2.
    """
    if min_size < 2:
        raise ValueError(f"min_size must be 2 or more, as a task alone has gain 0 by definition. Got {min_size}.")
    check_model(model)
    sizes = np.array([len(group) for group in table.groups], dtype=np.intp)
    unseen = table.rows((sizes >= min_size) & ~model.measured(table.groups))
    mean, _ = predicted(model, unseen.groups, table.tasks)
    entries = ~np.isnan(unseen.gains)
    return judge_entries(mean[entries], unseen.gains[entries], np.nonzero(entries)[1])


def judge_entries(
    predicted_gains: FloatArray, realised: FloatArray, task: NDArray[np.intp] | Sequence[str]
) -> Judgement:
    """The same for single entries, where predictions are at hand and no model.

    Args:
        predicted_gains: [N], of a task in a group of two or more.
        realised: [N], its gain.
        task: [N], which task it is.
    """
    _, code, count = np.unique(np.asarray(task), return_inverse=True, return_counts=True)
    of_tasks = [(predicted_gains[code == one], realised[code == one]) for one in range(len(count))]
    several = count[code] > 1
    total = np.bincount(code, weights=realised, minlength=len(count))
    others = (total[code] - realised)[several] / (count[code] - 1)[several]
    return Judgement(
        pearson=_pearson(predicted_gains, realised),
        spearman=_spearman(predicted_gains, realised),
        within_task=_mean(_pearson(*values) for values in of_tasks),
        within_task_spearman=_mean(_spearman(*values) for values in of_tasks),
        task_mean_baseline=_pearson(others, realised[several]),
        n=len(realised),
    )


def regret(
    chosen: Grouping | Groups,
    table: GainTable,
    *,
    budget: int,
    serve_by: GainModel | None = None,
    objective: ObjectiveName = "auto",
    weights: Weights | None = None,
) -> float:
    """What the true optimum has over the chosen groups: 0 means that nothing better could have been chosen.

    A poor correlation can still choose well and a good one badly, so this is the figure that counts.

    Args:
        chosen: Groups that cover all tasks, each in the table; of a `Grouping` the groups that it trains.
        table: The gains that are taken for true.
        budget: How many networks the optimum may have.
        serve_by: What decides which of the chosen groups serves a task, such as the table of validation gains where
            `table` holds test gains. None: the table itself, so the best one serves.
        objective: As in `select_groups`.
        weights: As in `select_groups`.

    Returns:
        As a share of losses: for the total loss, .01 means 1 % more loss than at the optimum; for the mean gain it is
        the difference, .01 of the tasks' losses alone.

    Raises:
        ValueError: If a group is not in the table, a task is in no group, or there are more groups than the budget.
    """
    groups = [group.trains for group in chosen.groups] if isinstance(chosen, Grouping) else list(chosen)
    covered = membership(groups, table.tasks).any(axis=0)
    if len(groups) > budget or not covered.all():
        problem = f"they leave out {table.tasks[int(covered.argmin())]!r}" if not covered.all() else "they are too many"
        raise ValueError(
            f"At most {budget} groups that cover all tasks can be compared with the optimum;"
            f" {problem}. Got {', '.join(map(group_name, groups))}."
        )
    unknown = ~table.measured(groups)
    if unknown.any():
        raise ValueError(
            f"Group {group_name(groups[int(unknown.argmax())])} is not in the table, so its true value is unknown."
            " Choose among the table's groups."
        )
    groups = sorted(groups, key=_small_first)
    return float(_regrets(groups, np.arange(len(groups))[None], table, budget, serve_by, objective, weights)[0])


def random_regret(
    table: GainTable,
    budget: int,
    *,
    draws: int = 1000,
    seed: int = 0,
    serve_by: GainModel | None = None,
    objective: ObjectiveName = "auto",
    weights: Weights | None = None,
) -> FloatArray:
    """The control for `regret`: random sets of `budget` groups of the table that cover all tasks, all equally likely.

    Args:
        table: The gains that are taken for true. Every task alone counts as in it.
        budget: How many groups in each set.
        draws: How many sets.
        seed: Decides them.
        serve_by: As in `regret`.
        objective: As in `select_groups`.
        weights: As in `select_groups`.

    Returns:
        [draws], each as in `regret`.

    Raises:
        ValueError: If budget or draws is below 1, or among a million random choices none covers all tasks.
    """
    if budget < 1 or draws < 1:
        raise ValueError(f"budget and draws must be at least 1. Got budget={budget}, draws={draws}.")
    pool = sorted({*table.groups, *((task,) for task in table.tasks)}, key=_small_first)
    rows = _covering_rows(membership(pool, table.tasks), budget, draws, np.random.default_rng(seed))
    return _regrets(pool, rows, table, budget, serve_by, objective, weights)


def _small_first(group: Collection[str]) -> tuple[int, list[str]]:
    """As `serve_groups` breaks ties: of equally good groups the smaller serves, then the first by name."""
    return len(group), sorted(group)


def _covering_rows(members: BoolArray, budget: int, draws: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """[draws, budget], rows of different groups that cover all tasks, in rising order."""
    found: list[NDArray[np.intp]] = []
    tried, enough = 0, 0
    while enough < draws:
        if tried >= MOST_DRAWS and enough == 0:
            raise ValueError(
                f"None of {tried:,} random choices of {budget} of {len(members)} groups covers all"
                f" {members.shape[1]} tasks. Raise the budget, or add the group of all tasks to the table."
            )
        rows = np.sort(rng.integers(len(members), size=(DRAWN_AT_ONCE, budget)), axis=1)
        differ = np.all(np.diff(rows, axis=1) > 0, axis=1)
        covers = np.all(members[rows].any(axis=1), axis=1)
        found.append(rows[differ & covers])
        tried, enough = tried + len(rows), enough + len(found[-1])
    return np.concatenate(found)[:draws]


def _regrets(
    groups: Groups,
    rows: NDArray[np.intp],
    table: GainTable,
    budget: int,
    serve_by: GainModel | None,
    objective: ObjectiveName,
    weights: Weights | None,
) -> FloatArray:
    """[m], the regret of m choices, each a row of positions in `groups`."""
    goal = make_objective(table, objective, weights, kappa=0.0)
    best = select_groups(table, budget=budget, objective=objective, weights=weights, kappa=0.0).value
    true = goal.worth(*predicted(table, groups, table.tasks))
    deciding = true if serve_by is None else goal.worth(*predicted(serve_by, groups, table.tasks))
    server = deciding[rows].argmax(axis=1, keepdims=True)
    value = np.take_along_axis(true[rows], server, axis=1).sum(axis=(1, 2))
    scale = goal.unit.sum() - best if goal.name == "total_loss" else 1.0
    return np.asarray((best - value) / scale)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _spearman(some: FloatArray, others: FloatArray) -> float | None:
    return _pearson(rankdata(some), rankdata(others))


def _pearson(some: FloatArray, others: FloatArray) -> float | None:
    # The variance of equal values may be a rounding error, and that of the tiniest differences is 0.
    if len(some) < FEWEST or not all(np.ptp(values) > 0 and values.var() > 0 for values in (some, others)):
        return None
    return float(np.corrcoef(some, others)[0, 1])
