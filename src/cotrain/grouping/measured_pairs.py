"""Predict larger groups from the pairs that were trained, however many these are."""

from __future__ import annotations

import numpy as np

from cotrain.grouping.backends import completed, grand_mean, variance_by_task
from cotrain.grouping.gains import BoolArray, FloatArray, Groups, membership
from cotrain.grouping.table import GainTable


class MeasuredPairMean:
    """The gain of task t in group S is the mean of its gains in those pairs `{t, i}`, i in S, that were trained.

    The higher-order approximation of Standley et al. (ICML 2020, arXiv:1905.07553), of which `PairMean.from_pairs` is
    the original: all pairs, no error of the rule. Where none of the pairs was trained it is the mean of the task's
    trained pairs, then of all trained pairs, then 0. The standard deviation is the s.d. by which the rule misses the
    trained groups of three or more, on which it does not depend, never less than the spread of a task's pairs if
    there are no such groups.
    """

    unit = "gain"

    def __init__(self, table: GainTable) -> None:
        """Takes the trained groups: the pairs to predict from, the larger ones to say how far to trust it."""
        self.tasks = table.tasks
        self.single_losses = table.single_losses
        self._table = table
        members = ~np.isnan(table.gains)
        size = members.sum(axis=1)
        pairs, gains = members[size == 2], table.gains[size == 2]
        known, values = pairs.astype(np.float64), np.where(pairs, gains, 0.0)
        apart = 1 - np.eye(len(self.tasks))
        self._trained = known.T @ known * apart  # [T, T], 1 where the pair was trained
        self._effect = known.T @ values * apart  # [T, T], row = helper, column = task that it is worth something to
        count = self._trained.sum(axis=0)
        self._task = np.where(count > 0, self._effect.sum(axis=0) / np.maximum(count, 1), grand_mean(gains))
        larger = members[size > 2]
        missed = np.where(larger, table.gains[size > 2] - self._rule(larger), np.nan)
        self._variance = variance_by_task(missed**2 if len(larger) else (gains - self._task) ** 2)

    def predict(self, groups: Groups) -> tuple[FloatArray, FloatArray]:
        """Gains and their standard deviations, [n, T] each; a measured group keeps its measurement."""
        mean = self._rule(membership(groups, self.tasks))
        return completed(self._table, groups, mean, np.broadcast_to(np.sqrt(self._variance), mean.shape))

    def measured(self, groups: Groups) -> BoolArray:
        """[n], whether the group is in the table or a task alone."""
        return self._table.measured(groups)

    def _rule(self, members: BoolArray) -> FloatArray:
        count = members @ self._trained
        return np.where(count > 0, members @ self._effect / np.maximum(count, 1), self._task)
