"""One update from many tasks: what every way of combining their gradients does, and what it tells about it."""

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from cotrain.aggregation.fabric import in_precision_of, scale_of, scaler_of
from cotrain.aggregation.gradients import NotFiniteError, TrainingPass, training_pass
from cotrain.aggregation.loss_parameters import loss_gradients
from cotrain.aggregation.split import Split, add_to_grad, reached_by, split_parameters, trainable_names
from cotrain.aggregation.wrappers import unwrapped
from cotrain.model import shared_parameters
from cotrain.task import Batch, Task, TaskSet, as_tasks

__all__ = [
    "Aggregation",
    "Choice",
    "Combined",
    "GradientAggregation",
    "StepAggregation",
    "Weighting",
    "require_positive",
]


@dataclass(frozen=True)
class Choice:
    """What was decided at one step.

    Args:
        names: All tasks.
        losses: [T], 0 for a task without labels.
        weights: [T] float64, what each task's gradient was multiplied by on the shared parameters, 0 for absent
            tasks; None for a method that does not weigh tasks, but coordinates.
        absent: Tasks without a label in the batch.
        cosine: Between the applied direction and the sum of all gradients, on the shared parameters; None for a
            method that never forms the tasks' gradients.
        norm_ratio: The norm of the direction over the norm of that sum; None likewise.
    """

    names: tuple[str, ...]
    losses: Tensor
    weights: Tensor | None
    absent: tuple[str, ...]
    cosine: float | None = None
    norm_ratio: float | None = None


class Aggregation(Protocol):
    """Combines the gradients of several tasks into one update."""

    on_choice: Callable[[Choice], None] | None

    def backward(self, model: nn.Module, tasks: Iterable[Task], batch: Batch) -> Tensor:
        """Run the model and add the combined gradient to `.grad`, as `loss.backward()` does; losses [T]."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed training needs: nested dicts of tensors and JSON values."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state, exactly as if there had been no interruption."""
        ...


class Weighting(Protocol):
    """Weights of the present tasks from their gradients' products alone."""

    def __call__(self, gramian: Tensor) -> Tensor:
        """[m] weights from the Gram matrix [m, m], float64 on the CPU."""
        ...


