"""Mean and standard error of a matrix that is observed again and again, with entries missing."""

import math
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

ROUNDING = 64 * torch.finfo(torch.float64).eps
"""A variance below this share of the squared mean is what rounding leaves of a constant."""


class RunningMean:
    """Streaming statistics per entry, in float64 on the CPU.

    Observations may have weights, for a window of the training to average over. Memory: 8 numbers per entry, 15
    once a weight is not 1.

    Args:
        shape: Of the observed matrix.
    """

    def __init__(self, *shape: int) -> None:
        self._sums: dict[str, Tensor] = {name: torch.zeros(shape, dtype=torch.float64) for name in _SUMS}
        self._weights: dict[str, Tensor] | None = None  # while every weight is 1 they are all in the counts

    @property
    def count(self) -> Tensor:
        """How often each entry was observed with a weight above 0, int64."""
        return self._sums["n"].long()

    def add(self, values: Tensor, weight: float = 1.0) -> None:
        """Take in one observation.

        Args:
            values: In the shape of the statistics; NaN marks the entries that were not observed.
            weight: How much the observation counts beside the others; only ratios of weights matter. With 0 it
                counts nothing.

        Raises:
            ValueError: If the weight is negative or not finite.
        """
        if not (math.isfinite(weight) and weight >= 0):
            raise ValueError(f"weight must be a finite number of at least 0. Got {weight}.")
        if weight == 0:
            return
        if weight != 1 and self._weights is None:
            self._weights = _copy(self._all_weights())
        seen = ~torch.isnan(values)
        values = torch.where(seen, values, 0).double()
        weighted = values if weight == 1 else values * weight
        sums, weights = self._sums, self._weights
        sums["n"] += seen
        sums["sum"] += weighted
        sums["squares"] += weighted * values
        sums["block_n"] += seen
        sums["block_sum"] += weighted
        if weights is not None:
            given = seen.double() * weight
            for name in ("weight", "block_weight"):
                weights[name] += given
                weights[f"{name}_squares"] += given**2
        full = sums["block_n"] == BLOCK
        if bool(full.any()):  # every tenth time: half of the work is here
            self._close(full)

    def merge(self, other: "RunningMean | Mapping[str, Any]") -> None:
        """Take in everything that another process observed.

        Means, counts and weights are those of all observations. The other's last observations that do not fill a
        block of 10 are not in the standard error from blocks, so parts of fewer than 10 observations add nothing
        to it; below 4 blocks in all, the standard error is the one of independent observations.

        Args:
            other: Statistics of the same shape, or their `state_dict`. It is not changed.

        Raises:
            ValueError: If the shapes differ.
        """
        if not isinstance(other, RunningMean):
            state, other = other, RunningMean()
            other.load_state_dict(state)
        mine, theirs = self._sums["n"].shape, other._sums["n"].shape
        if mine != theirs:
            raise ValueError(f"Only statistics of the same shape can be merged. Got {list(mine)} and {list(theirs)}.")
        if self._weights is not None or other._weights is not None:
            self._weights = _merged(_copy(self._all_weights()), other._all_weights())
        self._sums = _merged(self._sums, other._sums)

    def mean(self) -> Tensor:
        """The weighted mean of every entry; NaN where it was never observed."""
        return self._sums["sum"] / self._all_weights()["weight"]

    def stderr(self) -> Tensor:
        """The standard error of every mean; NaN for fewer than 10 observations.

        From 40 observations on it comes from the means of 10 consecutive ones, n / 10 - 1 degrees of freedom.
        With weights w, n is `(sum w)^2 / sum w^2` (Kish, Survey Sampling, 1965).
        """
        sums, weights = self._sums, self._all_weights()
        n = _kish(sums["n"], weights)
        single = self._variance(weights) / n
        # A block's mean has the variance v / W^2 times that of one observation, W = sum w, v = sum w^2 over it.
        freedom = weights["blocks_ratio"] - weights["blocks_weight_squares"] / (BLOCK * weights["blocks_weight"])
        spread = _spread(weights["blocks_weight"], sums["blocks_sum"], sums["blocks_squares"])
        blocked = (spread / freedom).clamp(min=0) * BLOCK / n
        variance = torch.where(sums["blocks"] >= ENOUGH_FOR_BLOCKS // BLOCK, blocked, single)
        return torch.where(sums["n"] >= ENOUGH, variance, torch.nan).sqrt()

    def effective_n(self) -> Tensor:
        """How many independent observations would give the same standard error; NaN below 10 observations.

        The variance of single observations divided by the squared standard error, between 1 and n; with weights,
        n is `(sum w)^2 / sum w^2`. Entries that never changed have n.
        """
        weights = self._all_weights()
        n = _kish(self._sums["n"], weights)
        variance, stderr = self._variance(weights), self.stderr()
        varies = ~(variance <= ROUNDING * self.mean() ** 2)
        effective = torch.minimum(torch.where(varies, variance / stderr**2, n), n).clamp(min=1)
        return torch.where(self._sums["n"] >= ENOUGH, effective, torch.nan)

    def state_dict(self) -> dict[str, Any]:
        """Everything recorded so far."""
        weights = self._weights
        return {
            **_copy(self._sums),
            "weights": None if weights is None else _copy(weights),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a recorded state."""
        weights = state["weights"]
        self._weights = None if weights is None else {name: weights[name].clone() for name in _WEIGHTS}
        self._sums = {name: state[name].clone() for name in _SUMS}

    def _close(self, full: Tensor) -> None:
        """Put the blocks that are full among the blocks, each with its weight, and begin new ones."""
        sums, weights = self._sums, self._all_weights()
        weight = weights["block_weight"]
        share = torch.where(full, weight / BLOCK, 0)
        mean = torch.where(full, sums["block_sum"] / weight, 0)
        sums["blocks"] += full
        sums["blocks_sum"] += share * mean
        sums["blocks_squares"] += share * mean**2
        sums["block_n"].masked_fill_(full, 0)
        sums["block_sum"].masked_fill_(full, 0)
        if self._weights is not None:
            squares = torch.where(full, weights["block_weight_squares"], 0)
            weights["blocks_weight"] += share
            weights["blocks_weight_squares"] += squares
            weights["blocks_ratio"] += torch.where(full, squares / weight, 0)
            weights["block_weight"].masked_fill_(full, 0)
            weights["block_weight_squares"].masked_fill_(full, 0)

    def _all_weights(self) -> dict[str, Tensor]:
        """Sums of weights and of their squares, over observations and over blocks; the counts if all are 1."""
        if self._weights is not None:
            return self._weights
        sums = self._sums
        return {
            "weight": sums["n"],
            "weight_squares": sums["n"],
            "block_weight": sums["block_n"],
            "block_weight_squares": sums["block_n"],
            "blocks_weight": sums["blocks"],  # in blocks of weight-1 observations
            "blocks_weight_squares": sums["blocks"] * BLOCK,
            "blocks_ratio": sums["blocks"],
        }

    def _variance(self, weights: Mapping[str, Tensor]) -> Tensor:
        """Sample variance of the single observations."""
        weight = weights["weight"]
        freedom = weight - weights["weight_squares"] / weight
        return (_spread(weight, self._sums["sum"], self._sums["squares"]) / freedom).clamp(min=0)


_SUMS = ("n", "sum", "squares", "block_n", "block_sum", "blocks", "blocks_sum", "blocks_squares")
_WEIGHTS = (
    "weight",
    "weight_squares",
    "block_weight",
    "block_weight_squares",
    "blocks_weight",
    "blocks_weight_squares",
    "blocks_ratio",
)
_OPEN = ("block_n", "block_sum", "block_weight", "block_weight_squares")
"""What is known of the blocks that are not full."""


def _copy(sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in sums.items()}


def _merged(mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value if name in _OPEN else value + theirs[name] for name, value in mine.items()}


def _kish(count: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    """How many observations of equal weight are as good as these."""
    return torch.minimum(weights["weight"] ** 2 / weights["weight_squares"], count)


def _spread(weight: Tensor, total: Tensor, squares: Tensor) -> Tensor:
    """Sum of squared distances from the mean; rounding may leave that of a constant a little below 0."""
    return squares - total**2 / weight
