"""Running mean, spread and share per sample and task: with weights that decay, or in half the bytes."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from cotrain.affinity.moments import Statistics, add_visits, known_visits

__all__ = ["RunningMoments"]


class RunningMoments:
    """Statistics of values that arrive in rows, [N, T], where every visit may outweigh the one before.

    The v-th last visit of an entry has the weight decay^(v-1). Rows that repeat in a batch are first put together,
    in their order, and then merged with what was there (Chan et al., 1979), all without a look at the batch.

    Args:
        n_rows: N.
        n_columns: T.
        decay: Between 0 and 1; 1 gives every visit the same weight.
        dtype: Of means and spreads. bfloat16 rounds both at every visit: after n equal-weight visits a mean of
            values in [-1, 1] is off by at most (n + 1) / 2^10. Visits and right answers remain whole numbers.
    """

    def __init__(self, n_rows: int, n_columns: int, *, decay: float = 1.0, dtype: torch.dtype = torch.float32) -> None:
        self._decay = decay
        self._mean = torch.zeros(n_rows, n_columns, dtype=dtype)
        self._squares = torch.zeros(n_rows, n_columns, dtype=dtype)
        self._correct = torch.zeros(n_rows, n_columns, dtype=torch.int32 if decay == 1 else dtype)
        self._visits = torch.zeros(n_rows, 1, dtype=torch.int32)

    def add(self, index: Tensor, values: Tensor, correct: Tensor, seen: Tensor | None) -> None:
        """Take in values [B, T] of rows [B]; where `seen` is false nothing changes. None: everything is seen."""
        if seen is not None and self._visits.shape != self._mean.shape:
            self._visits = known_visits(self._visits, self._mean)
        order = index.argsort(stable=True)
        rows, values, correct = index[order], values[order], correct[order]
        known = torch.ones_like(rows, dtype=torch.bool).unsqueeze(1) if seen is None else seen[order]
        first, last = torch.searchsorted(rows, rows), torch.searchsorted(rows, rows, right=True) - 1
        counts = known.int().cumsum(0)
        new = counts[last] - counts[first] + known[first].int()
        weight = torch.where(known, self._decay ** (counts[last] - counts), 0)

        def of_row(part: Tensor) -> Tensor:
            return torch.zeros_like(part).index_add_(0, first, part)[first]

        total = of_row(weight)
        # The last visit has the weight 1: a smaller total is 0, and so is everything that it divides.
        mean = of_row(torch.where(known, weight * values, 0)) / total.clamp(min=1)
        squares = of_row(torch.where(known, weight * (values - mean) ** 2, 0))
        right = of_row(torch.where(known, weight * correct, 0))
        before = self._visits.index_select(0, rows)
        self._merge(rows, before, self._decay**new, (total, mean, squares, right))
        add_visits(self._visits, index, seen)

    def merge(self, other: "RunningMoments") -> None:
        """Take in everything that another recorder of the same rows saw.

        Raises:
            ValueError: If the weights decay: the order of the two recorders' visits is not known.
        """
        if self._decay < 1:
            raise ValueError(
                "Recorders with an exponential window cannot be merged, because the order of their visits is not"
                " known. Use window='cumulative' or 'epochs'."
            )
        mine, theirs = known_visits(self._visits, self._mean), known_visits(other._visits, self._mean)
        rows = torch.arange(len(self._mean), device=self._mean.device)
        parts = (theirs.float(), other._mean.float(), other._squares.float(), other._correct.float())
        self._merge(rows, mine, torch.ones_like(mine), parts)
        self._visits = mine + theirs

    def statistics(self, ddof: int) -> Statistics:
        """What was seen so far; the spread has the divisor n - ddof and is 0 after one visit.

        With weights n is their sum, and ddof takes off the sum of their squares divided by n, which makes the
        variance unbiased for independent visits.
        """
        n = known_visits(self._visits, self._mean)
        total, squared = self._total(n), self._total(n, power=2)
        variance = self._squares.float() / (total - ddof * squared / total)
        mean = torch.where(n == 0, torch.nan, self._mean.float())
        return Statistics(mean, torch.where(n == 1, 0, variance.sqrt()), self._correct / total, n)

    def to(self, device: torch.device) -> "RunningMoments":
        """Move to a device; nothing happens if it is there."""
        for name in _PARTS:
            setattr(self, name, getattr(self, name).to(device))
        return self

    def state_dict(self) -> dict[str, Any]:
        """Everything recorded so far."""
        return {name: getattr(self, name).clone() for name in _PARTS}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a recorded state."""
        for name in _PARTS:
            setattr(self, name, state[name].clone())

    def _merge(self, rows: Tensor, before: Tensor, faded: Tensor, new: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
        """Write what the rows are after `new`; a row that is given twice comes with the same values twice."""
        total, mean, squares, right = new
        old_mean, old_squares, old_correct = (
            part.index_select(0, rows).float() for part in (self._mean, self._squares, self._correct)
        )
        kept = self._total(before) * faded
        share = total / (kept + total).clamp(min=1)
        shift = mean - old_mean
        merged = (
            old_mean + share * shift,
            old_squares * faded + squares + kept * share * shift**2,
            old_correct * faded + right,
        )
        for part, values in zip((self._mean, self._squares, self._correct), merged, strict=True):
            part.index_copy_(0, rows, values.to(part.dtype))

    def _total(self, visits: Tensor, power: int = 1) -> Tensor:
        """Sum of the visits' weights, or of their squares."""
        if self._decay == 1:
            return visits.float()
        decay = self._decay**power
        return (1 - decay ** visits.float()) / (1 - decay)


_PARTS = ("_mean", "_squares", "_correct", "_visits")
