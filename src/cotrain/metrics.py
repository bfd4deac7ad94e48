"""Metrics per task, in the target's own units: torchmetrics over the labelled samples.

It takes several seconds to load (it looks for libraries of text and sound), so only what computes a metric does.
"""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor

from cotrain.kernels import NO_CLASS, labelled_samples, missing_labels
from cotrain.task import Targets, Task, TaskSet

__all__ = ["PRIMARY_METRIC", "SMALLER_IS_BETTER", "own_metric_name", "primary_metric", "task_metrics"]

PRIMARY_METRIC: Mapping[str, str] = {
    "binary": "auroc",  # the only one of the four that neither a threshold nor a rare class distorts
    "multiclass": "accuracy",
    "regression": "mae",
    "custom": "loss",
}
_METRICS_OF_KIND: Mapping[str, tuple[str, ...]] = {
    "binary": (),  # all binary tasks are measured together
    "multiclass": ("accuracy", "balanced_accuracy"),
    "regression": ("mae", "rmse", "r2"),
    "custom": (),
}
THRESHOLD = 0.5
SMALLER_IS_BETTER = frozenset({"loss", "mae", "rmse"})


def primary_metric(task: Task) -> str:
    """The one metric that stands for a task in a table; its own metric if it has one."""
    return PRIMARY_METRIC[task.kind] if task.metric is None else own_metric_name(task)


def own_metric_name(task: Task) -> str:
    """The name under which the task's own metric is reported."""
    name = getattr(task.metric, "__name__", None)
    return str(name) if name else type(task.metric).__name__


def task_metrics(tasks: TaskSet, outputs: Tensor, targets: Targets) -> dict[str, dict[str, float]]:
    """Every task's metrics.

    Args:
        tasks: The tasks; regression tasks know their units.
        outputs: Packed outputs [N, O].
        targets: [N, T] or {task name: tensor}; unlabelled entries are left out.

    Returns:
        For each task: binary: accuracy, balanced_accuracy, f1 (0 without a positive prediction, which
        predicted_positive, the share of positive predictions, tells apart), auroc;
        multiclass: accuracy, balanced_accuracy; regression, in the target's own units: mae, rmse, r2; and the
        task's own metric under its name. NaN where the labels do not define it, such as auroc with one class.

    Raises:
        ValueError: If a regression task does not know its units.
    """
    without_units = [task.name for task in tasks if task.kind == "regression" and task.scale is None]
    if without_units:
        raise ValueError(
            f"The units of regression tasks {without_units} are not known, so outputs cannot be compared with targets."
            " Use the tasks that fit returned (result.tasks), or tasks.with_units(training_targets)."
        )
    predictions = tasks.predictions(outputs)
    found: dict[str, dict[str, float]] = {task.name: {} for task in tasks}
    binary = [task.name for task in tasks if task.kind == "binary"]
    if binary:
        columns = torch.stack([tasks.target_of(name, targets).flatten() for name in binary], dim=1)
        found.update(_binary_metrics(binary, torch.stack([predictions[name] for name in binary], dim=1), columns))
    for task in tasks:
        if task.kind == "binary" and task.metric is None:
            continue
        target = tasks.target_of(task.name, targets)
        if task.kind != "custom" and target.dim() > 1 and target.shape[1] == 1:
            target = target.squeeze(1)
        labelled = labelled_samples(missing_labels(task, target))
        if bool(labelled.any()):
            found[task.name].update(_metrics_of(task, predictions[task.name][labelled], target[labelled]))
        else:
            own = () if task.metric is None else (own_metric_name(task),)
            found[task.name].update(dict.fromkeys((*_METRICS_OF_KIND[task.kind], *own), float("nan")))
    return found


def _binary_metrics(names: list[str], probabilities: Tensor, targets: Tensor) -> dict[str, dict[str, float]]:
    """All binary tasks [N, t] at once."""
    from torchmetrics.functional.classification import multilabel_stat_scores

    missing = torch.isnan(targets) | (targets == NO_CLASS)
    classes = torch.where(missing, NO_CLASS, targets.nan_to_num()).long()
    # validate_args=False: torchmetrics would refuse a single task, which its kernels compute correctly. It is given
    # decisions: of probabilities it would take all tasks' for logits if one task's are NaN.
    scores = multilabel_stat_scores(
        (probabilities > THRESHOLD).long(),
        classes,
        len(names),
        average="none",
        ignore_index=NO_CLASS,
        validate_args=False,
    ).reshape(len(names), 5)
    tp, fp, tn, fn, _ = scores.double().unbind(1)
    auroc = _auroc(probabilities, classes, tp + fn, tn + fp)
    columns = {
        "accuracy": (tp + tn) / (tp + fp + tn + fn),
        "balanced_accuracy": (tp / (tp + fn) + tn / (tn + fp)) / 2,
        "predicted_positive": (tp + fp) / (tp + fp + tn + fn),
        "f1": torch.where(2 * tp + fp + fn > 0, 2 * tp / (2 * tp + fp + fn).clamp(min=1), 0.0),
        "auroc": auroc,
    }
    return {
        name: {metric: float(values[number]) for metric, values in columns.items()} for number, name in enumerate(names)
    }


def _auroc(probabilities: Tensor, classes: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    from torchmetrics.functional.classification import multilabel_auroc

    defined = (positives > 0) & (negatives > 0)
    values = torch.full_like(positives, torch.nan)
    if bool(defined.any()):
        values[defined] = (
            multilabel_auroc(
                probabilities[:, defined],
                classes[:, defined],
                int(defined.sum()),
                average="none",
                ignore_index=NO_CLASS,
                validate_args=False,
            )
            .reshape(-1)
            .double()
        )
    return values


def _metrics_of(task: Task, predictions: Tensor, targets: Tensor) -> dict[str, float]:
    from torchmetrics import Metric
    from torchmetrics.functional.classification import multiclass_stat_scores
    from torchmetrics.functional.regression import mean_absolute_error, mean_squared_error, r2_score

    found: dict[str, float] = {}
    if task.kind in ("binary", "multiclass"):
        targets = targets.long()  # the torchmetrics functions of classes refuse floats
    if task.kind == "multiclass":
        scores = multiclass_stat_scores(predictions, targets, num_classes=task.n_outputs, average=None).double()
        tp, support = scores[:, 0], scores[:, 4]
        found["accuracy"] = float(tp.sum() / support.sum())
        found["balanced_accuracy"] = float((tp / support)[support > 0].mean())  # classes without a label do not count
    elif task.kind == "regression":
        predictions, targets = predictions.double(), targets.double()
        found["mae"] = float(mean_absolute_error(predictions, targets))
        found["rmse"] = float(mean_squared_error(predictions, targets, squared=False))
        several = len(targets) > 1 and bool((targets != targets[0]).any())
        found["r2"] = float(r2_score(predictions, targets)) if several else float("nan")
    if task.metric is not None:
        metric = copy.deepcopy(task.metric) if isinstance(task.metric, Metric) else task.metric
        found[own_metric_name(task)] = float(metric(predictions, targets))
    return found
