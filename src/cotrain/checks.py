"""Checks of inputs and targets before any training: what cannot be trained on is named, with what to do about it."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from cotrain.batches import Samples, as_pair
from cotrain.errors import DataError
from cotrain.kernels import NO_CLASS
from cotrain.task import Kind, TaskSet

__all__ = ["check_inputs", "check_samples", "check_scored", "check_targets", "few", "labelled", "of_kind", "refuse"]

_SHOWN = 5  # names or values in a message: enough to find the cause, short enough to read


def check_samples(tasks: TaskSet, samples: Samples, *, part: str) -> None:
    """Check samples that are held as tensors; those of other datasets are seen only when they are trained on.

    Args:
        tasks: T tasks.
        samples: A Dataset of (inputs, targets), or a pair of tensors.
        part: How messages call these samples.

    Raises:
        DataError: See `check_inputs` and `check_targets`.
    """
    pair = as_pair(samples)
    if pair is None:
        return
    inputs, targets = pair
    if isinstance(inputs, Tensor) and inputs.is_floating_point():
        check_inputs(inputs, part=part)
    if isinstance(targets, Tensor) and targets.shape[1:] == (len(tasks),):
        check_targets(tasks, targets, part=part)
    if isinstance(targets, Mapping):
        simple = [task for task in tasks if task.name in targets and targets[task.name].dim() == 1]
        if simple:
            columns = torch.stack([targets[task.name].double() for task in simple], dim=1)
            check_targets(TaskSet(simple), columns, part=part)


def check_scored(tasks: TaskSet, valid: Samples, rows: Tensor) -> None:
    """Check that every network has a validation loss by which its best epoch can be told.

    Args:
        tasks: T tasks.
        valid: Validation samples; those that are not held as tensors are not looked at.
        rows: [G, T] loss weights.

    Raises:
        DataError: If none of the tasks that a network trains has a label there.
    """
    pair = as_pair(valid)
    if pair is None or not isinstance(pair[1], Tensor) or pair[1].shape[1:] != (len(tasks),):
        return
    targets = pair[1]
    scored = (rows.cpu() > 0) & labelled(tasks, targets).any(0).cpu()
    blind = (~scored.any(1)).nonzero().flatten().tolist()
    if blind:
        trained = [name for name, weight in zip(tasks.names, rows[blind[0]].tolist(), strict=True) if weight > 0]
        raise DataError(
            f"None of the trained tasks {trained} has a label among the validation samples, so the best epoch cannot"
            " be told. Give labelled validation samples, or leave these tasks out."
        )


def check_inputs(inputs: Tensor, *, names: Sequence[str] = (), part: str = "training") -> None:
    """Check that every input is finite.

    Args:
        inputs: [N, ...].
        names: One per column of inputs [N, D]; without them columns are called by their numbers.
        part: How the message calls these samples.

    Raises:
        DataError: If an input is NaN or infinite, with the columns (of images: the samples).
    """
    bad = ~torch.isfinite(inputs)
    if not bad.any():
        return
    what = "NaN" if torch.isnan(inputs).any() else "infinite"
    if inputs.dim() == 2:
        numbers = bad.any(0).nonzero().flatten().tolist()
        where = f"columns {few([names[number] if names else str(number) for number in numbers])}"
    else:
        where = f"samples {few(bad.flatten(1).any(1).nonzero().flatten().tolist())}"
    raise DataError(
        f"The {part} inputs have {what} values in {where} ({int(bad.sum())} values in all)."
        " Fill these values in, or drop the columns or samples."
    )


def check_targets(tasks: TaskSet, targets: Tensor, *, part: str = "training") -> None:
    """Check that every label is a value that its task's kind allows. No loop over tasks.

    Args:
        tasks: T tasks.
        targets: [N, T]; NaN (for classes also -100) = no label.
        part: How the message calls these samples.

    Raises:
        DataError: If a label is infinite, a binary label is neither 0 nor 1, or a class is not a whole number from
            0 to its task's n_outputs - 1.
    """
    refuse(
        torch.isinf(targets).any(0), tasks, lambda name, _: f"Task {name!r} has infinite {part} targets. Remove them."
    )
    binary = of_kind(tasks, "binary")
    bad = binary & (labelled(tasks, targets) & (targets != 0) & (targets != 1)).any(0)
    refuse(bad, tasks, lambda name, number: _not_binary(name, _values(tasks, targets, number)))
    n_classes = torch.tensor([task.n_outputs for task in tasks])
    is_class = (targets >= 0) & (targets < n_classes) & (targets == targets.floor())
    bad = of_kind(tasks, "multiclass") & (labelled(tasks, targets) & ~is_class).any(0)
    refuse(
        bad,
        tasks,
        lambda name, number: (
            f"Task {name!r} has {tasks[number].n_outputs} classes, numbered 0 to {tasks[number].n_outputs - 1}."
            f" Got the {part} targets {few(_values(tasks, targets, number))}. Number its classes from 0, or declare"
            " the right n_outputs."
        ),
    )


def labelled(tasks: TaskSet, targets: Tensor) -> Tensor:
    """Where there is a label, [N, T]: not NaN, nor the number that stands for "no class"."""
    return ~(torch.isnan(targets) | ((targets == NO_CLASS) & of_kind(tasks, "binary", "multiclass")))


def of_kind(tasks: TaskSet, *kinds: Kind) -> Tensor:
    """[T], which tasks are of one of the kinds."""
    return torch.tensor([task.kind in kinds for task in tasks])


def refuse(bad: Tensor, tasks: TaskSet, message: Callable[[str, int], str]) -> None:
    """Raise for the first bad task, and say how many more there are."""
    numbers = bad.nonzero().flatten().tolist()
    if numbers:
        more = f" ({len(numbers) - 1} more tasks have the same fault.)" if len(numbers) > 1 else ""
        raise DataError(message(tasks.names[numbers[0]], numbers[0]) + more)


def _not_binary(name: str, values: list[float]) -> str:
    declare = f"declare it as Task({name!r}, 'multiclass', {len(values)}) with classes numbered from 0"
    return (
        f"Task {name!r} is binary and must have targets 0 or 1. Got {len(values)} distinct values: {few(values)}."
        f" Map its values to 0 and 1{f', or {declare}' if len(values) > 2 else ''}."
    )


def _values(tasks: TaskSet, targets: Tensor, number: int) -> list[float]:
    has_label = labelled(tasks, targets)[:, number]
    values: list[float] = targets[has_label, number].unique().tolist()
    return values


def few(items: Sequence[object]) -> str:
    """The first of them, and how many more there are."""
    shown = ", ".join(f"{item:g}" if isinstance(item, float) else str(item) for item in items[:_SHOWN])
    return f"{shown} and {len(items) - _SHOWN} more" if len(items) > _SHOWN else shown
