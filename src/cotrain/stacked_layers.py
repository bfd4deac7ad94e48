"""Layers of many networks at once: how the usual layers run on stacked weights, without `vmap`.

`vmap` runs any layer, but copies inputs that all networks share, adds biases in passes of their own and costs as much
Python per operation as a small network's whole step. The layers that small networks are made of are therefore written
out here: 30 MLPs 64-64 at batch 64 take half the time (profiled, torch 2.13, one thread).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cotrain.model import SharedTrunk

__all__ = ["Stacked", "is_written_out", "run", "stacked_linear"]


@dataclass(frozen=True)
class Stacked:
    """Values on their way through the networks.

    Args:
        value: [B, ...] the same for all networks, or [G, B, ...].
        own: Whether every network has its own.
    """

    value: Tensor
    own: bool


Rule = Callable[[Any, Mapping[str, Tensor], Stacked], Stacked]
"""From a layer, its stacked parameters by their names in the layer, and its inputs, to its outputs."""


def is_written_out(network: nn.Module) -> bool:
    """Whether this network and all inside it can be run by `run`; subclasses may do otherwise and do not count."""
    tied = len(list(network.named_parameters(remove_duplicate=False))) > len(list(network.parameters()))
    return not tied and _has_rules(network)


def run(module: nn.Module, parameters: Mapping[str, Tensor], inputs: Stacked) -> Stacked:
    """Run a module that `is_written_out` with stacked parameters, named as in `named_parameters`."""
    if type(module) not in _CHAINS:
        return _RULES[type(module)](module, parameters, inputs)
    for name, child in module._modules.items():  # named_children() leaves out a module that stands there twice
        assert child is not None
        prefix = f"{name}."
        own = {key.removeprefix(prefix): value for key, value in parameters.items() if key.startswith(prefix)}
        inputs = run(child, own, inputs)
    return inputs


def stacked_linear(inputs: Stacked, weight: Tensor, bias: Tensor | None) -> Stacked:
    """One matrix product (batched, if the inputs differ) for a linear layer of all networks.

    Args:
        inputs: [B, ..., I] or [G, B, ..., I].
        weight: [G, O, I].
        bias: [G, O], if the layer has one.
    """
    n_networks, n_out, n_in = weight.shape
    if not inputs.own:
        rows = inputs.value.reshape(-1, n_in)
        columns = weight.flatten(0, 1).t()
        product = rows @ columns if bias is None else torch.addmm(bias.flatten(), rows, columns)
        outputs = product.view(len(rows), n_networks, n_out).transpose(0, 1)
        return Stacked(outputs.unflatten(1, inputs.value.shape[:-1]), True)
    rows = inputs.value.reshape(n_networks, -1, n_in)
    columns = weight.transpose(1, 2)
    outputs = rows @ columns if bias is None else torch.baddbmm(bias.unsqueeze(1), rows, columns)
    return Stacked(outputs.unflatten(1, inputs.value.shape[1:-1]), True)


def _has_rules(module: nn.Module) -> bool:
    if module._forward_hooks or module._forward_pre_hooks:
        return False
    if type(module) in _CHAINS:
        only_chain = type(module) is nn.Sequential or list(module._modules) == ["trunk", "heads"]
        return only_chain and all(_has_rules(child) for child in module.children())
    options = (getattr(module, "padding_mode", "zeros"), getattr(module, "return_indices", False))
    return type(module) in _RULES and options == ("zeros", False)


def _linear(layer: nn.Linear, parameters: Mapping[str, Tensor], inputs: Stacked) -> Stacked:  # noqa: ARG001
    return stacked_linear(inputs, parameters["weight"], parameters.get("bias"))


def _conv2d(layer: nn.Conv2d, parameters: Mapping[str, Tensor], inputs: Stacked) -> Stacked:
    """One convolution whose channels are those of all networks, in groups unless all see the same image."""
    weight, bias = parameters["weight"], parameters.get("bias")
    if layer.groups > 1 and not inputs.own:  # groups that all networks share would mix the networks' channels
        inputs = Stacked(inputs.value.expand(len(weight), *inputs.value.shape), True)
    images = _as_channels(inputs) if inputs.own else inputs.value
    outputs = F.conv2d(
        images,
        weight.flatten(0, 1),
        None if bias is None else bias.flatten(),
        layer.stride,
        layer.padding,
        layer.dilation,
        groups=layer.groups * len(weight) if inputs.own else layer.groups,
    )
    return Stacked(outputs.unflatten(1, (len(weight), layer.out_channels)).transpose(0, 1), True)


def _pool2d(layer: nn.Module, parameters: Mapping[str, Tensor], inputs: Stacked) -> Stacked:  # noqa: ARG001
    if not inputs.own:
        return Stacked(layer(inputs.value), False)
    outputs = layer(_as_channels(inputs))
    return Stacked(outputs.unflatten(1, (len(inputs.value), -1)).transpose(0, 1), True)


def _flatten(layer: nn.Flatten, parameters: Mapping[str, Tensor], inputs: Stacked) -> Stacked:  # noqa: ARG001
    shift = int(inputs.own)
    start = layer.start_dim + shift if layer.start_dim >= 0 else layer.start_dim
    end = layer.end_dim + shift if layer.end_dim >= 0 else layer.end_dim
    return Stacked(inputs.value.flatten(start, end), inputs.own)


def _pointwise(layer: nn.Module, parameters: Mapping[str, Tensor], inputs: Stacked) -> Stacked:  # noqa: ARG001
    return Stacked(layer(inputs.value), inputs.own)


def _as_channels(images: Stacked) -> Tensor:
    """[G, B, C, H, W] as [B, G C, H, W]; a view of what a convolution gave."""
    return images.value.transpose(0, 1).flatten(1, 2)


_CHAINS = (nn.Sequential, SharedTrunk)
"""Modules that run their children one after the other and do nothing else."""
_POINTWISE = (nn.ReLU, nn.GELU, nn.SiLU, nn.ELU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.Identity)
_RULES: Mapping[type[nn.Module], Rule] = {
    nn.Linear: _linear,
    nn.Conv2d: _conv2d,
    nn.MaxPool2d: _pool2d,
    nn.AvgPool2d: _pool2d,
    nn.Flatten: _flatten,
    **dict.fromkeys(_POINTWISE, _pointwise),
}
