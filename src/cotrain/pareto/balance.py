"""How losses of different scales are made comparable before a preference weighs them."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["RunningMeans"]

DECAY = 0.98
"""Of the running means: they remember about 50 steps."""


class RunningMeans:
    """Exponential running means of the tasks' losses, without bias at the start.

    Args:
        n_tasks: T.
    """

    def __init__(self, n_tasks: int) -> None:
        self._sum = torch.zeros(n_tasks, dtype=torch.float64)
        self._weight = torch.zeros(n_tasks, dtype=torch.float64)

    def scales(self, losses: Tensor, present: Tensor) -> Tensor:
        """[T] means before this step; for a task that was not seen yet its present loss.

        Args:
            losses: [n, T] of this step, without a graph; 0 where there is no label.
            present: [n, T] booleans, where there is one.
        """
        known = self._weight.to(losses.device) > 0
        before = (self._sum / self._weight.clamp(min=torch.finfo(torch.float64).tiny)).to(losses.device)
        present_means = losses.double().sum(0) / present.sum(0).clamp(min=1)
        scales = torch.where(known, before, present_means)
        return torch.where(scales.abs() > 0, scales.abs(), 1.0).to(losses.dtype)

    def update(self, losses: Tensor, present: Tensor) -> None:
        """Take in the losses of a step.

        Args:
            losses: [W, T], without a graph.
            present: [W, T] booleans; a task without labels in a ray's samples is not counted there.
        """
        losses, present = losses.double().cpu(), present.cpu()
        seen = present.any(0)
        means = torch.where(present, losses, 0).sum(0) / present.sum(0).clamp(min=1)
        self._sum = torch.where(seen, DECAY * self._sum + (1 - DECAY) * means, self._sum)
        self._weight = torch.where(seen, DECAY * self._weight + (1 - DECAY), self._weight)

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed training needs."""
        return {"sum": self._sum.clone(), "weight": self._weight.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self._sum, self._weight = state["sum"].clone(), state["weight"].clone()
