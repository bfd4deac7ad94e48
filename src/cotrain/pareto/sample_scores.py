"""What every single sample scores at every preference, so that a front can be resampled."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from cotrain.kernels import NO_CLASS
from cotrain.metrics import SMALLER_IS_BETTER, THRESHOLD
from cotrain.task import Targets, Task, TaskSet

__all__ = ["METRIC_OF_KIND", "SampleScores", "larger_is_better", "score_samples", "targets_digest"]

METRIC_OF_KIND: Mapping[str, str] = {
    "binary": "accuracy",
    "multiclass": "accuracy",
    "regression": "mae",
    "custom": "loss",
}
"""One metric per kind that is a mean over samples, which AUROC or R2 are not: only such a mean is resampled in a
matrix product."""


@dataclass(frozen=True, eq=False)
class SampleScores:
    """Per-sample losses and metrics at K preferences: 8 bytes times K N T.

    Args:
        losses: [K, N, T] float32, 0 without a label.
        metrics: [K, N, T] float32: 1 where right and 0 where wrong, absolute error, or the loss; 0 without a label.
        labelled: [N, T] booleans.
        digest: Of all targets in their order, by which two fronts are known to be on the same samples.
    """

    losses: Tensor
    metrics: Tensor
    labelled: Tensor
    digest: str

    def of(self, metric: Literal["metric", "loss"]) -> Tensor:
        """[K, N, T]: the metrics, or the losses."""
        return self.metrics if metric == "metric" else self.losses

    def means(self, metric: Literal["metric", "loss"]) -> Tensor:
        """[K, T] float64 means over the labelled samples; NaN for a task without labels."""
        return self.of(metric).sum(1, dtype=torch.float64) / self.labelled.sum(0)


def larger_is_better(metric_names: tuple[str, ...]) -> list[bool]:
    """The direction of each metric by its name."""
    return [name not in SMALLER_IS_BETTER for name in metric_names]


def score_samples(tasks: TaskSet, outputs: Tensor, targets: Targets) -> tuple[Tensor, Tensor, Tensor]:
    """The scores of one batch at K preferences.

    Args:
        tasks: T tasks; regression tasks know their units.
        outputs: [K, B, O] packed outputs.
        targets: Of the batch, [B, T] or {task name: tensor}.

    Returns:
        Losses and metrics [K, B, T] float32, and the labelled [B, T].
    """
    points, rows = outputs.shape[:2]
    flat = outputs.flatten(0, 1)
    repeated = _repeated(targets, points)
    losses, labelled = tasks.sample_losses(flat, repeated)
    predictions = tasks.predictions(flat)
    columns = [
        losses[:, number]
        if METRIC_OF_KIND[task.kind] == "loss"
        else _metric(task, predictions[task.name], tasks.target_of(task.name, repeated))
        for number, task in enumerate(tasks)
    ]
    metrics = torch.stack([column.to(losses.dtype) for column in columns], dim=1).masked_fill(~labelled, 0)
    shape = (points, rows, len(tasks))
    return losses.float().view(shape), metrics.float().view(shape), labelled[:rows]


def targets_digest(parts: list[Targets]) -> str:
    """A fingerprint of targets in their order, however they were batched."""
    states: dict[str, hashlib.blake2b] = {}
    for part in parts:
        named = part if isinstance(part, Mapping) else {"": part}
        for name, values in sorted(named.items()):
            state = states.setdefault(name, hashlib.blake2b(name.encode()))
            state.update(values.detach().cpu().double().contiguous().numpy().tobytes())
    return hashlib.blake2b(b"".join(states[name].digest() for name in sorted(states)), digest_size=16).hexdigest()


def _metric(task: Task, predictions: Tensor, target: Tensor) -> Tensor:
    """[n] values whose mean over labelled samples is the metric."""
    if task.kind == "regression":
        errors = (predictions - target.reshape(predictions.shape)).abs()
        return errors if errors.dim() == 1 else errors.mean(1)
    decided = predictions > THRESHOLD if task.kind == "binary" else predictions.argmax(1)
    return decided.long() == target.flatten().nan_to_num(NO_CLASS).long()


def _repeated(targets: Targets, times: int) -> Targets:
    if isinstance(targets, Mapping):
        return {name: value.repeat(times, *[1] * (value.dim() - 1)) for name, value in targets.items()}
    return targets.repeat(times, 1)
