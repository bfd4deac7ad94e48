"""Measure, while one network trains, how a step for each task changes the loss of every other."""

import warnings
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cotrain.affinity.affinity import Affinity
from cotrain.affinity.estimators import ESTIMATORS, Point, joint_losses
from cotrain.affinity.hooks import require_units
from cotrain.affinity.statistics import ENOUGH, RunningMean
from cotrain.errors import StudyError
from cotrain.instrument import Step
from cotrain.lookahead import Rule, describe
from cotrain.model import shared_parameters
from cotrain.task import Batch, Task, as_tasks

__all__ = ["Transference"]

DEFAULT_RATE = 0.01
"""Of a plain step when neither an optimizer nor a rate is given: the one all published comparisons here used."""

MOST_FOR_LOOKAHEAD = 24
"""Up to so many tasks "auto" is exact; beyond, a forward pass per task buys less than more observations do."""

LOSS_FLOOR = 0.01
"""Of a loss's running mean: as a loss goes to 0, its relative change explodes."""


class Transference:
    """How one task's step moves every other task's loss, averaged over a training.

    On every observed batch: Z[i, j] = (L_j(theta_0) - L_j(theta_i)) / L_j(theta), where theta_i is where the
    step for task i would lead and theta_0 where a step with zero gradient would (theta itself for a plain
    step). Only shared parameters move; heads stay. Gradient and losses are of the same batch. The module is in
    whatever mode it is in; parameters, buffers, gradients, optimizer and random state stay bit-identical.
    Source: Fifty et al., arXiv 2109.04617, with the optimizer's own rule and without its drift.

    Call `observe` in any loop before `optimizer.step()`, or give the object to `fit` as an instrument.

    Memory: T gradients of the shared parameters. Cost of a measured batch: about T + 1 plain steps by
    "lookahead", (2 T + 2) / 3 by "gram".

    Args:
        model: Any module with parameters that two or more tasks share.
        tasks: In the order of the model's packed outputs. Regression tasks must have the units they are
            trained in (`TaskSet.with_units`).
        estimator: "lookahead" is exact; "gram" is of first order in the loss, for steps that are small;
            "auto" is "lookahead" up to 24 tasks and "gram" beyond. The result says which.
        optimizer: Take its own step, in its present state. In `fit` the training's optimizer is taken.
        lr: Take plain gradient steps of this rate instead. With neither: plain steps of rate 0.01.
        every: Measure on every n-th call of `observe`, beginning with the first.
        seed: Of dropout masks and everything else random in the measured forward passes.

    Raises:
        ValueError: If an argument is out of range, or both an optimizer and a rate are given.
    """

    def __init__(
        self,
        model: nn.Module,
        tasks: Iterable[Task],
        *,
        estimator: Literal["auto", "lookahead", "gram"] = "auto",
        optimizer: Optimizer | None = None,
        lr: float | None = None,
        every: int = 1,
        seed: int = 0,
    ) -> None:
        if estimator != "auto" and estimator not in ESTIMATORS:
            raise ValueError(f"There is no estimator {estimator!r}. Use one of {['auto', *ESTIMATORS]}.")
        if optimizer is not None and lr is not None:
            raise ValueError("Give an optimizer (its own rule and rate) or lr (a plain step), not both.")
        if lr is not None and not lr > 0:
            raise ValueError(f"lr must be positive. Got {lr}.")
        if every < 1:
            raise ValueError(f"every must be at least 1: measure on every n-th call. Got {every}.")
        self._model = model
        self._tasks = as_tasks(tasks)
        automatic = "lookahead" if len(self._tasks) <= MOST_FOR_LOOKAHEAD else "gram"
        self._estimator = automatic if estimator == "auto" else estimator
        self._rule: Rule | None = lr if lr is not None else optimizer
        self._every = every
        self._seed = seed
        self._shared_names: list[str] | None = None
        self._counts = {"calls": 0, "observations": 0, "joint_descents": 0, "passes": 0}
        self._last_rule = ""
        n = len(self._tasks)
        self._changes = RunningMean(n, n)
        self._cosines = RunningMean(n, n)
        self._losses = RunningMean(n)
        self._floored, self._refused, self._broken = (torch.zeros(n, dtype=torch.int64) for _ in range(3))

    def observe(self, batch: Batch) -> None:
        """Measure on a batch, at the model's present parameters; every n-th call, the others do nothing.

        A task without labels in the batch, or with a loss or gradient that is not finite, is left out of this
        observation, as source and as target.

        Args:
            batch: Samples on the model's device.

        Raises:
            ValueError: If no trainable parameter serves two tasks.
        """
        self._observe(batch, DEFAULT_RATE if self._rule is None else self._rule)

    def result(self) -> Affinity:
        """The mean over all observations so far.

        Warns:
            UserWarning: If pairs have too few observations for an error bar, or tasks had losses that are not
                finite, not positive or below the floor; tasks are named.

        Raises:
            ValueError: If nothing was observed.
        """
        counts = self._counts
        if not counts["observations"]:
            raise ValueError("Nothing was observed yet. Call observe(batch) at some steps of a training first.")
        self._warn()
        return Affinity(
            matrix=self._changes.mean(),
            stderr=self._changes.stderr(),
            observations=self._changes.count,
            tasks=self._tasks.names,
            estimator=self._estimator,
            n_observations=counts["observations"],
            rule=self._last_rule,
            joint_descent=counts["joint_descents"] / counts["observations"],
            cosine=self._cosines.mean(),
            floored=self._floored.clone(),
            cost=counts["passes"] / 3 / counts["calls"],
        )

    def on_step(self, step: Step) -> None:
        """Observe a step of `fit`, with the training's own optimizer unless another rule was given.

        Raises:
            ValueError: If another model is in training, or a regression task has no units.
        """
        if step.model is not self._model:
            raise ValueError("This Transference was made for another model. Give it the model that is trained.")
        require_units(self._tasks, "Transference")
        self._observe(step.batch, step.optimizer if self._rule is None else self._rule)

    def on_epoch_end(self, epoch: int) -> None:
        """Nothing is kept per epoch."""

    def state_dict(self) -> dict[str, Any]:
        """Everything observed so far."""
        return {
            "tasks": list(self._tasks.names),
            "estimator": self._estimator,
            "shared": self._shared_names,
            "rule": self._last_rule,
            "counts": dict(self._counts),
            "changes": self._changes.state_dict(),
            "cosines": self._cosines.state_dict(),
            "losses": self._losses.state_dict(),
            "floored": self._floored.clone(),
            "refused": self._refused.clone(),
            "broken": self._broken.clone(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a recorded state, exactly as if there had been no interruption.

        Raises:
            StudyError: If the state is of other tasks or another estimator.
        """
        if state["tasks"] != list(self._tasks.names) or state["estimator"] != self._estimator:
            raise StudyError(
                f"The saved state is of {state['estimator']} on tasks {state['tasks']}, not of {self._estimator} on"
                f" {list(self._tasks.names)}. Start without it."
            )
        self._shared_names, self._last_rule = state["shared"], state["rule"]
        self._counts = dict(state["counts"])
        self._changes.load_state_dict(state["changes"])
        self._cosines.load_state_dict(state["cosines"])
        self._losses.load_state_dict(state["losses"])
        self._floored, self._refused, self._broken = (state[name].clone() for name in ("floored", "refused", "broken"))

    def _observe(self, batch: Batch, rule: Rule) -> None:
        counts = self._counts
        counts["calls"] += 1
        if (counts["calls"] - 1) % self._every:
            return
        seed = (self._seed << 32) + counts["calls"]
        point = Point.at(self._model, self._tasks, batch, self._shared(batch), rule, seed)
        if not point.rows:
            return
        with torch.no_grad():
            changes = torch.full_like(point.products, torch.nan)
            changes[point.rows] = ESTIMATORS[self._estimator](point)
            summed = torch.where(point.usable, torch.stack([joint_losses(point), point.losses]), 0).sum(1)
        counts["joint_descents"] += bool(summed[0] < summed[1])
        counts["observations"] += 1
        lookaheads = len(point.rows) + point.drifts if self._estimator == "lookahead" else 0
        counts["passes"] += 2 * len(point.rows) + lookaheads + 2
        self._last_rule = describe(rule)
        self._take_in(changes.cpu(), point)

    def _take_in(self, changes: Tensor, point: Point) -> None:
        """Add one observation to the statistics, which are kept on the CPU."""
        usable = point.usable.cpu()
        self._broken += point.labelled.cpu() & ~usable
        self._changes.add(changes / self._denominators(point.losses.cpu(), usable))
        products = point.products.cpu()
        norms = products.diagonal().sqrt()
        cosines = products / (norms[:, None] * norms)
        self._cosines.add(torch.where(usable[:, None] & usable, cosines, torch.nan))

    def _denominators(self, losses: Tensor, usable: Tensor) -> Tensor:
        """[T] what changes are relative to; NaN for a target that has no ratio on this batch."""
        refused = usable & (losses < 0)
        counted = usable & ~refused
        self._refused += refused
        self._losses.add(torch.where(counted, losses, torch.nan))
        floor = LOSS_FLOOR * self._losses.mean()
        self._floored += counted & (losses < floor)
        relative_to = torch.maximum(losses, floor)
        return torch.where(counted & (relative_to > 0), relative_to, torch.nan)

    def _shared(self, batch: Batch) -> dict[str, nn.Parameter]:
        """The shared parameters, found on the first observed batch."""
        if self._shared_names is None:
            self._shared_names = list(shared_parameters(self._model, self._tasks, batch))
        trainable = {name: value for name, value in self._model.named_parameters() if value.requires_grad}
        shared = {name: trainable[name] for name in self._shared_names if name in trainable}
        if not shared:
            raise ValueError(
                f"No trainable parameter of the model serves two or more of the {len(self._tasks)} tasks, so no task"
                " can act on another. Use a model with a shared trunk, and check what is frozen."
            )
        return shared

    def _warn(self) -> None:
        few = int((self._changes.count < ENOUGH).sum())
        if few:
            warnings.warn(
                f"{few} of {len(self._tasks) ** 2} pairs were observed fewer than {ENOUGH} times; their standard error"
                " is NaN. Observe more batches.",
                stacklevel=3,
            )
        troubles = {
            "a loss or a gradient that was not finite; they were left out there": self._broken,
            "a loss below 0, of which no relative change exists; as targets they were left out there": self._refused,
            "a loss below 1 % of its running mean; their columns rest on that floor there": self._floored,
        }
        for trouble, counts in troubles.items():
            found = [f"{name} ({n})" for name, n in zip(self._tasks.names, counts.tolist(), strict=True) if n]
            if found:
                warnings.warn(f"Tasks (number of batches) with {trouble}: {', '.join(found)}.", stacklevel=3)
