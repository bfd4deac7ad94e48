"""Checks of a data set before any training: what cannot be trained on is named, with what to do about it."""

import torch
from torch import Tensor

from cotrain.checks import check_inputs, check_targets, labelled, of_kind, refuse
from cotrain.data.dataset import MultiTaskData, Split
from cotrain.errors import DataError
from cotrain.task import TaskSet

__all__ = ["validate"]


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


def _check_labelled(tasks: TaskSet, split: Split, part: str) -> None:
    refuse(
        ~labelled(tasks, split.targets).any(0),
        tasks,
        lambda name, _: (
            f"Task {name!r} has no label among the {len(split)} {part} samples: all are missing."
            " Leave this target out, or give more labelled samples."
        ),
    )


def _check_varied(tasks: TaskSet, targets: Tensor) -> None:
    """Refuse a target with a single value; a custom task's targets may mean anything and are not judged."""
    has_label = labelled(tasks, targets)
    low = targets.masked_fill(~has_label, torch.inf).amin(0)
    high = targets.masked_fill(~has_label, -torch.inf).amax(0)
    refuse(
        (low == high) & ~of_kind(tasks, "custom"),
        tasks,
        lambda name, number: (
            f"Task {name!r} has the same target {low[number]:g} for every labelled training sample: there is nothing"
            " to learn. Leave this target out, or check its column."
        ),
    )
