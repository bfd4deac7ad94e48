"""What one layer's parameters add to derivatives along random directions, from derivatives by the layer's output.

A layer z = g(a; w) adds <d, g'(a) r> to a number's derivative along r, where d is its derivative by z. For a matrix
that is d^T (R a): R a serves all numbers alike, and no gradient d a^T is ever formed. For a convolution over a large
image the gradient is smaller than the image, and is formed first.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TypeAlias, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap

__all__ = ["CalledLayer", "called_layer", "is_plain_convolution", "patches"]

CHUNK_BYTES = 2**23
"""Of an intermediate result: the C library gives larger blocks back to the system and maps them anew every time."""

Signs: TypeAlias = Mapping[str, Tensor]
"""Directions, [n, *shape] by the layer's own names of its parameters. Of those that are differentiated by alone."""


class CalledLayer(ABC):
    """One call of a layer with one input. Samples are the first dimension of input and output."""

    @abstractmethod
    def width(self) -> int:
        """How many numbers are kept of a backward pass per sample."""

    @abstractmethod
    def keep(self, by_output: Tensor) -> Tensor:
        """[B, width], what is needed of the derivatives [B, *output] of one number per sample by the output."""

    @abstractmethod
    def along(self, kept: Tensor, signs: Signs) -> Tensor:
        """[B, passes, n], the derivatives along n directions, from what was kept of the passes [B, passes, width]."""


def called_layer(module: nn.Module, names: Sequence[str], inputs: Tensor, shape: torch.Size) -> CalledLayer:
    """The fitting way for a layer: what is kept are derivatives by its output or by its parameters, the fewer ones.

    Args:
        module: Its parameters and buffers are those that it was called with.
        names: Its own names of the parameters to differentiate by, at least one.
        inputs: [B, ...].
        shape: Of the output, [B, ...].
    """
    n_parameters = sum(module.get_parameter(name).numel() for name in names)
    by_output = n_parameters > shape[1:].numel()
    if type(module) is nn.Linear:
        return _LinearOutput(module, inputs, shape) if by_output else _LinearGradient(module, names, inputs)
    if is_plain_convolution(module):
        if by_output and module.groups == 1:
            return _Conv2dOutput(module, inputs, shape)
        return _Conv2dGradient(module, names, inputs)
    return _AnyGradient(module, names, inputs)


def is_plain_convolution(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether its outputs are products of its weight and `patches`."""
    return type(module) is nn.Conv2d and module.padding_mode == "zeros" and not isinstance(module.padding, str)


def patches(layer: nn.Conv2d, inputs: Tensor) -> Tensor:
    """[B, groups, places, entries of a filter], what the filters are laid on."""
    places = (layer.kernel_size, layer.dilation, layer.padding, layer.stride)
    columns = F.unfold(inputs, *places)  # type: ignore[arg-type]
    found: Tensor = columns.unflatten(1, (layer.groups, -1)).transpose(2, 3)
    return found


class _ByOutput(CalledLayer):
    def __init__(self, module: nn.Module, inputs: Tensor, shape: torch.Size) -> None:
        self._module, self._inputs, self._width = module, inputs, shape[1:].numel()

    def width(self) -> int:
        return self._width

    def keep(self, by_output: Tensor) -> Tensor:
        return by_output.flatten(1)

    def along(self, kept: Tensor, signs: Signs) -> Tensor:
        weight, bias = signs["weight"], signs.get("bias")  # a bias alone has fewer entries than the output
        at_once = max(CHUNK_BYTES // (len(weight) * self._width * weight.element_size()), 1)
        samples = zip(self._inputs.to(weight.dtype).split(at_once), kept.to(weight.dtype).split(at_once), strict=True)
        return torch.cat([some @ self._responses(inputs, weight, bias) for inputs, some in samples])

    @abstractmethod
    def _responses(self, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """[b, width, n], the layer's output with directions in place of its parameters."""


class _LinearOutput(_ByOutput):
    def _responses(self, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        n, n_outputs, _ = weight.shape
        flat = None if bias is None else bias.flatten()
        found = F.linear(inputs.flatten(1, -2) if inputs.dim() > 2 else inputs, weight.flatten(0, 1), flat)
        # A copy only where a sample has several rows.
        return found.view(len(inputs), -1, n, n_outputs).transpose(1, 2).reshape(len(inputs), n, -1).transpose(1, 2)


class _Conv2dOutput(_ByOutput):
    _module: nn.Conv2d

    def _responses(self, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        layer = self._module
        flat = None if bias is None else bias.flatten()
        found = F.conv2d(inputs, weight.flatten(0, 1), flat, layer.stride, layer.padding, layer.dilation)
        return found.view(len(inputs), len(weight), -1).transpose(1, 2)


class _ByGradient(CalledLayer):
    def __init__(self, module: nn.Module, names: Sequence[str], inputs: Tensor) -> None:
        self._module, self._names, self._inputs = module, names, inputs

    def width(self) -> int:
        return sum(self._module.get_parameter(name).numel() for name in self._names)

    def keep(self, by_output: Tensor) -> Tensor:
        gradients = self._gradients(by_output)
        return torch.cat([gradients[name].flatten(1) for name in self._names], dim=1)

    def along(self, kept: Tensor, signs: Signs) -> Tensor:
        flat = torch.cat([signs[name].flatten(1) for name in self._names], dim=1)
        return kept.to(flat.dtype) @ flat.T

    @abstractmethod
    def _gradients(self, by_output: Tensor) -> dict[str, Tensor]:
        """Every sample's own gradient [B, *shape]."""


class _LinearGradient(_ByGradient):
    def _gradients(self, by_output: Tensor) -> dict[str, Tensor]:
        rows, inputs = by_output.flatten(1, -2) if by_output.dim() > 2 else by_output.unsqueeze(1), self._inputs
        inputs = inputs.view(len(inputs), -1, inputs.shape[-1])
        return {"weight": rows.transpose(1, 2) @ inputs, "bias": rows.sum(1)}


class _Conv2dGradient(_ByGradient):
    _module: nn.Conv2d

    def __init__(self, module: nn.Conv2d, names: Sequence[str], inputs: Tensor) -> None:
        super().__init__(module, names, inputs)
        self._patches = patches(module, inputs)

    def _gradients(self, by_output: Tensor) -> dict[str, Tensor]:
        images = by_output.flatten(2).unflatten(1, (self._module.groups, -1))
        return {"weight": images @ self._patches, "bias": by_output.flatten(2).sum(2)}


class _AnyGradient(_ByGradient):
    def _gradients(self, by_output: Tensor) -> dict[str, Tensor]:
        values = {name: self._module.get_parameter(name).detach() for name in self._names}

        def gradient(sample: Tensor, sent: Tensor) -> dict[str, Tensor]:
            def output(at: dict[str, Tensor]) -> Tensor:
                return functional_call(self._module, at, (sample.unsqueeze(0),)).squeeze(0)  # type: ignore[no-any-return]

            found: dict[str, Tensor] = vjp(output, values)[1](sent)[0]
            return found

        try:
            found: dict[str, Tensor] = vmap(gradient)(self._inputs, by_output)
        except Exception as error:  # whatever a layer may say to a single sample
            raise RuntimeError(f"A {type(self._module).__name__} does not take samples one by one.") from error
        return found
