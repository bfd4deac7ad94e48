"""Weights that bring all losses down at one rate, learned from what the last step did to them."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cotrain.aggregation.aggregation import Choice, Combined, StepAggregation
from cotrain.aggregation.forward_again import losses_again
from cotrain.aggregation.gradients import TrainingPass
from cotrain.aggregation.loss_weights import loss_weighted
from cotrain.aggregation.split import Split
from cotrain.aggregation.task_adam import TaskAdam
from cotrain.model import random_state_kept
from cotrain.task import Batch, TaskSet

__all__ = ["FAMO"]


@dataclass(frozen=True)
class _Pending:
    """A step whose effect on its own batch is not known yet."""

    batch: Batch
    random_state: Tensor
    losses: Tensor
    present: Tensor


class FAMO(StepAggregation):
    """Fast Adaptive Multitask Optimization (Liu et al. 2023, arXiv 2306.03792): one backward pass, whatever T.

    With z = softmax(xi) and least losses b it trains on c sum_i z_i log(L_i - b_i), c = 1 / sum_i z_i / (L_i - b_i)
    a constant. What the step changed is measured at the beginning of the next one, on the same batch and with the
    same random numbers: delta = log(L - b) before minus after, and Adam takes a step on xi along J_softmax^T delta.
    The batch is kept until then, also in the state. Costs one forward pass more than the plain step.

    Args:
        lr: Learning rate of xi.
        weight_decay: Of xi. Sources differ (1e-3, 1e-2, 1e-5); 1e-3 is the one of the authors' released class.
        least: [T] smallest possible losses b; None for 0.
        on_choice: Called with what was decided at every step.

    Raises:
        ValueError: If lr is not positive; in `backward`, if a loss is not above its least value.
    """

    def __init__(
        self,
        *,
        lr: float = 0.025,
        weight_decay: float = 1e-3,
        least: Tensor | None = None,
        on_choice: Callable[[Choice], None] | None = None,
    ) -> None:
        super().__init__(on_choice=on_choice)
        if not lr > 0:
            raise ValueError(f"lr must be positive. Got {lr}.")
        self._lr, self._weight_decay = lr, weight_decay
        self._least = None if least is None else torch.as_tensor(least, dtype=torch.float64)
        self._logits: Tensor | None = None
        self._adam: TaskAdam | None = None
        self._pending: _Pending | None = None
        self._learned: tuple[Tensor, TaskAdam]
        self._random_state = torch.get_rng_state()

    def options(self) -> dict[str, Any]:
        """As `StepAggregation.options`."""
        return {"lr": self._lr, "weight_decay": self._weight_decay, "least": self._least}

    def _before(self, model: nn.Module, tasks: TaskSet, batch: Batch) -> None:  # noqa: ARG002
        self._learned = self._taught_by_last_step(model, tasks)
        self._random_state = torch.get_rng_state()

    def _taught_by_last_step(self, model: nn.Module, tasks: TaskSet) -> tuple[Tensor, TaskAdam]:
        """Logits and optimizer after what the last step did; they are only kept if this step is made too."""
        n, pending = len(tasks), self._pending
        if self._logits is None or self._adam is None:
            return torch.zeros(n, dtype=torch.float64), TaskAdam(n, self._lr, self._weight_decay)
        if pending is None:
            return self._logits, self._adam
        with random_state_kept():
            torch.set_rng_state(pending.random_state)
            after = losses_again(model, tasks, pending.batch)
        present = pending.present
        above = (after.cpu() - self._floor(n))[present]
        # A step may take a loss to its least value, or to NaN: then it tells nothing.
        if not bool((above > 0).all()) or not bool(torch.isfinite(above).all()):
            return self._logits, self._adam
        delta = pending.losses.log() - above.log()
        shares = self._logits[present].softmax(0)
        adam = deepcopy(self._adam)
        return adam.stepped(self._logits, shares * (delta - (shares * delta).sum()), present), adam

    def _combine(self, run: TrainingPass, split: Split, batch: Batch) -> Combined:
        present, losses = run.present.cpu(), run.losses.double().cpu()
        above = (losses - self._floor(len(run.tasks)))[present]
        if not bool((above > 0).all()):
            row = run.rows[int((above <= 0).nonzero()[0])]
            raise ValueError(
                f"FAMO needs losses above their least values. Got {float(losses[row]):g} for task"
                f" {run.tasks.names[row]!r}. Give least=, a value per task below its smallest possible loss."
            )
        logits, adam = self._learned
        scaled = logits[present].softmax(0) / above
        combined = loss_weighted(run, split, scaled / scaled.sum())
        self._logits, self._adam = logits, adam
        self._pending = _Pending(batch, self._random_state, above, present)
        return combined

    def _floor(self, n_tasks: int) -> Tensor:
        if self._least is None:
            return torch.zeros(n_tasks, dtype=torch.float64)
        if self._least.shape != (n_tasks,):
            raise ValueError(f"least must hold one number for each of the {n_tasks} tasks. Got {self._least.tolist()}.")
        return self._least

    def _state(self) -> dict[str, Any]:
        if self._logits is None or self._adam is None:
            return {"logits": None}
        pending = None
        if self._pending is not None:
            pending = {**vars(self._pending), "batch": vars(self._pending.batch)}
        return {"logits": self._logits.clone(), "adam": self._adam.state_dict(), "pending": pending}

    def _load(self, state: Mapping[str, Any]) -> None:
        self._logits, self._pending = None, None
        if state["logits"] is None:
            return
        self._logits = state["logits"].clone()
        self._adam = TaskAdam(len(state["logits"]), self._lr, self._weight_decay)
        self._adam.load_state_dict(state["adam"])
        if state["pending"] is not None:
            self._pending = _Pending(**{**state["pending"], "batch": Batch(**state["pending"]["batch"])})
