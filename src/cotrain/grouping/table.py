"""Gains of groups that were really trained: a table in memory or in a CSV file."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cotrain.grouping.gains import BoolArray, FloatArray, Groups, check_tasks, group_name, membership


@dataclass(frozen=True, eq=False, init=False)
class GainTable:
    """A gain model that holds measurements only; nothing is predicted for a group that was not trained.

    Attributes:
        tasks: The T task names.
        groups: The n measured groups, each a tuple of names in the order of `tasks`.
        gains: [n, T], the gain over training the task alone, in units of the single-task loss; NaN for tasks that
            are not in the group.
        std: [n, T], the seed noise of each gain; 0 where none is given.
        single_losses: [T], the loss of each task trained alone, if the table was made from losses; else None.
            With it `select_groups` minimises the sum of losses by default, without it it maximises the mean gain.
    """

    tasks: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]
    gains: FloatArray
    std: FloatArray
    single_losses: FloatArray | None

    def __init__(
        self,
        tasks: Sequence[str],
        groups: Groups,
        gains: ArrayLike,
        std: ArrayLike | None = None,
        single_losses: ArrayLike | None = None,
    ) -> None:
        """Takes the measurements as arrays; the attributes above say how each is read.

        A task without a row of its own has gain 0 alone, by definition.

        Raises:
            ValueError: If a member's gain is missing or not finite, an absent task has one, a group is there
                twice, a std is negative, or the shapes do not agree. The message names the group.
        """
        names = check_tasks(tasks)
        members = membership(groups, names)
        table = _member_values(gains, members, groups, names, "gain")
        noise = np.where(members, 0.0, np.nan)
        if std is not None:
            noise = _member_values(std, members, groups, names, "std")
            if (noise < 0).any():
                row = int((noise < 0).any(axis=1).argmax())
                raise ValueError(f"The std of group {group_name(groups[row])} is negative. Give std >= 0.")
        ordered = tuple(tuple(names[j] for j in np.flatnonzero(row)) for row in members)
        _refuse_duplicates(ordered)
        losses = None if single_losses is None else np.array(single_losses, dtype=np.float64)
        if losses is not None and (losses.shape != (len(names),) or not (np.isfinite(losses) & (losses > 0)).all()):
            raise ValueError(f"single_losses needs one finite loss above 0 for each of {names}. Got {single_losses!r}.")
        for field, value in (
            ("tasks", names), ("groups", ordered), ("gains", table), ("std", noise), ("single_losses", losses),
        ):  # fmt: skip
            object.__setattr__(self, field, value)
        object.__setattr__(self, "_row", {frozenset(group): i for i, group in enumerate(ordered)})

    @classmethod
    def from_csv(
        cls,
        path: str | os.PathLike[str],
        column: str = "test_loss",
        *,
        kind: Literal["auto", "loss", "gain"] = "auto",
        std_column: str | None = None,
    ) -> GainTable:
        """Reads a table with the columns `group`, `task` and `column`: one row per task of each trained group.

        Args:
            path: The CSV file. A group is its task names joined by `+`.
            column: What to read.
            kind: "loss": smaller is better, turned into gains `1 - L(S) / L({t})`, which needs every task's loss
                alone. "gain": taken as it is. "auto" decides by the word "loss" or "gain" in the column's name.
            std_column: Where the standard deviation of the gains stands; by default the gains are taken as exact.

        Raises:
            ValueError: If the kind is unknown, a column is missing, a value is not a finite number, a row is there
                twice, a member of a group has no row, a task has no loss alone or one that is not above 0.
        """
        if kind not in ("auto", "loss", "gain"):
            raise ValueError(f"kind must be 'auto', 'loss' or 'gain'. Got {kind!r}.")
        if kind == "auto":
            kind = _kind_of(column)
        rows = _read_rows(Path(path), column, std_column)
        tasks = check_tasks(dict.fromkeys(task for _, task, *_ in rows))
        groups = list({frozenset(group): group for group, *_ in rows}.values())
        members = membership(groups, tasks)
        row_of = {frozenset(group): i for i, group in enumerate(groups)}
        values = np.full((2, len(groups), len(tasks)), np.nan)
        for group, task, value, std in rows:
            cell = (row_of[frozenset(group)], tasks.index(task))
            if not members[cell]:
                raise ValueError(f"{path}: task {task!r} has a row in group {group_name(group)} but is not in it.")
            if not np.isnan(values[0][cell]):
                raise ValueError(
                    f"{path}: group {group_name(group)} has two rows for task {task!r}. Keep one, or average them."
                )
            values[:, *cell] = value, std
        if np.isnan(values[0][members]).any():
            row, j = np.argwhere(members & np.isnan(values[0]))[0]
            raise ValueError(f"{path}: group {group_name(groups[row])} has no row for its member {tasks[j]!r}. Add it.")
        noise = None if std_column is None else values[1]
        if kind == "gain":
            return cls(tasks, groups, values[0], noise)
        singles = _single_losses(values[0], row_of, tasks, path)
        return cls(tasks, groups, 1.0 - values[0] / singles, noise, singles)

    def with_groups(self, groups: Groups, gains: ArrayLike, std: ArrayLike | None = None) -> GainTable:
        """A new table with further groups; this one stays as it is.

        Args:
            groups: m groups that are not in the table yet.
            gains: [m, T], NaN for tasks that are not in the group.
            std: [m, T], the seed noise; None: 0.

        Raises:
            ValueError: As for a new table; a group that is already there counts as there twice.
        """
        members = membership(groups, self.tasks)
        further = _member_values(gains, members, groups, self.tasks, "gain")
        noise = np.where(members, 0.0, np.nan) if std is None else np.asarray(std, dtype=np.float64)
        return GainTable(
            self.tasks,
            [*self.groups, *groups],
            np.concatenate([self.gains, further]),
            np.concatenate([self.std, _member_values(noise, members, groups, self.tasks, "std")]),
            self.single_losses,
        )

    def rows(self, keep: ArrayLike) -> GainTable:
        """A new table of some of the groups: `keep` is [n] booleans, or positions in `groups`."""
        wanted = np.asarray(keep)
        # An empty list has no type of its own.
        chosen = np.arange(len(self.groups))[wanted if wanted.size else wanted.astype(np.intp)]
        return GainTable(
            self.tasks, [self.groups[i] for i in chosen], self.gains[chosen], self.std[chosen], self.single_losses
        )

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Writes columns `group,task,gain,std`, and `loss` if the losses are known; the file is whole or not there.

        Raises:
            ValueError: If a task's name holds a `+`, which joins the names of a group.
        """
        joined = [task for task in self.tasks if "+" in task]
        if joined:
            raise ValueError(f"Task {joined[0]!r} holds a '+', which joins task names in the file. Rename it.")
        losses = None if self.single_losses is None else self.single_losses * (1.0 - self.gains)
        target = Path(path)
        draft = target.with_name(target.name + ".part")
        try:
            with draft.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(["group", "task", "gain", "std"] + ([] if losses is None else ["loss"]))
                for row, j in np.argwhere(~np.isnan(self.gains)):
                    cells = [float(self.gains[row, j]), float(self.std[row, j])]
                    cells += [] if losses is None else [float(losses[row, j])]
                    writer.writerow([group_name(self.groups[row]), self.tasks[j], *cells])
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)

    def predict(self, groups: Groups) -> tuple[FloatArray, FloatArray]:
        """Measured gains and their seed noise, [n, T] each; NaN for a group that was not trained.

        A single task without a row has mean 0 and std 0, by the definition of the gain.
        """
        members = membership(groups, self.tasks)
        mean = np.where(members & (members.sum(axis=1) == 1)[:, None], 0.0, np.nan)
        std = mean.copy()
        rows = self._rows(groups)
        known = rows >= 0
        mean[known], std[known] = self.gains[rows[known]], self.std[rows[known]]
        return mean, std

    def measured(self, groups: Groups) -> BoolArray:
        """[n], whether the group is in the table; a task alone always counts, its gain is 0 by definition."""
        alone = membership(groups, self.tasks).sum(axis=1) == 1
        return np.asarray((self._rows(groups) >= 0) | alone)

    def _rows(self, groups: Groups) -> NDArray[np.intp]:
        row: dict[frozenset[str], int] = self.__dict__["_row"]
        return np.fromiter((row.get(frozenset(group), -1) for group in groups), dtype=np.intp, count=len(groups))


