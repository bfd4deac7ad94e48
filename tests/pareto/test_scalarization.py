import torch
from hypothesis import given
from hypothesis import strategies as st

from cotrain.pareto.scalarization import scalarized


def drawn(seed, tasks=3):
    return torch.rand(4, tasks, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def everywhere(values):
    return torch.ones_like(values, dtype=torch.bool)


def test_linear_is_the_sum():
    values = drawn(0)
    assert torch.equal(scalarized(values, everywhere(values), "linear", 0.1), values.sum(1))


@given(st.integers(0, 50), st.floats(0.01, 2))
def test_the_smooth_maximum_is_above_the_maximum_by_at_most_mu_log_t(seed, smoothness):
    values = drawn(seed)
    excess = scalarized(values, everywhere(values), "tchebycheff", smoothness) - values.max(1).values
    assert (excess >= -1e-12).all()
    assert (excess <= smoothness * torch.tensor(3.0).log() + 1e-7).all()


@given(st.integers(0, 50))
def test_a_task_without_labels_is_as_if_it_were_not_there(seed):
    values = drawn(seed).requires_grad_()
    present = everywhere(values)
    present[:, 1] = False
    found = scalarized(values, present, "tchebycheff", 0.1)
    torch.testing.assert_close(found, scalarized(values[:, [0, 2]], present[:, [0, 2]], "tchebycheff", 0.1))
    (gradient,) = torch.autograd.grad(found.sum(), values)
    assert not gradient[:, 1].any()
    torch.testing.assert_close(gradient.sum(1), torch.ones(4, dtype=torch.float64))


def test_a_ray_without_any_label_is_zero_with_a_finite_gradient():
    values = drawn(0).requires_grad_()
    present = everywhere(values)
    present[2] = False
    found = scalarized(values, present, "tchebycheff", 0.1)
    assert found[2] == 0
    (gradient,) = torch.autograd.grad(found.sum(), values)
    assert torch.isfinite(gradient).all()
    assert not gradient[2].any()
