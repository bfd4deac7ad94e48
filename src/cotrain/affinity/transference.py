"""Measure, while one network trains, how a step for each task changes the loss of every other."""

import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from torch import Tensor, nn
from torch.optim import Optimizer

from cotrain.affinity.affinity import Affinity
from cotrain.affinity.calibration import Calibration
from cotrain.affinity.choice import DIRECTIONS, Estimator, check_options, choose, price
from cotrain.affinity.directions import seed_of
from cotrain.affinity.estimators import Place
from cotrain.affinity.hooks import require_units
from cotrain.affinity.observations import ExactObservations, SketchedObservations
from cotrain.affinity.relative_losses import RelativeLosses
from cotrain.affinity.settled import reliability
from cotrain.affinity.statistics import ENOUGH
from cotrain.errors import StudyError
from cotrain.instrument import Step
from cotrain.lookahead import Rule, describe
from cotrain.model import shared_parameters
from cotrain.step_response import holds_any, rate_of
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
        calibrate: Measure exactly as well on every so-many-th observation of "gram" or "sketch" and correct the mean
            by the difference (`Calibration`), at about T + 1 plain steps each time; needs 10 such observations for
            an error bar. For adaptive optimizers and long steps. None: never.
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
        calibrate: int | None = None,
        heads: Literal["fixed", "stepped"] = "fixed",
        per_rate: bool = False,
        weight: Callable[[int], float] | None = None,
        until: float | None = None,
        seed: int = 0,
    ) -> None:
        check_options(estimator, optimizer, lr, every, budget, directions, calibrate, until)
        self._model = model
        self._tasks = as_tasks(tasks)
        self._choice = choose(len(self._tasks), estimator, every, budget, directions)
        if heads == "stepped" and self._choice.estimator != "lookahead":
            raise ValueError(
                f'Stepped heads need estimator="lookahead": first order knows no second step. Got {estimator!r}.'
            )
        self._rule: Rule | None = lr if lr is not None else optimizer
        self._stepped_heads, self._per_rate = heads == "stepped", per_rate
        self._directions, self._weight, self._until, self._seed = directions, weight, until, seed
        self._shared_names: list[str] | None = None
        self._counts = {"calls": 0, "observations": 0, "joint_trials": 0, "joint_descents": 0}
        self._passes, self._last_rule, self._settled = 0.0, "", False
        self._losses = RelativeLosses(self._tasks.names)
        self._calibrate = calibrate if self._choice.estimator != "lookahead" else None
        self._calibration = Calibration(len(self._tasks))
        self._measure_by(self._choice.estimator)

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
        self._warn()
        matrix, stderr = self._estimate()
        return Affinity(
            matrix=matrix,
            stderr=stderr,
            observations=self._seen.changes.count,
            tasks=self._tasks.names,
            estimator=self._estimator,
            n_observations=counts["observations"],
            rule=self._last_rule,
            joint_descent=counts["joint_descents"] / counts["joint_trials"] if counts["joint_trials"] else math.nan,
            cosine=self._seen.cosine(),
            floored=self._losses.floored,
            cost=self._passes / 3 / counts["calls"],
            effective=self._seen.effective_n(),
            calibrated=self._calibrate is not None,
            calibration_r2=self._calibration.r2() if self._calibrate else None,
            choice=self._choice.reason,
        )

    def merge(self, state: Mapping[str, Any]) -> None:
        """Add what another process observed on other batches, from its `state_dict`.

        Raises:
            StudyError: If the state is of other tasks or another estimator.
        """
        self._require_own(state)
        self._seen.merge(state["seen"])
        self._losses.merge(state["losses"])
        self._calibration.merge(state["calibration"])
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
            "tasks": list(self._tasks.names),
            "estimator": self._estimator,
            "shared": self._shared_names,
            "rule": self._last_rule,
            "settled": self._settled,
            "counts": dict(self._counts),
            "passes": self._passes,
            "seen": self._seen.state_dict(),
            "losses": self._losses.state_dict(),
            "calibration": self._calibration.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a recorded state, exactly as if there had been no interruption.

        Raises:
            StudyError: If the state is of other tasks or another estimator.
        """
        if (self._choice.estimator, state["estimator"]) == ("sketch", "gram"):
            self._measure_by("gram")  # what the interrupted one had to fall back to
        self._require_own(state)
        self._shared_names, self._last_rule, self._settled = state["shared"], state["rule"], state["settled"]
        self._counts, self._passes = dict(state["counts"]), state["passes"]
        self._seen.load_state_dict(state["seen"])
        self._losses.load_state_dict(state["losses"])
        self._calibration.load_state_dict(state["calibration"])

    def _require_own(self, state: Mapping[str, Any]) -> None:
        if state["tasks"] != list(self._tasks.names) or state["estimator"] != self._estimator:
            raise StudyError(
                f"The saved state is of {state['estimator']} on tasks {state['tasks']}, not of {self._estimator} on"
                f" {list(self._tasks.names)}. Start without it."
            )

    def _measure_by(self, estimator: Estimator) -> None:
        """Begin with nothing observed."""
        n = len(self._tasks)
        self._estimator = estimator
        self._seen: ExactObservations | SketchedObservations = (
            SketchedObservations(n, self._directions)
            if estimator == "sketch"
            else ExactObservations(n, exact=estimator == "lookahead", stepped_heads=self._stepped_heads)
        )

    def _observe(self, batch: Batch, rule: Rule) -> None:
        call = self._counts["calls"]
        self._counts["calls"] += 1
        weight = 1.0 if self._weight is None else self._weight(call)
        if call % self._choice.every or weight == 0 or self._settled:
            return
        shared = self._shared(batch)
        if isinstance(rule, Optimizer) and not holds_any(rule, shared.values()):
            raise ValueError(
                f"The {type(rule).__name__} holds none of the model's shared parameters, so its step moves nothing."
                " Give the optimizer that trains this very model."
            )
        place = Place(self._model, self._tasks, batch, shared, rule, seed_of(self._seed, call))
        unit = rate_of(rule) if self._per_rate else 1.0
        try:
            observed = self._seen.observe(place, self._losses, unit, weight)
        except NotImplementedError as error:
            self._fall_back(error)
            observed = self._seen.observe(place, self._losses, unit, weight)
        if observed is None:
            return
        if self._calibrate and self._counts["observations"] % self._calibrate == 0:
            self._passes += self._calibration.observe(place, observed, weight)
        self._passes += observed.passes
        self._counts["observations"] += 1
        self._counts["joint_trials"] += observed.joint_descent is not None
        self._counts["joint_descents"] += observed.joint_descent is True
        self._last_rule = describe(rule) + (", per unit of rate" if self._per_rate else "")
        if self._until is not None and self._counts["observations"] % LOOK_EVERY == 0:
            self._settled = bool(reliability(*self._estimate()).mean() >= self._until)

    def _estimate(self) -> tuple[Tensor, Tensor]:
        """[T, T] means and their standard errors."""
        mean, stderr = self._seen.changes.mean(), self._seen.changes.stderr()
        return self._calibration.correct(mean, stderr) if self._calibrate else (mean, stderr)

    def _fall_back(self, error: NotImplementedError) -> None:
        if self._estimator != "sketch":
            raise error
        warnings.warn(
            f"Transference is measured by gram and not by sketch: {error}. One measurement now costs about"
            f" {price('gram', len(self._tasks), self._directions):.0f} plain steps; a larger `every` makes it cheaper.",
            stacklevel=4,
        )
        self._measure_by("gram")

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
        few = int((self._seen.changes.count < ENOUGH).sum())
        if few:
            warnings.warn(
                f"{few} of {len(self._tasks) ** 2} pairs were observed fewer than {ENOUGH} times; their standard error"
                " is NaN. Observe more batches.",
                stacklevel=3,
            )
        self._losses.warn(stacklevel=4)
