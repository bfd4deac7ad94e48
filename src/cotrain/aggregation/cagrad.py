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
"""Of F, by the lengths of the gradients that are weighted and of g0."""


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
        m = len(gramian)
        equal = torch.full((m,), 1 / m, dtype=torch.float64)
        cosines, lengths = scaled(gramian)
        some = np.diagonal(cosines) > 0
        if not some.any():
            return equal
        factor, lengths = root(cosines[np.ix_(some, some)]), lengths[some] / lengths[some].max()
        mean = factor @ lengths / m
        away = self.c * float(np.linalg.norm(mean))
        if away == 0:
            return equal
        added, worst = _least(factor, lengths, mean, away)
        norm = float(np.linalg.norm(factor @ added))
        weights = np.zeros(m)
        if (worst < 0 or some.all()) and norm > rounding(gramian) ** 0.5 * float(np.linalg.norm(added)):
            weights[some] = away / norm * added / lengths
            weights += 1 / m
        return torch.from_numpy(weights)


def _least(factor: NumberArray, lengths: NumberArray, mean: NumberArray, away: float) -> tuple[NumberArray, float]:
    """The w of least F times the gradients' lengths, and F; `mean` is g0 and `away` c |g0|."""
    gains = factor.T @ mean  # <g_i, g0> / |g_i|
    size = ROUNDING * (float(np.linalg.norm(mean)) + away)

    def objective(scaled_weights: NumberArray) -> float:
        return float(scaled_weights @ gains) + away * float(np.linalg.norm(factor @ scaled_weights))

    best = lengths / len(lengths)
    least = objective(best)
    for _ in range(ROUNDS):
        missing = least / lengths - gains
        found = shortest(factor, missing / np.abs(missing).max())
        if not found.any():
            break  # g0 itself gains as much for every task
        found /= (found / lengths).sum()
        value, within = objective(found), size * float(found.sum())
        if abs(value) <= within:
            value = 0.0  # of gradients that balance each other: rounded up, no direction would gain it
        if value < least + within:
            best = found
        if value >= least - within:
            break
        least = value
    return best, objective(best)
