"""Weights that are a matrix plus low-rank parts, used without ever being formed where a layer allows it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._pytree import tree_map

__all__ = ["LowRank", "PerSample", "plain"]


class _Operand(Tensor):
    """A tensor only by its shape: operations that know it use its parts, all others its dense value."""

    def dense(self) -> Tensor:
        """The weight itself."""
        raise NotImplementedError

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _DESCRIPTIONS:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        rule = _RULES.get(func)
        if rule is not None:
            return rule(*args, **kwargs)
        return func(*tree_map(_dense, args), **tree_map(_dense, kwargs))

    @classmethod
    def __torch_dispatch__(cls, func: Any, *_: Any) -> Any:
        """Below autograd a dense value would have lost its gradient."""
        raise TypeError(
            f"{func} cannot take a low-rank weight. Leave this parameter out of members, or use form 'full'."
        )


class LowRank(_Operand):
    """base + up diag(gates) down (LoRA with one gate per component; the preference sets the gates).

    In `linear` and `embedding` the low-rank part is applied to the features, where that takes fewer multiplications
    than forming the weight. Everything else gets the dense weight.

    Args:
        base: [out, in].
        up: [out, R].
        down: [R, in].
        gates: [R], or [B, R] for one preference per sample.
    """

    base: Tensor
    up: Tensor
    down: Tensor
    gates: Tensor

    @staticmethod
    def __new__(cls, base: Tensor, up: Tensor, down: Tensor, gates: Tensor) -> "LowRank":
        """Of the shape, dtype and device of `base`."""
        made: LowRank = torch.Tensor._make_wrapper_subclass(cls, base.shape, dtype=base.dtype, device=base.device)
        made.base, made.up, made.down, made.gates = base, up, down, gates
        return made

    def dense(self) -> Tensor:
        """The weight [out, in].

        Raises:
            ValueError: If there is a preference per sample, so that there is no single weight.
        """
        if self.gates.dim() > 1:
            raise ValueError(f"{_NO_SINGLE} This weight of shape {list(self.base.shape)} is used in another way.")
        return torch.addmm(self.base, self.up * self.gates, self.down)


class PerSample(_Operand):
    """A bias, or another vector, of which every sample has its own.

    Args:
        rows: [B, *shape].
    """

    rows: Tensor

    @staticmethod
    def __new__(cls, rows: Tensor) -> "PerSample":
        """Of the shape of one sample's value."""
        made: PerSample = torch.Tensor._make_wrapper_subclass(cls, rows.shape[1:], dtype=rows.dtype, device=rows.device)
        made.rows = rows
        return made

    def dense(self) -> Tensor:
        """Never: see `LowRank.dense`."""
        raise ValueError(f"{_NO_SINGLE} This parameter of shape {list(self.rows.shape[1:])} is used in another way.")


def plain(value: Tensor) -> Tensor:
    """An operand's dense value; any other tensor as it is, in memory of its own if it is a part of a larger one."""
    if isinstance(value, _Operand):
        return value.dense()
    is_whole = value.untyped_storage().nbytes() == value.nbytes
    return value if is_whole else value.clone()


_NO_SINGLE = (
    "One preference per sample is possible where the members are weights and biases of linear and embedding layers"
    " only: give one preference for the batch, or choose such members."
)


def _dense(value: Any) -> Any:
    return value.dense() if isinstance(value, _Operand) else value


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    shared_bias = None if isinstance(bias, PerSample) else bias
    if not isinstance(weight, LowRank):
        found = F.linear(input, weight, shared_bias)
    elif weight.gates.dim() == 1 and _is_cheaper_dense(input, weight):
        found = F.linear(input, weight.dense(), shared_bias)
    else:
        gated = F.linear(input, weight.down) * _along_samples(weight.gates, input)
        found = F.linear(input, weight.base, shared_bias) + F.linear(gated, weight.up)
    return found + _along_samples(bias.rows, input) if isinstance(bias, PerSample) else found


def _is_cheaper_dense(features: Tensor, weight: LowRank) -> bool:
    """Whether forming the weight takes fewer multiplications than sending all rows through the factors."""
    rows = features.numel() // max(features.shape[-1], 1)
    return rows * sum(weight.base.shape) > weight.base.numel()


def _embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    options = (padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse)
    if not isinstance(weight, LowRank) or max_norm is not None or scale_grad_by_freq:  # both are of whole rows
        return F.embedding(input, _dense(weight), *options)
    found = F.embedding(input, weight.up, *options)
    gated = found * _along_samples(weight.gates, found)
    return F.embedding(input, weight.base, *options) + gated @ weight.down


def _along_samples(values: Tensor, features: Tensor) -> Tensor:
    """Gates or biases [R] or [B, R], to be multiplied with or added to features [B, ..., R].

    Raises:
        ValueError: If the features' first dimension is not that of the samples.
    """
    if values.dim() == 1:
        return values
    if len(values) != len(features):
        raise ValueError(
            f"One preference per sample needs features whose first dimension is the samples. Got {len(values)}"
            f" preferences and features of shape {list(features.shape)}. Give one preference for the batch."
        )
    return values.reshape(len(values), *[1] * (features.dim() - 2), values.shape[-1])


_RULES: dict[Any, Callable[..., Tensor]] = {F.linear: _linear, F.embedding: _embedding}

_DESCRIPTIONS = {
    Tensor.size, Tensor.dim, Tensor.numel, Tensor.is_floating_point, Tensor.is_complex, Tensor.stride,
    *(
        getattr(Tensor, name).__get__
        for name in (
            "shape", "ndim", "dtype", "device", "layout", "requires_grad", "is_sparse", "is_quantized", "is_nested",
            "is_cuda", "is_cpu", "is_meta", "is_leaf",
        )
    ),
}  # fmt: skip
"""What can be asked of an operand without its numbers."""
