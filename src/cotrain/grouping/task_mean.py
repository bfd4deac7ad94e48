"""The baseline that every gain model must beat: each task's mean gain, whatever group it is in."""

from __future__ import annotations

import numpy as np

from cotrain.grouping.backends import completed, grand_mean, trained_together, variance_by_task
from cotrain.grouping.gains import BoolArray, FloatArray, Groups, membership
from cotrain.grouping.table import GainTable


class TaskMean:
    """Predicts the mean gain of the task over the trained groups that hold it.

    It cannot rank the groups of one task, and alone reaches a correlation of .61 to .66 with the gains of published
    tables whose tasks differ more than their groups: a gain model that does not beat it has learned nothing about
    groups. A task in no trained group of two or more gets the mean of all tasks; with no such group at all the
    prediction is 0, `PRIOR_STD` wide. The standard deviation is the s.d. of the task's gains, leaving one group out.
    """

    unit = "gain"

    def __init__(self, table: GainTable) -> None:
        """Takes the trained groups; those of one task say nothing here."""
        self.tasks = table.tasks
        self.single_losses = table.single_losses
        self._table = table
        members, gains = trained_together(table)
        count = members.sum(axis=0)
        everyone = grand_mean(gains)
        self._mean = np.where(count > 0, np.nansum(gains, axis=0) / np.maximum(count, 1), everyone)
        # Leaving a group out of a mean of n enlarges its residual by n / (n - 1); a task in one group has no other.
        center = np.where(count > 1, self._mean, everyone)
        left_out = (gains - center) * np.where(count > 1, np.sqrt(count / np.maximum(count - 1, 1)), 1.0)
        self._std = np.sqrt(variance_by_task(left_out**2) * (1 + 1 / np.maximum(count, 1)))

    def predict(self, groups: Groups) -> tuple[FloatArray, FloatArray]:
        """Gains and their standard deviations, [n, T] each; a measured group keeps its measurement."""
        shape = membership(groups, self.tasks).shape
        return completed(self._table, groups, np.broadcast_to(self._mean, shape), np.broadcast_to(self._std, shape))

    def measured(self, groups: Groups) -> BoolArray:
        """[n], whether the group is in the table or a task alone."""
        return self._table.measured(groups)
