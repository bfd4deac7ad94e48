"""What forward-mode differentiation needs of PyTorch: kernels with a forward rule, the rules, and a check."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

__all__ = ["backward_disagreement", "forward_mode_kernels", "load_forward_rules"]


@contextmanager
def forward_mode_kernels() -> Iterator[None]:
    """Run attention and LSTM layers by kernels that forward-mode differentiation knows.

    Inside, attention is plain matrix products in place of a fused kernel, `nn.MultiheadAttention` and
    `nn.TransformerEncoderLayer` do not take their fast path in eval mode, and oneDNN is off (its LSTM has no forward
    rule). The values are the same up to rounding. Convolutions are slower without oneDNN, so enter this only where
    forward mode fails without it. The switches are global to the process; leaving puts back what was set before,
    also after an error.
    """
    had_fast_path = torch.backends.mha.get_fastpath_enabled()
    # Not mkldnn.flags(), which also sets what an Intel GPU may do, with a warning where there is none.
    had_onednn, *_ = torch.backends.mkldnn.set_flags(_enabled=False)
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(had_fast_path)
        torch.backends.mkldnn.set_flags(_enabled=had_onednn)


@cache
def load_forward_rules() -> None:
    """Have PyTorch import its forward rules, quietly: it does so at the first forward-mode pass of a process.

    That import (0.1 s) warns that a part of PyTorch is deprecated, which is nothing that a user could change.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with forward_ad.dual_level():
            forward_ad.make_dual(torch.zeros(()), torch.zeros(()))


def backward_disagreement(
    derivatives: Tensor, directions: Mapping[str, Tensor], sent: Tensor, gradients: Mapping[str, Tensor]
) -> float:
    """How far derivatives J r along some directions are from one ordinary backward pass: <u, J r> = <J^T u, r>.

    Forward mode goes through `torch.no_grad` and through some custom backward passes without an error, and gives other
    derivatives than a backward pass does.

    Args:
        derivatives: [n, *numbers], J r.
        directions: r by parameter, [n, *shape].
        sent: u [*numbers], random signs, so that errors do not cancel.
        gradients: J^T u by parameter, those that the numbers depend on.

    Returns:
        The norm of the n differences, in units of the norm of all derivatives; NaN where one is not finite, 0 where
        all are 0.
    """
    by_way = (derivatives.double() * sent).flatten(1).sum(1)
    by_backward = torch.zeros_like(by_way)
    for name, gradient in gradients.items():
        by_backward += (directions[name].flatten(1) @ gradient.to_dense().flatten()).to(by_way)
    difference, scale = (by_way - by_backward).norm(), derivatives.double().norm()
    return float(difference / scale) if difference != 0 else 0.0
