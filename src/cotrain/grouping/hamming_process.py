"""Predict gains from similar groups: a Gaussian process per task on the Hamming distance between groups."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from cotrain.grouping.backends import completed, grand_mean, trained_together, variance_by_task
from cotrain.grouping.gains import BoolArray, FloatArray, Groups, membership
from cotrain.grouping.table import GainTable

LENGTHS = (16.0, 8.0, 4.0, 2.0, 1.0)
"""Hamming distances at which the similarity of two groups has fallen to `exp(-1/2)`."""

LEVELS = (0.1, 1.0, 10.0)
"""Variance of a task's level, in units of the variance between its groups."""

SIGNALS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Variance between a task's groups, in units of the variance of a new training of the same group."""


@dataclass(frozen=True, eq=False)
class _TaskFit:
    """What one task's process keeps: its groups [n_t, T], `inverse @ y` [n_t] and the inverse [n_t, n_t]."""

    members: FloatArray
    weights: FloatArray
    inverse: FloatArray


class HammingProcess:
    """Groups with mostly the same members have similar gains: kernel `signal (level + exp(-distance / (2 length)))`.

    An RBF kernel on the membership vectors, so a function of the Hamming distance between groups. Length, level and
    signal are one for all tasks, chosen by leaving one group out. It can follow interactions of three and more tasks,
    which `MembershipRidge` cannot, and needs more groups for it. Without any group of two or more the prediction
    is 0, `PRIOR_STD` wide or more.

    Attributes:
        length: The Hamming distance at which similarity has fallen to `exp(-1/2)`.
        level: The variance of a task's level, in units of the variance between its groups.
        signal: The variance between a task's groups, in units of the variance of a new training of the same group.
    """

    unit = "gain"

    def __init__(self, table: GainTable) -> None:
        """Takes the trained groups; those of one task say nothing here."""
        self.tasks = table.tasks
        self.single_losses = table.single_losses
        self._table = table
        together, gains = trained_together(table)
        self._everyone = grand_mean(gains)
        # One kernel per task, as each has groups of its own: the loop is over T, and eigh takes all of its time.
        rows = [np.flatnonzero(column) for column in together.T]
        members = [together[own].astype(np.float64) for own in rows]
        targets = [gains[own, j] - self._everyone for j, own in enumerate(rows)]
        self.length, self.level, self.signal = _best_left_out(members, targets)
        self._fits = []
        squares = np.full(gains.shape, np.nan)
        for j, (own, groups, target) in enumerate(zip(rows, members, targets, strict=True)):
            kernel = self.signal * _kernel(groups, groups, self.length, self.level) + np.eye(len(own))
            inverse = np.linalg.inv(kernel).astype(np.float64, copy=False)
            weights = inverse @ target
            squares[own, j] = weights**2 / np.diag(inverse)  # squared residual without the group, over its variance
            self._fits.append(_TaskFit(groups, weights, inverse))
        self._variance = variance_by_task(squares)

    def predict(self, groups: Groups) -> tuple[FloatArray, FloatArray]:
        """Gains and their standard deviations, [n, T] each; a measured group keeps its measurement."""
        members = membership(groups, self.tasks).astype(np.float64)
        mean, spread = np.empty(members.shape), np.empty(members.shape)
        for j, fit in enumerate(self._fits):
            near = self.signal * _kernel(members, fit.members, self.length, self.level)
            mean[:, j] = near @ fit.weights
            spread[:, j] = self.signal * (1 + self.level) - ((near @ fit.inverse) * near).sum(axis=1)
        std = np.sqrt(self._variance * (1 + np.maximum(spread, 0.0)))
        return completed(self._table, groups, self._everyone + mean, std)

    def measured(self, groups: Groups) -> BoolArray:
        """[n], whether the group is in the table or a task alone."""
        return self._table.measured(groups)


def _best_left_out(members: list[FloatArray], targets: list[FloatArray]) -> tuple[float, float, float]:
    """Length, level and signal with the smallest squared error over left-out groups; of equal ones the smoothest."""
    errors: dict[tuple[float, float, float], float] = {}
    for length, level in product(LENGTHS, LEVELS):
        total = np.zeros(len(SIGNALS))
        for groups, target in zip(members, targets, strict=True):
            values, vectors = np.linalg.eigh(_kernel(groups, groups, length, level))
            shares = 1 / (np.maximum(values, 0.0)[:, None] * SIGNALS + 1)  # [n_t, signals]
            weights = vectors @ (shares * (vectors.T @ target)[:, None])
            total += ((weights / (vectors**2 @ shares)) ** 2).sum(axis=0)
        errors |= {(length, level, signal): float(error) for signal, error in zip(SIGNALS, total, strict=True)}
    smallest = min(errors.values())
    return next(choice for choice, error in errors.items() if error <= smallest * (1 + 1e-9))


def _kernel(one: FloatArray, other: FloatArray, length: float, level: float) -> FloatArray:
    distance = one.sum(axis=1)[:, None] + other.sum(axis=1) - 2 * one @ other.T
    return np.asarray(level + np.exp(-distance / (2 * length)))
