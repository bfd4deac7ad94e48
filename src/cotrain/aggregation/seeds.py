"""Where the randomness of an aggregation comes from: a seed, or a generator that gives one."""

from operator import index
from typing import TypeAlias

import torch

__all__ = ["Seed", "seed_from"]

Seed: TypeAlias = int | torch.Generator
"""A number, or a generator that is asked for one when the aggregation is made."""


def seed_from(source: Seed) -> int:
    """A seed; a generator moves on by one number.

    Its later state is nobody's business: what is drawn in a training follows from the seed alone, is a part of the
    aggregation's `state_dict`, and does not depend on who else draws from that generator.

    Raises:
        ValueError: If it is neither.
    """
    if isinstance(source, torch.Generator):
        return int(torch.randint(2**31, (), generator=source, device=source.device))
    try:
        return index(source)  # numpy's integers are no seeds to torch
    except TypeError:
        raise ValueError(f"seed is a whole number or a torch.Generator. Got {source!r}.") from None
