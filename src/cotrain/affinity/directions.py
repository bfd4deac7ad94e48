"""Where random directions are cheap, and seeds for whatever has a name."""

from collections.abc import Iterable
from hashlib import blake2b

__all__ = ["by_depth", "seed_of"]


def by_depth(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """The names of all parameters but those of the last module, and of those: in the order of registration.

    Where that is not the order of the forward pass, a sketch is as unbiased and only costs more.
    """
    names = list(names)
    module = names[-1].rpartition(".")[0]
    late = [name for name in names if name.rpartition(".")[0] == module]
    return [name for name in names if name not in late], late


def seed_of(*parts: object) -> int:
    """A seed for what is named by the parts: a hash, since PyTorch's generator on the CPU reads 32 bits only."""
    return int.from_bytes(blake2b(repr(parts).encode(), digest_size=4).digest(), "big")
