"""What first order leaves out, measured exactly on a few steps and added to the mean of all."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from cotrain.affinity.estimators import Place, Point, by_gram, by_lookahead
from cotrain.affinity.observations import Observed
from cotrain.affinity.statistics import RunningMean

__all__ = ["Calibration"]


class Calibration:
    """The difference estimator: mean of the cheap estimate + mean of (exact - first order) on calibration steps.

    Unbiased for the mean of the exact values, entry by entry and so for every target on its own, whatever the
    curvature of its loss; first order alone is not, and under Adam it can get the order of partners wrong.

    Args:
        n_tasks: T.
    """

    def __init__(self, n_tasks: int) -> None:
        self._differences = RunningMean(n_tasks, n_tasks)
        self._sums = {name: torch.zeros(n_tasks, dtype=torch.float64) for name in _SUMS}

    def observe(self, place: Place, observed: Observed, weight: float) -> float:
        """Measure on one batch, exactly and to first order, and return the price in forward passes.

        Args:
            place: Where the training stands.
            observed: The observation there; the gradients that it computed are not computed again.
            weight: Of this step in the mean.
        """
        point = observed.point or Point.at(place)
        if not point.rows:
            return 0.0
        with torch.no_grad():
            exact, first_order = (
                point.with_absent(falls).cpu() / observed.denominators
                for falls in (by_lookahead(point), by_gram(point))
            )
        self._differences.add(exact - first_order, weight)
        others = torch.where(torch.eye(len(exact), dtype=torch.bool), torch.nan, exact)
        found = {
            "n": (~others.isnan()).sum(0).double(),
            "exact": others.nansum(0),
            "squares": (others**2).nansum(0),
            "residuals": (torch.where(others.isnan(), 0, exact - first_order) ** 2).nansum(0),
        }
        self._sums = {name: self._sums[name] + value for name, value in found.items()}
        gradients = 0 if observed.point else 2 * len(point.rows) + 1
        return gradients + len(point.rows) + place.drifts

    def correct(self, mean: Tensor, stderr: Tensor) -> tuple[Tensor, Tensor]:
        """The calibrated mean and its standard error, the two parts taken as independent."""
        return mean + self._differences.mean(), (stderr**2 + self._differences.stderr() ** 2).sqrt()

    def r2(self) -> Tensor:
        """[T] per target the share of the exact values' variance over sources and steps that first order explains."""
        s = self._sums
        r2: Tensor = 1 - s["residuals"] / (s["squares"] - s["exact"] ** 2 / s["n"])
        return r2

    def merge(self, state: Mapping[str, Any]) -> None:
        """Add what another process observed, from its `state_dict`."""
        self._differences.merge(state["differences"])
        self._sums = {name: value + state[name] for name, value in self._sums.items()}

    def state_dict(self) -> dict[str, Any]:
        """Everything observed so far."""
        return {"differences": self._differences.state_dict(), **{n: value.clone() for n, value in self._sums.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a recorded state."""
        self._differences.load_state_dict(state["differences"])
        self._sums = {name: state[name].clone() for name in _SUMS}


_SUMS = ("n", "exact", "squares", "residuals")
