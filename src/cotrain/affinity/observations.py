"""The observations of one training, by the gradients of all tasks or by slopes along random directions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from cotrain.affinity.estimators import Place, Point, by_gram, by_lookahead, joint_step_descends
from cotrain.affinity.product_mean import ProductMean
from cotrain.affinity.relative_losses import RelativeLosses
from cotrain.affinity.sketch import sketch
from cotrain.affinity.statistics import RunningMean
from cotrain.lookahead import has_closed_form
from cotrain.step_response import responses

__all__ = ["ExactObservations", "Observed", "SketchedObservations"]

JOINT_EVERY = 10
"""A sketch tries the step for all tasks on every so-many-th observation: it costs more than a plain step."""


@dataclass(frozen=True)
class Observed:
    """What else came out of an observation.

    Args:
        passes: Its price in forward passes through the network (a backward pass counts two).
        joint_descent: Whether the step for all tasks together lowers the summed loss; None if it was not tried.
        denominators: [T] what the changes were divided by.
        point: Every task's gradient, where it was computed.
    """

    passes: float
    joint_descent: bool | None
    denominators: Tensor
    point: Point | None = None


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
        self.changes.add(point.with_absent(falls).cpu() / denominators, weight)
        cosines = products / (norms[:, None] * norms)
        self._cosines.add(torch.where(usable[:, None] & usable, cosines, torch.nan), weight)
        lookaheads = len(point.rows) + place.drifts + 3 * self._stepped_heads if self._exact else 0
        return Observed(2 * len(point.rows) + lookaheads + 2, descends, denominators, point)

    def effective_n(self) -> Tensor | None:
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


class SketchedObservations:
    """By slopes along random directions, at a price that does not grow with T.

    Args:
        n_tasks: T.
        directions: See `sketch`.
    """

    def __init__(self, n_tasks: int, directions: int) -> None:
        self._directions, self._observations = directions, 0
        self.changes = ProductMean(n_tasks, n_tasks)
        """[T, T] relative changes."""
        self._products = ProductMean(n_tasks, n_tasks)

    def observe(self, place: Place, relative_to: RelativeLosses, unit: float, weight: float) -> Observed | None:
        """Measure on one batch; None if no task is usable there, or before the first step of Adam.

        Raises:
            NotImplementedError: If the step has no known first order, or the model none in forward mode.
        """
        response = responses(place.parameters, place.rule)
        if response is None:
            if isinstance(place.rule, Optimizer) and not has_closed_form(place.rule):
                raise NotImplementedError(f"the first order of a step of {type(place.rule).__name__} is not known")
            return None
        found = sketch(place, response, directions=self._directions)
        if not bool(found.usable.any()):
            return None
        passes, descends = found.passes, None
        if self._observations % JOINT_EVERY == 0:
            descends = joint_step_descends(place)
            passes += 4
        self._observations += 1
        slopes = found.slopes.cpu()
        moved = (slopes != 0).any(1)
        denominators = unit * relative_to.denominators(found.losses, found.labelled, found.usable, moved)
        self.changes.add(slopes, slopes / denominators[:, None], weight)
        self._products.add(slopes, slopes, weight)
        return Observed(passes, descends, denominators)

    def effective_n(self) -> Tensor | None:
        """Not known: the variance of single observations would take a pass over the matrix at every one."""
        return None

    def cosine(self) -> Tensor:
        """[T, T] cosines of the tasks' gradients, in the metric of the step, from products averaged first."""
        mean = self._products.mean()
        norms = mean.diagonal().sqrt()
        return mean / (norms[:, None] * norms)

    def merge(self, state: Mapping[str, Any]) -> None:
        """Add what another process observed, from its `state_dict`."""
        self.changes.merge(state["changes"])
        self._products.merge(state["products"])
        self._observations += state["observations"]

    def state_dict(self) -> dict[str, Any]:
        """Everything observed so far."""
        return {
            "changes": self.changes.state_dict(),
            "products": self._products.state_dict(),
            "observations": self._observations,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a recorded state."""
        self.changes.load_state_dict(state["changes"])
        self._products.load_state_dict(state["products"])
        self._observations = state["observations"]
