"""Checks of data before any training: what cannot be trained on is named, with what to do about it."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cotrain.data.dataset import MultiTaskData, Split
from cotrain.errors import DataError
from cotrain.kernels import NO_CLASS
from cotrain.task import Kind, TaskSet

__all__ = ["check_inputs", "check_targets", "validate"]

_SHOWN = 5  # names or values in a message: enough to find the cause, short enough to read


def validate(data: MultiTaskData) -> None:
    """Check that data can be trained on.

    Args:
        data: What is about to be used.

    Raises:
        DataError: If there are fewer than two tasks; an input is NaN or infinite; a target is infinite, has no
            label in one of the splits, only one value in training, or values that its kind does not allow.
    """
    if len(data.tasks) < 2:
        raise DataError(
            f"{data.name} has {len(data.tasks)} task ({data.tasks.names[0]}). Which tasks should train together is a"
            " question about at least 2: name more targets."
        )
    for part, split in data.splits.items():
        check_inputs(split.inputs, names=data.input_names, part=part)
        _check_labelled(data.tasks, split, part)
        check_targets(data.tasks, split.targets, part=part)
    _check_varied(data.tasks, data.train.targets)


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
        where = f"columns {_few([names[number] if names else str(number) for number in numbers])}"
    else:
        where = f"samples {_few(bad.flatten(1).any(1).nonzero().flatten().tolist())}"
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
    _refuse(
        torch.isinf(targets).any(0), tasks, lambda name, _: f"Task {name!r} has infinite {part} targets. Remove them."
    )
    binary = _of_kind(tasks, "binary")
    bad = binary & (_labelled(tasks, targets) & (targets != 0) & (targets != 1)).any(0)
    _refuse(bad, tasks, lambda name, number: _not_binary(name, _values(tasks, targets, number)))
    n_classes = torch.tensor([task.n_outputs for task in tasks])
    is_class = (targets >= 0) & (targets < n_classes) & (targets == targets.floor())
    bad = _of_kind(tasks, "multiclass") & (_labelled(tasks, targets) & ~is_class).any(0)
    _refuse(
        bad,
        tasks,
        lambda name, number: (
            f"Task {name!r} has {tasks[number].n_outputs} classes, numbered 0 to {tasks[number].n_outputs - 1}."
            f" Got the {part} targets {_few(_values(tasks, targets, number))}. Number its classes from 0, or declare"
            " the right n_outputs."
        ),
    )


def _check_labelled(tasks: TaskSet, split: Split, part: str) -> None:
    _refuse(
        ~_labelled(tasks, split.targets).any(0),
        tasks,
        lambda name, _: (
            f"Task {name!r} has no label among the {len(split)} {part} samples: all are missing."
            " Leave this target out, or give more labelled samples."
        ),
    )


def _check_varied(tasks: TaskSet, targets: Tensor) -> None:
    """Refuse a target with a single value; a custom task's targets may mean anything and are not judged."""
    labelled = _labelled(tasks, targets)
    low = targets.masked_fill(~labelled, torch.inf).amin(0)
    high = targets.masked_fill(~labelled, -torch.inf).amax(0)
    _refuse(
        (low == high) & ~_of_kind(tasks, "custom"),
        tasks,
        lambda name, number: (
            f"Task {name!r} has the same target {low[number]:g} for every labelled training sample: there is nothing"
            " to learn. Leave this target out, or check its column."
        ),
    )


def _labelled(tasks: TaskSet, targets: Tensor) -> Tensor:
    """Where there is a label, [N, T]: not NaN, nor the number that stands for "no class"."""
    return ~(torch.isnan(targets) | ((targets == NO_CLASS) & _of_kind(tasks, "binary", "multiclass")))


def _of_kind(tasks: TaskSet, *kinds: Kind) -> Tensor:
    return torch.tensor([task.kind in kinds for task in tasks])


def _refuse(bad: Tensor, tasks: TaskSet, message: Callable[[str, int], str]) -> None:
    """Raise for the first bad task, and say how many more there are."""
    numbers = bad.nonzero().flatten().tolist()
    if numbers:
        more = f" ({len(numbers) - 1} more tasks have the same fault.)" if len(numbers) > 1 else ""
        raise DataError(message(tasks.names[numbers[0]], numbers[0]) + more)


def _not_binary(name: str, values: list[float]) -> str:
    declare = f"declare it as Task({name!r}, 'multiclass', {len(values)}) with classes numbered from 0"
    return (
        f"Task {name!r} is binary and must have targets 0 or 1. Got {len(values)} distinct values: {_few(values)}."
        f" Map its values to 0 and 1{f', or {declare}' if len(values) > 2 else ''}."
    )


def _values(tasks: TaskSet, targets: Tensor, number: int) -> list[float]:
    labelled = _labelled(tasks, targets)[:, number]
    values: list[float] = targets[labelled, number].unique().tolist()
    return values


def _few(items: Sequence[object]) -> str:
    shown = ", ".join(f"{item:g}" if isinstance(item, float) else str(item) for item in items[:_SHOWN])
    return f"{shown} and {len(items) - _SHOWN} more" if len(items) > _SHOWN else shown
