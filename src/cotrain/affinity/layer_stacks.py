"""Layers whose gradients for many tasks are products of derivatives by their outputs with their inputs."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from cotrain.affinity.layer_calls import LayerCall
from cotrain.affinity.layer_derivatives import is_plain_convolution, patches
from cotrain.affinity.task_gradients import FactoredGradients, TaskGradients

__all__ = ["LayerStack", "StackedLayer", "stacked_layers"]

AT_ONCE = 8
"""Tasks whose gradients by a convolution are one product. Two to eight took the same time each, sixteen more."""

PATCHES_BYTES = 2**24
"""Of a convolution's input, laid out for the filters: that of large images is left to the backward pass."""


class LayerStack(ABC):
    """The gradients of n numbers by one layer, put in one by one."""

    @abstractmethod
    def put(self, row: int, by_output: Tensor) -> None:
        """Take in the derivatives of one number by the layer's output."""

    @abstractmethod
    def gradients(self) -> TaskGradients:
        """Of all n; 0 where nothing was put in."""


@dataclass(frozen=True, eq=False)
class StackedLayer:
    """A layer that was called once.

    Args:
        edge: Where its output is in the graph.
        names: Of weight and bias, in the model; those that are differentiated by.
        stack: Makes an empty stack for n numbers.
    """

    edge: GradientEdge
    names: Sequence[str]
    stack: Callable[[int], LayerStack]


class _LinearStack(LayerStack):
    def __init__(self, inputs: Tensor, n_outputs: int, names: Sequence[str], n: int) -> None:
        self._inputs, self._names = inputs, names
        self._by_output = inputs.new_zeros(n, len(inputs), n_outputs)

    def put(self, row: int, by_output: Tensor) -> None:
        self._by_output[row] = by_output.flatten(0, -2)

    def gradients(self) -> TaskGradients:
        weight, *bias = self._names
        return TaskGradients({}, [FactoredGradients(self._by_output, self._inputs, weight, *bias)])


class _ConvolutionStack(LayerStack):
    def __init__(self, weight: Tensor, laid_out: Tensor, names: Sequence[str], n: int) -> None:
        self._patches, self._names, self._shape = laid_out.flatten(0, 1).T.contiguous(), names, weight.shape
        self._found = laid_out.new_zeros(n, len(weight), laid_out.shape[2])
        self._waiting = laid_out.new_empty(min(AT_ONCE, n), len(weight), *laid_out.shape[:2])
        self._rows: list[int] = []

    def put(self, row: int, by_output: Tensor) -> None:
        self._waiting[len(self._rows)] = by_output.flatten(2).transpose(0, 1)
        self._rows.append(row)
        if len(self._rows) == len(self._waiting):
            self._multiply()

    def gradients(self) -> TaskGradients:
        self._multiply()
        weight, *bias = self._names
        n_entries = self._shape[1:].numel()
        found = {weight: self._found[:, :, :n_entries].reshape(-1, *self._shape)}
        return TaskGradients({**found, **dict(zip(bias, self._found[:, :, n_entries:].unbind(2), strict=True))})

    def _multiply(self) -> None:
        if self._rows:
            sent = self._waiting[: len(self._rows)].flatten(2)
            # Few rows times many columns: the other way round it takes up to four times as long.
            product = self._patches @ sent.flatten(0, 1).T
            self._found[self._rows] = product.T.view(len(self._rows), -1, len(product))
            self._rows.clear()


def stacked_layers(calls: Sequence[LayerCall]) -> list[StackedLayer]:
    """Those where products are worth more than the gradients of a backward pass."""
    uses = Counter(name for call in calls for name in call.names.values())
    found = []
    for call in calls:
        own = {name: known for name, known in call.names.items() if uses[known] == 1}
        stack = _stacked(call, [own["weight"], *([own["bias"]] if "bias" in own else [])]) if "weight" in own else None
        if stack is not None:
            found.append(stack)
    return found


def _stacked(call: LayerCall, names: Sequence[str]) -> StackedLayer | None:
    layer = call.module
    if type(layer) is nn.Linear:
        inputs = _wide(call.inputs.flatten(0, -2), layer.weight)
        if len(inputs) < layer.in_features:
            return StackedLayer(call.after, names, partial(_LinearStack, inputs, layer.out_features, names))
    elif is_plain_convolution(layer) and layer.groups == 1 and call.inputs.dim() == 4:
        weight = layer.weight.detach()
        n_bytes = 4 * call.shape[0] * call.shape[2:].numel() * weight[0].numel()
        if n_bytes <= PATCHES_BYTES:
            laid_out = patches(layer, _wide(call.inputs, weight))[:, 0]
            with_bias = F.pad(laid_out, (0, len(names) - 1), value=1.0)
            return StackedLayer(call.after, names, partial(_ConvolutionStack, weight, with_bias, names))
    return None


def _wide(inputs: Tensor, weight: Tensor) -> Tensor:
    """In the dtype of the gradients, whatever autocast made of the call."""
    return inputs.to(torch.promote_types(weight.dtype, torch.float32))
