"""The losses along several rays, each on its own chunk of a batch."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from operator import itemgetter

import torch
from torch import Tensor

from cotrain.batches import map_tensors
from cotrain.pareto.manifold import ParetoManifold
from cotrain.task import Batch, TaskSet

__all__ = ["ray_losses"]


def ray_losses(
    manifold: ParetoManifold, tasks: TaskSet, weights: Sequence[Mapping[str, Tensor]], batch: Batch
) -> tuple[Tensor, Tensor]:
    """Cut a batch into as many chunks as there are rays, and take each chunk's losses at its ray's weights.

    The losses of all samples are one kernel (per ray they would cost as much as the forward pass of a small network).

    Args:
        manifold: What runs.
        tasks: T tasks.
        weights: Of n rays, from `manifold.weights_at` or a `Mixture`; with one ray the batch stays whole.
        batch: At least n samples.

    Returns:
        [n, T] mean losses over the labelled samples of each chunk, 0 where there is none, with a graph where it is
        on; and [n, T] booleans, whether there is one.
    """
    size, number = len(batch.index), len(weights)
    bounds = [size * ray // number for ray in range(number + 1)]
    outputs = []
    for ray, (start, end) in zip(weights, pairwise(bounds), strict=True):
        inputs = map_tensors(batch.inputs, itemgetter(slice(start, end)))
        outputs.append(tasks.pack(manifold.run(ray, inputs)))
    values, labelled = tasks.sample_losses(outputs[0] if number == 1 else torch.cat(outputs), batch.targets)
    if number == 1:
        sums, counts = values.sum(0, keepdim=True), labelled.sum(0, keepdim=True)
    elif size % number == 0:
        sums, counts = (part.view(number, -1, len(tasks)).sum(1) for part in (values, labelled))
    else:
        parts = [(values[start:end].sum(0), labelled[start:end].sum(0)) for start, end in pairwise(bounds)]
        sums, counts = (torch.stack(part) for part in zip(*parts, strict=True))
    return sums / counts.clamp(min=1), counts > 0
