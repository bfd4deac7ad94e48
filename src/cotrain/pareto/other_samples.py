"""Samples that a choice was made on must not report it: the refusal."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset, TensorDataset

from cotrain.batches import as_pair
from cotrain.errors import DataError
from cotrain.pareto.front_evaluation import FrontSamples

__all__ = ["require_other_samples"]


def require_other_samples(valid: FrontSamples, test: FrontSamples) -> None:
    """Refuse test samples that the preference was chosen on.

    The same loader, dataset or tensors, tensors of equal content, and subsets of one dataset that share a position are
    found; a copy inside two datasets of a class of one's own is not.

    Args:
        valid: What the preference is chosen on.
        test: What the choice is reported on.

    Raises:
        DataError: If they are the same, or overlap.
    """
    (chosen, chosen_rows), (reported, reported_rows) = _source(valid), _source(test)
    if not _same(chosen, reported):
        return
    if chosen_rows is not None and reported_rows is not None:
        shared = len(set(chosen_rows) & set(reported_rows))
        if shared == 0:
            return
        how = f"{shared} samples are in both subsets"
    else:
        how = "they are the same"
    raise DataError(
        "The samples that a preference is chosen on must not be those it is reported on, or its figures are too good:"
        f" {how}. Keep a validation part aside and choose on that."
    )


def _source(samples: FrontSamples) -> tuple[Any, Sequence[int] | None]:
    """The dataset below loaders and subsets, and which of its positions are used (None: all)."""
    rows: Sequence[int] | None = None
    held: Any = samples
    while isinstance(held, DataLoader | Subset):
        if isinstance(held, Subset):
            inner = [int(index) for index in held.indices]
            rows = inner if rows is None else [inner[row] for row in rows]
        held = held.dataset
    return held, rows


def _same(first: Any, second: Any) -> bool:
    if first is second:
        return True
    if not all(isinstance(samples, tuple | TensorDataset) for samples in (first, second)):
        return False
    one, other = as_pair(first), as_pair(second)
    return one is not None and other is not None and _equal(one[0], other[0]) and _equal(one[1], other[1])


def _equal(first: Any, second: Any) -> bool:
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return first.keys() == second.keys() and all(_equal(first[name], second[name]) for name in first)
    if not (isinstance(first, Tensor) and isinstance(second, Tensor)) or first.shape != second.shape:
        return False
    return first.data_ptr() == second.data_ptr() or bool(torch.isclose(first, second, 0, 0, equal_nan=True).all())
