"""The calls of a model's layers in one forward pass, with the places of their outputs in the autograd graph."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

__all__ = ["LayerCall", "watched_layers"]


@dataclass(frozen=True, eq=False)
class LayerCall:
    """A call of a layer, and where its input and output are in the graph.

    Args:
        module: The layer, without sublayers.
        names: Of the parameters to differentiate by: from the module's to the model's.
        inputs: The one tensor that it was called with, detached.
        shape: Of the one tensor that it gave.
        before: Where the input is in the graph; None if it depends on nothing that requires a gradient.
        after: Where the output is, as the layer gave it.
    """

    module: nn.Module
    names: Mapping[str, str]
    inputs: Tensor
    shape: torch.Size
    before: GradientEdge | None
    after: GradientEdge


@contextmanager
def watched_layers(model: nn.Module, parameters: Mapping[str, Tensor]) -> Iterator[list[LayerCall]]:
    """The calls, as they come, of layers that hold parameters: with one tensor, and one tensor as the result.

    Args:
        model: Any module. Its hooks are as they were on leaving.
        parameters: To differentiate by, by name; the model's own.
    """
    known = {id(value): name for name, value in parameters.items()}
    calls: list[LayerCall] = []

    def watch(names: Mapping[str, str]) -> Callable[..., None]:
        def look(module: nn.Module, given: tuple[Any, ...], options: dict[str, Any], output: object) -> None:
            if len(given) != 1 or options or not isinstance(given[0], Tensor) or not isinstance(output, Tensor):
                return
            if output.requires_grad:
                (inputs,) = given
                before = get_gradient_edge(inputs) if inputs.requires_grad else None
                # The edge stays what it is when the output is changed in place later.
                calls.append(LayerCall(module, names, inputs.detach(), output.shape, before, get_gradient_edge(output)))

        return look

    hooks = []
    for module in model.modules():
        own = dict(module.named_parameters(recurse=False))
        if own and not list(module.children()):
            names = {name: known[id(value)] for name, value in own.items() if id(value) in known}
            hooks.append(module.register_forward_hook(watch(names), with_kwargs=True))
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()