def _member_values(
    values: ArrayLike, members: BoolArray, groups: Groups, tasks: tuple[str, ...], what: str
) -> FloatArray:
    table = np.array(values, dtype=np.float64)
    if table.shape != members.shape:
        raise ValueError(f"The {what} table must be [groups, tasks] = {list(members.shape)}. Got {list(table.shape)}.")
    for wrong, problem in (
        (members & ~np.isfinite(table), "is not a finite number. Measure it again, or leave the group out."),
        (~members & ~np.isnan(table), "must be NaN: the task is not in the group."),
    ):
        if wrong.any():
            row, j = np.argwhere(wrong)[0]
            raise ValueError(
                f"The {what} of task {tasks[j]!r} in group {group_name(groups[row])} {problem} Got {table[row, j]}."
            )
    return table


def _refuse_duplicates(groups: tuple[tuple[str, ...], ...]) -> None:
    seen: set[tuple[str, ...]] = set()
    for group in groups:
        if group in seen:
            raise ValueError(f"Group {group_name(group)} is there twice. Keep one, or average the two.")
        seen.add(group)


def _kind_of(column: str) -> Literal["loss", "gain"]:
    name = column.lower()
    if "loss" in name:
        return "loss"
    if "gain" in name:
        return "gain"
    raise ValueError(
        f"Column {column!r} has neither 'loss' nor 'gain' in its name. Say kind='loss' if smaller is better,"
        " kind='gain' if it is a gain over training alone."
    )


