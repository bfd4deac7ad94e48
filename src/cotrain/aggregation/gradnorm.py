"""Weights that make tasks learn at similar rates, learned from the lengths of their gradients."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from cotrain.aggregation.aggregation import Choice, Combined, StepAggregation, require_positive
from cotrain.aggregation.gradients import TrainingPass
from cotrain.aggregation.loss_weights import loss_weighted
from cotrain.aggregation.split import Split
from cotrain.aggregation.task_adam import TaskAdam
from cotrain.task import Batch

__all__ = ["GradNorm"]

FIRST_BATCHES = 10
"""Of which a task's initial loss is the mean: a single batch's loss is noisy, and divides for the whole training."""

LEAST = 0.01
"""The smallest weight: a step of the weights must not turn a task round."""


class GradNorm(StepAggregation):
    """GradNorm (Chen et al. 2018, arXiv 1711.02257): weights follow the rate at which each task learns.

    With G_i = w_i |dL_i / dW| on one layer W and r_i = (L_i / L_i(0)) / mean, the weights take a gradient step on
    sum |G_i - mean(G) r_i^alpha|, whose right side is a constant, and are rescaled to their sum. A task that learns
    slowly gets more weight. One backward pass per task, down to W only, and one for the weighted sum.

    Args:
        alpha: How strongly slow tasks are favoured; 1.5 in LibMTL, 0.1 in TAG's CelebA code.
        lr: Learning rate of the weights (Adam).
        layer: Name of the parameter W; None for the last shared one with at least two dimensions.
        on_choice: Called with what was decided at every step.

    Raises:
        ValueError: If lr is not positive; in `backward`, if a loss is not positive, or `layer` is no shared parameter.
    """

    def __init__(
        self,
        *,
        alpha: float = 1.5,
        lr: float = 0.025,
        layer: str | None = None,
        on_choice: Callable[[Choice], None] | None = None,
    ) -> None:
        super().__init__(on_choice=on_choice)
        if not lr > 0:
            raise ValueError(f"lr must be positive. Got {lr}.")
        self._alpha, self._lr, self._layer = alpha, lr, layer
        self._weights: Tensor | None = None
        self._adam: TaskAdam | None = None

    def options(self) -> dict[str, Any]:
        """As `StepAggregation.options`."""
        return {"alpha": self._alpha, "lr": self._lr, "layer": self._layer}

    def _combine(self, run: TrainingPass, split: Split, batch: Batch) -> Combined:  # noqa: ARG002
        require_positive(run, "GradNorm", "Add a constant to the loss, or use a method that needs gradients only.")
        if self._weights is None or self._adam is None:
            n = len(run.tasks)
            self._weights, self._adam = torch.ones(n, dtype=torch.float64), TaskAdam(n, self._lr)
            self._initial, self._counts = torch.zeros(n, dtype=torch.float64), torch.zeros(n, dtype=torch.float64)
        name = self._layer_of(split)
        jacobian = run.jacobian({name: split.shared[name]})
        lengths = run.gramian(jacobian).diagonal().sqrt().cpu()
        present, losses = run.present.cpu(), run.losses[run.present].double().cpu()
        weights = self._weights[present]
        combined = loss_weighted(run, split, weights)
        # Only now, when nothing is left that could stop the step.
        self._remember(losses, present)
        ratios = losses / self._initial[present]
        norms = weights * lengths
        target = norms.mean() * (ratios / ratios.mean()) ** self._alpha
        moved = self._adam.stepped(self._weights, torch.sign(norms - target) * lengths, present)
        kept = moved[present].clamp(min=LEAST)
        moved[present] = kept * (weights.sum() / kept.sum())
        self._weights = moved
        return combined

    def _remember(self, losses: Tensor, present: Tensor) -> None:
        early = present & (self._counts < FIRST_BATCHES)
        self._counts[early] += 1
        self._initial[early] += (losses[early[present]] - self._initial[early]) / self._counts[early]

    def _layer_of(self, split: Split) -> str:
        if self._layer is not None:
            if self._layer not in split.shared:
                raise ValueError(f"layer must be a shared parameter, one of {list(split.shared)}. Got {self._layer!r}.")
            return self._layer
        names = [name for name, value in split.shared.items() if value.dim() > 1]
        return names[-1] if names else list(split.shared)[-1]

    def _state(self) -> dict[str, Any]:
        if self._weights is None or self._adam is None:
            return {"weights": None}
        return {
            "weights": self._weights.clone(),
            "adam": self._adam.state_dict(),
            "initial": self._initial.clone(),
            "counts": self._counts.clone(),
        }

    def _load(self, state: Mapping[str, Any]) -> None:
        self._weights = None if state["weights"] is None else state["weights"].clone()
        if self._weights is not None:
            self._adam = TaskAdam(len(self._weights), self._lr)
            self._adam.load_state_dict(state["adam"])
            self._initial, self._counts = state["initial"].clone(), state["counts"].clone()
