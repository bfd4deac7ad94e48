"""What a selection maximises: total loss saved or mean gain, with a deduction for uncertainty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from cotrain.grouping.gains import FloatArray, GainModel, by_name

ObjectiveName: TypeAlias = Literal["auto", "total_loss", "mean_gain"]
Weights: TypeAlias = Mapping[str, float] | Sequence[float] | FloatArray


@dataclass(frozen=True)
class Objective:
    """A sum over tasks of `unit[t] * (mean - kappa * std)`.

    Attributes:
        name: "total_loss", "mean_gain", or "mean_score" for a model of scores.
        unit: [T], what a gain of 1 of each task is worth.
        kappa: Standard deviations deducted from every gain.
    """

    name: str
    unit: FloatArray
    kappa: float

    def worth(self, mean: FloatArray, std: FloatArray) -> FloatArray:
        """[n, T], what each group would add by serving each task; minus infinity for tasks not in the group."""
        sure = mean if self.kappa == 0 else mean - self.kappa * std
        return np.where(np.isnan(sure), -np.inf, self.unit * sure)


def make_objective(gains: GainModel, name: ObjectiveName, weights: Weights | None, kappa: float) -> Objective:
    """Settles the objective for a gain model; the arguments are those of `select_groups`.

    Raises:
        ValueError: If the name is unknown, losses are wanted of a model that has none, the weights do not fit the
            tasks or are negative or all 0, or kappa is negative.
    """
    if not (np.isfinite(kappa) and kappa >= 0):
        raise ValueError(f"kappa is a number of standard deviations, 0 or more. Got {kappa!r}.")
    if name not in ("auto", "total_loss", "mean_gain"):
        raise ValueError(f"objective must be 'auto', 'total_loss' or 'mean_gain'. Got {name!r}.")
    weight = _weights(weights, gains.tasks)
    losses = getattr(gains, "single_losses", None)
    if name == "total_loss" and losses is None:
        raise ValueError(
            "objective='total_loss' needs the loss of every task alone, and this gain model has gains only."
            " Read a loss column with GainTable.from_csv, or use objective='mean_gain'."
        )
    if losses is None or name == "mean_gain":
        unit = getattr(gains, "unit", "gain")
        return Objective(f"mean_{unit}", weight / weight.sum(), kappa)
    return Objective("total_loss", weight * np.asarray(losses, dtype=np.float64), kappa)


def _weights(weights: Weights | None, tasks: tuple[str, ...]) -> FloatArray:
    if weights is None:
        return np.ones(len(tasks))
    weights = by_name(weights)
    if isinstance(weights, Mapping):
        wrong = set(weights) ^ set(tasks)
        if wrong:
            raise ValueError(
                f"weights must name every task and no other. Wrong or missing: {', '.join(sorted(map(str, wrong)))}."
            )
        weights = [weights[task] for task in tasks]
    weight = np.array(weights, dtype=np.float64)
    if weight.shape != (len(tasks),) or not np.isfinite(weight).all() or (weight < 0).any() or not weight.any():
        raise ValueError(f"weights must be {len(tasks)} finite numbers >= 0, not all 0. Got {weights!r}.")
    return weight
