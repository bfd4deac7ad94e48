"""From all tasks' losses at a preference to the one number that is minimised there."""

from typing import Literal

import torch
from torch import Tensor

__all__ = ["Scalarization", "scalarized"]

Scalarization = Literal["linear", "tchebycheff"]


def scalarized(weighted: Tensor, present: Tensor, kind: Scalarization, smoothness: float) -> Tensor:
    """The weighted sum, or the smooth Tchebycheff maximum mu log sum_t exp(w_t L_t / mu) (Lin et al., 2402.19078).

    A weighted sum cannot reach the inside of a front that is not convex; the maximum can.

    Args:
        weighted: [n, T], balanced losses times the tasks' weights along each ray; 0 for a task without labels.
        present: [n, T] booleans, which tasks have labels; the others contribute nothing.
        kind: Which of the two.
        smoothness: mu; smaller is closer to the maximum.

    Returns:
        [n]; 0 for a ray without any label.
    """
    if kind == "linear":
        return weighted.sum(1)
    terms = torch.where(present, weighted / smoothness, -torch.inf)
    some = present.any(1)
    return torch.where(some, smoothness * torch.where(some.unsqueeze(1), terms, 0).logsumexp(1), 0)
