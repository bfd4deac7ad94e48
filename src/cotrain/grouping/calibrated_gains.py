"""Turn any score of groups into gains, by a few groups that were really trained."""

from __future__ import annotations

import numpy as np

from cotrain.grouping.backends import PRIOR_STD, completed, predicted, trained_together
from cotrain.grouping.gains import BoolArray, FloatArray, GainModel, Groups, membership
from cotrain.grouping.ridge import fit_member_ridge
from cotrain.grouping.score_curve import fit_score_curve
from cotrain.grouping.table import GainTable


class CalibratedGains:
    """A curve from score to gain, then for every task a ridge regression of what is left on who else is in the group.

    The two stages of ETAP (arXiv:2602.18591), made safe: each task is fitted on the groups that hold it (the published
    code takes 0 for the gain of an absent task, which shrinks every prediction), whole groups are left out when the
    curve and the penalties are chosen, and a task alone keeps gain 0. Scale and sign of the score are learned; a score
    that says nothing becomes a constant. Use `functools.partial(CalibratedGains, score=model)` as a back-end.

    Without any group of two or more there is nothing to calibrate by: the score is passed on as it is, with its own
    `unit`, and at least `PRIOR_STD` wide if that is "gain".

    Attributes:
        unit: "gain"; that of the score if no group of two or more was trained.
        shape: What the curve is: "constant", "line" or "spline" (from 30 groups); "none" without groups.
    """

    def __init__(self, table: GainTable, *, score: GainModel) -> None:
        """Fits both stages.

        Args:
            table: The trained groups.
            score: Any model of the same tasks that was not itself fitted on the table: `PairMean` of an affinity, or a
                linearised model.

        Raises:
            ValueError: If the tasks differ, or the score of a trained group is not finite.
        """
        self.tasks = table.tasks
        self.single_losses = table.single_losses
        self._table = table
        self._score = score
        members, gains = trained_together(table)
        self.unit = "gain" if len(members) else getattr(score, "unit", "gain")
        scores, _ = predicted(score, [group for group in table.groups if len(group) > 1], self.tasks)
        group, _ = np.nonzero(members)
        self._curve = fit_score_curve(scores[members], gains[members], group)
        self.shape = self._curve.shape if len(members) else "none"
        self._rest = fit_member_ridge(members, gains - self._curve(scores))

    def predict(self, groups: Groups) -> tuple[FloatArray, FloatArray]:
        """Gains and their standard deviations, [n, T] each; a measured group keeps its measurement.

        The standard deviation is that of the second stage, leaving one group out.
        """
        scores, spread = predicted(self._score, groups, self.tasks)
        if self.shape == "none":
            prior = PRIOR_STD if self.unit == "gain" else 0.0
            return completed(self._table, groups, scores, np.hypot(spread, prior))
        rest, std = self._rest.predict(membership(groups, self.tasks))
        return completed(self._table, groups, self._curve(scores) + rest, std)

    def measured(self, groups: Groups) -> BoolArray:
        """[n], whether the group is in the table or a task alone."""
        return self._table.measured(groups)
