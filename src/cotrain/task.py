"""What is learned: a task, its loss, and what happens to its missing labels."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, TypeAlias, overload

import torch
from torch import Tensor

from cotrain.errors import DataError
from cotrain.kernels import Kernels

__all__ = ["Batch", "Kind", "Outputs", "Targets", "Task", "TaskSet", "as_tasks"]

Kind = Literal["binary", "multiclass", "regression", "custom"]
Outputs: TypeAlias = Tensor | Mapping[str, Tensor]
Targets: TypeAlias = Tensor | Mapping[str, Tensor]


@dataclass(frozen=True)
class Task:
    """One prediction target.

    Args:
        name: Unique among the tasks that are trained together.
        kind: "binary" (one logit, targets 0 and 1), "multiclass" (`n_outputs` logits, the target is the class's
            number), "regression" (squared error of the standardised target) or "custom".
        n_outputs: How many numbers the model gives for this task: the classes of a multiclass task, the
            dimensions of a regression target.
        loss: `loss(outputs [B, n_outputs], targets) -> [B]`, one value per sample. Required for "custom"; for
            another kind it replaces the usual loss. Samples without a label come with target 0 and their value
            is thrown away.
        metric: `metric(predictions, targets) -> scalar`, reported beside the metrics of the kind: a
            torchmetrics function, or a `torchmetrics.Metric`. Predictions are probabilities (binary [n],
            multiclass [n, C]) or values in the target's own units, of the labelled samples only.
        location: Mean of a regression target over the training samples; None until known (`TaskSet.with_units`).
        scale: Standard deviation of a regression target over the training samples; None until known.

    Raises:
        ValueError: If the parts do not fit each other.
    """

    name: str
    kind: Kind
    n_outputs: int = 1
    loss: Callable[[Tensor, Tensor], Tensor] | None = None
    metric: Callable[[Tensor, Tensor], Tensor] | None = None
    location: float | None = None
    scale: float | None = None

    def __post_init__(self) -> None:
        if not self.name or "+" in self.name:
            raise ValueError(
                f"A task needs a name without '+', because groups are written as names joined by '+'."
                f" Got {self.name!r}."
            )
        if self.kind not in ("binary", "multiclass", "regression", "custom"):
            raise ValueError(
                f"Task {self.name!r} has the unknown kind {self.kind!r}. Use binary, multiclass, regression or custom."
            )
        if self.kind == "binary" and self.n_outputs != 1:
            raise ValueError(
                f"Task {self.name!r} is binary and has one output. Got n_outputs={self.n_outputs}."
                f" Declare it as Task({self.name!r}, 'multiclass', {self.n_outputs}), or leave n_outputs out."
            )
        if self.kind == "multiclass" and self.n_outputs < 2:
            raise ValueError(
                f"Task {self.name!r} is multiclass and needs n_outputs = its number of classes, at least 2."
                f" Got {self.n_outputs}."
            )
        if self.n_outputs < 1:
            raise ValueError(f"Task {self.name!r} needs at least one output. Got n_outputs={self.n_outputs}.")
        if self.kind == "custom" and self.loss is None:
            raise ValueError(
                f"Task {self.name!r} is custom and needs loss=, a function of (outputs [B, n_outputs], targets)"
                " that returns one value per sample."
            )
        if self.scale is not None and not self.scale > 0:
            raise ValueError(f"Task {self.name!r} needs a positive scale. Got {self.scale}.")


@dataclass(frozen=True)
class Batch:
    """Some samples.

    Args:
        index: [B] integers, the samples' positions in the training set.
        inputs: What the model takes.
        targets: [B, T] floats in task order, NaN = no label (for classes also -100), a class is its number; or
            {task name: tensor} where a task's target has a shape of its own.
    """

    index: Tensor
    inputs: Tensor
    targets: Targets


class TaskSet(Sequence[Task]):
    """Tasks that are predicted by one model, in a fixed order.

    Losses of all tasks of a kind are one kernel, whatever their number; only tasks with a loss of their own are
    looped over.

    Args:
        tasks: The tasks; a plain list is accepted wherever a TaskSet is.

    Raises:
        ValueError: If there is no task, or two have the same name.
    """

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._tasks = tuple(tasks)
        self.names: tuple[str, ...] = tuple(task.name for task in self._tasks)
        if not self._tasks:
            raise ValueError("There is no task. Give at least one Task.")
        twice = sorted({name for name in self.names if self.names.count(name) > 1}) if self._has_twins() else []
        if twice:
            raise ValueError(f"Task names must be unique. Got {twice} more than once.")
        ends = torch.tensor([task.n_outputs for task in self._tasks]).cumsum(0).tolist()
        self.n_outputs: int = ends[-1]
        self.slices: dict[str, slice] = {
            task.name: slice(end - task.n_outputs, end) for task, end in zip(self._tasks, ends, strict=True)
        }

    @overload
    def __getitem__(self, index: int) -> Task: ...
    @overload
    def __getitem__(self, index: slice) -> "TaskSet": ...
    def __getitem__(self, index: int | slice) -> "Task | TaskSet":
        return TaskSet(self._tasks[index]) if isinstance(index, slice) else self._tasks[index]

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[Task]:
        return iter(self._tasks)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TaskSet) and self._tasks == other._tasks

    def __hash__(self) -> int:
        return hash(self._tasks)

    def __repr__(self) -> str:
        return f"TaskSet({list(self._tasks)!r})"

    def select(self, names: Iterable[str]) -> "TaskSet":
        """The named tasks, in the order given.

        Raises:
            ValueError: If a name is not among the tasks.
        """
        by_name = dict(zip(self.names, self._tasks, strict=True))
        names = list(names)
        unknown = [name for name in names if name not in by_name]
        if unknown:
            raise ValueError(f"There is no task {unknown}. The tasks are {list(self.names)}.")
        return TaskSet(by_name[name] for name in names)

    def with_units(self, targets: Targets) -> "TaskSet":
        """The same tasks, with location and scale of every regression target taken from training targets.

        Args:
            targets: Training targets; labelled samples only are counted. Tasks that have units keep them.

        Raises:
            DataError: If a regression target has no label, an infinite one, or only one value.
        """
        return TaskSet(
            _with_units(task, self.target_of(task.name, targets))
            if task.kind == "regression" and task.scale is None
            else task
            for task in self._tasks
        )

    def pack(self, outputs: Outputs) -> Tensor:
        """Outputs as one tensor [B, sum of n_outputs] in task order.

        Raises:
            ValueError: If an output is missing or has another width than the tasks declare.
        """
        if isinstance(outputs, Mapping):
            missing = [name for name in self.names if name not in outputs]
            if missing:
                raise ValueError(f"The model gave no output for {missing}. It gave {list(outputs)}.")
            parts = [outputs[name] if outputs[name].dim() > 1 else outputs[name].unsqueeze(1) for name in self.names]
            for task, part in zip(self._tasks, parts, strict=True):
                if part.dim() != 2 or part.shape[1] != task.n_outputs:
                    raise ValueError(
                        f"The output of task {task.name!r} must have the shape [batch, {task.n_outputs}]."
                        f" Got {list(part.shape)}."
                    )
            outputs = torch.cat(parts, dim=1)
        if outputs.dim() != 2 or outputs.shape[1] != self.n_outputs:
            raise ValueError(
                f"The model must give outputs of shape [batch, {self.n_outputs}], the tasks' n_outputs in task order."
                f" Got {list(outputs.shape)}."
            )
        return outputs

    def target_of(self, name: str, targets: Targets) -> Tensor:
        """One task's targets, [B] or of its own shape."""
        if not isinstance(targets, Mapping):
            return targets[:, self.names.index(name)]
        if name not in targets:
            raise ValueError(f"There are no targets for task {name!r}. Got targets for {list(targets)}.")
        return targets[name]

    def losses(self, outputs: Outputs, targets: Targets) -> Tensor:
        """Every task's mean loss over its labelled samples.

        Args:
            outputs: Packed [B, sum of n_outputs], or {task name: tensor}.
            targets: [B, T], or {task name: tensor}.

        Returns:
            [T], float32 (float64 for float64 outputs). 0 without a gradient for a task without labels.
        """
        values, labelled = self.sample_losses(outputs, targets)
        return values.sum(0) / labelled.sum(0).clamp(min=1)

    def sample_losses(self, outputs: Outputs, targets: Targets) -> tuple[Tensor, Tensor]:
        """Every sample's loss for every task, and where there is one.

        Returns:
            Losses [B, T], 0 where there is no label, and a boolean mask [B, T] of the labelled entries.
        """
        return self._kernels.sample_losses(self.pack(outputs), targets)

    def predictions(self, outputs: Outputs) -> dict[str, Tensor]:
        """What the outputs mean, by task.

        Returns:
            Probabilities of binary [B] and multiclass [B, C] tasks, regression values in the target's own units
            ([B], or [B, d]), and a custom task's outputs as they are.
        """
        packed = self.pack(outputs)
        return {task.name: _prediction(task, packed[:, self.slices[task.name]]) for task in self._tasks}

    @cached_property
    def _kernels(self) -> Kernels:
        return Kernels(self._tasks, self.slices)

    def _has_twins(self) -> bool:
        return len(set(self.names)) < len(self.names)


def as_tasks(tasks: Iterable[Task]) -> TaskSet:
    """A TaskSet from a TaskSet or any iterable of tasks."""
    return tasks if isinstance(tasks, TaskSet) else TaskSet(tasks)


def _with_units(task: Task, target: Tensor) -> Task:
    values = target[~torch.isnan(target)].double()
    if bool(torch.isinf(values).any()):
        raise DataError(f"Regression task {task.name!r} has infinite training targets. Remove them.")
    if values.numel() == 0 or bool(values.min() == values.max()):  # the deviation of a constant may be rounding
        raise DataError(
            f"Regression task {task.name!r} needs at least two different training targets."
            f" Got {values.numel()} labels, all the same. Leave the task out, or check its column."
        )
    return replace(task, location=float(values.mean()), scale=float(values.std(correction=0)))


def _prediction(task: Task, outputs: Tensor) -> Tensor:
    if task.kind == "binary":
        return torch.sigmoid(outputs.squeeze(1))
    if task.kind == "multiclass":
        return torch.softmax(outputs, dim=1)
    if task.kind == "regression":
        values = outputs * (1.0 if task.scale is None else task.scale) + (task.location or 0.0)
        return values.squeeze(1) if task.n_outputs == 1 else values
    return outputs
