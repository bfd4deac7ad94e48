"""Mean and standard error of a matrix that is observed again and again, with entries missing."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["RunningMean"]

BLOCK = 10
"""Consecutive observations whose mean counts as one: neighbouring steps of a training are not independent."""

ENOUGH_FOR_BLOCKS = 40
"""From so many observations on, the standard error is taken from the blocks."""

ENOUGH = 10
"""With fewer observations a standard error says nothing; it is NaN."""


class RunningMean:
    """Streaming statistics per entry, in float64 on the CPU.

    Args:
        shape: Of the observed matrix.
    """

    def __init__(self, *shape: int) -> None:
        self._sums: dict[str, Tensor] = {name: torch.zeros(shape, dtype=torch.float64) for name in _SUMS}

    @property
    def count(self) -> Tensor:
        """How often each entry was observed, int64."""
        return self._sums["n"].long()

    def add(self, values: Tensor) -> None:
        """Take in one observation; NaN marks the entries that were not observed."""
        seen = ~torch.isnan(values)
        values = torch.where(seen, values, 0).double()
        sums = self._sums
        sums["n"] += seen
        sums["sum"] += values
        sums["squares"] += values**2
        sums["block_n"] += seen
        sums["block_sum"] += values
        full = sums["block_n"] == BLOCK
        mean = torch.where(full, sums["block_sum"] / BLOCK, 0)
        sums["blocks"] += full
        sums["blocks_sum"] += mean
        sums["blocks_squares"] += mean**2
        sums["block_n"].masked_fill_(full, 0)
        sums["block_sum"].masked_fill_(full, 0)

    def mean(self) -> Tensor:
        """The mean of every entry; NaN where it was never observed."""
        return self._sums["sum"] / self._sums["n"]

    def stderr(self) -> Tensor:
        """The standard error of every mean; NaN for fewer than 10 observations.

        From 40 observations on it comes from the means of 10 consecutive ones, n / 10 - 1 degrees of freedom.
        """
        n = self._sums["n"]
        single = _variance(n, self._sums["sum"], self._sums["squares"]) / n
        blocks = self._sums["blocks"]
        blocked = _variance(blocks, self._sums["blocks_sum"], self._sums["blocks_squares"]) * BLOCK / n
        variance = torch.where(n >= ENOUGH_FOR_BLOCKS, blocked, single)
        return torch.where(n >= ENOUGH, variance, torch.nan).sqrt()

    def state_dict(self) -> dict[str, Any]:
        """Everything recorded so far."""
        return {name: value.clone() for name, value in self._sums.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a recorded state."""
        self._sums = {name: state[name].clone() for name in _SUMS}


_SUMS = ("n", "sum", "squares", "block_n", "block_sum", "blocks", "blocks_sum", "blocks_squares")


def _variance(n: Tensor, total: Tensor, squares: Tensor) -> Tensor:
    """Sample variance from sums; rounding may leave a constant a little below 0."""
    return ((squares - total**2 / n) / (n - 1)).clamp(min=0)
