"""Every task's gradient, as the factors that a backward pass leaves, until the gradient itself is asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["FactoredGradients", "TaskGradients", "without_autocast"]

CHUNK_BYTES = 2**23
"""Of an intermediate result: the C library gives larger blocks back to the system and maps them anew every time."""


@dataclass(frozen=True, eq=False)
class FactoredGradients:
    """The gradients of T numbers by a linear layer: by_output^T inputs.

    With fewer rows than inputs, the factors are smaller than the gradients, and so is the work for inner products:
    <d_i^T x, d_j^T x> is the sum over rows r, s of (x_r . x_s) (d_ir . d_js).

    Args:
        by_output: [T, rows, out], the derivatives by the layer's output.
        inputs: [rows, in].
        weight: The name of the weight [out, in].
        bias: The name of the bias [out]; None without one.
    """

    by_output: Tensor
    inputs: Tensor
    weight: str
    bias: str | None = None

    def products(self) -> Tensor:
        """[T, T] inner products."""
        by_rows = self.inputs @ self.inputs.T + (self.bias is not None)
        flat = self.by_output.flatten(1)
        at_once = max(CHUNK_BYTES // max(self.by_output[0].nbytes, 1), 1)
        return torch.cat([(by_rows @ some).flatten(1) @ flat.T for some in self.by_output.split(at_once)])

    def named(self, by_output: Tensor) -> dict[str, Tensor]:
        """The gradients of any derivatives [n, rows, out] by the output, by the names of weight and bias."""
        found = {self.weight: by_output.transpose(1, 2) @ self.inputs}
        return found if self.bias is None else {**found, self.bias: by_output.sum(1)}


@dataclass(frozen=True, eq=False)
class TaskGradients:
    """The gradients of T tasks by the same parameters.

    Args:
        whole: By name [T, *shape], those that were formed.
        factored: The others, layer by layer.
    """

    whole: Mapping[str, Tensor]
    factored: Sequence[FactoredGradients] = ()

    def products(self) -> Tensor:
        """K = G G^T, [T, T] float64."""
        flat = [value.flatten(1) for value in self.whole.values()]
        with without_autocast(self._stacks()[0]):
            parts = [*(value @ value.T for value in flat), *(layer.products() for layer in self.factored)]
        found = torch.stack([part.double() for part in parts]).sum(0)
        # A square is not below 0 by more than rounding.
        found.diagonal().clamp_(min=0)
        return found

    def of(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """By name [len(rows), *shape]."""
        chosen = list(rows)
        found = {name: value[chosen] for name, value in self.whole.items()}
        with without_autocast(self._stacks()[0]):
            for layer in self.factored:
                found.update(layer.named(layer.by_output[chosen]))
        return found

    def weighted(self, weights: Tensor) -> dict[str, Tensor]:
        """By name [*shape], the sum over the tasks of weights [T] times gradients."""
        with without_autocast(self._stacks()[0]):
            found = {name: _sum(weights, value) for name, value in self.whole.items()}
            for layer in self.factored:
                summed = layer.named(_sum(weights, layer.by_output).unsqueeze(0))
                found.update({name: value[0] for name, value in summed.items()})
        return found

    def clear(self, rows: Tensor) -> None:
        """Put 0 in the place of these tasks' gradients, [T] booleans."""
        for value in self._stacks():
            value[rows] = 0

    def _stacks(self) -> list[Tensor]:
        return [*self.whole.values(), *(layer.by_output for layer in self.factored)]


def without_autocast(like: Tensor) -> torch.autocast:
    """Products in the precision of their factors, also where the network runs in less: a context.

    Args:
        like: On the device that is meant.
    """
    return torch.autocast(like.device.type, enabled=False)


def _sum(weights: Tensor, values: Tensor) -> Tensor:
    return (weights.to(values.dtype) @ values.flatten(1)).view(values.shape[1:])
