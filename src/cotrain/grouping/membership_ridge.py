"""Predict gains from who is in the group: a ridge regression per task, on trained groups."""

from __future__ import annotations

from cotrain.grouping.backends import completed, grand_mean, trained_together
from cotrain.grouping.gains import BoolArray, FloatArray, Groups, membership
from cotrain.grouping.ridge import fit_member_ridge
from cotrain.grouping.table import GainTable


class MembershipRidge:
    """The gain of task t in group S is `a_t + sum of w_ti over the other members i`, fitted on trained groups.

    The membership surrogate of Li et al. (2023, arXiv:2303.14582), with one pair of penalties for all tasks, chosen by
    leaving one group out: on the weights, up to where only the task's mean is left, and on the distance of the task's
    mean from that of all tasks. One of those that `StackedGains`, the default, weighs. Train groups of the size that
    you will deploy: pairs say little about large groups (correlation .33 from all 351 pairs of a published table with
    27 tasks, .75 from 150 groups of 12 to 16 tasks). Without any group of two or more the prediction is 0, `PRIOR_STD`
    wide or more.

    Attributes:
        weights: [T, T], row t: what each other task adds to the gain of t; 0 on the diagonal.
        weight_penalty: The penalty on the weights.
        mean_penalty: The penalty on a task's mean, in groups.
    """

    unit = "gain"

    def __init__(self, table: GainTable) -> None:
        """Takes the trained groups; those of one task say nothing here."""
        self.tasks = table.tasks
        self.single_losses = table.single_losses
        self._table = table
        members, gains = trained_together(table)
        self._everyone = grand_mean(gains)
        self._fit = fit_member_ridge(members, gains - self._everyone)
        self.weights = self._fit.coefficients[:, 1:]
        self.weight_penalty = self._fit.weight_penalty
        self.mean_penalty = self._fit.mean_penalty

    def predict(self, groups: Groups) -> tuple[FloatArray, FloatArray]:
        """Gains and their standard deviations, [n, T] each; a measured group keeps its measurement.

        The standard deviation is `sqrt(s_t^2 (1 + x^T K x))`: the residual s.d. leaving one group out, wider for
        groups unlike the trained ones.
        """
        mean, std = self._fit.predict(membership(groups, self.tasks))
        return completed(self._table, groups, self._everyone + mean, std)

    def measured(self, groups: Groups) -> BoolArray:
        """[n], whether the group is in the table or a task alone."""
        return self._table.measured(groups)
