"""Measure, while one network trains, how a step for each task changes the loss of every other."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from torch import nn
from torch.optim import Optimizer

from cotrain.affinity.affinity import Affinity
from cotrain.affinity.choice import choose
from cotrain.affinity.directions import seed_of
from cotrain.affinity.estimation import Estimation
from cotrain.affinity.estimators import Place
from cotrain.affinity.hooks import require_units, shared_by_name
from cotrain.affinity.options import DIRECTIONS, Along, CalibrateBy, Estimator, Options, check_options
from cotrain.affinity.settled import reliability
from cotrain.affinity.sketch import LastModule
from cotrain.instrument import Step
from cotrain.lookahead import Rule, describe
from cotrain.step_response import rate_of
from cotrain.task import Batch, Task, as_tasks

__all__ = ["Transference"]

DEFAULT_RATE = 0.01
"""Of a plain step when neither an optimizer nor a rate is given: the one all published comparisons here used."""

LOOK_EVERY = 20
"""Observations between two looks at whether the ranking of partners is settled."""


class Transference:
    """How one task's step moves every other task's loss, averaged over a training.

    On every observed batch: Z[i, j] = (L_j(theta_0) - L_j(theta_i)) / L_j(theta), where theta_i is where the
    step for task i would lead and theta_0 where a step with zero gradient would (theta itself for a plain
    step). Only shared parameters move; heads stay. Gradient and losses are of the same batch. The module is in
    whatever mode it is in; parameters, buffers, gradients, optimizer and random state stay bit-identical.
    Source: Fifty et al., arXiv 2109.04617, with the optimizer's own rule and without its drift.

    Call `observe` in any loop before `optimizer.step()`, or give the object to `fit` as an instrument.

    Cost of a measured batch: about T + 1 plain steps by "lookahead", (2 T + 2) / 3 by "gram", 3 to 5 by "sketch"
    whatever T is. Memory: T gradients of the shared parameters for the first two; for a sketch the tangents of a
    batch's activations along all directions.

    Args:
        model: Any module with parameters that two or more tasks share.
        tasks: In the order of the model's packed outputs. Regression tasks must have the units they are
            trained in (`TaskSet.with_units`).
        estimator: "lookahead" is exact; "gram" is of first order in the loss, for steps that are small; "sketch"
            estimates "gram" from directional derivatives along random directions; "auto" is "lookahead" up to 24
            tasks and "sketch" beyond. The result says which, and why.
        optimizer: Take its own step, in its present state. In `fit` the training's optimizer is taken.
        lr: Take plain gradient steps of this rate instead. With neither: plain steps of rate 0.01.
        every: Measure on every n-th call of `observe`, beginning with the first. None: on every call, and by "auto"
            so often that measuring costs the budget.
        budget: Plain training steps that "auto" may add to every step of the training.
        directions: Random directions of a sketch in the last shared module; what is before it gets a quarter.
        along: What the random signs of a sketch are of. By "parameters" the noise in a pair rests on these two tasks
            alone; by "tasks" (a random sum of losses is sent backwards, and all are differentiated along its step)
            on all others, and a direction costs twice as much.
        last_module: "exact" takes every task's gradient by the last shared module, as "gram" does, and sketches only
            what is before it: less noise, at a backward pass per task through that module and the heads.
        calibrate: Measure exactly as well on every so-many-th observation of "gram" or "sketch" and correct the mean,
            at about T + 1 plain steps each time. For adaptive optimizers and long steps. None: never.
        calibrate_by: "difference" adds the mean difference, entry by entry: unbiased, and needs 10 such observations
            of a source for an error bar. "fit" multiplies every target's column and adds a term for curvature, by
            least squares: biased, but less noisy with few exact steps.
        calibration_sources: Follow only so many sources on such a step, in random order: with a sketch at (5 m + 2) / 3
            plain steps for m of them. None: all.
        heads: "fixed", or "stepped": the loss after the step is that of heads after their own step
            (arXiv 2010.15413), by "lookahead" only.
        per_rate: Divide by the learning rate, to compare phases of a schedule (as TAG's released code does); the
            mean then weighs late steps of a low rate more.
        weight: From the number of the call (from 0) to its weight in the mean: the window of the training to average
            over. Calls of weight 0 are not measured.
        until: Stop measuring when the ranking of partners is settled: when the mean of `reliability` over the
            targets, looked at every 20 observations, has reached this, between 0 and 1. None: never.
        seed: Of directions, dropout masks and everything else random in the measured forward passes.

    Raises:
        ValueError: If an argument is out of range, or both an optimizer and a rate are given.
    """

    def __init__(
        self,
        model: nn.Module,
        tasks: Iterable[Task],
        *,
        estimator: Estimator | Literal["auto"] = "auto",
        optimizer: Optimizer | None = None,
        lr: float | None = None,
        every: int | None = None,
        budget: float = 2.0,
        directions: int = DIRECTIONS,
        along: Along = "parameters",
        last_module: LastModule = "sketched",
        calibrate: int | None = None,
        calibrate_by: CalibrateBy = "difference",
        calibration_sources: int | None = None,
        heads: Literal["fixed", "stepped"] = "fixed",
        per_rate: bool = False,
        weight: Callable[[int], float] | None = None,
        until: float | None = None,
        seed: int = 0,
    ) -> None:
        options = Options(
            estimator=estimator,
            directions=directions,
            along=along,
            last_module=last_module,
            calibrate=calibrate,
            calibrate_by=calibrate_by,
            calibration_sources=calibration_sources,
            heads=heads,
            seed=seed,
        )
        check_options(options, optimizer=optimizer, lr=lr, every=every, budget=budget, until=until)
        self._model = model
        self._tasks = as_tasks(tasks)
        self._choice = choose(len(self._tasks), options, every, budget)
        self._estimation = Estimation(self._tasks, self._choice.estimator, options)
        self._rule: Rule | None = lr if lr is not None else optimizer
        self._per_rate, self._weight, self._until, self._seed = per_rate, weight, until, seed
        self._shared_names: list[str] | None = None
        self._counts = {"calls": 0, "observations": 0, "joint_trials": 0, "joint_descents": 0}
        self._passes, self._last_rule, self._settled = 0.0, "", False

    @property
    def settled(self) -> bool:
        """Whether measuring has stopped because the ranking of partners is settled."""
        return self._settled

    def observe(self, batch: Batch) -> None:
        """Measure on a batch, at the model's present parameters; every n-th call, the others do nothing.

        A task without labels in the batch, or with a loss or gradient that is not finite, is left out of this
        observation, as source and as target.

        Args:
            batch: Samples on the model's device.

        Raises:
            ValueError: If no trainable parameter serves two tasks, or the optimizer holds none of those that do.
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
        seen = self._estimation
        seen.warn(stacklevel=3)
        matrix, stderr = seen.estimate()
        return Affinity(
            matrix=matrix,
            stderr=stderr,
            observations=seen.count,
            tasks=self._tasks.names,
            estimator=seen.estimator,
            n_observations=counts["observations"],
            rule=self._last_rule,
            joint_descent=counts["joint_descents"] / counts["joint_trials"] if counts["joint_trials"] else math.nan,
            cosine=seen.cosine(),
            floored=seen.floored,
            cost=self._passes / 3 / counts["calls"],
            effective=seen.effective_n(),
            calibrated=seen.calibrated,
            calibration_r2=seen.calibration_r2(),
            choice=self._choice.reason,
        )

    def merge(self, state: Mapping[str, Any]) -> None:
        """Add what another process observed on other batches, from its `state_dict`.

        Raises:
            StudyError: If the state is of other tasks or was measured otherwise.
        """
        self._estimation.merge(state["estimation"])
        self._counts = {name: number + state["counts"][name] for name, number in self._counts.items()}
        self._passes += state["passes"]
        self._last_rule = self._last_rule or state["rule"]

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
            "shared": self._shared_names,
            "rule": self._last_rule,
            "settled": self._settled,
            "counts": dict(self._counts),
            "passes": self._passes,
            "estimation": self._estimation.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a recorded state, exactly as if there had been no interruption.

        Raises:
            StudyError: If the state is of other tasks or was measured otherwise.
        """
        self._estimation.load_state_dict(state["estimation"])
        self._shared_names, self._last_rule, self._settled = state["shared"], state["rule"], state["settled"]
        self._counts, self._passes = dict(state["counts"]), state["passes"]

    def _observe(self, batch: Batch, rule: Rule) -> None:
        call = self._counts["calls"]
        self._counts["calls"] += 1
        weight = 1.0 if self._weight is None else self._weight(call)
        if call % self._choice.every or weight == 0 or self._settled:
            return
        shared = shared_by_name(self._model, self._tasks, batch, self._shared_names, rule, "no task can act on another")
        if self._shared_names is None:
            self._shared_names = list(shared)
        place = Place(self._model, self._tasks, batch, shared, rule, seed_of(self._seed, call))
        unit = rate_of(rule) if self._per_rate else 1.0
        observed = self._estimation.observe(place, unit, weight)
        if observed is None:
            return
        self._passes += observed.passes
        self._counts["observations"] += 1
        self._counts["joint_trials"] += observed.joint_descent is not None
        self._counts["joint_descents"] += observed.joint_descent is True
        self._last_rule = describe(rule) + (", per unit of rate" if self._per_rate else "")
        if self._until is not None and self._counts["observations"] % LOOK_EVERY == 0:
            self._settled = bool(reliability(*self._estimation.estimate()).mean() >= self._until)
