"""One line about a target: what it is, and how its labels are distributed."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cotrain.task import Task

__all__ = ["describe_target"]


def describe_target(task: Task, labels: NDArray[np.floating], *, meaning: str, classes: Sequence[object] = ()) -> str:
    """What a target is, its base rate (or mean and standard deviation), and the share of samples with a label.

    Args:
        task: Of kind binary, multiclass or regression.
        labels: [N], those of the training samples; NaN = no label.
        meaning: In words.
        classes: What each class number stands for; required for a multiclass task.
    """
    known = labels[~np.isnan(labels)].astype(np.float64)
    if not len(known):
        return f"{meaning}; no label in training"
    share = "" if len(known) == len(labels) else f"; {len(known) / len(labels):.3f} of the samples have a label"
    if task.kind == "regression":
        return f"{meaning}; mean {known.mean():.6g}, standard deviation {known.std():.6g}{share}"
    if task.kind == "binary":
        return f"{meaning}; base rate {known.mean():.4f}{share}"
    rates = np.bincount(known.astype(np.int64), minlength=task.n_outputs) / len(known)
    listed = ", ".join(
        f"{number} = {name} {rate:.4f}" for number, (name, rate) in enumerate(zip(classes, rates, strict=True))
    )
    return f"{meaning}; classes and base rates: {listed}{share}"
