"""The page's tables as rows of ready text: scores per task, costs, tasks, and named values."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cotrain.report.contents import Study
from cotrain.report.results import ALL_IN_ONE, GROUPED, SINGLE, Arm, Check, TaskMetric
from cotrain.report.wording import NOTHING, arm_title, cells, decimal, duration, significant, with_interval

COMPARED = (SINGLE, ALL_IN_ONE, GROUPED)


@dataclass(frozen=True)
class Score:
    """One cell of the table per task: a mean over the seeds, its spread, whether no other arm is better."""

    mean: str
    spread: str
    best: bool


@dataclass(frozen=True)
class ScoreRow:
    """One task under every compared arm."""

    task: str
    metric: str
    higher_is_better: bool
    learnable: bool
    scores: tuple[Score, ...]


def score_columns(check: Check) -> list[str]:
    """Titles of the compared arms, in the order of each row's scores."""
    return [arm_title(arm.name) for arm in _compared(check)]


def score_rows(study: Study, check: Check) -> list[ScoreRow]:
    """One row per task, in the order of the groups. Nothing is best where nothing can be learned."""
    return score_rows_of(study, check.scoring, _compared(check))


def score_rows_of(study: Study, scoring: Mapping[str, TaskMetric], arms: Sequence[Arm]) -> list[ScoreRow]:
    """As `score_rows`, under arms of one's choice, in their order."""
    order = [t for t in study.display_order if study.names[t] in scoring]
    return [_score_row(study.names[t], t, scoring[study.names[t]], arms) for t in order]


def cost_rows(check: Check) -> list[tuple[str, ...]]:
    """(arm, networks, parameters, relative loss with its interval), one per arm."""
    return [
        (arm_title(arm.name), str(arm.networks), significant(arm.parameters, 4), _relative(arm)) for arm in check.arms
    ]


def step_rows(study: Study) -> list[tuple[str, str]]:
    """(step, time spent in it), and the sum."""
    rows = [(step, duration(seconds)) for step, seconds in study.seconds.items()]
    return [*rows, ("all steps", duration(sum(study.seconds.values())))] if rows else []


def task_rows(study: Study) -> list[tuple[str, ...]]:
    """(task, kind, what it is, held-out statistic, p-value, mastery, mean confidence, whether it beats chance)."""
    return [
        (
            task.name,
            task.kind,
            task.note,
            f"{task.statistic} {decimal(task.value)}".strip() if math.isfinite(task.value) else NOTHING,
            _p_value(task.p_value),
            decimal(task.mastery) + (", learned by everybody" if task.learned_by_everybody else ""),
            decimal(task.confidence, 2),
            "yes" if task.learnable and task.name not in study.noise else "no",
        )
        for task in (study.tasks[t] for t in study.display_order)
    ]


def named_values(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A mapping as (name, text) rows; a mapping inside it becomes names with dots."""
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            rows += named_values(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", cells(value)))
    return rows


def _compared(check: Check) -> list[Arm]:
    return [arm for arm in check.arms if arm.name in COMPARED]


def _score_row(name: str, t: int, scoring: TaskMetric, arms: Sequence[Arm]) -> ScoreRow:
    columns = [(arm.loss if scoring.metric == "loss" else arm.metric)[:, t] for arm in arms]
    known = [column[np.isfinite(column)] for column in columns]
    means = [float(column.mean()) if column.size else math.nan for column in known]
    best = _best(means, scoring)
    return ScoreRow(
        task=name,
        metric=scoring.metric,
        higher_is_better=scoring.higher_is_better,
        learnable=scoring.learnable,
        scores=tuple(
            Score(
                mean=_score(mean),
                spread=_score(float(column.std(ddof=1))) if column.size > 1 else "",
                best=scoring.learnable and best is not None and _score(mean) == best,
            )
            for mean, column in zip(means, known, strict=True)
        ),
    )


def _best(means: list[float], scoring: TaskMetric) -> str | None:
    """The best mean as it is written: arms that read the same are equally good."""
    finite = [mean for mean in means if math.isfinite(mean)]
    if len(finite) < 2:
        return None
    return _score(max(finite) if scoring.higher_is_better else min(finite))


def _score(value: float) -> str:
    return decimal(value) if abs(value) < 100 else significant(value, 4)


def _relative(arm: Arm) -> str:
    if arm.relative is None:
        return "1 (reference)" if arm.name == SINGLE else NOTHING
    return with_interval(arm.relative)


def _p_value(p: float) -> str:
    if not math.isfinite(p):
        return NOTHING
    return "< 0.001" if p < 0.001 else decimal(p)
