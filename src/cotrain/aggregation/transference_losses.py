"""The running mean and spread of every task's loss: what a decrease is counted in."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cotrain.aggregation.transference_scores import Score

__all__ = ["RunningLosses"]

DECAY = 0.99
"""Of the weight of a past step: about the last 100 steps count."""

FLOOR = 0.01
"""Of the running mean: the least loss that a decrease is divided by, or a task that is solved would rule the sum."""

SMALLEST = 1e-12
"""A loss that was always 0 has no gradient either; its unit must only not be 0."""


@dataclass(frozen=True, eq=False)
class RunningLosses:
    """Exponential means over the steps at which a task had a label.

    Args:
        weight: [T] float64, of all steps so far.
        mean: [T], of the losses.
        size: [T], of their absolute values.
        squares: [T], the weighted sum of squared deviations.
    """

    weight: Tensor
    mean: Tensor
    size: Tensor
    squares: Tensor

    @classmethod
    def none(cls, n_tasks: int) -> "RunningLosses":
        """Before the first step."""
        return cls(*(torch.zeros(n_tasks, dtype=torch.float64) for _ in range(4)))

    def after(self, losses: Tensor, present: Tensor) -> "RunningLosses":
        """With one more step, [T] losses; tasks that are not present keep what they have."""
        weight = DECAY * self.weight + 1
        away = losses - self.mean
        # The deviations are summed as by Welford: a difference of two large sums would lose small ones.
        new = (
            weight,
            self.mean + away / weight,
            self.size + (losses.abs() - self.size) / weight,
            DECAY * self.squares + away.square() * (1 - 1 / weight),
        )
        old = (self.weight, self.mean, self.size, self.squares)
        return RunningLosses(*(torch.where(present, here, there) for here, there in zip(new, old, strict=True)))

    @property
    def floor(self) -> Tensor:
        """[T] positive, the least size of a loss that counts."""
        return (FLOOR * self.size).clamp(min=SMALLEST)

    def units(self, losses: Tensor, score: Score) -> Tensor:
        """[T] positive, what decreases of these losses are divided by.

        The loss itself; for "difference" its running standard deviation, and at the first step, where there is none,
        its size.
        """
        if score != "difference":
            return losses.clamp(min=self.floor)
        spread = torch.where(self.weight > 1, self.squares / self.weight.clamp(min=1), self.size.square()).sqrt()
        return spread.clamp(min=self.floor)

    def state_dict(self) -> dict[str, Any]:
        """All of it."""
        return dict(vars(self))

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "RunningLosses":
        """What was saved."""
        return cls(**state)
