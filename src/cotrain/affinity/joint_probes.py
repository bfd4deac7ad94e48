"""Measure, while one network trains, how a step for two tasks together serves each of them against a step alone."""

import math
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cotrain.affinity.affinity import Affinity
from cotrain.affinity.directions import seed_of
from cotrain.affinity.estimators import Place
from cotrain.affinity.hooks import require_units, shared_by_name
from cotrain.affinity.joint_steps import JointSteps
from cotrain.affinity.options import Options, check_options
from cotrain.affinity.relative_losses import RelativeLosses
from cotrain.affinity.statistics import ENOUGH, RunningMean
from cotrain.affinity.transference import DEFAULT_RATE
from cotrain.errors import StudyError
from cotrain.instrument import Step
from cotrain.lookahead import Rule, describe
from cotrain.task import Batch, Task, as_tasks

__all__ = ["JointProbes", "probing_price"]


class JointProbes:
    """How much lower a task's loss is after a step with a partner than after a step alone, averaged over a training.

    On every observed batch: P[i, j] = 1 - L_j(after one step on L_i + L_j) / L_j(after one step on L_j). Shared
    parameters and heads step, by the optimizer's own rule in its present state. Gradients and losses are of the same
    batch. The diagonal is 0: a task is its own measure. P is the gain of a pair, for one step: positive means that the
    source i helps the target j. The module is in whatever mode it is in; parameters, buffers, gradients, optimizer and
    random state stay bit-identical. What no backward pass reaches does not step; what only other tasks' reach steps
    with gradient 0, as in a training whose other losses have weight 0.
    Source: the joint and own steps of PTG, arXiv 2402.15328; that gradients add is used here.

    Call `observe` in any loop before `optimizer.step()`, or give the object to `fit` as an instrument.

    Cost of a measured batch: one forward and T backward passes, and T (T - 1) / 2 + T + 1 probes of one update and
    one forward pass each, so (T^2 + 5 T + 4) / 6 plain steps (`probing_price`): 26 for 10 tasks, 117 for 24, 1,751
    for 100. Beyond some 20 tasks take `Transference`. Memory: T gradients of the shared parameters and of heads that
    are one tensor, one of every head that is a tensor of its own.

    Args:
        model: Any module with parameters that two or more tasks share.
        tasks: In the order of the model's packed outputs. Regression tasks must have the units they are trained in
            (`TaskSet.with_units`).
        optimizer: Take its own step, in its present state. In `fit` the training's optimizer is taken.
        lr: Take plain gradient steps of this rate instead. With neither: plain steps of rate 0.01.
        every: Measure on every n-th call of `observe`, beginning with the first. None: so often that measuring costs
            the budget.
        budget: Plain training steps that may be added to every step of the training where `every` is None.
        seed: Of dropout masks and everything else random in the measured forward passes, the same in all of a batch.

    Raises:
        ValueError: If an argument is out of range, or both an optimizer and a rate are given.
    """

    def __init__(
        self,
        model: nn.Module,
        tasks: Iterable[Task],
        *,
        optimizer: Optimizer | None = None,
        lr: float | None = None,
        every: int | None = None,
        budget: float = 2.0,
        seed: int = 0,
    ) -> None:
        check_options(Options(), optimizer=optimizer, lr=lr, every=every, budget=budget, until=None)
        self._model, self._tasks, self._seed = model, as_tasks(tasks), seed
        self._rule: Rule | None = lr if lr is not None else optimizer
        n = len(self._tasks)
        self._every, self._choice = (every, "") if every is not None else _interval(n, budget)
        self._probes, self._cosines = RunningMean(n, n), RunningMean(n, n)
        self._losses = RelativeLosses(self._tasks.names)
        self._diverged = torch.zeros(n, n, dtype=torch.int64)
        self._shared_names: list[str] | None = None
        self._counts = {"calls": 0, "observations": 0, "joint_descents": 0}
        self._passes, self._last_rule = 0, ""

    def observe(self, batch: Batch) -> None:
        """Measure on a batch, at the model's present parameters; every n-th call, the others do nothing.

        A task without labels in the batch, or with a loss or gradient that is not finite, also after a step on it
        alone, is left out of this observation, as source and as target. So is an entry whose joint step led to a loss
        that is not finite.

        Args:
            batch: Samples on the model's device.

        Raises:
            ValueError: If no trainable parameter serves two tasks, the optimizer holds none of those that do, or its
                step needs a closure.
        """
        self._observe(batch, DEFAULT_RATE if self._rule is None else self._rule)

    def result(self) -> Affinity:
        """The mean over all observations so far; its `joint_descent` is of the step for all tasks, heads included.

        Warns:
            UserWarning: If pairs have too few observations for an error bar, joint steps diverged, or tasks had losses
                that are not finite, not positive or below the floor; tasks are named.

        Raises:
            ValueError: If nothing was observed.
        """
        counts, probes = self._counts, self._probes
        if not counts["observations"]:
            raise ValueError("Nothing was observed yet. Call observe(batch) at some steps of a training first.")
        self._warn()
        return Affinity(
            matrix=probes.mean(),
            stderr=probes.stderr(),
            observations=probes.count,
            tasks=self._tasks.names,
            estimator="joint probes",
            n_observations=counts["observations"],
            rule=self._last_rule,
            joint_descent=counts["joint_descents"] / counts["observations"],
            cosine=self._cosines.mean(),
            floored=self._losses.floored,
            cost=self._passes / 3 / counts["calls"],
            effective=probes.effective_n(),
            choice=self._choice,
        )

    def merge(self, state: Mapping[str, Any]) -> None:
        """Add what another process observed on other batches, from its `state_dict`.

        Raises:
            StudyError: If the state is of other tasks, or of another instrument.
        """
        self._require_own(state)
        self._probes.merge(state["probes"])
        self._cosines.merge(state["cosines"])
        self._losses.merge(state["losses"])
        self._diverged = self._diverged + state["diverged"]
        self._counts = {name: number + state["counts"][name] for name, number in self._counts.items()}
        self._passes += state["passes"]
        self._last_rule = self._last_rule or state["rule"]

    def on_step(self, step: Step) -> None:
        """Observe a step of `fit`, with the training's own optimizer unless another rule was given.

        Raises:
            ValueError: If another model is in training, or a regression task has no units.
        """
        if step.model is not self._model:
            raise ValueError("These JointProbes were made for another model. Give them the model that is trained.")
        require_units(self._tasks, "JointProbes")
        self._observe(step.batch, step.optimizer if self._rule is None else self._rule)

    def on_epoch_end(self, epoch: int) -> None:
        """Nothing is kept per epoch."""

    def state_dict(self) -> dict[str, Any]:
        """Everything observed so far."""
        return {
            "method": METHOD,
            "tasks": list(self._tasks.names),
            "shared": self._shared_names,
            "rule": self._last_rule,
            "counts": dict(self._counts),
            "passes": self._passes,
            "probes": self._probes.state_dict(),
            "cosines": self._cosines.state_dict(),
            "losses": self._losses.state_dict(),
            "diverged": self._diverged.clone(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a recorded state, exactly as if there had been no interruption.

        Raises:
            StudyError: If the state is of other tasks, or of another instrument.
        """
        self._require_own(state)
        self._probes.load_state_dict(state["probes"])
        self._cosines.load_state_dict(state["cosines"])
        self._losses.load_state_dict(state["losses"])
        self._diverged = state["diverged"].clone()
        self._shared_names, self._last_rule = state["shared"], state["rule"]
        self._counts, self._passes = dict(state["counts"]), state["passes"]

    def _observe(self, batch: Batch, rule: Rule) -> None:
        call = self._counts["calls"]
        self._counts["calls"] += 1
        if call % self._every:
            return
        trainable = {name: value for name, value in self._model.named_parameters() if value.requires_grad}
        shared = shared_by_name(
            self._model, self._tasks, batch, self._shared_names, rule, "a joint step is the same as an own one"
        )
        if self._shared_names is None:
            self._shared_names = list(shared)
        place = Place(self._model, self._tasks, batch, trainable, rule, seed_of(self._seed, call))
        steps = JointSteps.at(place)
        if not steps.rows:
            return
        with torch.no_grad():
            own = steps.after_own()
            pairs = steps.after_pairs(own)
            together = steps.after(*steps.rows)
        self._add(steps, steps.products(list(shared)).cpu(), own.cpu(), pairs.cpu())
        descent = torch.where(steps.usable, together - steps.losses, 0).sum()
        self._counts["observations"] += 1
        self._counts["joint_descents"] += bool(descent < 0)
        self._passes += _passes(len(steps.rows))
        self._last_rule = describe(rule)

    def _add(self, steps: JointSteps, products: Tensor, own: Tensor, pairs: Tensor) -> None:
        """Take in the losses [T] after own and [T, T] after joint steps."""
        usable = steps.usable.cpu()
        known = usable & own.isfinite()
        both = known[:, None] & known
        norms = products.diagonal().sqrt()
        denominators = self._losses.denominators(own, steps.labelled, known, norms > 0)
        diverged = both & ~pairs.isfinite()
        self._diverged += diverged
        self._probes.add(torch.where(both & ~diverged, own - pairs, torch.nan) / denominators)
        self._cosines.add(torch.where(usable[:, None] & usable, products / (norms[:, None] * norms), torch.nan))

    def _warn(self) -> None:
        names = self._tasks.names
        few = int((self._probes.count < ENOUGH).sum())
        if few:
            warnings.warn(
                f"{few} of {len(names) ** 2} pairs were observed fewer than {ENOUGH} times; their standard error is"
                " NaN. Observe more batches.",
                stacklevel=3,
            )
        found = [
            f"{names[i]} -> {names[j]} ({int(self._diverged[i, j])})" for i, j in self._diverged.nonzero().tolist()
        ]
        if found:
            warnings.warn(
                "Joint steps led to losses that are not finite, and were left out, so these entries are too high. Pairs"
                f" (number of batches): {', '.join(found)}. Take a smaller learning rate.",
                stacklevel=3,
            )
        self._losses.warn(stacklevel=4)

    def _require_own(self, state: Mapping[str, Any]) -> None:
        method, tasks = state.get("method"), state.get("tasks")
        if (method, tasks) != (METHOD, list(self._tasks.names)):
            what = f"{METHOD} on tasks {tasks}" if method == METHOD else "another instrument"
            raise StudyError(
                f"The saved state is of {what}, not of {METHOD} on {list(self._tasks.names)}. Start without it."
            )


METHOD = "joint probes"
"""In a saved state."""


def probing_price(n_tasks: int) -> float:
    """How many plain training steps one measurement costs, in passes through the network.

    One forward pass and a backward pass per task (which counts 2), a forward pass for every task alone, every pair and
    all together; a plain step is 3.
    """
    return _passes(n_tasks) / 3


def _passes(n_tasks: int) -> int:
    return 1 + 2 * n_tasks + n_tasks * (n_tasks + 1) // 2 + 1


def _interval(n_tasks: int, budget: float) -> tuple[int, str]:
    """How often the budget allows to measure, and that in words."""
    cost = probing_price(n_tasks)
    every = max(1, math.ceil(cost / budget))
    times = "every step" if every == 1 else f"one in {every} steps"
    return every, f"probes on {times}; adds about {cost / every:.1f} plain steps to each step of the training"
