"""Average ranks of columns with missing entries."""

import torch
from torch import Tensor

__all__ = ["average_ranks"]


def average_ranks(values: Tensor) -> Tensor:
    """Rank every column on its own, ties averaged.

    Args:
        values: [N, T]; NaN is missing.

    Returns:
        [N, T] float64: 1 for the smallest to n for the largest of a column's n known values; NaN where missing.
    """
    columns = values.T.contiguous()
    missing = torch.isnan(columns)
    filled = columns.masked_fill(missing, torch.inf)
    ordered = filled.sort(dim=1).values
    below = torch.searchsorted(ordered, filled)
    # Missing entries were sorted to the end; a genuine infinity is tied with its own kind only.
    up_to = torch.searchsorted(ordered, filled, right=True).minimum((~missing).sum(1, keepdim=True))
    return ((below + up_to + 1).double() / 2).masked_fill(missing, torch.nan).T
