"""How a training makes its optimizer, and which optimizers may step many stacked networks at once."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor
from torch.optim import Optimizer

__all__ = ["OptimizerFactory", "adam", "is_elementwise", "keep_members"]

OptimizerFactory: TypeAlias = Callable[[Iterable[Tensor]], Optimizer]
"""From parameters to an optimizer, for example `partial(torch.optim.SGD, lr=0.1)`."""

_ELEMENTWISE = (
    torch.optim.SGD,
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.Adamax,
    torch.optim.RMSprop,
    torch.optim.Adagrad,
    torch.optim.Adadelta,
)


def adam(learning_rate: float = 1e-3) -> OptimizerFactory:
    """Adam in its fused form: on small networks the plain form costs as much as the backward pass."""
    return partial(torch.optim.Adam, lr=learning_rate, fused=True)


def is_elementwise(optimizer: Optimizer) -> bool:
    """Whether every weight is updated from its own gradient and state alone.

    Only then is a step on stacked networks the same as a step on each of them; an optimizer that takes norms
    over a tensor (LARS, Adafactor) or over all of them (L-BFGS) would mix the networks.
    """
    return type(optimizer) in _ELEMENTWISE  # a subclass may do anything


def keep_members(optimizer: Optimizer, members: Tensor) -> list[Tensor]:
    """Reduce stacked parameters [G, ...] and their state to some members, in place of the optimizer's own.

    Args:
        optimizer: Elementwise, over parameters with the members as their first dimension.
        members: [G'] positions to keep.

    Returns:
        The new parameters [G', ...], in the order of the optimizer's groups.
    """
    kept = []
    for group in optimizer.param_groups:
        for position, old in enumerate(group["params"]):
            new = old.detach()[members].requires_grad_()
            state = optimizer.state.pop(old, {})
            if state:
                optimizer.state[new] = {
                    name: value[members] if isinstance(value, Tensor) and value.shape == old.shape else value
                    for name, value in state.items()
                }
            group["params"][position] = new
            kept.append(new)
    return kept
