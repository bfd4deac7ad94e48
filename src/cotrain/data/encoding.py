"""Columns of a table as numbers, learned from the training rows only: one-hot categories, standardised numbers."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["OneHot", "Standardiser"]


@dataclass(frozen=True)
class Standardiser:
    """Numbers in units of the training rows' standard deviation, from their mean.

    Args:
        mean: [D].
        scale: [D] population standard deviation; 1 where it is 0, so that a constant column becomes 0.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]

    @classmethod
    def learn(cls, values: NDArray[np.float64]) -> "Standardiser":
        """From the training rows [N, D]."""
        scale = values.std(axis=0)
        return cls(values.mean(axis=0), np.where(scale > 0, scale, 1.0))

    def apply(self, values: NDArray[np.float64]) -> Tensor:
        """[N, D] float32."""
        return torch.from_numpy(((values - self.mean) / self.scale).astype(np.float32))


@dataclass(frozen=True)
class OneHot:
    """One indicator per category of each column.

    Args:
        categories: {column: its categories in the training rows, sorted}. A category that only other rows have
            gives zeros.
    """

    categories: dict[str, tuple[str, ...]]

    @classmethod
    def learn(cls, frame: "pd.DataFrame", columns: tuple[str, ...]) -> "OneHot":
        """From the training rows; categories that occur in none of them are left out."""
        return cls({name: tuple(sorted(frame[name].cat.remove_unused_categories().cat.categories)) for name in columns})

    @property
    def names(self) -> tuple[str, ...]:
        """One per indicator."""
        return tuple(f"{column}={category}" for column, known in self.categories.items() for category in known)

    def apply(self, frame: "pd.DataFrame") -> Tensor:
        """[N, len(names)] float32 of 0 and 1."""
        encoded = np.zeros((len(frame), len(self.names)), dtype=np.float32)
        start = 0
        for column, known in self.categories.items():
            codes = frame[column].cat.set_categories(known).cat.codes.to_numpy(np.int64)
            rows = np.flatnonzero(codes >= 0)
            encoded[rows, start + codes[rows]] = 1.0
            start += len(known)
        return torch.from_numpy(encoded)
