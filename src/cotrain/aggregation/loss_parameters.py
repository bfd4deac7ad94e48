"""Trainable parameters that stand in a task's loss, such as a noise that is learned, and not in the outputs."""

import torch
from torch import Tensor

from cotrain.aggregation.gradients import NotFiniteError, TrainingPass, all_finite
from cotrain.aggregation.graph_leaves import leaves_of
from cotrain.task import Batch

__all__ = ["loss_gradients"]


def loss_gradients(run: TrainingPass, batch: Batch) -> list[tuple[Tensor, Tensor]]:
    """The gradient of the plain sum of the losses by what is trainable in the losses themselves.

    Only tasks with a loss of their own can have any; where there is one, the losses are computed once more.

    Args:
        run: The step.
        batch: Its samples.

    Returns:
        Pairs of a leaf and its gradient, summed over the processes.

    Raises:
        NotFiniteError: If a gradient is NaN or infinite.
    """
    if all(task.loss is None for task in run.tasks):
        return []
    with torch.enable_grad():
        values, labelled = run.tasks.sample_losses(run.outputs.detach(), batch.targets)
        if not values.requires_grad:
            return []
        total = (values.double().sum(0) / run.reduced(labelled.double().sum(0)).clamp(min=1)).sum()
    leaves = leaves_of(total)
    gradients = [run.reduced(gradient) for gradient in torch.autograd.grad(total, leaves)]
    if not all_finite(gradients):
        raise NotFiniteError([])
    return list(zip(leaves, gradients, strict=True))
