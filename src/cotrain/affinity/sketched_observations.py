"""The observations of one training, by slopes along random directions."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from cotrain.affinity.estimators import Place, joint_step_descends
from cotrain.affinity.observations import Observed
from cotrain.affinity.options import Along
from cotrain.affinity.product_mean import ProductMean
from cotrain.affinity.relative_losses import RelativeLosses
from cotrain.affinity.sketch import LastModule, sketch
from cotrain.affinity.task_signs import TaskSigns
from cotrain.lookahead import has_closed_form
from cotrain.step_response import responses

__all__ = ["SketchedObservations"]

JOINT_EVERY = 10
"""The step for all tasks is tried on every so-many-th observation: it costs more than a plain step."""


class SketchedObservations:
    """By slopes along random directions, at a price that does not grow with T.

    Args:
        n_tasks: T.
        directions: See `sketch`.
        along: What the random signs are of.
        last_module: See `sketch`.
    """

    def __init__(
        self, n_tasks: int, directions: int, *, along: Along = "parameters", last_module: LastModule = "sketched"
    ) -> None:
        self._directions, self._last_module, self._observations = directions, last_module, 0
        self._signs = TaskSigns(n_tasks) if along == "tasks" else None
        self.changes = ProductMean(n_tasks, n_tasks)
        """[T, T] relative changes."""
        self._products = ProductMean(n_tasks, n_tasks, errors=False)

    def observe(self, place: Place, relative_to: RelativeLosses, unit: float, weight: float) -> Observed | None:
        """Measure on one batch; None if no task is usable there, or before the first step of Adam.

        Raises:
            NotImplementedError: If the step has no known first order, or the model none in forward mode. On the first
                observation forward mode is held against a backward pass.
        """
        response = responses(place.parameters, place.rule)
        if response is None:
            if isinstance(place.rule, Optimizer) and not has_closed_form(place.rule):
                raise NotImplementedError(f"the first order of a step of {type(place.rule).__name__} is not known")
            return None
        first = self._observations == 0
        found = sketch(
            place,
            response,
            directions=self._directions,
            signs=self._signs,
            last_module=self._last_module,
            check=first,
        )
        if not bool(found.usable.any()):
            return None
        passes, descends = found.passes + 3 * first, None
        if self._observations % JOINT_EVERY == 0:
            descends = joint_step_descends(place)
            passes += 4
        self._observations += 1
        sources, targets = found.sources.cpu(), found.targets.cpu()
        denominators = unit * relative_to.denominators(found.losses, found.labelled, found.usable, found.moved)
        self.changes.add(sources, targets / denominators[:, None], weight)
        self._products.add(sources, targets, weight)
        if self._signs is not None and found.squares is not None:
            self._signs.add(found.squares)
        return Observed(passes, descends, denominators, (sources * targets).sum(1))

    def effective_n(self) -> Tensor:
        """[T, T] how many independent observations would have the same standard error."""
        return self.changes.effective_n()

    def cosine(self) -> Tensor:
        """[T, T] cosines of the tasks' gradients, in the metric of the step, from products averaged first.

        By signs of tasks an average may be beyond what lengths allow; it is cut to 1, and NaN without a length.
        """
        mean = self._products.mean()
        norms = mean.diagonal().sqrt()
        return (mean / (norms[:, None] * norms)).clamp(-1, 1)

    def merge(self, state: Mapping[str, Any]) -> None:
        """Add what another process observed, from its `state_dict`."""
        self.changes.merge(state["changes"])
        self._products.merge(state["products"])
        self._observations += state["observations"]
        if self._signs is not None:
            self._signs.merge(state["signs"])

    def state_dict(self) -> dict[str, Any]:
        """Everything observed so far."""
        return {
            "changes": self.changes.state_dict(),
            "products": self._products.state_dict(),
            "observations": self._observations,
            "signs": None if self._signs is None else self._signs.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a recorded state."""
        self.changes.load_state_dict(state["changes"])
        self._products.load_state_dict(state["products"])
        self._observations = state["observations"]
        if self._signs is not None:
            self._signs.load_state_dict(state["signs"])
