"""Mean and standard error of a matrix that is observed as a product of two thin ones, at the price of one product."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["ProductMean"]

BLOCK = 10
"""Consecutive observations that are summed before the matrix is touched, and whose mean counts as one in the standard
error: neighbouring steps of a training are not independent. With 1,000 tasks a pass over the matrix at every step
would cost more than the step."""

FEWEST_BLOCKS = 3
"""With fewer blocks a standard error says nothing; it is NaN."""


class ProductMean:
    """Streaming statistics of left @ right.T per entry, in float64 on the CPU.

    Args:
        n_rows: Rows of the matrix.
        n_columns: Columns of the matrix.
    """

    def __init__(self, n_rows: int, n_columns: int) -> None:
        self._waiting: list[tuple[Tensor, Tensor, float]] = []
        self._sums = {name: torch.zeros(n_rows, n_columns, dtype=torch.float64) for name in _SUMS}

    @property
    def count(self) -> Tensor:
        """How often each entry was observed, int64."""
        return self._with_waiting()["count"].long()

    def add(self, left: Tensor, right: Tensor, weight: float = 1.0) -> None:
        """Take in one observation.

        Args:
            left: [rows, k]; NaN in a row says that it was not seen.
            right: [columns, k], likewise.
            weight: Of this observation in the mean, positive.
        """
        self._waiting.append((left.double().cpu(), right.double().cpu(), weight))
        if len(self._waiting) == BLOCK:
            self._sums = self._with_waiting()
            self._waiting = []

    def mean(self) -> Tensor:
        """The mean of every entry; NaN where it was never observed."""
        sums = self._with_waiting()
        return sums["sum"] / sums["n"]

    def stderr(self) -> Tensor:
        """The standard error of every mean, from the blocks' deviations; NaN for fewer than 3 blocks.

        Blocks may hold different numbers of observations of an entry: the variance is that of a ratio of sums
        (Cochran, Sampling Techniques, 3rd ed., eq. 6.13).
        """
        s = self._with_waiting()
        mean = s["sum"] / s["n"]
        deviations = (s["squares"] - 2 * mean * s["n_sum"] + mean**2 * s["n_squares"]).clamp(min=0)
        variance = deviations / s["n"] ** 2 * s["blocks"] / (s["blocks"] - 1)
        return torch.where(s["blocks"] >= FEWEST_BLOCKS, variance, torch.nan).sqrt()

    def merge(self, state: Mapping[str, Any]) -> None:
        """Add what another process observed, from its `state_dict`: its blocks stay blocks of their own."""
        other = ProductMean(*self._sums["n"].shape)
        other.load_state_dict(state)
        theirs, ours = other._with_waiting(), self._with_waiting()
        self._waiting, self._sums = [], {name: ours[name] + theirs[name] for name in _SUMS}

    def state_dict(self) -> dict[str, Any]:
        """Everything recorded so far."""
        waiting = {
            str(k): {"left": left, "right": right, "weight": weight}
            for k, (left, right, weight) in enumerate(self._waiting)
        }
        return {**{name: value.clone() for name, value in self._sums.items()}, "waiting": waiting}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a recorded state."""
        self._sums = {name: state[name].clone() for name in _SUMS}
        waiting = [state["waiting"][str(k)] for k in range(len(state["waiting"]))]
        self._waiting = [(one["left"], one["right"], one["weight"]) for one in waiting]

    def _with_waiting(self) -> dict[str, Tensor]:
        """The sums, with the observations of the open block as one more block."""
        if not self._waiting:
            return self._sums
        lefts, rights, weights = zip(*self._waiting, strict=True)
        left = torch.cat([rows * weight for rows, weight in zip(lefts, weights, strict=True)], dim=1)
        seen_left, seen_right = (torch.stack([~part[:, 0].isnan() for part in parts], 1) for parts in (lefts, rights))
        total = left.nan_to_num() @ torch.cat(rights, dim=1).nan_to_num().T
        n = (seen_left * torch.tensor(weights, dtype=torch.float64)) @ seen_right.double().T
        block = {
            "count": seen_left.double() @ seen_right.double().T,
            "n": n,
            "sum": total,
            "blocks": (n > 0).double(),
            "squares": total**2,
            "n_sum": n * total,
            "n_squares": n**2,
        }
        return {name: self._sums[name] + block[name] for name in _SUMS}


_SUMS = ("count", "n", "sum", "blocks", "squares", "n_sum", "n_squares")
