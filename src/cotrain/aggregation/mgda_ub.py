"""MGDA on the shared features: gradients by the features in place of gradients by the parameters."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from cotrain.aggregation.aggregation import Choice, Combined, StepAggregation
from cotrain.aggregation.gradients import NotFiniteError, TrainingPass, all_finite
from cotrain.aggregation.graph_leaves import leaves_of
from cotrain.aggregation.mgda import MGDA
from cotrain.aggregation.split import Split
from cotrain.aggregation.wrappers import unwrapped
from cotrain.model import SharedTrunk
from cotrain.task import Batch, Task, TaskSet

__all__ = ["MGDAUB"]


class MGDAUB(StepAggregation):
    """MGDA's upper bound (Sener and Koltun 2018, arXiv 1810.04650): the shortest average of the dL_i / dz.

    z are the features that all tasks read; the trunk gets one backward pass of sum_i w_i dL_i / dz. An upper bound on
    the parameters' direction where dz / dtheta has full rank. Costs one pass per task through the heads alone. Products
    by features correlate with products by parameters at 0.6 to 0.8 only, so this is a method of its own.

    Args:
        features: Name of the module whose output is z; None for the trunk of a `SharedTrunk`. Everything shared must
            lie before it.
        on_choice: Called with what was decided at every step.

    Raises:
        ValueError: In `backward`, if there is no such module, a shared parameter does not lie before it, or
            acts around it too, it runs twice, or it does not give one tensor.
    """

    def __init__(self, features: str | None = None, *, on_choice: Callable[[Choice], None] | None = None) -> None:
        super().__init__(on_choice=on_choice)
        self._features = features
        self._seen: Tensor | None = None

    def options(self) -> dict[str, Any]:
        """As `StepAggregation.options`."""
        return {"features": self._features}

    def backward(
        self, model: nn.Module, tasks: Iterable[Task], batch: Batch, *, scaler: GradScaler | None = None
    ) -> Tensor:
        """As `StepAggregation.backward`."""
        handle = self._module(unwrapped(model)).register_forward_hook(self._see)
        try:
            return super().backward(model, tasks, batch, scaler=scaler)
        finally:
            handle.remove()
            self._seen = None

    def _combine(self, run: TrainingPass, split: Split, batch: Batch) -> Combined:  # noqa: ARG002
        features = self._seen
        if features is None or not features.requires_grad:
            raise ValueError(
                f"The module {self._features or 'trunk'!r} gave no features that could be differentiated by."
            )
        rows = [run.differentiated(run.outputs, [features], sent)[0] for sent in run.by_task()]
        unread = [run.tasks.names[k] for k, row in zip(run.rows, rows, strict=True) if row is None]
        if unread:
            raise ValueError(
                f"The tasks {unread} do not read the features of {self._features or 'trunk'!r}. Name a module as"
                " features that all tasks read, or use MGDA."
            )
        by_features = torch.stack([row.flatten() for row in rows if row is not None])
        wide = by_features.double()
        gramian = run.reduced(wide @ wide.T)  # samples of other processes are further entries of the same rows
        finite = torch.isfinite(gramian.diagonal())
        if not bool(finite.all()):
            raise NotFiniteError([run.tasks.names[run.rows[k]] for k in (~finite).nonzero().flatten().tolist()])
        weights = MGDA()(gramian.cpu()).to(gramian)
        sent = (weights.to(by_features) @ by_features).view_as(features)
        found = run.differentiated(features, list(split.shared.values()), sent)
        missed = [name for name, gradient in zip(split.shared, found, strict=True) if gradient is None]
        if missed:
            raise ValueError(
                f"The shared parameters {missed} do not lie before the features of {self._features or 'trunk'!r}."
                " Name a later module as features, or use MGDA."
            )
        beside = {id(leaf) for leaf in leaves_of(run.outputs, around=features)}
        around = [name for name, value in split.shared.items() if id(value) in beside]
        if around:
            raise ValueError(
                f"The outputs depend on {around} also around the features of {self._features or 'trunk'!r}, which"
                " MGDA-UB would leave out. Name a later module as features, or use MGDA."
            )
        gradients = run.reduced_all(split.shared, found)
        if not all_finite(gradients.values()):
            raise NotFiniteError([])
        return Combined(gradients, run.scattered(weights))

    def _before(self, model: nn.Module, tasks: TaskSet, batch: Batch) -> None:  # noqa: ARG002
        self._seen = None  # of other passes than the step's

    def _see(self, module: nn.Module, inputs: object, output: object) -> None:  # noqa: ARG002
        name = self._features or "trunk"
        if not isinstance(output, Tensor):
            raise ValueError(  # noqa: TRY004 - all refusals of `backward` are one class
                f"The features of {name!r} must be one tensor. Got {type(output).__name__}. Name another"
                " module, or use MGDA."
            )
        if self._seen is not None:
            raise ValueError(
                f"The module {name!r} ran twice in one forward pass, and MGDA-UB needs features that are computed once."
                " Name a module that runs once, or use MGDA."
            )
        self._seen = output

    def _module(self, model: nn.Module) -> nn.Module:
        if self._features is None and not isinstance(model, SharedTrunk):
            raise ValueError(
                f"MGDA-UB needs features=, the name of the module whose output all tasks read. Got"
                f" {type(model).__name__}, whose modules are {[name for name, _ in model.named_children()]}."
            )
        name = self._features or "trunk"
        modules: dict[str, nn.Module] = dict(model.named_modules())
        if name not in modules:
            raise ValueError(f"There is no module {name!r}. The modules are {[key for key in modules if key]}.")
        return modules[name]
