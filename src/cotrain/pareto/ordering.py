"""A penalty on fronts that run the wrong way: more weight on a task must not give it a higher loss."""

import torch
from torch import Tensor

__all__ = ["ordering_penalty"]


def ordering_penalty(losses: Tensor, preferences: Tensor) -> Tensor:
    """R = sum_t log mean over pairs with a_t > a'_t of exp(max(0, L_t(a) - L_t(a'))).

    Zero exactly on an ordered set of rays. The published code (Pareto Manifold Learning, arXiv 2210.09759) has the
    sign reversed, compares neighbours only, and inverts the front of Census-Income.

    Args:
        losses: [W, K], one row per ray.
        preferences: [W, K].

    Returns:
        A scalar; 0 where no two rays differ in any share.
    """
    more = preferences.unsqueeze(1) > preferences.unsqueeze(0)
    worse = (losses.unsqueeze(1) - losses.unsqueeze(0)).clamp(min=0)
    pairs = more.sum((0, 1))
    terms = torch.where(more, worse, -torch.inf).flatten(0, 1)
    compared = pairs > 0
    return (terms[:, compared].logsumexp(0) - pairs[compared].to(losses).log()).sum()
