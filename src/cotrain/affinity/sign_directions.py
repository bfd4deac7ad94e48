"""Random directions of signs over a model's parameters, made anew from a seed whenever they are needed."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["SignDirections", "random_signs"]


@dataclass(frozen=True)
class SignDirections:
    """Directions r_1 .. r_n with entries +1 and -1 over named parameters.

    The signs are a function of the seed, the direction's number and the parameter's name, so they are the same for
    every batch, process and machine, whatever else the model holds and however many directions there are. They are
    the bits of SHAKE128: seeding a generator takes longer than drawing the signs of a small layer, and PyTorch's
    keeps 32 bits of a seed.

    Args:
        seed: Any integer.
        number: How many directions.
        parameters: By name; their shapes, dtypes and devices are taken.
    """

    seed: int
    number: int
    parameters: Mapping[str, Tensor]

    def chunks(self, size: int) -> Iterator[tuple[slice, dict[str, Tensor]]]:
        """The directions in order, `size` at a time: which ones, and by parameter their signs [n, *shape]."""
        for start in range(0, self.number, size):
            stop = min(start + size, self.number)
            yield (
                slice(start, stop),
                {name: self._signs(name, value, range(start, stop)) for name, value in self.parameters.items()},
            )

    def _signs(self, name: str, value: Tensor, numbers: range) -> Tensor:
        n_bytes = -(-value.numel() // 8)
        drawn = b"".join(
            hashlib.shake_128(f"{self.seed}\n{number}\n{name}".encode()).digest(n_bytes) for number in numbers
        )
        rows = np.frombuffer(drawn, np.uint8).reshape(len(numbers), n_bytes)
        bits = torch.from_numpy(np.unpackbits(rows, axis=1, count=value.numel())).to(value.device)
        return bits.to(value.dtype).mul_(2).sub_(1).view(len(numbers), *value.shape)


def random_signs(like: Tensor) -> Tensor:
    """+1 and -1 of a tensor's shape, dtype and device, always the same."""
    _, drawn = next(SignDirections(0, 1, {"": like.detach()}).chunks(1))
    return drawn[""][0]
