"""A forward-mode pass along one direction that computes no tangent known to be 0."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad
from torch.overrides import TorchFunctionMode

from cotrain.forward_mode import load_forward_rules

__all__ = ["tangent_of"]


def tangent_of(
    outputs: Callable[[Mapping[str, Tensor]], Tensor], values: Mapping[str, Tensor], direction: Mapping[str, Tensor]
) -> Tensor:
    """The outputs' derivative along a direction of the parameters, without a graph.

    Args:
        outputs: Of parameters by name.
        values: The present parameters.
        direction: By the same names.

    Raises:
        RuntimeError: If an operation has no forward rule (NotImplementedError is one), or nothing depends on the
            parameters.
    """
    load_forward_rules()
    with torch.no_grad(), forward_ad.dual_level(), _Bilinear():
        moving = {name: forward_ad.make_dual(value.detach(), direction[name]) for name, value in values.items()}
        tangent: Tensor | None = forward_ad.unpack_dual(outputs(moving)).tangent
    if tangent is None:
        raise RuntimeError("The outputs do not depend on these parameters.")
    return tangent


class _Bilinear(TorchFunctionMode):
    """Linear and convolution layers by their own rule: PyTorch's multiplies by tangents of 0 where there are none.

    Those of the first layer's input and of the heads' parameters took half the time of a pass through an MLP.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Called for every function of PyTorch inside the pass."""
        if func in _LAYERS and not kwargs and len(args) > 2:
            inputs, weight, bias, *rest = args
            (inputs, by_inputs), (weight, by_weight) = forward_ad.unpack_dual(inputs), forward_ad.unpack_dual(weight)
            bias, by_bias = (None, None) if bias is None else forward_ad.unpack_dual(bias)
            if by_bias is None or by_weight is not None:
                parts = []
                if by_inputs is not None:
                    parts.append(func(by_inputs, weight, None, *rest))
                if by_weight is not None:
                    parts.append(func(inputs, by_weight, by_bias, *rest))
                value = func(inputs, weight, bias, *rest)
                return forward_ad.make_dual(value, sum(parts[1:], parts[0])) if parts else value
        return func(*args, **(kwargs or {}))


_LAYERS = (F.linear, F.conv1d, F.conv2d, F.conv3d)
