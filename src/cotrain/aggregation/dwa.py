"""Weights by how fast each task's loss has fallen lately."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from cotrain.aggregation.aggregation import Choice, Combined, StepAggregation, require_positive
from cotrain.aggregation.gradients import TrainingPass
from cotrain.aggregation.loss_weights import loss_weighted
from cotrain.aggregation.split import Split
from cotrain.task import Batch

__all__ = ["DWA"]


class DWA(StepAggregation):
    """Dynamic Weight Average (Liu et al. 2019, arXiv 1803.10704): slow tasks get more weight.

    w = m softmax(r / temperature) over the m present tasks, where r_i is the mean loss of the last period over that of
    the one before, and 1 as long as a task has not two of them. Each task's mean is over the batches where it has
    labels. A loss below 0 would rise in its ratio as it falls. Costs one plain step and a pass through the heads.

    Args:
        period: Steps of a period; the paper's is an epoch.
        temperature: The larger, the more even; 2 as in the paper.
        on_choice: Called with what was decided at every step.

    Raises:
        ValueError: If the period is below 1 or the temperature not positive; in `backward`, if a loss is negative.
    """

    def __init__(
        self, *, period: int = 100, temperature: float = 2.0, on_choice: Callable[[Choice], None] | None = None
    ) -> None:
        super().__init__(on_choice=on_choice)
        if period < 1 or not temperature > 0:
            raise ValueError(f"period must be at least 1 and temperature positive. Got {period} and {temperature}.")
        self._period, self._temperature = period, temperature
        self._steps = 0
        self._rows: dict[str, Tensor] = {}

    def options(self) -> dict[str, Any]:
        """As `StepAggregation.options`."""
        return {"period": self._period, "temperature": self._temperature}

    def _combine(self, run: TrainingPass, split: Split, batch: Batch) -> Combined:  # noqa: ARG002
        remedy = "Add a constant to the loss, or use a method that needs gradients only."
        require_positive(run, "DWA", remedy, or_zero=True)
        if not self._rows:
            n = len(run.tasks)
            zeros = {name: torch.zeros(n, dtype=torch.float64) for name in ("sum", "count")}
            self._rows = zeros | {name: torch.full((n,), torch.nan, dtype=torch.float64) for name in ("newer", "older")}
        present, losses = run.present.cpu(), run.losses.double().cpu()
        rates = (self._rows["newer"] / self._rows["older"])[present].nan_to_num(nan=1.0, posinf=1.0, neginf=1.0)
        combined = loss_weighted(run, split, len(rates) * (rates / self._temperature).softmax(0))
        self._rows["sum"] += torch.where(present, losses, 0)
        self._rows["count"] += present
        self._steps += 1
        if self._steps % self._period == 0:
            self._end_period()
        return combined

    def _end_period(self) -> None:
        total, count, newer, older = (self._rows[name] for name in ("sum", "count", "newer", "older"))
        seen = count > 0
        self._rows = {
            "sum": torch.zeros_like(total),
            "count": torch.zeros_like(count),
            "newer": torch.where(seen, total / count, newer),
            "older": torch.where(seen, newer, older),
        }

    def _state(self) -> dict[str, Any]:
        return {"steps": self._steps, "rows": {name: value.clone() for name, value in self._rows.items()}}

    def _load(self, state: Mapping[str, Any]) -> None:
        self._steps = state["steps"]
        self._rows = {name: value.clone() for name, value in state["rows"].items()}
