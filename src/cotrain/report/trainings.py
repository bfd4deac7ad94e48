"""The groups that were really trained to learn which ones to choose: what it took, and what they gained."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cotrain.report.reading import number
from cotrain.report.wording import NOTHING, signed

MAX_ROWS = 30
"""Groups that the table shows."""

MAX_MEMBERS = 20
"""Tasks of one group that the table names."""

WHY = {
    "first": "before anything was known",
    "chosen": "best choice by prediction",
    "improvement": "largest expected improvement",
    "uncertainty": "largest uncertainty",
    "random": "at random",
}
"""A round's reason -> what it is called on the page."""


@dataclass(frozen=True)
class TrainedGroup:
    """A group of two or more tasks, and the gain of each over its single task on validation data.

    `place` is its number in the order of all trainings, from 1; `why` is the reason of its round.
    """

    place: int
    tasks: tuple[str, ...]
    gains: tuple[float, ...]
    why: str


@dataclass(frozen=True)
class TrainingRound:
    """Groups that were trained at one time.

    Attributes:
        spent: Trainings up to its end.
        trained: Trainings of its own.
        why: Their reason.
        expected: The largest expected improvement of the choice at that time, NaN if it was not computed.
        value: Of the best choice among all groups trained so far, NaN while they do not cover all tasks.
    """

    spent: int
    trained: int
    why: str
    expected: float
    value: float


@dataclass(frozen=True)
class Trainings:
    """What was trained to learn.

    Attributes:
        limit: How many trainings were allowed, single tasks included.
        settled: Whether it ended because no other group promised to change the choice.
        rounds: In their order.
        groups: Of two or more tasks, in the order in which they were trained.
    """

    limit: int
    settled: bool
    rounds: tuple[TrainingRound, ...]
    groups: tuple[TrainedGroup, ...]

    @property
    def spent(self) -> int:
        """How many groups were trained, single tasks included."""
        return self.rounds[-1].spent if self.rounds else 0


def trainings_from(record: Mapping[str, Any], names: Sequence[str]) -> Trainings:
    """The content of trainings.json.

    Args:
        record: As written.
        names: The study's tasks.

    Raises:
        KeyError: If a field or the loss of a single task is missing, or the study has no such task.
        ValueError: If a group was trained and has no losses of its tasks.
    """
    for task in record["tasks"]:
        if task not in names:
            raise KeyError(task)
    losses = {frozenset(entry["loss"]): entry["loss"] for entry in record["losses"]}
    rounds: list[TrainingRound] = []
    groups: list[TrainedGroup] = []
    spent = 0
    for entry in record["rounds"]:
        why = str(entry["why"])
        for place, group in enumerate(entry["trained"], spent + 1):
            if frozenset(group) not in losses:
                raise ValueError(f"the group {' + '.join(group)} was trained and has no losses")
            if len(group) > 1:
                groups.append(_trained_group(place, losses, group, names, why))
        spent += len(entry["trained"])
        rounds.append(
            TrainingRound(spent, len(entry["trained"]), why, number(entry["expected"]), number(entry["value"]))
        )
    return Trainings(int(record["limit"]), bool(record["settled"]), tuple(rounds), tuple(groups))


def training_sentence(trainings: Trainings) -> str:
    """How many groups were trained, of how many allowed, and why no more were."""
    if not trainings.spent:
        return "No group was trained: it takes two tasks that can be learned to have a choice."
    together = len(trainings.groups)
    alone = trainings.spent - together
    reason = ""
    if trainings.settled:
        reason = ", and it ended there because no other group promised to improve the choice noticeably"
    elif trainings.spent >= trainings.limit:
        reason = ", and it ended there because none was left"
    return (
        f"{trainings.spent} of {trainings.limit} trainings allowed were made ({alone} of single tasks, {together} of"
        f" groups of two or more){reason}."
    )


def training_rows(trainings: Trainings, chosen: Sequence[Collection[str]]) -> list[tuple[str, ...]]:
    """(place, tasks with their gains, why, network), the chosen groups first and at most `MAX_ROWS`.

    Args:
        trainings: What was trained.
        chosen: The tasks that each chosen network trains.
    """
    network = {frozenset(tasks): k for k, tasks in enumerate(chosen, 1)}
    ordered = sorted(trainings.groups, key=lambda group: frozenset(group.tasks) not in network)
    return [
        (
            str(group.place),
            _members(group),
            WHY.get(group.why, group.why),
            f"network {network[frozenset(group.tasks)]}" if frozenset(group.tasks) in network else NOTHING,
        )
        for group in ordered[:MAX_ROWS]
    ]


def _trained_group(
    place: int,
    losses: Mapping[frozenset[str], Mapping[str, Any]],
    group: Sequence[str],
    names: Sequence[str],
    why: str,
) -> TrainedGroup:
    tasks = tuple(sorted(group, key=names.index))
    own = losses[frozenset(group)]
    alone = {task: number(losses[frozenset((task,))][task]) for task in tasks if frozenset((task,)) in losses}
    gains = tuple(_gain(number(own[task]), alone[task]) for task in tasks)
    return TrainedGroup(place, tasks, gains, why)


def _gain(loss: float, alone: float) -> float:
    return 1 - loss / alone if alone > 0 else math.nan


def _members(group: TrainedGroup) -> str:
    # No line ends between a task and its gain.
    words = [f"{task}\N{NO-BREAK SPACE}{signed(gain, 3)}" for task, gain in zip(group.tasks, group.gains, strict=True)]
    more = f" and {len(words) - MAX_MEMBERS} more" if len(words) > MAX_MEMBERS else ""
    return ", ".join(words[:MAX_MEMBERS]) + more
