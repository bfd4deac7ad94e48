"""Adam on one number per task, in which absent tasks stand still."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["TaskAdam"]


class TaskAdam:
    """Adam (arXiv 1412.6980) with a count of steps for every task.

    Args:
        n_tasks: T.
        lr: Learning rate.
        weight_decay: Added to the gradient times the value, as in `torch.optim.Adam`.
    """

    def __init__(self, n_tasks: int, lr: float, weight_decay: float = 0.0) -> None:
        self._lr, self._weight_decay = lr, weight_decay
        self._first, self._second, self._steps = (torch.zeros(n_tasks, dtype=torch.float64) for _ in range(3))

    def stepped(self, values: Tensor, gradient: Tensor, present: Tensor) -> Tensor:
        """[T] values after a step along the gradient [m] of the present tasks; the others' are as before."""
        gradient = gradient + self._weight_decay * values[present]
        steps = self._steps[present] + 1
        first = 0.9 * self._first[present] + 0.1 * gradient
        second = 0.999 * self._second[present] + 0.001 * gradient**2
        self._first[present], self._second[present], self._steps[present] = first, second, steps
        mean, spread = first / (1 - 0.9**steps), (second / (1 - 0.999**steps)).sqrt()
        moved = values.clone()
        moved[present] -= self._lr * mean / (spread + 1e-8)
        return moved

    def state_dict(self) -> dict[str, Any]:
        """Moments and counts."""
        return {"first": self._first.clone(), "second": self._second.clone(), "steps": self._steps.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self._first, self._second, self._steps = (state[name].clone() for name in ("first", "second", "steps"))
