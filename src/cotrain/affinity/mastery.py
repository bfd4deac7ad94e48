"""Which tasks every network learns: nothing is left that training with others could improve."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from cotrain.kernels import labelled_samples, missing_labels
from cotrain.task import Outputs, Targets, Task, as_tasks

__all__ = ["MASTERED", "mastery"]

MASTERED = 0.999
"""From here on a task counts as learned by everybody: of what chance gets wrong, one in a thousand is still wrong."""


def mastery(tasks: Iterable[Task], outputs: Outputs, targets: Targets) -> Tensor:
    """How much of what there is to learn has been learned: 0 for chance, 1 for no mistake.

    binary and multiclass: balanced accuracy, corrected for chance, which rare classes cannot flatter. Chance is to
    predict one of the classes that have labels here, always. regression: the share of the target's variance that is
    explained, the mean of it over several dimensions.

    Args:
        tasks: The tasks; regression tasks know their units (`TaskSet.with_units`).
        outputs: Of samples that were NOT trained on, packed [N, O] or {task name: tensor}.
        targets: [N, T] or {task name: tensor}; missing labels as in training.

    Returns:
        [T] float64, negative for what is worse than chance. NaN for custom tasks, and where there are no labels or all
        are the same.

    Raises:
        ValueError: If a regression task does not know its units.
    """
    tasks = as_tasks(tasks)
    without_units = [task.name for task in tasks if task.kind == "regression" and task.scale is None]
    if without_units:
        raise ValueError(
            f"The units of regression tasks {without_units} are not known, so outputs cannot be compared with targets."
            " Use tasks.with_units(training_targets)."
        )
    # Not by task_metrics, whose AUROC of a thousand tasks takes far longer than all that is needed here.
    predictions = tasks.predictions(tasks.pack(outputs).detach())
    values = [_of_task(task, predictions[task.name], tasks.target_of(task.name, targets)) for task in tasks]
    return torch.tensor(values, dtype=torch.float64)


def _of_task(task: Task, predictions: Tensor, target: Tensor) -> float:
    if task.kind == "custom":
        return math.nan
    if task.kind != "regression":
        target = target.flatten()
    labelled = labelled_samples(missing_labels(task, target))
    predictions, target = predictions[labelled], target[labelled]
    if task.kind == "regression":
        return _explained(predictions.reshape(target.shape).double(), target.double())
    guesses = (predictions > 0.5).long() if task.kind == "binary" else predictions.argmax(1)
    return _balanced(guesses, target.long(), max(2, task.n_outputs))


def _balanced(guesses: Tensor, classes: Tensor, n_classes: int) -> float:
    """Mean share of right guesses over the classes that there are, scaled so that any constant guess has 0."""
    n = torch.bincount(classes, minlength=n_classes)
    right = torch.bincount(classes[guesses == classes], minlength=n_classes)
    share = (right.double() / n)[n > 0]
    if len(share) < 2:
        return math.nan
    chance = 1 / len(share)
    return (float(share.mean()) - chance) / (1 - chance)


def _explained(predictions: Tensor, target: Tensor) -> float:
    """1 - squared error / variance, the mean over the dimensions that vary."""
    if len(target) == 0:
        return math.nan
    total = ((target - target.mean(0)) ** 2).sum(0)
    varies = (target != target[:1]).any(0)
    share = 1 - ((target - predictions) ** 2).sum(0) / total
    return float(torch.where(varies, share, torch.nan).nanmean())
