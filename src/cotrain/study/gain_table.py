"""Predicted beside realised gains, and how well they agree."""

import csv
import io
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from cotrain.grouping import GainModel
from cotrain.grouping.judgement import judge_entries
from cotrain.study.arms import SINGLE, Arm

__all__ = ["COLUMNS", "Agreement", "GainRow", "Losses", "agreement", "as_csv", "gain_rows"]

Losses = Mapping[tuple[str, ...], Mapping[str, float]]
"""Test losses with one seed: by network (the tasks that it trains), then by task."""
COLUMNS = ("arm", "network", "trains", "task", "role", "predicted", "predicted_std", "seed", "realised")

FEWEST_ENTRIES = 10
"""A correlation over fewer entries says nothing."""


@dataclass(frozen=True)
class GainRow:
    """One task in one network with one seed: a line of gains.csv.

    Args:
        arm: The arm that the network belongs to.
        network: Its number in the arm.
        trains: The tasks that it trains.
        task: One of them.
        role: serves, or helps.
        predicted: Predicted gain over training alone; NaN if there is no prediction.
        predicted_std: Its standard deviation.
        seed: Of the trainings; None without a check.
        realised: 1 - loss in the network / loss alone; NaN without a check.
    """

    arm: str
    network: int
    trains: tuple[str, ...]
    task: str
    role: str
    predicted: float
    predicted_std: float
    seed: int | None
    realised: float


@dataclass(frozen=True)
class Agreement:
    """How well predictions agree with realised gains (means over seeds), over networks of two or more tasks.

    Args:
        pearson: Over all (network, task) entries; None where it is not defined, as are the others.
        spearman: The same of ranks, which single tasks with extreme gains do not rule.
        within_task: Mean over tasks of the correlation within the task: what the prediction knows about partners.
        within_task_spearman: The same of ranks: whether the groups of a task are put in the right order.
        task_mean_baseline: Pearson of the task's mean gain in its other networks: what knowing only the task gives.
        n: Number of entries.
    """

    pearson: float | None
    spearman: float | None
    within_task: float | None
    within_task_spearman: float | None
    task_mean_baseline: float | None
    n: int

    @property
    def sentence(self) -> str:
        """The same in words."""
        if self.pearson is None or self.spearman is None or self.n < FEWEST_ENTRIES:
            return "There are too few networks to tell how well predictions agree with realised gains."
        ranks = "" if self.within_task_spearman is None else f", ranks {self.within_task_spearman:+.2f}"
        within = "" if self.within_task is None else f"; within tasks {self.within_task:+.2f}{ranks}"
        mean = self.task_mean_baseline
        baseline = "" if mean is None else f" (each task's mean gain in its other networks: {mean:+.2f})"
        return (
            f"Predictions and realised gains correlate at {self.pearson:+.2f} (ranks {self.spearman:+.2f}{within})"
            f" over {self.n} entries{baseline}."
        )


def gain_rows(arms: Iterable[Arm], predictor: GainModel | None, losses: Mapping[int, Losses]) -> list[GainRow]:
    """All gains of all arms but the single tasks.

    Args:
        arms: The arms.
        predictor: Of the learnable tasks; the others have no prediction. None without any prediction.
        losses: By seed; empty without a check.
    """
    rows = []
    for arm in arms:
        if arm.name == SINGLE:
            continue
        for number, group in enumerate(arm.groups):
            predictions = _predictions(group.trains, predictor)
            for task in group.trains:
                role = "serves" if task in group.serves else "helps"
                mean, std = predictions.get(task, (math.nan, math.nan))
                outcomes: list[tuple[int | None, float]] = [
                    (seed, _gain(table, group.trains, task)) for seed, table in losses.items()
                ]
                for seed, realised in outcomes or [(None, math.nan)]:
                    rows.append(GainRow(arm.name, number, group.trains, task, role, mean, std, seed, realised))
    return rows


def agreement(rows: Iterable[GainRow]) -> Agreement:
    """How well the predictions agree with what was realised."""
    entries: dict[tuple[frozenset[str], str], list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        if len(row.trains) > 1 and math.isfinite(row.predicted) and math.isfinite(row.realised):
            entries[frozenset(row.trains), row.task].append((row.predicted, row.realised))
    predicted = np.array([values[0][0] for values in entries.values()])
    realised = np.array([np.mean([value for _, value in values]) for values in entries.values()])
    return Agreement(**asdict(judge_entries(predicted, realised, [task for _, task in entries])))


def as_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table as CSV text; NaN and None are empty cells."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(value) for value in row])
    return text.getvalue()


def _predictions(trains: tuple[str, ...], predictor: GainModel | None) -> dict[str, tuple[float, float]]:
    if predictor is None:
        return {}
    known = tuple(task for task in trains if task in predictor.tasks)
    if not known:
        return {}
    mean, std = predictor.predict([known])
    column = {task: number for number, task in enumerate(predictor.tasks)}
    return {task: (float(mean[0, column[task]]), float(std[0, column[task]])) for task in known}


def _gain(losses: Losses, trains: tuple[str, ...], task: str) -> float:
    alone = losses[(task,)][task]
    return 1 - losses[trains][task] / alone if alone > 0 else math.nan


def _cell(value: object) -> object:
    if isinstance(value, float):
        return f"{value:.9g}" if math.isfinite(value) else ""
    if isinstance(value, tuple):
        return "+".join(value)
    return "" if value is None else value
