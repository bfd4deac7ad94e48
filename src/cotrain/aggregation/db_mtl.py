"""Losses and gradients brought to one scale: logarithms of the losses, and running gradients of equal length."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from cotrain.aggregation.aggregation import (
    Choice,
    Combined,
    StepAggregation,
    against_joint,
    require_positive,
    unflattened,
)
from cotrain.aggregation.gradients import NotFiniteError, TrainingPass, all_finite
from cotrain.aggregation.split import Split
from cotrain.task import Batch

__all__ = ["DBMTL"]


class DBMTL(StepAggregation):
    """Dual-Balancing Multi-Task Learning (Lin et al. 2023, arXiv 2308.12029).

    d = a sum_i h_i / |h_i| with a = max_i |h_i|, where h_i is the running mean of the gradient of log L_i:
    h_i <- b_k h_i + (1 - b_k) g_i / L_i with b_k = beta / k^decay at task i's k-th step; it starts at the first
    gradient, and anew when parameters join the shared ones. As everywhere here the heads get their own task's
    gradient, where the paper's get that of log L_i. Keeps one gradient per task, also in its state.

    Args:
        beta: Of the running mean, from 0 (no memory) to below 1; 0.9 as in LibMTL.
        decay: Exponent by which beta falls; 0 for a constant one, 0.5 in some of the paper's settings.
        on_choice: Called with what was decided at every step.

    Raises:
        ValueError: If beta is out of its range; in `backward`, if a loss is not positive.
    """

    def __init__(
        self, *, beta: float = 0.9, decay: float = 0.0, on_choice: Callable[[Choice], None] | None = None
    ) -> None:
        super().__init__(on_choice=on_choice)
        if not 0 <= beta < 1 or decay < 0:
            raise ValueError(f"beta must be at least 0 and below 1, decay at least 0. Got {beta} and {decay}.")
        self._beta, self._decay = beta, decay
        self._running: Tensor | None = None
        self._counts: Tensor | None = None
        self._sizes: dict[str, int] = {}

    def options(self) -> dict[str, Any]:
        """As `StepAggregation.options`."""
        return {"beta": self._beta, "decay": self._decay}

    def _combine(self, run: TrainingPass, split: Split, batch: Batch) -> Combined:  # noqa: ARG002
        require_positive(run, "DB-MTL", "Add a constant to the loss, or use a method that needs gradients only.")
        jacobian = run.jacobian(split.shared)
        run.gramian(jacobian)  # refuses what is not finite
        sizes = {name: value.numel() for name, value in split.shared.items()}
        everyones, all_counts = self._remembered(sizes, len(run.tasks), jacobian)
        counts = all_counts[run.present.cpu()]
        kept = torch.where(counts > 0, self._beta / counts.clamp(min=1) ** self._decay, 0).to(jacobian)
        fresh = jacobian / run.losses[run.present].to(jacobian)[:, None]
        running = fresh.lerp(everyones[run.present], kept[:, None])
        # In float64: squares of float32 numbers above 1e19 overflow.
        lengths = torch.linalg.vector_norm(running, dim=1, dtype=torch.float64)
        scales = torch.where(lengths > 0, lengths.max() / lengths, 0)
        direction = scales.to(running) @ running
        if not all_finite([direction]):
            raise NotFiniteError([])
        everyones[run.present], all_counts[run.present.cpu()] = running, counts + 1
        self._running, self._counts, self._sizes = everyones, all_counts, sizes
        weights = run.scattered(scales * (1 - kept) / run.losses[run.present])
        joint = jacobian.sum(0).double()
        applied = direction.double()
        figures = against_joint(float(applied @ joint), float(applied @ applied), float(joint @ joint))
        return Combined(unflattened(direction, split.shared), weights, *figures)

    def _remembered(self, sizes: dict[str, int], n_tasks: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Running gradients [T, P] of parameters of these sizes, and their counts [T]; without those of frozen ones."""
        running, counts = self._running, self._counts
        if running is None or counts is None or any(self._sizes.get(name) != size for name, size in sizes.items()):
            return like.new_zeros(n_tasks, sum(sizes.values())), torch.zeros(n_tasks, dtype=torch.float64)
        if list(sizes) == list(self._sizes):
            return running, counts
        parts = dict(zip(self._sizes, running.split(list(self._sizes.values()), dim=1), strict=True))
        return torch.cat([parts[name] for name in sizes], dim=1), counts

    def _state(self) -> dict[str, Any]:
        if self._running is None or self._counts is None:
            return {"running": None}
        return {"running": self._running.clone(), "counts": self._counts.clone(), "sizes": dict(self._sizes)}

    def _load(self, state: Mapping[str, Any]) -> None:
        self._running = None if state["running"] is None else state["running"].clone()
        self._counts = None if self._running is None else state["counts"].clone()
        self._sizes = {} if self._running is None else dict(state["sizes"])
