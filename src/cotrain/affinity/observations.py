"""The observations of one training, by the gradients of all tasks."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from cotrain.affinity.estimators import Place, Point, by_gram, by_lookahead, joint_step_descends
from cotrain.affinity.relative_losses import RelativeLosses
from cotrain.affinity.statistics import RunningMean

__all__ = ["ExactObservations", "Observed"]


@dataclass(frozen=True)
class Observed:
    """What else came out of an observation.

    Args:
        passes: Its price in forward passes through the network (a backward pass counts two).
        joint_descent: Whether the step for all tasks together lowers the summed loss; None if it was not tried.
        denominators: [T] what the changes were divided by.
        own_falls: [T] of every task's loss by its own step, before the division; NaN if it is not usable.
        point: Every task's gradient, where it was computed.
    """

    passes: float
    joint_descent: bool | None
    denominators: Tensor
    own_falls: Tensor
    point: Point | None = None

    def with_passes(self, more: float) -> "Observed":
        """The same at a price that is so much higher."""
        return replace(self, passes=self.passes + more)


class ExactObservations:
    """By every task's gradient: `lookahead`, or `gram`.

    Args:
        n_tasks: T.
        exact: Follow every step, instead of its first order.
        stepped_heads: Let heads take a step of their own first.
    """

    def __init__(self, n_tasks: int, *, exact: bool, stepped_heads: bool = False) -> None:
        self._exact, self._stepped_heads = exact, stepped_heads
        self.changes = RunningMean(n_tasks, n_tasks)
        """[T, T] relative changes."""
        self._cosines = RunningMean(n_tasks, n_tasks)

    def observe(self, place: Place, relative_to: RelativeLosses, unit: float, weight: float) -> Observed | None:
        """Measure on one batch; None if no task is usable there."""
        point = Point.at(place)
        if not point.rows:
            return None
        with torch.no_grad():
            falls = by_lookahead(point, stepped_heads=self._stepped_heads) if self._exact else by_gram(point)
            descends = joint_step_descends(point)
        products, usable = point.products.cpu(), point.usable.cpu()
        norms = products.diagonal().sqrt()
        denominators = unit * relative_to.denominators(point.losses, point.labelled, point.usable, norms > 0)
        falls = point.with_absent(falls).cpu()
        self.changes.add(falls / denominators, weight)
        cosines = products / (norms[:, None] * norms)
        self._cosines.add(torch.where(usable[:, None] & usable, cosines, torch.nan), weight)
        lookaheads = len(point.rows) + place.drifts + 3 * self._stepped_heads if self._exact else 0
        return Observed(2 * len(point.rows) + lookaheads + 2, descends, denominators, falls.diagonal(), point)

    def effective_n(self) -> Tensor:
        """[T, T] how many independent observations would have the same standard error."""
        return self.changes.effective_n()

    def cosine(self) -> Tensor:
        """[T, T] mean cosines of the tasks' gradients."""
        return self._cosines.mean()

    def merge(self, state: Mapping[str, Any]) -> None:
        """Add what another process observed, from its `state_dict`."""
        self.changes.merge(state["changes"])
        self._cosines.merge(state["cosines"])

    def state_dict(self) -> dict[str, Any]:
        """Everything observed so far."""
        return {"changes": self.changes.state_dict(), "cosines": self._cosines.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a recorded state."""
        self.changes.load_state_dict(state["changes"])
        self._cosines.load_state_dict(state["cosines"])
