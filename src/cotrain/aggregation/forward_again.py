"""A training step's forward pass once more, at the parameters of now: what an instrument sees, what a step has done."""

import torch
import torch.distributed as dist
from torch import Tensor, nn

from cotrain.aggregation.buffers import kept_buffers
from cotrain.aggregation.wrappers import process_group
from cotrain.task import Batch, TaskSet

__all__ = ["losses_again", "outputs_again"]


def outputs_again(model: nn.Module, tasks: TaskSet, batch: Batch) -> Tensor:
    """Packed outputs at the present parameters, in the model's mode and precision; its buffers stay as they are.

    Without a graph; random numbers are drawn. Unlike `pure_forward` for models in a wrapper too: DDP, Lightning Fabric
    and `torch.compile` hold their module by several names, or would compile it again for other buffers.
    """
    put_back = kept_buffers(model)
    try:
        with torch.no_grad():
            return tasks.pack(model(batch.inputs))
    finally:
        put_back()


def losses_again(model: nn.Module, tasks: TaskSet, batch: Batch) -> Tensor:
    """[T] float64 losses of all processes, from `outputs_again`."""
    with torch.no_grad():
        values, labelled = tasks.sample_losses(outputs_again(model, tasks, batch), batch.targets)
    totals = torch.stack([values.double().sum(0), labelled.sum(0).double()])
    group = process_group(model)
    if group is not None:
        dist.all_reduce(totals, group=group)
    return totals[0] / totals[1].clamp(min=1)
