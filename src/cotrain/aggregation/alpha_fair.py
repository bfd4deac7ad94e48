"""Weights under which every task's gain is a negative power of its weight, by Newton's method."""

from dataclasses import dataclass

import numpy as np
from scipy.linalg.lapack import dposv

from cotrain.aggregation.gram_roots import NumberArray

__all__ = ["alpha_fair"]

RIDGE = 1e-6
"""On the cosines: exactly opposed gradients have no solution, and this gives the direction 0 there."""

FOUND, EXACT = 1e-6, 1e-11
"""Residuals of K w by w^-p: at which a solution without the ridge counts as one, and at which nothing is to gain."""

STILL = 1e-12
"""Relative moves that are rounding: of a large p, gains may be wanted that are smaller than their own rounding."""

OVERSHOT = 0.1
"""The share of the slope along a step, upward, that may be left at its end."""

NEAR, ROUNDS, LAST_ROUNDS, SHORTER = 1e-5, 300, 10, 12


def alpha_fair(cosines: NumberArray, lengths: NumberArray, power: float) -> NumberArray:
    """The w > 0 with K w = w^-p elementwise, times the gradients' lengths; K is their Gram matrix.

    They minimise the convex w^T K w / 2 - sum of w^(1 - p) / (1 - p), for p = 1 of log w, which damped Newton does in 4
    to 20 rounds for p of 1/2 to 2.

    Args:
        cosines: [m, m]; those of a gradient of 0 are 0.
        lengths: [m].
        power: p > 0.

    Returns:
        [m], 0 for gradients of 0; where there is no solution that of the ridged cosines, whose weighted gradients all
        but cancel.
    """
    some = np.diagonal(cosines) > 0
    found = np.zeros(len(lengths))
    if some.any():
        found[some] = _Problem(lengths[some], power).solution(cosines[np.ix_(some, some)])
    return found


@dataclass(frozen=True)
class _Problem:
    """In the scaled a = w times length, of which `seen` is what the cosines make."""

    lengths: NumberArray
    power: float

    def solution(self, cosines: NumberArray) -> NumberArray:
        """Of the ridged cosines; then, if there is one, of the cosines themselves."""
        ridged = cosines + RIDGE * np.eye(len(cosines))
        point = self.solved(ridged, self.start(ridged), ROUNDS)
        exact = self.solved(cosines, point, round(LAST_ROUNDS * max(1, 1 / self.power)))
        return exact if _residual(cosines @ exact, self.wanted(exact)) < FOUND else point

    def start(self, matrix: NumberArray) -> NumberArray:
        """The best multiple of what would solve it if the gradients were orthogonal."""
        alone: NumberArray = self.lengths ** ((self.power - 1) / (self.power + 1))
        along = float(alone @ self.wanted(alone)) / float(alone @ matrix @ alone)
        found: NumberArray = along ** (1 / (1 + self.power)) * alone
        return found

    def wanted(self, point: NumberArray) -> NumberArray:
        found: NumberArray = (point / self.lengths) ** -self.power / self.lengths
        return found

    def solved(self, matrix: NumberArray, point: NumberArray, rounds: int) -> NumberArray:
        seen, wanted = matrix @ point, self.wanted(point)
        last = np.inf
        for _ in range(rounds):
            residual = _residual(seen, wanted)
            if residual < EXACT or (residual < NEAR and residual > last / 2):
                break  # found, or as near as rounding lets it come
            last = residual
            gradient, curved = seen - wanted, matrix.copy()
            curved.flat[:: len(point) + 1] += self.power * wanted / point
            _, move, failed = dposv(curved, -gradient)
            if failed or np.abs(move / point).max() < STILL:
                break  # rounding has made it indefinite, so far along as one is without a solution; or it decides
            slope, falling = float(gradient @ move), move < 0
            farthest = min(1.0, 0.99 * float((-point[falling] / move[falling]).min(initial=np.inf)))
            # The logarithm is self-concordant: there the second length does not overshoot, whatever the matrix.
            shorter = min(farthest, 1 / (1 + max(-slope, 0.0) ** 0.5))
            for step in (farthest, *(shorter / 4**times for times in range(SHORTER))):
                trial = point + step * move
                trial_seen, trial_wanted = matrix @ trial, self.wanted(trial)
                # By slopes, as near the minimum differences of the objective are rounding.
                if float((trial_seen - trial_wanted) @ move) <= OVERSHOT * abs(slope):
                    break
            else:
                break
            point, seen, wanted = trial, trial_seen, trial_wanted
        return point


def _residual(seen: NumberArray, wanted: NumberArray) -> float:
    return float(np.abs(seen / wanted - 1).max())
