"""Streaming mean, spread and share per sample and task: one scatter per batch, whatever repeats in it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cotrain.affinity import waiting

__all__ = ["Moments", "Statistics", "add_visits", "known_visits"]

_LOWEST = -1.0
"""No confidence is lower: -1/(C-1) for the wrong one of C = 2 classes."""


class Statistics(NamedTuple):
    """[N, T] each: float32, NaN where nothing was seen, and int32 visits."""

    mean: Tensor
    std: Tensor
    share_correct: Tensor
    visits: Tensor


class Moments:
    """Statistics of values that arrive in rows, [N, T]: 16 bytes per entry, 20 once a label was missing.

    Sums are kept of the differences from the first value of each entry. That keeps float32 exact enough for
    values near 1 with a tiny spread (the error of the variance grows with the visits only), and sums, unlike a
    running mean, may take in a row that occurs twice in a batch without a look at the batch. On the CPU they are
    also faster: adding to three sums is one pass over them, a running mean is read and written.

    Args:
        n_rows: N.
        n_columns: T.
    """

    def __init__(self, n_rows: int, n_columns: int) -> None:
        self._first = torch.full((n_rows, n_columns), _LOWEST)
        self._sums = torch.zeros(n_rows, 3 * n_columns)  # of differences, of their squares, and of right answers
        self._visits = torch.zeros(n_rows, 1, dtype=torch.int32)

    def add(self, index: Tensor, values: Tensor, correct: Tensor, seen: Tensor | None) -> None:
        """Take in values [B, T] of rows [B]; where `seen` is false nothing changes. None: everything is seen."""
        if seen is not None:
            self._visits = _by_column(self._visits, self._first)
        new = self._visits.index_select(0, index) == 0
        if seen is not None:
            new &= seen
        if not waiting.is_at_hand(new) or bool(new.any()):
            # Where a new entry repeats in the batch, the largest of its values becomes the first: one that is seen.
            rows = index.unsqueeze(1).expand_as(values)
            self._first.scatter_reduce_(0, rows, torch.where(new, values, _LOWEST), "amax")
        block = torch.empty(len(index), 3, values.shape[1], device=values.device)
        shifted, squares, right = block.unbind(1)
        torch.sub(values, self._first.index_select(0, index), out=shifted)
        torch.mul(shifted, shifted, out=squares)
        right.copy_(correct)
        if seen is not None:
            block.masked_fill_(~seen.unsqueeze(1), 0)
        self._sums.index_add_(0, index, block.flatten(1))
        add_visits(self._visits, index, seen)

    def merge(self, other: "Moments") -> None:
        """Take in everything that another recorder of the same rows saw."""
        mine, theirs = known_visits(self._visits, self._first), known_visits(other._visits, self._first)
        first = torch.where(mine > 0, self._first, other._first)
        shift = other._first - first
        total, squares, correct = other._planes()
        squares = squares + shift * (2 * total + theirs * shift)
        self._sums += torch.cat([total + theirs * shift, squares, correct], dim=1)
        self._first = first
        self._visits = mine + theirs

    def statistics(self, ddof: int) -> Statistics:
        """What was seen so far; the spread has the divisor n - ddof and is 0 after one visit."""
        total, squares, correct = self._planes()
        n = known_visits(self._visits, self._first)
        variance = (squares - total**2 / n).clamp_(min=0) / (n - ddof)
        return Statistics(self._first + total / n, torch.where(n == 1, 0, variance.sqrt_()), correct / n, n)

    def to(self, device: torch.device) -> "Moments":
        """Move to a device; nothing happens if it is there."""
        self._first, self._sums = self._first.to(device), self._sums.to(device)
        self._visits = self._visits.to(device)
        return self

    def state_dict(self) -> dict[str, Any]:
        """Everything recorded so far."""
        return {"first": self._first.clone(), "sums": self._sums.clone(), "visits": self._visits.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a recorded state."""
        self._first, self._sums = state["first"].clone(), state["sums"].clone()
        self._visits = state["visits"].clone()

    def _planes(self) -> tuple[Tensor, ...]:
        return self._sums.chunk(3, dim=1)


def add_visits(visits: Tensor, index: Tensor, seen: Tensor | None) -> None:
    """Count a batch: [N, 1] counts rows while no label was missing, [N, T] counts entries."""
    if visits.shape[1] == 1 and seen is None:
        # By the flat view: rows of width 1 are added in a loop of their own each, 20 times as slow.
        visits.view(-1).index_add_(0, index, torch.ones_like(index, dtype=visits.dtype))
    else:
        counted = torch.ones(len(index), visits.shape[1], device=visits.device) if seen is None else seen
        visits.index_add_(0, index, counted.to(visits.dtype))


def known_visits(visits: Tensor, like: Tensor) -> Tensor:
    """[N, T] int32 from the visits of rows or of entries."""
    return visits.expand(like.shape).contiguous()


def _by_column(visits: Tensor, like: Tensor) -> Tensor:
    return visits if visits.shape == like.shape else known_visits(visits, like)
