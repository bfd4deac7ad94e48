"""From a dataset or a pair of tensors to batches that know which samples they hold."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from cotrain.errors import DataError
from cotrain.task import Batch, Targets

__all__ = ["Samples", "as_pair", "batches", "count", "epoch_order", "map_tensors"]

Samples: TypeAlias = "Dataset[Any] | tuple[Tensor, Targets]"
"""A map-style Dataset of (inputs, targets), or the two as tensors (targets may be {task name: tensor})."""


def count(samples: Samples) -> int:
    """How many samples there are.

    Raises:
        DataError: If there is none, or the two tensors have different lengths.
    """
    pair = as_pair(samples)
    if pair is None:
        number = len(cast(Any, samples))
    else:
        inputs, targets = pair
        number = len(inputs)
        lengths = {len(target) for target in targets.values()} if isinstance(targets, Mapping) else {len(targets)}
        if lengths != {number}:
            raise DataError(
                f"There must be a target for every input. Got {number} inputs and {sorted(lengths)} targets."
            )
    if number == 0:
        raise DataError("There is no sample. Give at least one.")
    return number


def batches(samples: Samples, batch_size: int, order: Tensor | None = None) -> Iterator[Batch]:
    """Go through the samples once.

    Tensors are indexed directly; collating them sample by sample in a DataLoader would cost more than the
    training step of a small network.

    Args:
        samples: A Dataset of (inputs, targets), or a pair of tensors.
        batch_size: Samples per batch; the last one may be smaller.
        order: [N] positions; None for the order of the samples.
    """
    pair = as_pair(samples)
    order = torch.arange(count(samples)) if order is None else order
    if pair is None:
        dataset = cast("Dataset[Any]", samples)
        # A generator of its own, because a loader without one draws from the global random state.
        rows = Subset(dataset, cast(Any, order.tolist()))
        loader = DataLoader(rows, batch_size=batch_size, generator=torch.Generator())
        for index, (inputs, targets) in zip(order.split(batch_size), loader, strict=True):
            yield Batch(index, inputs, targets)
        return
    inputs, targets = pair
    for index in order.split(batch_size):
        here = index.to(inputs.device)
        yield Batch(index, inputs[here], _rows(targets, here))


def epoch_order(n_samples: int, seed: int, epoch: int) -> Tensor:
    """The order [N] of one epoch, a function of seed and epoch alone, so that a resumed training repeats it."""
    # Not torch's generator: it uses 32 bits of its seed, into which seed and epoch do not both fit.
    return torch.from_numpy(np.random.default_rng([seed % 2**64, epoch]).permutation(n_samples))


def map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Apply `change` to a tensor, or to every tensor of nested dicts, lists and tuples."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {name: map_tensors(item, change) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map_tensors(item, change) for item in value)
    return value


def _rows(targets: Targets, index: Tensor) -> Targets:
    if isinstance(targets, Mapping):
        return {name: target[index] for name, target in targets.items()}
    return targets[index]


def as_pair(samples: Samples) -> tuple[Tensor, Targets] | None:
    """The two tensors of samples that are held as tensors; None for any other dataset.

    Raises:
        DataError: If the samples are a list.
    """
    if isinstance(samples, TensorDataset):
        inputs, targets = samples.tensors
        return inputs, targets
    if isinstance(samples, list):
        raise DataError("Samples must be a Dataset or a pair (inputs, targets). Got a list: write (inputs, targets).")
    return samples if isinstance(samples, tuple) else None
