"""A forward-mode pass along one direction that computes no tangent known to be 0, and no layer's output again."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.overrides import TorchFunctionMode

from cotrain.aggregation.layer_outputs import LayerOutputs
from cotrain.forward_mode import load_forward_rules

__all__ = ["tangent_of"]


def tangent_of(
    outputs: Callable[[Mapping[str, Tensor]], Tensor],
    parameters: Mapping[str, nn.Parameter],
    direction: Mapping[str, Tensor],
    layers: LayerOutputs | None = None,
) -> Tensor:
    """The outputs' derivative along a direction of the parameters, without a graph.

    Args:
        outputs: Of parameters by name.
        parameters: The present ones.
        direction: By the same names; other parameters stand still.
        layers: What the layers gave at these parameters and inputs; None to compute it.

    Raises:
        RuntimeError: If an operation has no forward rule (NotImplementedError is one), nothing depends on the
            parameters, or other layers were asked for than those that are known.
    """
    load_forward_rules()
    with torch.no_grad(), forward_ad.dual_level():
        moving = {name: forward_ad.make_dual(parameters[name].detach(), direction[name]) for name in direction}
        known = {} if layers is None else layers.for_replay(moving, parameters)
        with _Bilinear(known):
            tangent: Tensor | None = forward_ad.unpack_dual(outputs(moving)).tangent
    if tangent is None:
        raise RuntimeError("The outputs do not depend on these parameters.")
    if any(known.values()):
        raise RuntimeError("Not all layers were asked for again.")
    return tangent


class _Bilinear(TorchFunctionMode):
    """Linear and convolution layers by their own rule: PyTorch's multiplies by tangents of 0 where there are none.

    Those of the first layer's input and of the heads' parameters took half the time of a pass through an MLP; the
    layers' outputs, which the training step has computed already, take another third.

    Args:
        known: Outputs still to come, by the id of the weight; None for one that has to be computed.
    """

    def __init__(self, known: dict[int, list[Tensor | None]]) -> None:
        super().__init__()
        self._known = known

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Called for every function of PyTorch inside the pass."""
        if func in _LAYERS and not kwargs and len(args) > 2:
            known = self._next(args[1])
            inputs, weight, bias, *rest = args
            (inputs, by_inputs), (weight, by_weight) = forward_ad.unpack_dual(inputs), forward_ad.unpack_dual(weight)
            bias, by_bias = (None, None) if bias is None else forward_ad.unpack_dual(bias)
            if by_bias is None or by_weight is not None:
                parts = []
                if by_inputs is not None:
                    parts.append(func(by_inputs, weight, None, *rest))
                if by_weight is not None:
                    parts.append(func(inputs, by_weight, by_bias, *rest))
                value = func(inputs, weight, bias, *rest) if known is None else known
                return forward_ad.make_dual(value, sum(parts[1:], parts[0])) if parts else value
        return func(*args, **(kwargs or {}))

    def _next(self, weight: Tensor) -> Tensor | None:
        outputs = self._known.get(id(weight))
        if outputs is None:
            return None
        if not outputs:
            raise RuntimeError("A layer was asked for more often than before.")
        found = outputs.pop(0)
        if found is not None and found.dtype != weight.dtype:
            raise RuntimeError("The layers were run in another precision.")
        return found


_LAYERS = (F.linear, F.conv1d, F.conv2d, F.conv3d)
