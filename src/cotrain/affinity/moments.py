"""Streaming mean, spread and share per sample and task: one scatter per batch, whatever repeats in it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["Moments"]

_SUM, _SQUARES, _CORRECT, _VISITS = range(4)


class Moments:
    """Statistics of values that arrive in rows, [N, T], 20 bytes per entry.

    Sums are kept of the differences from the first value of each entry. That keeps float32 exact enough for
    values near 1 with a tiny spread (the error of the variance grows with the visits only), and sums, unlike a
    running mean, may take in a row that occurs twice in a batch without a look at the batch.

    Args:
        n_rows: N.
        n_columns: T.
    """

    def __init__(self, n_rows: int, n_columns: int) -> None:
        self._first = torch.zeros(n_rows, n_columns)
        self._sums = torch.zeros(n_rows, 4, n_columns)

    def add(self, index: Tensor, values: Tensor, correct: Tensor, seen: Tensor) -> None:
        """Take in values [B, T] of rows [B]; where `seen` is false nothing changes."""
        first = self._first.index_select(0, index)
        new = seen & (self._sums.select(1, _VISITS).index_select(0, index) == 0)
        # Where a new row repeats in the batch, one of its values becomes the first; which one does not matter,
        # as long as all differences are from the one that is read back.
        self._first.index_copy_(0, index, torch.where(new, values, first))
        first = self._first.index_select(0, index)
        shifted = torch.where(seen, values - first, 0)
        self._sums.index_add_(0, index, torch.stack([shifted, shifted**2, correct & seen, seen], dim=1))

    def merge(self, other: "Moments") -> None:
        """Take in everything that another recorder of the same rows saw."""
        visited = self._sums[:, _VISITS] > 0
        first = torch.where(visited, self._first, other._first)
        shift = other._first - first
        theirs = other._sums.clone()
        theirs[:, _SQUARES] += shift * (2 * theirs[:, _SUM] + theirs[:, _VISITS] * shift)
        theirs[:, _SUM] += theirs[:, _VISITS] * shift
        self._first = first
        self._sums += theirs

    def mean(self) -> Tensor:
        """[N, T]; NaN where nothing was seen."""
        return self._first + self._sums[:, _SUM] / self._sums[:, _VISITS]

    def std(self, ddof: int) -> Tensor:
        """[N, T] with divisor n - ddof; 0 after one visit, NaN where nothing was seen."""
        total, squares, _, n = self._sums.unbind(1)
        variance = (squares - total**2 / n).clamp(min=0) / (n - ddof)
        return torch.where(n == 1, 0, variance.sqrt())

    def share_correct(self) -> Tensor:
        """[N, T]; NaN where nothing was seen."""
        return self._sums[:, _CORRECT] / self._sums[:, _VISITS]

    def visits(self) -> Tensor:
        """[N, T] int32."""
        return self._sums[:, _VISITS].int()

    def to(self, device: torch.device) -> None:
        """Move to a device; nothing happens if it is there."""
        self._first, self._sums = self._first.to(device), self._sums.to(device)

    def state_dict(self) -> dict[str, Any]:
        """Everything recorded so far."""
        return {"first": self._first.clone(), "sums": self._sums.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a recorded state."""
        self._first, self._sums = state["first"].clone(), state["sums"].clone()
