"""Weights on the losses that need no task's gradient by itself: the sum, and the sum of logarithms."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from cotrain.aggregation.aggregation import Choice, Combined, StepAggregation, require_positive
from cotrain.aggregation.gradients import TrainingPass
from cotrain.aggregation.split import Split
from cotrain.task import Batch

__all__ = ["LogSum", "Sum", "loss_weighted"]


class Sum(StepAggregation):
    """The plain sum of the losses, bit for bit the usual training step; or a weighted one.

    Args:
        weights: [T] non-negative weights of the shared parameters' gradients; None for 1. Heads get their own task's
            gradient unweighted.
        on_choice: Called with what was decided at every step.

    Raises:
        ValueError: If a weight is negative or not finite; in `backward`, if there are not T.
    """

    def __init__(
        self, weights: Sequence[float] | Tensor | None = None, *, on_choice: Callable[[Choice], None] | None = None
    ) -> None:
        super().__init__(on_choice=on_choice)
        self._weights = None if weights is None else torch.as_tensor(weights, dtype=torch.float64)
        if self._weights is not None and not bool((torch.isfinite(self._weights) & (self._weights >= 0)).all()):
            raise ValueError(f"weights must be finite and not negative. Got {self._weights.tolist()}.")

    def options(self) -> dict[str, Any]:
        """As `StepAggregation.options`."""
        return {"weights": self._weights}

    def _gradients(self, run: TrainingPass, split: Split, batch: Batch) -> tuple[Combined, dict[str, Tensor]]:
        if self._weights is not None:
            return super()._gradients(run, split, batch)
        shared, own = run.plain_sums(split)
        return Combined(shared, run.present.double(), 1.0, 1.0), own

    def _combine(self, run: TrainingPass, split: Split, batch: Batch) -> Combined:  # noqa: ARG002
        if self._weights is None or self._weights.shape != run.present.shape:
            raise ValueError(
                f"weights must hold one number for each of the {len(run.tasks)} tasks. Got {self._weights}."
            )
        return loss_weighted(run, split, self._weights[run.present.cpu()])


class LogSum(StepAggregation):
    """The sum of the losses' logarithms: weights 1 / L, which no scale of a loss changes.

    Its gradient beats every subset of the tasks to first order at equal length, so this is the rival of methods that
    choose among subsets. A loss near 0 gets a large weight.

    Args:
        on_choice: Called with what was decided at every step.

    Raises:
        ValueError: In `backward`, if a loss is not positive.
    """

    def _combine(self, run: TrainingPass, split: Split, batch: Batch) -> Combined:  # noqa: ARG002
        require_positive(run, "The logarithm of a loss", "Add a constant to the loss, or use the plain sum.")
        return loss_weighted(run, split, 1 / run.losses[run.present].double())


def loss_weighted(run: TrainingPass, split: Split, weights: Tensor) -> Combined:
    """The gradient of a weighted sum of the present tasks' losses; the weights are constants, [m]."""
    everywhere = run.scattered(weights)
    return Combined(run.sums(split.shared, everywhere), everywhere)
