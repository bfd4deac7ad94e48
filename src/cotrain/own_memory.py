"""Gradients that can be written to: autograd may give several parameters the same numbers."""

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

__all__ = ["with_own_memory"]

Gradient = TypeVar("Gradient", Tensor, Tensor | None)


def with_own_memory(gradients: Sequence[Gradient]) -> list[Gradient]:
    """Every gradient in contiguous memory that no other one has; copied only where it is not so already.

    Parts of one vector, one after the other, are left as they are.

    Weights that enter by their sum get one tensor as their gradient, and a parameter that is summed up gets one number
    for all its entries: what is then added to one of them, or scales it, would change the others too.

    Args:
        gradients: From `torch.autograd.grad`; sparse ones are left as they are.
    """
    found: list[Gradient] = []
    taken: set[int] = set()
    for gradient in gradients:
        own = gradient
        if gradient is not None and gradient.layout == torch.strided:
            if gradient.data_ptr() in taken or not gradient.is_contiguous():
                own = gradient.clone(memory_format=torch.contiguous_format)
            taken.add(gradient.data_ptr())
        found.append(own)
    return found