def _read_rows(path: Path, column: str, std_column: str | None) -> list[tuple[tuple[str, ...], str, float, float]]:
    wanted = ["group", "task", column] + ([] if std_column is None else [std_column])
    rows = []
    with path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets put a mark before UTF-8
        reader = csv.DictReader(file)
        missing = [name for name in wanted if name not in (reader.fieldnames or [])]
        if missing:
            raise ValueError(f"{path} has no column {missing[0]!r}. It has {', '.join(reader.fieldnames or ['none'])}.")
        for row in reader:
            group, task, *texts = (row[name] or "" for name in wanted)
            numbers = [_finite(text, f"{path}, line {reader.line_num}: group {group}, task {task}") for text in texts]
            rows.append((tuple(group.split("+")), task, numbers[0], numbers[-1]))
    return rows


def _finite(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise ValueError(f"{where}: expected a finite number. Got {text!r}. Measure it again, or leave the group out.")
    return value


def _single_losses(
    losses: FloatArray, row_of: dict[frozenset[str], int], tasks: tuple[str, ...], path: str | os.PathLike[str]
) -> FloatArray:
    singles = np.empty(len(tasks))
    for j, task in enumerate(tasks):
        row = row_of.get(frozenset([task]))
        if row is None:
            raise ValueError(f"{path}: task {task!r} was not trained alone, so its gains are unknown. Add its row.")
        singles[j] = losses[row, j]
        if singles[j] <= 0:
            raise ValueError(
                f"{path}: task {task!r} alone has loss {singles[j]}: a gain is a ratio and needs a loss above 0."
                " Give gains of your own in a 'gain' column."
            )
    return singles
