"""How good a model is at every task: losses and metrics over a whole split."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cotrain.batches import Samples, batches, map_tensors
from cotrain.metrics import task_metrics
from cotrain.task import Targets, Task, TaskSet, as_tasks

__all__ = ["Evaluation", "all_targets", "evaluate", "evaluation_of", "packed_outputs"]

EVALUATION_BATCH = 1024
"""Without a backward pass a batch may be large; beyond this the CPU gains nothing."""


@dataclass(frozen=True)
class Evaluation:
    """Results of one model on one split.

    Args:
        tasks: The tasks.
        losses: [T] mean losses over all labelled samples; NaN for a task without labels.
        metrics: For each task its metrics by name, in the target's own units (see `cotrain.metrics`).
    """

    tasks: TaskSet
    losses: Tensor
    metrics: Mapping[str, Mapping[str, float]]

    def loss_of(self, task: str) -> float:
        """One task's mean loss."""
        return float(self.losses[self.tasks.names.index(task)])


def evaluate(
    model: nn.Module, tasks: Iterable[Task], samples: Samples, *, batch_size: int = EVALUATION_BATCH
) -> Evaluation:
    """Evaluate a model in eval mode, without autograd; its mode is put back afterwards.

    Args:
        model: Any module that gives packed outputs or {task name: tensor}.
        tasks: The tasks that `fit` returned, which know the units of regression targets.
        samples: A Dataset of (inputs, targets), or a pair of tensors.
        batch_size: Samples per forward pass.

    Raises:
        ValueError: If a regression task does not know its units.
    """
    tasks = as_tasks(tasks)
    return evaluation_of(tasks, packed_outputs(model, tasks, samples, batch_size=batch_size), all_targets(samples))


def packed_outputs(model: nn.Module, tasks: TaskSet, samples: Samples, *, batch_size: int = EVALUATION_BATCH) -> Tensor:
    """The outputs [N, O] for all samples, in eval mode and without autograd; the model's mode is put back."""
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    modes = {module: module.training for module in model.modules()}  # a part may be in eval mode for good
    model.eval()
    try:
        with torch.no_grad():
            return torch.cat(
                [
                    tasks.pack(model(map_tensors(batch.inputs, lambda value: value.to(device)))).cpu()
                    for batch in batches(samples, batch_size)
                ]
            )
    finally:
        for module, mode in modes.items():
            module.training = mode


def evaluation_of(tasks: TaskSet, outputs: Tensor, targets: Targets) -> Evaluation:
    """The evaluation of packed outputs [N, O] that were computed before."""
    values, labelled = tasks.sample_losses(outputs, targets)
    return Evaluation(tasks, values.double().sum(0) / labelled.sum(0), task_metrics(tasks, outputs, targets))


def all_targets(samples: Samples) -> Targets:
    """The targets of all samples, in their order."""
    if isinstance(samples, tuple):
        return samples[1]
    parts = [batch.targets for batch in batches(samples, EVALUATION_BATCH)]
    first = parts[0]
    if isinstance(first, Mapping):
        return {name: torch.cat([part[name] for part in parts if isinstance(part, Mapping)]) for name in first}
    return torch.cat([part for part in parts if isinstance(part, Tensor)])
