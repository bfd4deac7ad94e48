"""The alpha-fair direction among tasks, by Newton's method."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cotrain.aggregation.alpha_fair import alpha_fair
from cotrain.aggregation.gram_roots import scaled

__all__ = ["FairGrad"]


@dataclass(frozen=True)
class FairGrad:
    """Weights w > 0 with K w = w^(-1 / alpha), which the alpha-fair direction has (Ban and Ji 2024, arXiv 2402.15638).

    Every task gains, the more, the less its gradient weighs. With alpha = 1 it is Nash-MTL without a bound on the
    direction's length; alpha = 0 is the mean; and the larger alpha, the more equal the gains. Gradients f times as long
    give a direction f^((1 - alpha) / (1 + alpha)) times as long. A zero gradient gets weight 0. Gradients that balance
    each other have no solution, and the direction is then near 0.

    Args:
        alpha: Which fairness: 2 puts more weight on tasks that gain little than 1 does. An alpha far from 1 (below 0.2,
            above 20) takes many rounds, and the weights may then be beyond double precision.
    """

    alpha: float = 2.0

    def __post_init__(self) -> None:
        if not 0 <= self.alpha < np.inf:
            raise ValueError(f"alpha must be finite and not negative. Got {self.alpha}.")

    def __call__(self, gramian: Tensor) -> Tensor:
        """[m] non-negative weights from the Gram matrix [m, m]."""
        cosines, lengths = scaled(gramian)
        if self.alpha == 0:
            return torch.full((len(lengths),), 1 / len(lengths), dtype=torch.float64)
        return torch.from_numpy(alpha_fair(cosines, lengths, 1 / self.alpha) / lengths)
