import torch
from hypothesis import given
from hypothesis import strategies as st

from cotrain.pareto import ordering_penalty


def case(seed, rays, dtype):
    generator = torch.Generator().manual_seed(seed)
    first = torch.rand(rays, generator=generator, dtype=dtype).sort().values
    losses = torch.rand(rays, 2, generator=generator, dtype=dtype).sort(0).values
    preferences = torch.stack([first, 1 - first], 1)
    return torch.stack([losses[:, 0].flip(0), losses[:, 1]], 1), preferences


@given(st.integers(0, 100), st.integers(2, 6), st.sampled_from([torch.float32, torch.float64]))
def test_zero_on_an_ordered_set_and_positive_on_an_inverted_one(seed, rays, dtype):
    losses, preferences = case(seed, rays, dtype)
    precision = 1e-6 if dtype == torch.float32 else 1e-14
    assert abs(float(ordering_penalty(losses, preferences))) <= precision
    assert float(ordering_penalty(losses.flip(0), preferences)) > 1e-3
    assert ordering_penalty(losses, preferences).dtype == dtype


@given(st.integers(0, 100), st.integers(2, 6))
def test_it_is_its_formula_in_any_order_of_rays(seed, rays):
    generator = torch.Generator().manual_seed(seed)
    losses = torch.rand(rays, 3, generator=generator, dtype=torch.float64)
    preferences = torch.rand(rays, 3, generator=generator, dtype=torch.float64).softmax(1)
    expected = 0.0
    for task in range(3):
        pairs = [
            torch.exp((losses[one, task] - losses[other, task]).clamp(min=0))
            for one in range(rays)
            for other in range(rays)
            if preferences[one, task] > preferences[other, task]
        ]
        expected += torch.stack(pairs).mean().log()
    torch.testing.assert_close(ordering_penalty(losses, preferences), expected, rtol=1e-12, atol=1e-14)
    order = torch.randperm(rays, generator=generator)
    torch.testing.assert_close(ordering_penalty(losses[order], preferences[order]), expected, rtol=1e-12, atol=1e-14)


def test_a_step_against_its_gradient_brings_order():
    losses, preferences = case(0, 4, torch.float64)
    wrong = losses.flip(0).requires_grad_()
    before = ordering_penalty(wrong, preferences)
    (gradient,) = torch.autograd.grad(before, wrong)
    assert ordering_penalty(wrong - 0.01 * gradient, preferences) < before


def test_equal_preferences_are_not_compared():
    assert ordering_penalty(torch.rand(3, 2), torch.full((3, 2), 0.5)) == 0
