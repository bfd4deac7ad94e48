"""The point of least norm among all averages of the gradients, exactly."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

from cotrain.aggregation.gram_roots import NumberArray, root, scaled

__all__ = ["MGDA", "shortest"]


@dataclass(frozen=True)
class MGDA:
    """Weights on the simplex that make the weighted gradient shortest (Désidéri 2012; Sener and Koltun 2018).

    The direction d has <d, g_i> >= |d|^2 for every task, and is 0 at a Pareto stationary point: among others where the
    gradient of a present task is 0. Exact, where Frank-Wolfe's rounds leave a direction that conflicts with tasks:
    minimising |R x|^2 + (t x - 1)^2 over x >= 0 gives the shortest point with t x = 1 up to a factor.
    """

    def __call__(self, gramian: Tensor) -> Tensor:
        """[m] non-negative weights of sum 1 from the Gram matrix [m, m]."""
        zero = gramian.diagonal() <= 0
        if bool(zero.any()):
            return zero.double() / zero.sum()
        cosines, lengths = scaled(gramian)
        # Unknowns are w times length, whose weighted sum is held; short gradients get the weight.
        shares = lengths.min() / lengths
        found = shortest(root(cosines), shares) * shares
        return torch.from_numpy(found / found.sum())


def shortest(factor: NumberArray, shares: NumberArray) -> NumberArray:
    """The x >= 0 [m] that makes |R x| least for the given shares x, up to a factor; 0 if no share is positive."""
    target = np.zeros(len(factor) + 1)
    target[-1] = 1.0
    found: NumberArray = nnls(np.vstack([factor, shares]), target, maxiter=30 * len(shares))[0]
    return found
