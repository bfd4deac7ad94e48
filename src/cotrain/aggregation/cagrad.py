"""The direction near the mean gradient that helps the worst task most, exactly."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cotrain.aggregation.gram_roots import NumberArray, root, rounding, scaled
from cotrain.aggregation.mgda import shortest

__all__ = ["CAGrad"]

ROUNDS = 50

ROUNDING = 1e-15
"""Of a difference of F, by the size of its terms."""


@dataclass(frozen=True)
class CAGrad:
    """The direction d, at most c |g0| away from the mean gradient g0, of the largest min_i <g_i, d> (Liu et al. 2021).

    That is d = g0 + c |g0| g_w / |g_w| for the w on the simplex of least F(w) = <g_w, g0> + c |g0| |g_w|
    (arXiv 2110.14048). With c of at least 1 it conflicts with no task. Scaling all gradients scales the direction.
    Where g_w is 0 but for rounding, as where a gradient is 0 and the others agree, no direction within reach helps all,
    and it is 0.

    Exact, by 2 to 9 problems of non-negative least squares: the least distance from g0 at which every task gains s is
    convex in s, and Newton's method on it goes from s to F(w) of the w that belongs to s.

    Args:
        c: How far the direction may be from the mean gradient, in lengths of that (0.4, as in the paper). 0: the mean.
    """

    c: float = 0.4

    def __post_init__(self) -> None:
        if not 0 <= self.c < np.inf:
            raise ValueError(f"c must be finite and not negative. Got {self.c}.")

    def __call__(self, gramian: Tensor) -> Tensor:
        """[m] non-negative weights from the Gram matrix [m, m]."""
        cosines, lengths = scaled(gramian)
        factor = root(cosines)
        mean = np.full(len(lengths), 1 / len(lengths))
        away = self.c * float(np.linalg.norm(factor @ (mean * lengths)))
        if away == 0:
            return torch.from_numpy(mean)
        some = np.diagonal(cosines) > 0
        longest = lengths.max(where=some, initial=0.0)
        lengths, away = np.where(some, lengths / longest, 1.0), away / longest
        found = _least(factor, lengths, mean, away)
        norm = float(np.linalg.norm(factor @ (found * lengths)))
        if norm <= rounding(gramian) ** 0.5 * float(np.linalg.norm(found * lengths)):
            return torch.zeros(len(mean), dtype=torch.float64)
        return torch.from_numpy(mean + away / norm * found)


def _least(factor: NumberArray, lengths: NumberArray, mean: NumberArray, away: float) -> NumberArray:
    """The w of least F, where `away` is c |g0|."""
    gains = factor.T @ (factor @ (mean * lengths))  # <g_i, g0> / |g_i|
    best, (least, _) = mean, _objective(factor, lengths, gains, mean, away)
    for _ in range(ROUNDS):
        missing = least / lengths - gains
        found = shortest(factor, missing / np.abs(missing).max()) / lengths
        if not found.any():
            break  # g0 itself gains as much for every task
        found /= found.sum()
        value, size = _objective(factor, lengths, gains, found, away)
        if value < least + ROUNDING * size:
            best = found
        if value >= least - ROUNDING * size:
            break
        least = value
    return best


def _objective(
    factor: NumberArray, lengths: NumberArray, gains: NumberArray, weights: NumberArray, away: float
) -> tuple[float, float]:
    """F, and the size of its terms, by which it is rounded."""
    parts = weights * lengths * gains
    length = away * float(np.linalg.norm(factor @ (weights * lengths)))
    return float(parts.sum()) + length, float(np.abs(parts).sum()) + length
