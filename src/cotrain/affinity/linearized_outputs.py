"""A trained network as a linear model of every sample's output: what predicted gains are computed from."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from cotrain.affinity.projected_gradients import projected_gradients
from cotrain.affinity.sample_outputs import SampleOutputs
from cotrain.batches import Samples, batches, count, map_tensors
from cotrain.model import shared_parameters
from cotrain.task import Batch, Task, TaskSet, as_tasks

__all__ = ["LinearizedOutputs", "LinearizedTask", "linearized_outputs"]

Loss: TypeAlias = Literal["squared", "logistic"]


@dataclass(frozen=True, eq=False)
class LinearizedTask:
    """The labelled samples of one task, n of them: output + gradients @ w is the output at a step w.

    Args:
        name: Of the task.
        loss: "logistic": log(1 + exp(output)) - label * output; "squared": (label - output)^2.
        gradients: [n, d] float32, projected gradients of the outputs by the parameters.
        outputs: [n] float32, of the network as it is.
        labels: [n] float32.
    """

    name: str
    loss: Loss
    gradients: Tensor
    outputs: Tensor
    labels: Tensor


@dataclass(frozen=True, eq=False)
class LinearizedOutputs:
    """A network linearised on the samples of one split, as `LinearizedGains` takes it.

    Args:
        parts: One per task, in the order of the tasks.
    """

    parts: tuple[LinearizedTask, ...]

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks' names."""
        return tuple(part.name for part in self.parts)


def linearized_outputs(
    model: nn.Module,
    tasks: Iterable[Task],
    samples: Samples,
    *,
    directions: int = 128,
    seed: int = 0,
    parameters: Iterable[str] | None = None,
    most_rows: int = 10_000,
    batch_size: int = 256,
) -> LinearizedOutputs:
    """Linearise every labelled sample's output around a trained model's parameters, in eval mode.

    The numbers are those of `projected_gradients`: the logit of a binary task; the margin log(q / (1 - q)) of a
    multiclass task, with label 1 for all samples, so that the logistic loss of the margin is the cross-entropy; the
    output of a regression task of one dimension in standard units. Of every other task it is the square root of the
    sample's loss, with label 0 and squared loss, so that the linear model's losses are never negative.

    Missing labels are left out. Cost: that of `projected_gradients` for every batch, which is a backward pass per task
    (or per feature, if the tasks share fewer) and products for all directions, or `directions` forward-mode passes
    where that is fewer or the model is not made of layers. Memory: 4 T directions bytes per row (77 MB for 10,000
    rows, 15 tasks and 128 directions), plus those of a batch.

    Args:
        model: Any module, trained on all tasks together. It is left as it is.
        tasks: As `fit` returned them, in the order of the packed outputs.
        samples: A Dataset of (inputs, targets), or a pair of tensors. Give the training and the validation samples
            in two calls with the same directions and seed.
        directions: How many random directions d of the parameters.
        seed: Of the directions, and of the rows where there are too many.
        parameters: Names of the parameters; None takes those that two or more tasks share, as found on a batch.
            Both calls must name the same ones.
        most_rows: A random subset of so many rows is taken where there are more.
        batch_size: Rows that are differentiated at once.

    Raises:
        ValueError: If a task has no labelled row, a loss is negative, a number is not finite, or an option is out of
            range. The message names the task.
    """
    tasks = as_tasks(tasks)
    if most_rows < 1 or batch_size < 1:
        raise ValueError(f"most_rows and batch_size must be at least 1. Got {most_rows} and {batch_size}.")
    _require_units(tasks)
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    n_rows = count(samples)
    order = torch.arange(n_rows)
    if n_rows > most_rows:
        order = torch.randperm(n_rows, generator=torch.Generator().manual_seed(seed % 2**63))[:most_rows]
    names = None if parameters is None else list(parameters)
    found = []
    for batch in batches(samples, batch_size, order):
        here = replace(
            batch,
            inputs=map_tensors(batch.inputs, lambda value: value.to(device)),
            targets=map_tensors(batch.targets, lambda value: value.to(device)),
        )
        if names is None:
            names = list(shared_parameters(model, tasks, here))
        found.append(_linearized(model, tasks, here, directions, seed, names or None))
    gradients, outputs, labels, labelled = (torch.cat(parts, dim=1) for parts in zip(*found, strict=True))
    return LinearizedOutputs(
        tuple(
            _part(task, gradients[t, rows], outputs[t, rows], labels[t, rows])
            for t, (task, rows) in enumerate(zip(tasks, labelled, strict=True))
        )
    )


def _linearized(
    model: nn.Module, tasks: TaskSet, batch: Batch, directions: int, seed: int, names: list[str] | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients [T, B, d], outputs, labels and where there are labels, [T, B] each, on the CPU."""
    gradients = projected_gradients(model, tasks, batch, directions=directions, seed=seed, parameters=names)
    numbers = SampleOutputs(tasks, batch.targets)
    outputs = numbers(_packed_outputs(model, tasks, batch)).float()
    labels = torch.stack([_labels(task, tasks.target_of(task.name, batch.targets)) for task in tasks], dim=1)
    return gradients.cpu(), outputs.T.cpu(), labels.T.cpu(), numbers.labelled.T.cpu()


def _packed_outputs(model: nn.Module, tasks: TaskSet, batch: Batch) -> Tensor:
    modes = {module: module.training for module in model.modules()}  # a part may be in eval mode for good
    model.eval()
    try:
        with torch.no_grad():
            return tasks.pack(model(batch.inputs))
    finally:
        for module, mode in modes.items():
            module.training = mode


def _labels(task: Task, targets: Tensor) -> Tensor:
    """[B], what the task's number is compared with."""
    if _has_loss(task):
        return torch.zeros(len(targets), device=targets.device)
    if task.kind == "multiclass":
        return torch.ones(len(targets), device=targets.device)
    values = targets.flatten().float()
    if task.kind == "binary":
        return values
    return (values - (task.location or 0.0)) / (task.scale or 1.0)


def _has_loss(task: Task) -> bool:
    """Whether the task's number is its loss."""
    return task.loss is not None or (task.kind == "regression" and task.n_outputs > 1)


def _part(task: Task, gradients: Tensor, outputs: Tensor, labels: Tensor) -> LinearizedTask:
    if len(outputs) == 0:
        raise ValueError(f"Task {task.name!r} has no labelled row. Leave it out, or give samples that have its label.")
    if not bool(torch.isfinite(gradients).all() & torch.isfinite(outputs).all()):
        raise ValueError(f"An output of task {task.name!r}, or its gradient, is not finite. Has the training diverged?")
    if _has_loss(task):
        if bool((outputs < 0).any()):
            raise ValueError(
                f"Task {task.name!r} has losses below 0, down to {float(outputs.min()):.3g}: a gain is a ratio of"
                " losses. Add a constant to its loss."
            )
        outputs = outputs.sqrt()
        # The gradient of a loss at its minimum is 0, and so is that of its root, by convention.
        gradients = torch.where(outputs[:, None] > 0, gradients / (2 * outputs[:, None]), 0.0)
    loss: Loss = "logistic" if task.kind in ("binary", "multiclass") and task.loss is None else "squared"
    return LinearizedTask(task.name, loss, gradients, outputs, labels)


def _require_units(tasks: TaskSet) -> None:
    unknown = [task.name for task in tasks if task.kind == "regression" and task.scale is None]
    if unknown:
        raise ValueError(
            f"Regression tasks {unknown} do not know their units. Give the tasks that `fit` returned, or"
            " `TaskSet.with_units(targets)`."
        )
