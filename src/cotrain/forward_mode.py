"""What forward-mode differentiation needs of PyTorch: kernels that have a forward rule, and the rules."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

__all__ = ["forward_mode_kernels", "load_forward_rules"]


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
