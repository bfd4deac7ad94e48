"""Predict a group from pairs: the mean of what each other member does to the task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cotrain.grouping.gains import BoolArray, FloatArray, Groups, check_tasks, membership
from cotrain.grouping.table import GainTable


class PairMean:
    """The gain of task t in group S is the mean of `Z_it` over the other members i; 0 for a task alone.

    With gains of really trained pairs this is the higher-order approximation of Standley et al. (ICML 2020,
    arXiv:1905.07553); use `PairMean.from_pairs`. With transference scores it is the grouping rule of Fifty et al.
    (NeurIPS 2021, arXiv:2109.04617). Such a score is the effect of one step and no gain: its scale, and at times
    its sign, differ from the gain of a training. A mean also never exceeds its largest entry, so it favours pairs.
    Read the prediction as unverified until real groups were trained; the attribute `unit` says which of the two it is,
    "gain" or "score".
    """

    def __init__(self, matrix: Any, tasks: Iterable[Any] | None = None, stderr: ArrayLike | None = None) -> None:
        """Takes a table of pair effects.

        Args:
            matrix: [T, T], row = source i, column = target j, positive = training i helps j; the diagonal is not
                used and may be NaN. Anything that numpy can read, or an object with the attributes `matrix`,
                `stderr` and `tasks`, such as an `Affinity`.
            tasks: T names, or objects with a `name`; by default the attribute `tasks` of `matrix`.
            stderr: [T, T], the standard error of each entry, same units. Without it the standard deviation of
                every prediction for task t is the spread of column t, with t's own 0 (trained alone) among its
                entries: wide, and the same for all group sizes, as no more is known.

        Raises:
            ValueError: If the shapes do not agree, a standard error is negative, or an entry off the diagonal is not
                finite, as it is for a pair that was never observed. The message names the pair.
        """
        if hasattr(matrix, "matrix"):
            tasks = matrix.tasks if tasks is None else tasks
            stderr = matrix.stderr if stderr is None else stderr
            matrix = matrix.matrix
        if tasks is None:
            raise ValueError("PairMean needs the names of the tasks. Pass tasks=[...], one per row of the matrix.")
        self.tasks = check_tasks(getattr(task, "name", task) for task in tasks)
        self.single_losses: FloatArray | None = None
        self.unit = "score"
        self._known: GainTable | None = None
        self._effect = _off_diagonal(matrix, self.tasks, "effect")
        self._variance: FloatArray | None = None
        if stderr is not None:
            error = _off_diagonal(stderr, self.tasks, "standard error")
            if (error < 0).any():
                i, j = np.argwhere(error < 0)[0]
                raise ValueError(f"The standard error of {_pair(i, j, self.tasks)} is negative. Got {error[i, j]}.")
            self._variance = error**2

    @classmethod
    def from_pairs(cls, table: GainTable) -> PairMean:
        """Predicts larger groups from a table's pairs; its singles and pairs keep their measurement and their std.

        Larger groups of the table are not looked at. The table's `single_losses` are kept, so `select_groups` has
        the same default objective as with the table itself.

        Raises:
            ValueError: If a pair was not measured; the message names it.
        """
        count = len(table.tasks)
        first, second = np.triu_indices(count, 1)
        pairs = [(table.tasks[i], table.tasks[j]) for i, j in zip(first, second, strict=True)]
        unmeasured = ~table.measured(pairs)
        if unmeasured.any():
            raise ValueError(
                f"Pair {'+'.join(pairs[int(unmeasured.argmax())])} is not in the table. Train all"
                f" {len(pairs)} pairs, or choose from the table itself."
            )
        effect, error = np.zeros((count, count)), np.zeros((count, count))
        mean, std = table.predict(pairs)
        for target, values in ((effect, mean), (error, std)):
            row = np.arange(len(pairs))
            target[first, second] = values[row, second]
            target[second, first] = values[row, first]
        model = cls(effect, table.tasks, error if error.any() else None)
        small = [row for row, group in enumerate(table.groups) if len(group) <= 2]
        model._known = GainTable(
            table.tasks, [table.groups[row] for row in small], table.gains[small], table.std[small]
        )
        model.single_losses = table.single_losses
        model.unit = "gain"
        return model

    def predict(self, groups: Groups) -> tuple[FloatArray, FloatArray]:
        """Predicted gains and their standard deviations, [n, T] each; NaN where the task is not in the group.

        The standard deviation is that of a mean of independent entries, `sqrt(sum of stderr^2) / (|S| - 1)`. It
        covers the noise of the entries, not the error of the pair-mean rule itself, which only real trainings show.
        """
        members = membership(groups, self.tasks)
        others = np.maximum(members.sum(axis=1, keepdims=True) - 1, 1)
        weights = members.astype(np.float64)
        mean = np.where(members, weights @ self._effect / others, np.nan)
        if self._variance is not None:
            deviation = np.sqrt(weights @ self._variance) / others
        else:
            alone = members.sum(axis=1, keepdims=True) == 1
            deviation = np.where(alone, 0.0, self._effect.std(axis=0, ddof=1))
        std = np.where(members, deviation, np.nan)
        if self._known is not None:
            known = self._known.measured(groups)
            rows = [group for group, is_known in zip(groups, known, strict=True) if is_known]
            mean[known], std[known] = self._known.predict(rows)
        return mean, std

    def measured(self, groups: Groups) -> BoolArray:
        """[n], True for a task alone (0 by definition) and, after `from_pairs`, for the table's pairs."""
        if self._known is not None:
            return self._known.measured(groups)
        return np.asarray(membership(groups, self.tasks).sum(axis=1) == 1)


def _off_diagonal(values: ArrayLike, tasks: tuple[str, ...], what: str) -> FloatArray:
    """[T, T] with a zero diagonal, so that a matrix product sums over the other members only."""
    table = np.asarray(values, dtype=np.float64).copy()
    if table.shape != (len(tasks), len(tasks)):
        raise ValueError(f"The {what} table must be [T, T] for {len(tasks)} tasks. Got {list(table.shape)}.")
    np.fill_diagonal(table, 0.0)
    if not np.isfinite(table).all():
        i, j = np.argwhere(~np.isfinite(table))[0]
        raise ValueError(
            f"The {what} of {_pair(i, j, tasks)} is not a finite number. Got {table[i, j]}."
            " Observe this pair (more often), or leave one of the two tasks out."
        )
    return table


def _pair(i: int, j: int, tasks: Sequence[str]) -> str:
    return f"task {tasks[i]!r} on task {tasks[j]!r}"
