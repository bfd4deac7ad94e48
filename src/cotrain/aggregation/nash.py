"""The bargaining solution among tasks, by Newton's method."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg.lapack import dposv
from torch import Tensor

from cotrain.aggregation.gram_roots import NumberArray, scaled

__all__ = ["NashMTL"]

RIDGE = 1e-6
"""On the cosines: exactly opposed gradients have no solution, and this gives the direction 0 there."""

FOUND, EXACT = 1e-6, 1e-11
"""Residuals of a K a = 1: at which a solution without the ridge counts as one, and at which nothing is left to gain."""

NEAR, ROUNDS, LAST_ROUNDS = 1e-5, 100, 10


@dataclass(frozen=True)
class NashMTL:
    """Weights a > 0 with K a = 1 / a: every task gains the same in proportion (Navon et al. 2022, arXiv 2202.01017).

    They minimise the convex a^T K a / 2 - sum log a, which damped Newton does in 4 to 6 rounds. The direction always
    has the squared norm m: it never gets shorter near a stationary point, so its norm is clipped. Scaling one task's
    loss changes nothing. A zero gradient gets weight 0. Gradients that
    balance each other have no solution, and the direction is then near 0.

    Args:
        max_norm: The most that the direction's norm may be (1, as in the authors' code); infinite for no clipping.
    """

    max_norm: float = 1.0

    def __post_init__(self) -> None:
        if not self.max_norm > 0:
            raise ValueError(f"max_norm must be positive. Got {self.max_norm}.")

    def __call__(self, gramian: Tensor) -> Tensor:
        """[m] weights from the Gram matrix [m, m]."""
        cosines, lengths = scaled(gramian)
        some = np.diagonal(cosines) > 0
        weights = np.zeros(len(lengths))
        if some.any():
            found = _solved(cosines[np.ix_(some, some)])
            norm = max(float(found @ cosines[np.ix_(some, some)] @ found), 0.0) ** 0.5
            weights[some] = found / lengths[some] * (self.max_norm / norm if norm > self.max_norm else 1.0)
        return torch.from_numpy(weights)


def _solved(cosines: NumberArray) -> NumberArray:
    ridged = cosines + RIDGE * np.eye(len(cosines))
    start = np.full(len(ridged), (len(ridged) / float(ridged.sum())) ** 0.5)  # the best multiple of ones
    point = _newton(ridged, start, ROUNDS)
    exact = _newton(cosines, point, LAST_ROUNDS)
    return exact if np.abs(exact * (cosines @ exact) - 1).max() < FOUND else point


def _newton(matrix: NumberArray, point: NumberArray, rounds: int) -> NumberArray:
    seen = matrix @ point
    value = _objective(point, seen)
    last = np.inf
    for _ in range(rounds):
        residual = np.abs(point * seen - 1).max()
        if residual < EXACT or (residual < NEAR and residual > last / 2):
            break  # found, or as near as rounding lets it come
        last = residual
        gradient = seen - 1 / point
        _, move, failed = dposv(matrix + np.diag(point**-2), -gradient)
        if failed:
            break  # no solution without the ridge, and so far along that rounding has made it indefinite
        slope, falling = float(gradient @ move), move < 0
        farthest = min(1.0, 0.99 * float((-point[falling] / move[falling]).min(initial=np.inf)))
        # The objective is self-concordant: the second length descends, whatever the matrix.
        for step in (farthest, min(farthest, 1 / (1 + max(-slope, 0.0) ** 0.5))):
            trial = point + step * move
            trial_seen = matrix @ trial
            trial_value = _objective(trial, trial_seen)
            # Near the minimum differences of the objective are rounding, and the residual decides.
            if trial_value <= value + 1e-4 * step * slope + 1e-15 * abs(value):
                break
        else:
            break
        point, seen, value = trial, trial_seen, trial_value
    return point


def _objective(point: NumberArray, seen: NumberArray) -> float:
    return float(point @ seen / 2 - np.log(point).sum())
