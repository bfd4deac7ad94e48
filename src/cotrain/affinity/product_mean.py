"""Mean and standard error of a matrix that is observed as a product of two thin ones, at the price of one product."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["ProductMean"]

BLOCK = 10
"""Consecutive observations that are summed before the matrix is touched, and whose mean counts as one in the standard
error: neighbouring steps of a training are not independent. With 1,000 tasks that takes an eighth of
the time."""

FEWEST_BLOCKS = 3
"""With fewer blocks a standard error says nothing; it is NaN."""

ROUNDING = 64 * torch.finfo(torch.float64).eps
"""A variance below this share of the squared mean is what rounding leaves of a constant."""


class ProductMean:
    """Streaming statistics of left @ right.T per entry, in float64 on the CPU.

    Args:
        n_rows: Rows of the matrix.
        n_columns: Columns of the matrix.
        errors: Keep what the standard error and the effective number need, which more than doubles the price.
    """

    def __init__(self, n_rows: int, n_columns: int, *, errors: bool = True) -> None:
        self._names = (*_MEAN, *_ERRORS) if errors else _MEAN
        self._waiting: list[tuple[Tensor, Tensor, float]] = []
        self._sums = {name: torch.zeros(n_rows, n_columns, dtype=torch.float64) for name in self._names}

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

    def effective_n(self) -> Tensor:
        """How many independent observations would give the same standard error; NaN for fewer than 3 blocks.

        The variance of single observations divided by the squared standard error, between 1 and n; with weights w,
        n is `(sum w)^2 / sum w^2` (Kish, Survey Sampling, 1965). Entries that never changed have n.
        """
        s = self._with_waiting()
        mean = s["sum"] / s["n"]
        n = torch.minimum(s["n"] ** 2 / s["weight_squares"], s["count"])
        variance = (s["single_squares"] / s["n"] - mean**2) * n / (n - 1)
        varies = ~(variance <= ROUNDING * mean**2)
        stderr = self.stderr()
        effective = torch.minimum(torch.where(varies, variance / stderr**2, n), n).clamp(min=1)
        return torch.where(stderr.isnan(), torch.nan, effective)

    def merge(self, state: Mapping[str, Any]) -> None:
        """Add what another process observed, from its `state_dict`: its blocks stay blocks of their own."""
        other = ProductMean(*self._sums["n"].shape, errors=self._names != _MEAN)
        other.load_state_dict(state)
        theirs, ours = other._with_waiting(), self._with_waiting()
        self._waiting, self._sums = [], {name: ours[name] + theirs[name] for name in self._names}

    def state_dict(self) -> dict[str, Any]:
        """Everything recorded so far."""
        waiting = {
            str(k): {"left": left, "right": right, "weight": weight}
            for k, (left, right, weight) in enumerate(self._waiting)
        }
        return {**{name: value.clone() for name, value in self._sums.items()}, "waiting": waiting}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a recorded state."""
        self._sums = {name: state[name].clone() for name in self._names}
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
        counts = seen_left.double(), seen_right.double().T
        block = {"count": counts[0] @ counts[1], "n": n, "sum": total}
        if self._names != _MEAN:
            weighted = seen_left * torch.tensor(weights, dtype=torch.float64) ** 2
            block |= {
                "blocks": (n > 0).double(),
                "squares": total**2,
                "n_sum": n * total,
                "n_squares": n**2,
                "weight_squares": weighted @ counts[1],
                "single_squares": self._single_squares(),
            }
        return {name: self._sums[name] + block[name] for name in self._names}

    def _single_squares(self) -> Tensor:
        """The weighted sum of the squares of every waiting observation."""
        found = torch.zeros_like(self._sums["n"])
        for left, right, weight in self._waiting:
            single = left.nan_to_num() @ right.nan_to_num().T
            found.addcmul_(single, single, value=weight)
        return found


_MEAN = ("count", "n", "sum")
_ERRORS = ("blocks", "squares", "n_sum", "n_squares", "weight_squares", "single_squares")
