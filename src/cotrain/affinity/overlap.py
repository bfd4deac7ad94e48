"""Correlation of columns with missing entries, every pair over the samples that both have."""

import torch
from torch import Tensor

__all__ = ["CHUNK", "FEWEST_SAMPLES", "known_variance", "overlap_correlation", "shrunk"]

CHUNK = 8192
"""Samples taken at once, so that a thousand tasks on many samples need little memory beside their values."""

ROUNDING = 1e-12
"""A variance below this share of the mean square is that of a constant, in float64."""

PRIOR_SAMPLES = 50
"""A pair with so many common samples keeps half of its correlation."""

FEWEST_SAMPLES = 30
"""A correlation over fewer common samples says nothing: its standard error is about 0.18."""


def overlap_correlation(columns: Tensor) -> tuple[Tensor, Tensor]:
    """Pearson's correlation of every pair of columns.

    Args:
        columns: [N, T], finite; NaN is missing.

    Returns:
        Correlations [T, T] float64, NaN for a pair in which one does not vary over the common samples, and the
        number of common samples [T, T] float64.
    """
    n_columns = columns.shape[1]
    # Squares of values far from 0 would cancel. Any centre near them will do, so it needs no copy in float64.
    centre = torch.nanmean(columns, dim=0).nan_to_num().double()
    # Without a missing entry all masks are alike: one column of ones stands for them, and saves three products.
    n_masks = n_columns if bool(torch.isnan(columns).any()) else min(1, n_columns)
    products = torch.zeros(n_columns, n_columns, dtype=torch.float64)
    total, squares, common = torch.zeros(3, n_columns, n_masks, dtype=torch.float64)
    for part in columns.split(CHUNK):
        x = part.double() - centre
        m = (~torch.isnan(x)).double()
        x.nan_to_num_()
        products += x.T @ x
        total += x.T @ m[:, :n_masks]
        squares += (x**2).T @ m[:, :n_masks]
        common += m.T @ m[:, :n_masks]
    mean, square = total / common, squares / common
    variance = known_variance(square - mean**2, square)
    found = (products / common - mean * mean.T) / (variance * variance.T).sqrt()
    return found.clamp(-1, 1), common.expand_as(found)


def shrunk(correlation: Tensor, common: Tensor) -> Tensor:
    """Correlations drawn towards 0 where they rest on few common samples: times n / (n + 50), NaN below 30.

    Args:
        correlation: [T, T].
        common: [T, T], samples that both tasks have a label for.
    """
    return torch.where(common < FEWEST_SAMPLES, torch.nan, correlation * common / (common + PRIOR_SAMPLES))


def known_variance(variance: Tensor, square: Tensor) -> Tensor:
    """NaN for a variance that is rounding error beside the mean square."""
    return torch.where(variance > ROUNDING * square, variance, torch.nan)
