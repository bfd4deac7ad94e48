"""Directions that conflict with no task: projections on the dual cone of the gradients, by non-negative least squares.

The projection of u J on {d : J d >= 0} is v J for the v that minimises v^T K v over v >= u (Quinton and Rey, 2024,
arXiv 2406.16232). With K = R^T R that is v = u + x for the non-negative x of least |R x + R u|. Rows are scaled to
length 1 first, so that gradients of very different size do not cost digits. A ridge of the size of K's own rounding
keeps the direction from being longer than what is projected, where gradients are nearly or exactly opposed.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

from cotrain.aggregation.gram_roots import NumberArray, root, rounding, scaled

__all__ = ["DualProj", "UPGrad"]


@dataclass(frozen=True)
class UPGrad:
    """The mean of the tasks' gradients, each projected on the dual cone (arXiv 2406.16232).

    The direction conflicts with no task, and each task contributes in proportion to its gradient's length. At most m
    problems of m unknowns, of which those of tasks that conflict with nobody are already solved.
    """

    def __call__(self, gramian: Tensor) -> Tensor:
        """[m] weights from the Gram matrix [m, m]."""
        cosines, lengths = scaled(gramian)
        factor = root(cosines + rounding(gramian) * np.eye(len(lengths)))
        m = len(lengths)
        # In units of the scaled rows: u = e_i / m becomes lengths[i] / m e_i, and x scales along with it.
        total = np.ones(m) * lengths
        for row in np.flatnonzero((cosines < 0).any(axis=1)):
            total += lengths[row] * _added(factor, -factor[:, row])
        return torch.from_numpy(total / lengths / m)


@dataclass(frozen=True)
class DualProj:
    """The mean of the tasks' gradients, projected on the dual cone (as in GEM, arXiv 1706.08840): one problem."""

    def __call__(self, gramian: Tensor) -> Tensor:
        """[m] weights from the Gram matrix [m, m]."""
        cosines, lengths = scaled(gramian)
        factor = root(cosines + rounding(gramian) * np.eye(len(lengths)))
        scale = lengths.max()  # of the target, which the solver's tolerance does not follow
        total = lengths + scale * _added(factor, -factor @ (lengths / scale))
        return torch.from_numpy(total / lengths / len(lengths))


def _added(factor: NumberArray, target: NumberArray) -> NumberArray:
    found: NumberArray = nnls(factor, target, maxiter=30 * factor.shape[1])[0]
    return found
