"""What first order leaves out, measured exactly on a few steps and added to the mean of all."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from cotrain.affinity.calibration_steps import CalibrationSteps
from cotrain.affinity.estimators import Place
from cotrain.affinity.observations import Observed
from cotrain.affinity.statistics import RunningMean

__all__ = ["Calibration", "DifferenceCalibration"]


class Calibration(Protocol):
    """A correction of the mean of a cheap estimate, learned on the steps that are measured exactly as well."""

    def observe(self, place: Place, observed: Observed, weight: float) -> float:
        """Called after every observation with its weight in the mean; returns the price in forward passes."""
        ...

    def correct(self, mean: Tensor, stderr: Tensor) -> tuple[Tensor, Tensor]:
        """The calibrated mean [T, T] and its standard error; as it is, with the error NaN, where nothing is known."""
        ...

    def r2(self) -> Tensor:
        """[T] per target the share of the exact values' variance over sources and steps that is explained."""
        ...

    def merge(self, state: Mapping[str, Any]) -> None:
        """Add what another process observed, from its `state_dict`."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything observed so far."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a recorded state."""
        ...


class DifferenceCalibration:
    """The difference estimator: mean of the cheap estimate + mean of (exact - first order) on calibration steps.

    Unbiased for the mean of the exact values, entry by entry and so for every target on its own, whatever the
    curvature of its loss; first order alone is not, and under Adam it can get the order of partners wrong. `r2` is
    that of first order.

    Args:
        n_tasks: T.
        steps: When, and for which sources.
    """

    def __init__(self, n_tasks: int, steps: CalibrationSteps) -> None:
        self._steps = steps
        self._differences = RunningMean(n_tasks, n_tasks)
        self._sums = {name: torch.zeros(n_tasks, dtype=torch.float64) for name in _SUMS}

    def observe(self, place: Place, observed: Observed, weight: float) -> float:
        """Measure if it is time to, and return the price in forward passes."""
        step = self._steps.measure(place, observed)
        if step is None:
            return 0.0
        difference = step.exact - step.first_order
        self._differences.add(difference, weight)
        others = step.exact.clone().fill_diagonal_(torch.nan)
        found = {
            "n": (~others.isnan()).sum(0).double(),
            "exact": others.nansum(0),
            "squares": (others**2).nansum(0),
            "residuals": torch.where(others.isnan(), 0, difference**2).sum(0),
        }
        self._sums = {name: self._sums[name] + value for name, value in found.items()}
        return step.passes

    def correct(self, mean: Tensor, stderr: Tensor) -> tuple[Tensor, Tensor]:
        """The sum and its standard error, the two parts taken as independent; of a source never drawn, the mean."""
        corrected = mean + self._differences.mean().nan_to_num()
        return corrected, (stderr**2 + self._differences.stderr() ** 2).sqrt()

    def r2(self) -> Tensor:
        """[T] per target the share of the exact values' variance over sources and steps that first order explains."""
        s = self._sums
        r2: Tensor = 1 - s["residuals"] / (s["squares"] - s["exact"] ** 2 / s["n"])
        return r2

    def merge(self, state: Mapping[str, Any]) -> None:
        """Add what another process observed, from its `state_dict`."""
        self._steps.merge(state["steps"])
        self._differences.merge(state["differences"])
        self._sums = {name: value + state[name] for name, value in self._sums.items()}

    def state_dict(self) -> dict[str, Any]:
        """Everything observed so far."""
        return {
            "steps": self._steps.state_dict(),
            "differences": self._differences.state_dict(),
            **{name: value.clone() for name, value in self._sums.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a recorded state."""
        self._steps.load_state_dict(state["steps"])
        self._differences.load_state_dict(state["differences"])
        self._sums = {name: state[name].clone() for name in _SUMS}


_SUMS = ("n", "exact", "squares", "residuals")