@runtime_checkable
class _HasState(Protocol):
    """A weighting that remembers something."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True)
class Combined:
    """What the shared parameters get: gradients by name, and how they were weighed (see `Choice`)."""

    gradients: Mapping[str, Tensor]
    weights: Tensor | None
    cosine: float | None = None
    norm_ratio: float | None = None


class StepAggregation:
    """What all ways have in common: one forward pass, heads by their own tasks, absent tasks, steps not to be made.

    The parameters of one task get its plain gradient, whatever the weights; so do those that stand in losses. With a
    single task there is nothing to combine, and the step is the plain one. Where no task has a label nothing is
    written, with a warning; neither is where a gradient is NaN or infinite: the step is counted in `skipped_steps`,
    with a warning that names the task, and buffers and the method's own state are as before it. Skip
    `optimizer.step()` yourself if it would move the parameters without a gradient (momentum, zeroed `.grad`).

    Args:
        on_choice: Called with what was decided at every step.
    """

    def __init__(self, *, on_choice: Callable[[Choice], None] | None = None) -> None:
        self.on_choice = on_choice
        self.skipped_steps = 0
        self._shared_names: list[str] | None = None
        self._trainable: list[str] = []
        self._unreached: list[str] = []

    def backward(
        self, model: nn.Module, tasks: Iterable[Task], batch: Batch, *, scaler: GradScaler | None = None
    ) -> Tensor:
        """Run the model on a batch and add the combined gradient to `.grad` of every trainable parameter.

        Args:
            model: Any module, also wrapped by DDP, Lightning Fabric or `torch.compile`.
            tasks: The tasks, in the order of the model's packed outputs.
            batch: The samples; under DDP those of this process.
            scaler: Under float16 autocast, the scaler whose `step` and `update` follow: `.grad` is then multiplied by
                its scale, and NaN where the step is to be skipped. In Fabric's 16-mixed it is found by itself.

        Returns:
            Losses [T], without a graph; 0 for a task without labels.

        Raises:
            ValueError: If the tasks share no parameter, or the method needs positive losses and gets others.
        """
        batch = in_precision_of(model, batch)
        tasks = as_tasks(tasks)
        if self._trainable != trainable_names(model):  # at the first step, and when a layer is frozen or unfrozen
            self._trainable, self._shared_names = trainable_names(model), None
            self._unreached = list(self._trainable)
        split = split_parameters(model, tasks, batch, self._shared_names)
        self._before(model, tasks, batch)
        run = training_pass(model, tasks, batch)
        split = self._with_newly_reached(split, model, tasks, batch, run)
        losses = run.losses.to(torch.promote_types(run.outputs.dtype, torch.float32))
        scaler = scaler or scaler_of(model)
        run = replace(run, scale=scale_of(scaler, run.outputs.device))
        everything = {**split.shared, **split.own}
        absent = tuple(name for name, there in zip(tasks.names, run.present.tolist(), strict=True) if not there)
        if len(absent) == len(tasks):
            warnings.warn("No task has a label in this batch: nothing was added to the gradients.", stacklevel=2)
            if scaler is not None:  # which does not step without any gradient
                add_to_grad(everything, {name: torch.zeros_like(value) for name, value in everything.items()})
            return losses
        try:
            run.check()
            # Backward passes keep the precision of their forward pass; products of gradients shall not be in bfloat16.
            with torch.autocast(run.outputs.device.type, enabled=False):
                of_losses = loss_gradients(run, batch)
                combined, own = self._gradients(run, split, batch)
        except NotFiniteError as error:
            self.skipped_steps += 1
            run.put_back()
            if scaler is not None:  # which skips the step for it, and lowers its scale
                add_to_grad(everything, {name: torch.full_like(value, torch.nan) for name, value in everything.items()})
            if scaler is None or bool(run.not_finite.any()):
                whose = f"The gradient of {list(error.names)}" if error.names else "The combined gradient"
                warnings.warn(
                    f"{whose} is NaN or infinite: the step is skipped ({self.skipped_steps} so far). Try a lower"
                    " learning rate, and look for extreme values among the inputs and targets.",
                    stacklevel=2,
                )
            return losses
        gradients = {**combined.gradients, **own}
        add_to_grad(everything, {name: value * run.scale for name, value in gradients.items()} if scaler else gradients)
        for leaf, gradient in of_losses:
            add_to_grad({"leaf": leaf}, {"leaf": gradient * run.scale})
        if self.on_choice is not None:
            self.on_choice(Choice(tasks.names, losses, combined.weights, absent, combined.cosine, combined.norm_ratio))
        return losses

    def options(self) -> dict[str, Any]:
        """What it was made with, by which a checkpoint is told from another one's; `on_choice` changes nothing."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed training needs: nested dicts of tensors and JSON values."""
        found = {"shared": self._shared_names, "trainable": self._trainable, "unreached": self._unreached}
        return {"skipped_steps": self.skipped_steps, **found, **self._state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state, exactly as if there had been no interruption."""
        self.skipped_steps, self._shared_names = state["skipped_steps"], state["shared"]
        self._trainable, self._unreached = state["trainable"], state["unreached"]
        self._load(state)

    def _with_newly_reached(
        self, split: Split, model: nn.Module, tasks: TaskSet, batch: Batch, run: TrainingPass
    ) -> Split:
        """The split with parameters that no earlier batch reached, such as an expert's, where they belong.

        A parameter that was reached keeps its place: one that served a single task then is not looked at again.
        """
        first, self._shared_names = self._shared_names is None, list(split.shared)
        if not self._unreached or len(tasks) == 1:
            return split
        everything = {**split.shared, **split.own}
        unknown = {name: everything[name] for name in self._unreached}
        reached = run.in_any_process(self._unreached, reached_by(run.outputs, unknown))
        self._unreached = [name for name in self._unreached if name not in reached]
        if not reached:
            return split
        found = list(split.shared) if first else list(shared_parameters(unwrapped(model), tasks, batch))
        shared = {*split.shared, *run.in_any_process(reached, found)}
        self._shared_names = [name for name in self._trainable if name in shared]
        return split_parameters(model, tasks, batch, self._shared_names)

    def _gradients(self, run: TrainingPass, split: Split, batch: Batch) -> tuple[Combined, dict[str, Tensor]]:
        """What the shared parameters get, and the others; to be overridden where one pass gives both.

        What a method remembers changes only once nothing is left that could stop the step.
        """
        own = run.sums(split.own)
        if not split.shared:
            return Combined({}, torch.ones(1, dtype=torch.float64)), own
        return self._combine(run, split, batch), own

    def _combine(self, run: TrainingPass, split: Split, batch: Batch) -> Combined:
        """What the shared parameters get; at least one task is present, and its loss is finite."""
        raise NotImplementedError

    def _before(self, model: nn.Module, tasks: TaskSet, batch: Batch) -> None:
        """Called before the forward pass of a step."""

    def _state(self) -> dict[str, Any]:
        return {}

    def _load(self, state: Mapping[str, Any]) -> None:
        pass


class GradientAggregation(StepAggregation):
    """The tasks' gradients, weighed by what their Gram matrix says: one backward pass per task.

    Costs (1 + 2 m) / 3 plain steps for m present tasks, and memory for m gradients.

    Args:
        weighting: From the Gram matrix [m, m] to weights [m], such as `UPGrad()`.
        on_choice: Called with what was decided at every step.
    """

    def __init__(self, weighting: Weighting, *, on_choice: Callable[[Choice], None] | None = None) -> None:
        super().__init__(on_choice=on_choice)
        bases = [base.__name__ for base in type(weighting).__mro__ if base.__module__.startswith("torchjd.")]
        if "Aggregator" in bases or "Scalarizer" in bases:
            raise ValueError(
                f"A weighting gives weights from a Gram matrix. Got TorchJD's {type(weighting).__name__}, which takes"
                " gradients or losses: pass from_torchjd(...) of it in place of GradientAggregation."
            )
        self.weighting = weighting

    def options(self) -> dict[str, Any]:
        """As `StepAggregation.options`."""
        return {"weighting": self.weighting}

    def _combine(self, run: TrainingPass, split: Split, batch: Batch) -> Combined:  # noqa: ARG002
        jacobian = run.jacobian(split.shared)
        gramian = run.gramian(jacobian)
        before = self._state()
        try:
            return weighed(run, split, jacobian, gramian, self.weighting(gramian.cpu()))
        except NotFiniteError:
            self._load(before)
            raise

    def _state(self) -> dict[str, Any]:
        return {"weighting": self.weighting.state_dict()} if isinstance(self.weighting, _HasState) else {}

    def _load(self, state: Mapping[str, Any]) -> None:
        if isinstance(self.weighting, _HasState):
            self.weighting.load_state_dict(state["weighting"])


def weighed(run: TrainingPass, split: Split, jacobian: Tensor, gramian: Tensor, weights: Tensor) -> Combined:
    """The weighted sum of a Jacobian's rows [m, P], and how it lies to their plain sum.

    Raises:
        NotFiniteError: If a weight is NaN or infinite.
    """
    weights = weights.to(gramian)
    # No partial sum is larger than all lengths together, which takes no look at the direction's numbers.
    largest = (weights.abs() * gramian.diagonal().clamp(min=0).sqrt()).sum()
    if not bool(largest < torch.finfo(jacobian.dtype).max):
        raise NotFiniteError([])
    direction = weights.to(jacobian.dtype) @ jacobian
    seen = gramian @ weights
    square, joint, product = float(weights @ seen), float(gramian.sum()), float(seen.sum())
    return Combined(
        unflattened(direction, split.shared), run.scattered(weights), *against_joint(product, square, joint)
    )


def against_joint(product: float, square: float, joint: float) -> tuple[float, float]:
    """Cosine and norm ratio from <d, g>, |d|^2 and |g|^2; 0 where one of them has no length."""
    square, joint = max(square, 0.0), max(joint, 0.0)
    cosine = product / (square * joint) ** 0.5 if square * joint > 0 else 0.0
    return min(max(cosine, -1.0), 1.0), (square / joint) ** 0.5 if joint > 0 else 0.0


def unflattened(direction: Tensor, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """A vector [P] by parameter, in their shapes."""
    parts = direction.split([value.numel() for value in parameters.values()])
    return {name: part.view_as(value) for (name, value), part in zip(parameters.items(), parts, strict=True)}


def require_positive(run: TrainingPass, method: str, remedy: str, *, or_zero: bool = False) -> None:
    """Refuse a loss that is not positive; with `or_zero` only a negative one.

    Raises:
        ValueError: With the task, its loss and what to do instead.
    """
    wrong = run.present & ((run.losses < 0) if or_zero else (run.losses <= 0))
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        needed = "losses that are not negative" if or_zero else "positive losses"
        raise ValueError(
            f"{method} needs {needed}. Got {float(run.losses[row]):g} for task {run.tasks.names[row]!r}. {remedy}"
        )
