"""What the solvers on Gram matrices start from: rows of length 1, and a root."""

from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["NumberArray", "root", "rounding", "scaled"]

NumberArray: TypeAlias = NDArray[np.float64]

RANK = 1e-14
"""Eigenvalues up to this share of the largest are rounding."""


def scaled(gramian: Tensor) -> tuple[NumberArray, NumberArray]:
    """Cosines [m, m] between gradients and their lengths [m]; a zero gradient has length 1 and cosines 0."""
    matrix = gramian.numpy()
    matrix = (matrix + matrix.T) / 2
    lengths = np.sqrt(np.diagonal(matrix))
    lengths = np.where(lengths > 0, lengths, 1.0)
    cosines: NumberArray = matrix / lengths / lengths[:, None]
    return cosines, lengths


def rounding(gramian: Tensor) -> float:
    """How far rounding may move the eigenvalues of the cosines: by the precision in which the products were made.

    Products made in float32 and widened since are told by their digits: every one fits float32's 24 bits, and they
    are not all short, as small whole numbers are, which nothing has rounded.
    """
    digits = torch.frexp(gramian).mantissa * 2**24
    short = digits / 2**12
    narrow = bool((digits == digits.round()).all() and (short != short.round()).any())
    share = torch.finfo(torch.float32 if narrow else torch.float64).eps
    return float(4 * share * len(gramian) ** 0.5)


def root(matrix: NumberArray) -> NumberArray:
    """R [r, m] with R^T R the matrix, without the part that is rounding (negative eigenvalues among it)."""
    values, vectors = np.linalg.eigh(matrix)
    kept = values > RANK * max(values[-1], 0.0)
    found: NumberArray = np.sqrt(values[kept])[:, None] * vectors[:, kept].T
    return found
