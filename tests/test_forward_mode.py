import contextlib
import math

import pytest
import torch
from torch import nn
from torch.func import functional_call, jvp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from cotrain.forward_mode import backward_disagreement, forward_mode_kernels, load_forward_rules


class SelfAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, inputs):
        return self.attention(inputs, inputs, inputs, need_weights=False)[0]


class FusedAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.project = nn.Linear(8, 8)

    def forward(self, inputs):
        q = self.project(inputs).unsqueeze(1)
        return nn.functional.scaled_dot_product_attention(q, q, q).squeeze(1)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(8, 8, batch_first=True)

    def forward(self, inputs):
        return self.lstm(inputs)[0]


MODULES = {
    "multi-head attention": SelfAttention,
    "fused attention": FusedAttention,
    "transformer layer": lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
    "lstm": Recurrent,
}


def switches():
    return (
        torch.backends.mha.get_fastpath_enabled(),
        torch._C._get_mkldnn_enabled(),
        torch._C._get_mkldnn_deterministic(),
        torch.backends.cuda.flash_sdp_enabled(),
        torch.backends.cuda.mem_efficient_sdp_enabled(),
        torch.backends.cuda.math_sdp_enabled(),
        torch.backends.cuda.cudnn_sdp_enabled(),
    )


def directional(module, inputs):
    load_forward_rules()
    values = {name: value.detach() for name, value in module.named_parameters()}
    signs = {name: torch.randn(3, *value.shape) for name, value in values.items()}

    def along(sign):
        return jvp(lambda point: functional_call(module, point, (inputs,)), (values,), (sign,))[1]

    with torch.no_grad():
        return signs, vmap(along)(signs)


@pytest.mark.parametrize("name", MODULES)
def test_forward_mode_works_inside_and_agrees_with_a_backward_pass(name):
    torch.manual_seed(0)
    module, inputs = MODULES[name]().eval(), torch.randn(4, 5, 8)
    with pytest.raises(RuntimeError):
        directional(module, inputs)
    with forward_mode_kernels():
        signs, found = directional(module, inputs)
    outputs = module(inputs)
    sent = torch.randn_like(outputs)
    gradients = torch.autograd.grad(outputs, list(module.parameters()), sent)
    expected = sum(
        (sign * gradient).flatten(1).sum(1) for sign, gradient in zip(signs.values(), gradients, strict=True)
    )
    torch.testing.assert_close((found * sent).flatten(1).sum(1), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", MODULES)
def test_values_are_the_same_inside(name):
    torch.manual_seed(0)
    module, inputs = MODULES[name]().eval(), torch.randn(4, 5, 8)
    with torch.no_grad():
        expected = module(inputs)
        with forward_mode_kernels():
            torch.testing.assert_close(module(inputs), expected, rtol=1e-5, atol=1e-6)


def test_leaving_restores_the_defaults():
    before = switches()
    with forward_mode_kernels():
        assert switches() != before
    assert switches() == before


def test_leaving_restores_what_the_user_had_set_also_after_an_error():
    torch.backends.mha.set_fastpath_enabled(False)
    onednn = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]):
            before = switches()
            with contextlib.suppress(KeyError), forward_mode_kernels():
                inside = switches()
                raise KeyError
            assert switches() == before
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
        torch._C._set_mkldnn_enabled(onednn)
    assert inside[3:] == (False, False, True, False)
    assert inside[:2] == (False, False)


def test_it_can_be_nested():
    before = switches()
    with forward_mode_kernels():
        inside = switches()
        with forward_mode_kernels():
            assert switches() == inside
        assert switches() == inside
    assert switches() == before


def test_a_derivative_that_forward_mode_loses_is_a_disagreement():
    torch.manual_seed(0)
    layer, inputs = nn.Linear(5, 4), torch.randn(7, 5)
    values = {name: value.detach() for name, value in layer.named_parameters()}
    directions = {name: torch.randn(6, *value.shape) for name, value in values.items()}
    sent = torch.randint(2, (7, 4)) * 2.0 - 1

    def outputs(at, *, cut):
        found = functional_call(layer, at, (inputs,))
        with torch.no_grad():
            lost = functional_call(layer, at, (inputs,)) if cut else 0
        return torch.tanh(found) + lost

    def disagreement(cut, scale=1.0):
        tangents = vmap(lambda along: jvp(lambda at: outputs(at, cut=cut), (values,), (along,))[1])(directions)
        leaves = {name: value.clone().requires_grad_() for name, value in values.items()}
        found = torch.autograd.grad(outputs(leaves, cut=cut), list(leaves.values()), sent)
        return backward_disagreement(tangents * scale, directions, sent, dict(zip(leaves, found, strict=True)))

    assert disagreement(cut=False) < 1e-6
    assert disagreement(cut=True) > 0.1
    assert disagreement(cut=False, scale=0.9) > 0.01
    assert math.isnan(disagreement(cut=False, scale=torch.nan))
    assert backward_disagreement(torch.zeros(6, 7, 4), directions, sent, {}) == 0
