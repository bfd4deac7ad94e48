"""The bargaining solution among tasks, by Newton's method."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cotrain.aggregation.alpha_fair import alpha_fair
from cotrain.aggregation.gram_roots import scaled

__all__ = ["NashMTL"]


@dataclass(frozen=True)
class NashMTL:
    """Weights a > 0 with K a = 1 / a: every task gains the same in proportion (Navon et al. 2022, arXiv 2202.01017).

    They minimise the convex a^T K a / 2 - sum log a, which damped Newton does in 4 to 6 rounds. The direction always
    has the squared norm m: it never gets shorter near a stationary point, so its norm is clipped. Scaling one task's
    loss changes nothing. A zero gradient gets weight 0. Gradients that balance each other have no solution, and the
    direction is then near 0.

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
        found = alpha_fair(cosines, np.ones(len(cosines)), power=1.0)
        norm = max(float(found @ cosines @ found), 0.0) ** 0.5
        return torch.from_numpy(found / lengths * (self.max_norm / norm if norm > self.max_norm else 1.0))
