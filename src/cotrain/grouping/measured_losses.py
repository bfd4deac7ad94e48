"""The losses of the groups that were trained so far, in memory and line by line in a file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from cotrain.grouping.gains import BoolArray, FloatArray, check_tasks, group_name, membership
from cotrain.grouping.table import GainTable

__all__ = ["MeasuredLosses", "Names", "TrainGroups"]

Names: TypeAlias = tuple[str, ...]

TrainGroups: TypeAlias = Callable[[Sequence[Names]], ArrayLike]
"""Trains one network per group and gives the held-out losses [n, T]; NaN where the task is not in the group."""


class MeasuredLosses:
    """Held-out losses by group. Every group is trained once, also over interrupted searches.

    Args:
        tasks: T names.
        train_groups: Trains groups.
        known: Groups whose losses are known without training, and by its `single_losses` the tasks alone.
        log: A file of JSON lines, one for each trained group, added to after each call of `train_groups`. What it
            holds already is not trained again, so that an interrupted search, started again with the same
            arguments, takes the same way and trains only what is missing; what a call had trained when it was cut
            short is lost. None: nothing is written.

    Raises:
        ValueError: If the known table is of other tasks or has no losses, or the file's lines are of other tasks or
            no such lines. A last line that was cut off by a crash is ignored.
    """

    def __init__(
        self,
        tasks: Iterable[str],
        train_groups: TrainGroups,
        known: GainTable | None = None,
        log: str | os.PathLike[str] | None = None,
    ) -> None:
        self.tasks = check_tasks(tasks)
        self._train_groups, self._log = train_groups, None if log is None else Path(log)
        self._losses = {} if known is None else _losses_of(known, self.tasks)
        self._known = len(self._losses)
        self._kept: dict[frozenset[str], FloatArray] = {}
        if self._log is not None and self._log.exists():
            self._kept = self._read(self._log)

    @property
    def groups(self) -> tuple[Names, ...]:
        """What was trained so far, in order; names in the order of the tasks."""
        return tuple(self._named(group) for group in self._losses)

    @property
    def spent(self) -> int:
        """How many groups were trained."""
        return len(self._losses) - self._known

    @property
    def alone(self) -> frozenset[str]:
        """The tasks whose loss alone is known, and no estimate."""
        return frozenset(task for task in self.tasks if (task,) in self)

    def __contains__(self, group: Iterable[str]) -> bool:
        return frozenset(group) in self._losses

    def train(self, groups: Iterable[Names]) -> list[Names]:
        """Trains those of the groups that were not trained yet, in one call; returns them.

        Raises:
            ValueError: If `train_groups` gives something else than one finite loss above 0 for every member; groups
                of the same call for which it did are in the log.
        """
        new = [group for group in dict.fromkeys(map(frozenset, groups)) if group not in self._losses]
        missing = [group for group in new if group not in self._kept]
        if missing:
            names = [self._named(group) for group in missing]
            losses = self._shaped(self._train_groups(names), names)
            bad = membership(names, self.tasks) & ~(np.isfinite(losses) & (losses > 0))
            good = [row for row in range(len(missing)) if not bad[row].any()]
            self._kept.update((missing[row], losses[row]) for row in good)
            self._write([missing[row] for row in good])
            self._refuse(bad, losses, names)
        self._losses.update((group, self._kept[group]) for group in new)
        return [self._named(group) for group in new]

    def table(self) -> GainTable:
        """Gains over training alone, with the losses alone.

        A task that was not trained alone has an estimate there: the geometric mean of its losses in the smallest
        groups that hold it.

        Raises:
            ValueError: If a task is in no trained group.
        """
        losses = np.stack(list(self._losses.values()))
        size = np.isfinite(losses).sum(axis=1)
        singles = np.empty(len(self.tasks))
        for j, task in enumerate(self.tasks):
            holds = np.isfinite(losses[:, j])
            if not holds.any():
                raise ValueError(f"Task {task!r} is in none of the trained groups, so nothing is known about it.")
            smallest = holds & (size == size[holds].min())
            singles[j] = np.exp(np.log(losses[smallest, j]).mean())
        return GainTable(self.tasks, self.groups, 1 - losses / singles, single_losses=singles)

    def _named(self, group: frozenset[str]) -> Names:
        return tuple(task for task in self.tasks if task in group)

    def _shaped(self, values: ArrayLike, groups: Sequence[Names]) -> FloatArray:
        losses = np.array(values, dtype=np.float64)
        members = membership(groups, self.tasks)
        if losses.shape != members.shape:
            raise ValueError(
                f"train_groups must return losses [groups, tasks] = {list(members.shape)}. Got {list(losses.shape)}."
            )
        return np.where(members, losses, np.nan)

    def _refuse(self, bad: BoolArray, losses: FloatArray, groups: Sequence[Names]) -> None:
        if not bad.any():
            return
        row, j = np.argwhere(bad)[0]
        others = len(groups) - int(bad.any(axis=1).sum())
        kept = "" if self._log is None or not others else f" The other {others} groups of this call are in the log."
        raise ValueError(
            f"The loss of task {self.tasks[j]!r} in group {group_name(groups[row])} must be a finite number above"
            f" 0. Got {losses[row, j]}. If the network diverged, train it again at a lower rate, or give the loss of"
            f" a constant prediction.{kept}"
        )

    def _write(self, groups: Sequence[frozenset[str]]) -> None:
        if self._log is None:
            return
        lines = []
        for group in groups:
            found = self._kept[group]
            named = {task: float(found[j]) for j, task in enumerate(self.tasks) if task in group}
            lines.append(json.dumps({"losses": named}) + "\n")
        self._log.parent.mkdir(parents=True, exist_ok=True)
        if self._log.exists() and not self._log.read_bytes().endswith(b"\n"):
            text = self._log.read_text(encoding="utf-8")
            self._log.write_text(text[: text.rfind("\n") + 1], encoding="utf-8")
        with self._log.open("a", encoding="utf-8") as file:
            file.write("".join(lines))

    def _read(self, log: Path) -> dict[frozenset[str], FloatArray]:
        text = log.read_text(encoding="utf-8")
        kept = {}
        for number, line in enumerate(text[: text.rfind("\n") + 1].splitlines(), 1):
            try:
                named = {str(task): float(loss) for task, loss in json.loads(line)["losses"].items()}
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(f"{log}, line {number} is no line of a search ({error}). Use another file.") from error
            if not named or not set(named) <= set(self.tasks):
                raise ValueError(
                    f"{log}, line {number} is of tasks {sorted(named)}, not of {list(self.tasks)}. Use another file."
                )
            if not all(0 < loss < np.inf for loss in named.values()):
                raise ValueError(
                    f"{log}, line {number} has a loss that is not a finite number above 0. Delete the line."
                )
            kept[frozenset(named)] = np.array([named.get(task, np.nan) for task in self.tasks])
        return kept


def _losses_of(known: GainTable, tasks: Names) -> dict[frozenset[str], FloatArray]:
    if not isinstance(known, GainTable):
        raise ValueError(  # noqa: TRY004  # as for every other wrong argument
            f"known must be a table of losses, as GainTable.from_csv reads one. Got {type(known).__name__}."
        )
    if set(known.tasks) != set(tasks) or known.single_losses is None:
        raise ValueError(
            f"known must be a table of losses of the same tasks. Got tasks {', '.join(known.tasks)}"
            f" {'with' if known.single_losses is not None else 'without'} losses alone."
        )
    order = [known.tasks.index(task) for task in tasks]
    losses = (known.single_losses * (1 - known.gains))[:, order]
    found = {frozenset((task,)): np.full(len(tasks), np.nan) for task in tasks}
    for j, task in enumerate(tasks):
        found[frozenset((task,))][j] = known.single_losses[known.tasks.index(task)]
    return found | {frozenset(group): row for group, row in zip(known.groups, losses, strict=True)}
