"""What first order leaves out, as a line per target through a few exact steps."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from cotrain.affinity.calibration_steps import CalibrationSteps
from cotrain.affinity.estimators import Place
from cotrain.affinity.observations import Observed
from cotrain.affinity.product_mean import ProductMean

__all__ = ["FitCalibration"]

FEWEST = 10
"""Exact values of a target; below, its column is not corrected."""

COLLINEAR = 1e-8
"""Relative; where first order and curvature say the same, their coefficients share the effect."""


class FitCalibration:
    """Least squares per target j over sources and calibration steps: exact ~ a_j first order + b_j curvature.

    The second term stands for what curvature takes back of a step: the fall of the source's own loss by its step,
    relative to loss j (for a plain step of rate eta eta |g_i|^2 / L_j, so the eta^2 of the curvature is in b_j). All
    sources of a target share two numbers, so few exact steps suffice and sources that were never drawn are corrected
    as well; but what two numbers cannot tell stays wrong, which `r2`, that of the fit, gives away. The diagonal has
    no part in the fit.

    Args:
        n_tasks: T.
        steps: When, and for which sources.
    """

    def __init__(self, n_tasks: int, steps: CalibrationSteps) -> None:
        self._steps = steps
        self._curvature = ProductMean(n_tasks, n_tasks, errors=False)
        self._sums = {name: torch.zeros(n_tasks, *shape, dtype=torch.float64) for name, shape in _SHAPES.items()}

    def observe(self, place: Place, observed: Observed, weight: float) -> float:
        """Take in the curvature, measure if it is time to, and return the price in forward passes."""
        self._curvature.add(observed.own_falls.cpu()[:, None], 1 / observed.denominators[:, None], weight)
        step = self._steps.measure(place, observed)
        if step is None:
            return 0.0
        exact = step.exact.clone().fill_diagonal_(torch.nan)
        terms = torch.stack([step.first_order, step.own_falls[:, None] / observed.denominators], -1)
        seen = exact.isfinite() & terms.isfinite().all(-1)
        exact, terms = torch.where(seen, exact, 0), torch.where(seen[..., None], terms, 0)
        found = {
            "n": seen.sum(0).double(),
            "weight": weight * seen.sum(0),
            "exact": weight * exact.sum(0),
            "squares": weight * (exact**2).sum(0),
            "terms": weight * torch.einsum("ijp,ijq->jpq", terms, terms),
            "products": weight * torch.einsum("ijp,ij->jp", terms, exact),
        }
        self._sums = {name: self._sums[name] + value for name, value in found.items()}
        return step.passes

    def correct(self, mean: Tensor, stderr: Tensor) -> tuple[Tensor, Tensor]:
        """The fit's prediction, with the error of the mean and that of a_j and b_j, exact values as independent."""
        coefficients, inverse = self._solved()
        s = self._sums
        curvature = self._curvature.mean()
        terms = torch.stack([mean, curvature], -1)
        residual = self._residuals(coefficients) / s["weight"] * s["n"] / (s["n"] - len(_TERMS))
        spread = torch.einsum("ijp,jpq,ijq->ij", terms, inverse, terms) * residual / s["n"] * s["weight"]
        known = s["n"] >= FEWEST
        corrected = torch.where(known, torch.einsum("ijp,jp->ij", terms, coefficients), mean)
        error = ((coefficients[:, 0] * stderr) ** 2 + spread).sqrt()
        return corrected, torch.where(known, error, torch.nan)

    def r2(self) -> Tensor:
        """[T] per target the share of the exact values' variance over sources and steps that the fit explains."""
        s = self._sums
        coefficients, _ = self._solved()
        r2: Tensor = 1 - self._residuals(coefficients) / (s["squares"] - s["exact"] ** 2 / s["weight"])
        return r2

    def merge(self, state: Mapping[str, Any]) -> None:
        """Add what another process observed, from its `state_dict`."""
        self._steps.merge(state["steps"])
        self._curvature.merge(state["curvature"])
        self._sums = {name: value + state[name] for name, value in self._sums.items()}

    def state_dict(self) -> dict[str, Any]:
        """Everything observed so far."""
        return {
            "steps": self._steps.state_dict(),
            "curvature": self._curvature.state_dict(),
            **{name: value.clone() for name, value in self._sums.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a recorded state."""
        self._steps.load_state_dict(state["steps"])
        self._curvature.load_state_dict(state["curvature"])
        self._sums = {name: state[name].clone() for name in _SHAPES}

    def _solved(self) -> tuple[Tensor, Tensor]:
        """[T, 2] coefficients and [T, 2, 2] the inverse of the terms' products, both of terms scaled to length 1."""
        products, right = self._sums["terms"], self._sums["products"]
        lengths = products.diagonal(dim1=1, dim2=2).sqrt()
        lengths = torch.where(lengths > 0, lengths, 1)
        outer = lengths[:, :, None] * lengths[:, None, :]
        inverse = torch.linalg.pinv(products / outer, rtol=COLLINEAR, hermitian=True) / outer
        return (inverse @ right[..., None])[..., 0], inverse

    def _residuals(self, coefficients: Tensor) -> Tensor:
        """[T] sums of squares; rounding may leave those of a perfect fit a little below 0."""
        explained = (coefficients * self._sums["products"]).sum(1)
        return (self._sums["squares"] - explained).clamp(min=0)


_TERMS = ("first order", "curvature")
_SHAPES: Mapping[str, tuple[int, ...]] = {
    "n": (),
    "weight": (),
    "exact": (),
    "squares": (),
    "terms": (2, 2),
    "products": (2,),
}
