"""The groups, and what was trained to check them: arms, gains, verdict."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cotrain.report.reading import number

SINGLE, ALL_IN_ONE, GROUPED = "single", "all-in-one", "grouped"
RANDOM = "random-"
"""What the names of random covers start with; arms with any other name are controls."""


@dataclass(frozen=True)
class Group:
    """One network: the tasks it is trained on, and those of them it answers for."""

    trains: tuple[str, ...]
    serves: tuple[str, ...]

    @property
    def helpers(self) -> tuple[str, ...]:
        """Tasks that are trained only for what they do to the others."""
        return tuple(task for task in self.trains if task not in self.serves)


@dataclass(frozen=True)
class RelativeLoss:
    """Total test loss over that of the single tasks, over the seeds; low and high may be NaN."""

    mean: float
    low: float
    high: float
    per_seed: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Arm:
    """One way to train all tasks: single, all-in-one, grouped, a control or a random cover.

    `metric` and `loss` are [seeds, tasks] on the test data, NaN where there is none.
    """

    name: str
    networks: int
    parameters: float
    metric: NDArray[np.float64]
    loss: NDArray[np.float64]
    relative: RelativeLoss | None


@dataclass(frozen=True)
class TaskMetric:
    """How a task is scored, and whether more is better."""

    metric: str
    higher_is_better: bool
    learnable: bool


@dataclass(frozen=True)
class Foresight:
    """Pearson correlations of predicted with realised gains, NaN where they are undefined, over n entries."""

    pearson: float
    within_task: float
    task_mean_baseline: float
    n: float


@dataclass(frozen=True)
class Way:
    """One way to use clusters: hard, soft or sparse memberships, or one wider network instead of them.

    `by` is how the networks' predictions are put together, empty where each task has one network. `cost` is that
    of all networks in plain ones.
    """

    variant: str
    by: str
    networks: int
    cost: float
    relative: RelativeLoss


@dataclass(frozen=True, eq=False)
class Check:
    """All arms, trained under every seed; `prediction` says how well the gains were foreseen.

    `ways` are the ways to use clusters other than hard ones, which are the arm of the chosen groups.
    """

    level: str
    seeds: tuple[int, ...]
    scoring: Mapping[str, TaskMetric]
    arms: tuple[Arm, ...]
    prediction: Foresight | None
    ways: tuple[Way, ...] = ()

    def arm(self, name: str) -> Arm | None:
        """The arm of this name, if it was trained."""
        return next((arm for arm in self.arms if arm.name == name), None)


@dataclass(frozen=True)
class Gain:
    """One task in one network: what sharing was predicted to bring it, and what it brought per seed."""

    arm: str
    network: str
    trains: str
    task: str
    served: bool
    predicted: float
    predicted_std: float
    realised: tuple[float, ...]


@dataclass(frozen=True)
class FrontPoint:
    """What an arm costs in networks and reaches in relative loss."""

    arm: str
    networks: float
    relative_loss: float
    low: float
    high: float
    dominated: bool


@dataclass(frozen=True)
class Verdict:
    """What to do, in plain words."""

    code: str
    headline: str
    sentences: tuple[str, ...]
    recommended: str


def groups_from(entries: Iterable[Mapping[str, Any]], names: Sequence[str]) -> tuple[Group, ...]:
    """The groups of grouping.json; a task that the study does not have is a KeyError."""
    groups = tuple(Group(tuple(entry["trains"]), tuple(entry["serves"])) for entry in entries)
    for task in (task for group in groups for task in (*group.trains, *group.serves)):
        if task not in names:
            raise KeyError(task)
    return groups


def check_from(metrics: Mapping[str, Any], names: Sequence[str]) -> Check:
    """The content of metrics.json, with results as arrays [seeds, tasks] in the order of `names`."""
    scoring = {
        str(task["name"]): TaskMetric(
            metric=str(task.get("metric") or "loss"),
            higher_is_better=task.get("better") == "higher",
            learnable=bool(task.get("learnable", True)),
        )
        for task in metrics["tasks"]
    }
    relative = metrics.get("relative_loss") or {}
    return Check(
        level=str(metrics["check"]),
        seeds=tuple(metrics["seeds"]),
        scoring=scoring,
        arms=tuple(
            arm_from(name, metrics["arms"][name], relative.get(name), names)
            for name in sorted(metrics["arms"], key=arm_rank)
        ),
        prediction=_foresight(metrics.get("prediction")),
        ways=tuple(_way(row) for row in metrics.get("memberships") or ()),
    )


def arm_from(name: str, entry: Mapping[str, Any], relative: Mapping[str, Any] | None, names: Sequence[str]) -> Arm:
    """An arm of metrics.json or of an aggregation's file, with results as arrays [seeds, tasks]."""

    def table(kind: str) -> NDArray[np.float64]:
        rows = [[number(result[kind].get(task)) for task in names] for result in entry["results"]]
        return np.array(rows, dtype=np.float64).reshape(-1, len(names))

    return Arm(
        name=name,
        networks=int(entry["networks"]),
        parameters=number(entry.get("parameters")),
        metric=table("metric"),
        loss=table("loss"),
        relative=_relative(relative) if relative else None,
    )


def arm_rank(name: str) -> tuple[int, int, str]:
    """Sorts arms as they are shown: single, all-in-one, grouped, controls by name, then random covers by number."""
    known = (SINGLE, ALL_IN_ONE, GROUPED)
    suffix = name.rpartition("-")[2]
    return (known.index(name) if name in known else len(known), int(suffix) if suffix.isdigit() else 0, name)


def verdict_from(entry: Mapping[str, Any] | None) -> Verdict | None:
    """The verdict of metrics.json or grouping.json, if there is one."""
    if not entry:
        return None
    return Verdict(
        code=str(entry["code"]),
        headline=str(entry["headline"]),
        sentences=tuple(entry.get("sentences") or ()),
        recommended=str(entry.get("recommended") or ""),
    )


def _foresight(entry: Mapping[str, Any] | None) -> Foresight | None:
    if not entry:
        return None
    return Foresight(**{field.name: number(entry.get(field.name)) for field in fields(Foresight)})


def _way(row: Mapping[str, Any]) -> Way:
    return Way(
        variant=str(row["variant"]),
        by=str(row.get("by") or ""),
        networks=int(row["networks"]),
        cost=number(row["cost"]),
        relative=_relative(row),
    )


def _relative(entry: Mapping[str, Any]) -> RelativeLoss:
    return RelativeLoss(
        mean=number(entry["mean"]),
        low=number(entry.get("low")),
        high=number(entry.get("high")),
        per_seed=tuple(number(value) for value in entry.get("per_seed") or ()),
    )
