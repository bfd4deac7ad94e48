"""The default gain model: back-ends stacked by how well they predict trained groups that they have not seen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from cotrain.grouping.backends import PRIOR_STD, Backend, completed, predicted, trained_together, variance_by_task
from cotrain.grouping.gains import BoolArray, FloatArray, GainModel, Groups
from cotrain.grouping.hamming_process import HammingProcess
from cotrain.grouping.measured_pairs import MeasuredPairMean
from cotrain.grouping.membership_ridge import MembershipRidge
from cotrain.grouping.stacking_weights import left_out_folds, stacking_weights
from cotrain.grouping.table import GainTable
from cotrain.grouping.task_mean import TaskMean

DEFAULT_BACKENDS: Mapping[str, Backend] = MappingProxyType(
    {"pairs": MeasuredPairMean, "ridge": MembershipRidge, "similar groups": HammingProcess}
)

STD_RANGE = 2.0
"""The std of one prediction is within this factor of the typical residual of its task."""


class StackedGains:
    """A convex combination of back-ends, weighted by their error on trained groups that were left out.

    Every back-end fails somewhere: on three published tables measured pairs predict well, on a fourth they lose to
    each task's mean. So the groups at hand decide. "task mean" and "zero" (no gain at all) are always among the
    candidates, and with few groups weights are held back: a useless back-end more costs next to nothing
    (see `stacking_weights`). `str()` of the model says in words what it rests on.

    Attributes:
        tasks: The T task names.
        unit: "gain"; "score" if no group of two or more was trained and only scores are known.
        weights: By name of the back-end; >= 0, their sum is 1.
        errors: By name, the root mean square error over left-out groups; NaN if not `verified`.
        error: The same of the stack itself, with the weights above.
        n_groups: How many trained groups of two or more tasks the weights rest on.
        verified: Whether there were any. If not, the prediction is the plain mean of those back-ends of unit "gain"
            that say something of their own, at least `PRIOR_STD` wide; else the first score; else 0.
        single_losses: [T], as in the table; None if unknown.
    """

    def __init__(self, table: GainTable, backends: Mapping[str, Backend] = DEFAULT_BACKENDS) -> None:
        """Fits all back-ends: on the whole table, and once for every fold of groups that is left out.

        Args:
            table: The trained groups.
            backends: Functions from a table to a gain model, by name. By default measured pairs, the ridge and the
                kernel on memberships; add what else is known: `DEFAULT_BACKENDS | {"linearized": lambda _: model}`,
                or a score as `functools.partial(CalibratedGains, score=model)`.

        Raises:
            ValueError: If a back-end is named "task mean" or "zero", has other tasks than the table, predicts a value
                that is not finite, or gives scores where there are groups to calibrate them by.
        """
        taken = {"task mean", "zero"} & set(backends)
        if taken:
            raise ValueError(f"A back-end {min(taken)!r} is always there. Give yours another name.")
        self.tasks = table.tasks
        self.single_losses = table.single_losses
        self.unit = "gain"
        self._table = table
        members, gains = trained_together(table)
        self.n_groups = len(members)
        self.verified = self.n_groups > 0
        named: dict[str, Backend] = {**backends, "task mean": TaskMean, "zero": _NoGain}
        self._models = {name: backend(table) for name, backend in named.items()}
        self.errors = dict.fromkeys(named, math.nan)
        self.error = math.nan
        if not self.verified:
            self.weights = self._unverified_weights()
            return
        for name, model in self._models.items():
            if getattr(model, "unit", "gain") != "gain":
                raise ValueError(
                    f"Back-end {name!r} gives scores, which cannot be averaged with gains. Calibrate it on the table:"
                    " functools.partial(CalibratedGains, score=model)."
                )
        means, stds = _left_out_predictions(table, named, members)
        weights = stacking_weights(means[members], gains[members], self.n_groups)
        self.weights = {name: float(weight) for name, weight in zip(named, weights, strict=True)}
        squares = (gains[:, :, None] - means) ** 2
        self.errors = {
            name: float(error) for name, error in zip(named, np.sqrt(squares[members].mean(axis=0)), strict=True)
        }
        mean, own = _blend(means, stds, weights)
        residual = np.where(members, (gains - mean) ** 2, np.nan)
        self.error = float(np.sqrt(np.nanmean(residual)))
        self._typical = np.sqrt(variance_by_task(residual))
        self._scale = self._typical / np.sqrt(variance_by_task(np.where(members, own**2, np.nan)))

    def predict(self, groups: Groups) -> tuple[FloatArray, FloatArray]:
        """Gains and their standard deviations, [n, T] each; a measured group keeps its measurement.

        The standard deviation follows what the back-ends say of themselves and their disagreement, scaled to the
        residuals over left-out groups: by task, drawn to that of all tasks.
        """
        used = {name: weight for name, weight in self.weights.items() if weight > 0}
        models = [self._models[name] for name in used]
        mean, own = _blend(*_predictions(models, groups, self.tasks), np.array(list(used.values())))
        if self.verified:
            std = np.clip(self._scale * own, self._typical / STD_RANGE, self._typical * STD_RANGE)
        else:
            std = np.maximum(own, PRIOR_STD) if self.unit == "gain" else own
        return completed(self._table, groups, mean, std)

    def measured(self, groups: Groups) -> BoolArray:
        """[n], whether the group is in the table or a task alone."""
        return self._table.measured(groups)

    def __str__(self) -> str:
        """What the prediction rests on, in one sentence."""
        parts = sorted((name for name in self.weights if self.weights[name] >= 0.005), key=self.weights.__getitem__)
        if not self.verified:
            return f"Unverified: no group of two or more was trained. Predicted by {', '.join(reversed(parts))}."
        words = ", ".join(f"{self.weights[name]:.2f} {name} ({self.errors[name]:.3g})" for name in reversed(parts))
        return f"Error {self.error:.3g} on {self.n_groups} trained groups, each left out in turn: {words}."

    def _unverified_weights(self) -> dict[str, float]:
        units = {name: getattr(model, "unit", "gain") for name, model in self._models.items()}
        # A back-end that needs real groups predicts 0 for all: it has no say beside one that knows something.
        everyone = tuple(self.tasks)
        probes = [everyone, *(everyone[:i] + everyone[i + 1 :] for i in range(len(everyone)))]
        probes = [group for group in probes if len(group) > 1]
        means, _ = _predictions(list(self._models.values()), probes, self.tasks)
        telling = [name for name, some in zip(units, np.atleast_1d(means.any(axis=(0, 1))), strict=True) if some]
        gains = [name for name in telling if units[name] == "gain"]
        chosen = gains or telling[:1] or ["zero"]
        self.unit = units[chosen[0]]
        return {name: 1 / len(chosen) if name in chosen else 0.0 for name in units}


class _NoGain:
    """Predicts that no group changes anything; its std is the root mean square gain of the task."""

    def __init__(self, table: GainTable) -> None:
        self.tasks = table.tasks
        self._table = table
        self._std = np.sqrt(variance_by_task(trained_together(table)[1] ** 2))

    def predict(self, groups: Groups) -> tuple[FloatArray, FloatArray]:
        shape = (len(groups), len(self.tasks))
        return completed(self._table, groups, np.zeros(shape), np.broadcast_to(self._std, shape))

    def measured(self, groups: Groups) -> BoolArray:
        return self._table.measured(groups)


def _left_out_predictions(
    table: GainTable, backends: Mapping[str, Backend], members: BoolArray
) -> tuple[FloatArray, FloatArray]:
    """Mean and std [n, T, K] of every trained group by back-ends that were fitted without it; 0 off members."""
    together = np.array([i for i, group in enumerate(table.groups) if len(group) > 1], dtype=np.intp)
    groups = [table.groups[i] for i in together]
    means, stds = np.zeros((2, *members.shape, len(backends)))
    for fold in left_out_folds(groups):
        rest = table.rows(np.setdiff1d(np.arange(len(table.groups)), together[fold]))
        models = [backend(rest) for backend in backends.values()]
        means[fold], stds[fold] = _predictions(models, [groups[i] for i in fold], table.tasks)
    return means, stds


def _predictions(models: Sequence[GainModel], groups: Groups, tasks: tuple[str, ...]) -> tuple[FloatArray, FloatArray]:
    """Mean and std [n, T, K]; 0 off members."""
    both = np.array([predicted(model, groups, tasks) for model in models])  # [K, 2, n, T]
    mean, std = np.nan_to_num(np.moveaxis(both, 0, -1))
    return mean, std


def _blend(means: FloatArray, stds: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and std [n, T] of the mixture of K predictions [n, T, K]."""
    mean = means @ weights
    return mean, np.sqrt((stds**2 + (means - mean[:, :, None]) ** 2) @ weights)
