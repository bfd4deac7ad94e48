"""Random signs of tasks, equalised: by how much each task's loss enters a random sum of all losses."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from cotrain.affinity.loss_derivatives import LossDerivatives

__all__ = ["TaskSigns"]

LEAST_SCALE = 0.01
"""Of the median scale: a task whose gradient is next to nothing now may have one at the next step."""


class TaskSigns:
    """Running sizes of the tasks' gradients, so that in a random sum none drowns the others.

    The noise in a pair is made of all other tasks' gradients, each divided by its scale. A task's scale is the root of
    the running mean of |s d|, s its scale in an observation and d the root mean square of its loss's slopes along the
    sums: the length of its gradient where tasks have nothing in common, and never negative, as estimates of that
    length from one observation are. A scale rests on earlier observations only, which keeps the estimate unbiased.

    Args:
        n_tasks: T.
    """

    def __init__(self, n_tasks: int) -> None:
        self._sums = {name: torch.zeros(n_tasks, dtype=torch.float64) for name in _SUMS}

    def scales(self, derivatives: LossDerivatives) -> Tensor:
        """[T] float64, positive. Of a task not seen before, from the size of its loss's derivatives by its outputs.

        Args:
            derivatives: At the present place.
        """
        size = derivatives.by_outputs.double().nan_to_num(posinf=0, neginf=0).square().sum(0)
        outer = torch.zeros_like(derivatives.losses).index_add_(0, derivatives.owner, size).sqrt().cpu()
        seen, known = self._sums["n"] > 0, (self._sums["squares"] / self._sums["n"]).sqrt()
        compared = seen & (outer > 0)
        ratio = (known[compared] / outer[compared]).median() if bool(compared.any()) else 1.0
        scales = torch.where(seen, known, outer * ratio)
        positive = scales[scales > 0]
        return scales.nan_to_num().clamp(min=LEAST_SCALE * float(positive.median()) if len(positive) else 1.0)

    def add(self, squares: Tensor) -> None:
        """Take in one observation.

        Args:
            squares: [T], |s d| as above; NaN for a task that was not seen.
        """
        squares = squares.cpu()
        self._sums["n"] += squares.isfinite()
        self._sums["squares"] += torch.where(squares.isfinite(), squares, 0)

    def merge(self, state: Mapping[str, Any]) -> None:
        """Add what another process saw, from its `state_dict`."""
        self._sums = {name: value + state[name] for name, value in self._sums.items()}

    def state_dict(self) -> dict[str, Any]:
        """Everything seen so far."""
        return {name: value.clone() for name, value in self._sums.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a recorded state."""
        self._sums = {name: state[name].clone() for name in _SUMS}


_SUMS = ("n", "squares")
