"""How far the ranking of a target's partners can be relied on, and when more measuring would not change it."""

import torch
from torch import Tensor

__all__ = ["reliability"]


def reliability(matrix: Tensor, stderr: Tensor) -> Tensor:
    """Per target, the share of the spread between its sources that is not noise.

    1 - mean(stderr^2) / variance, over the sources other than the target itself: the squared correlation that the
    measured column has with the true one (reliability in the sense of classical test theory). 0 where the noise
    explains all that is seen.

    Args:
        matrix: [T, T], row = source, column = target.
        stderr: [T, T] standard errors.

    Returns:
        [T] between 0 and 1; NaN for a target with an unknown error or fewer than two sources.
    """
    off = ~torch.eye(len(matrix), dtype=torch.bool)
    columns = torch.where(off, matrix, torch.nan)
    known = off & matrix.isfinite()
    centred = torch.where(known, columns - columns.nanmean(0), 0)
    variance = (centred**2).sum(0) / (known.sum(0) - 1)
    noise = torch.where(known, stderr**2, 0).sum(0) / known.sum(0)
    return torch.where(known.sum(0) > 1, (1 - noise / variance).clamp(min=0), torch.nan)
