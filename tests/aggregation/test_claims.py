"""One table of what the methods claim, each claim over sampled gradients, and the formulas of loss weights."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_losses import step

from cotrain.aggregation.names import named

INFINITE = float("inf")

CLAIMS = {  # name: options, and what is claimed of independent gradients
    "upgrad": ({}, {"no conflict", "linear under scaling", "linear in one scale"}),
    "dualproj": ({}, {"no conflict", "linear in one scale"}),
    "mgda": ({}, {"no conflict", "shortest average", "linear in one scale"}),
    "cagrad": ({"c": 1.0}, {"no conflict", "linear in one scale"}),
    "nash-mtl": ({"max_norm": INFINITE}, {"no conflict", "equal relative gains", "blind to scales"}),
    "fairgrad": ({"alpha": 1.0}, {"no conflict", "equal relative gains", "blind to scales"}),
    "config": ({}, {"no conflict", "equal cosines", "linear in one scale"}),
    "imtl-g": ({}, {"equal cosines", "linear in one scale"}),
    "aligned-mtl": ({}, {"aligned", "linear in one scale"}),
    "sum": ({}, {"linear under scaling"}),
    "mean": ({}, {"linear under scaling"}),
}


def claiming(claim):
    return pytest.mark.parametrize("name", [name for name, (_, claims) in CLAIMS.items() if claim in claims])


@st.composite
def conflicting(draw):
    """Independent gradients [m, m + 4] of unequal lengths that mostly conflict."""
    m = draw(st.integers(2, 6))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    lengths = 0.3 + 2 * torch.rand(m, 1, generator=generator, dtype=torch.float64)
    return lengths * torch.randn(m, m + 4, generator=generator, dtype=torch.float64)


def direction(name, gradients):
    options, _ = CLAIMS[name]
    return step(named(name, **options), gradients)[0]


def cosines(gradients, found):
    return (gradients @ found) / gradients.norm(dim=1) / found.norm()


def weights_of(name, levels, **options):
    choices = []
    step(named(name, **options), torch.eye(len(levels)), levels=torch.tensor(levels), choices=choices)
    return choices[0].weights


@claiming("no conflict")
@settings(max_examples=15)
@given(gradients=conflicting())
def test_no_task_is_conflicted_with(name, gradients):
    assert float(cosines(gradients, direction(name, gradients)).min()) > -1e-4


@claiming("linear under scaling")
@settings(max_examples=15)
@given(gradients=conflicting(), seed=st.integers(0, 2**31))
def test_linear_under_scaling(name, gradients, seed):
    generator = torch.Generator().manual_seed(seed)
    one, two = torch.rand(2, len(gradients), 1, generator=generator, dtype=torch.float64) + 0.1
    both = direction(name, (2 * one + 3 * two) * gradients)
    torch.testing.assert_close(
        both, 2 * direction(name, one * gradients) + 3 * direction(name, two * gradients), rtol=1e-6, atol=1e-6
    )


@claiming("linear in one scale")
@settings(max_examples=15)
@given(gradients=conflicting(), factor=st.floats(0.1, 10))
def test_one_scale_for_all_tasks(name, gradients, factor):
    torch.testing.assert_close(
        direction(name, factor * gradients), factor * direction(name, gradients), rtol=1e-3, atol=1e-4
    )


@claiming("blind to scales")
@settings(max_examples=15)
@given(gradients=conflicting(), seed=st.integers(0, 2**31))
def test_the_scale_of_a_loss_does_not_matter(name, gradients, seed):
    scales = torch.rand(len(gradients), 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.1
    torch.testing.assert_close(direction(name, scales * gradients), direction(name, gradients), rtol=1e-6, atol=1e-8)


@claiming("equal cosines")
@given(gradients=conflicting())
def test_equal_projections_on_unit_gradients(name, gradients):
    found = cosines(gradients, direction(name, gradients))
    torch.testing.assert_close(found, found.mean().expand_as(found), rtol=1e-3, atol=1e-3)


@claiming("shortest average")
@given(gradients=conflicting())
def test_the_conditions_of_the_shortest_average(name, gradients):
    found = direction(name, gradients)
    seen, square = gradients @ found, float(found @ found)
    assert float((seen - square).min()) > -1e-10 * float(gradients.square().sum())
    weights = torch.linalg.lstsq(gradients.T, found).solution
    assert float(weights.min()) > -1e-8
    assert float(weights.sum()) == pytest.approx(1)
    torch.testing.assert_close(weights * (seen - square), torch.zeros_like(weights), rtol=0, atol=1e-8)


@claiming("equal relative gains")
@given(gradients=conflicting())
def test_every_weight_is_one_over_its_tasks_gain(name, gradients):
    found = direction(name, gradients)
    weights = torch.linalg.lstsq(gradients.T, found).solution
    torch.testing.assert_close(weights * (gradients @ found), torch.ones_like(weights), rtol=1e-3, atol=1e-3)


@claiming("aligned")
@given(gradients=conflicting())
def test_principal_components_of_equal_length(name, gradients):
    """The mean of the nearest gradients that are orthogonal and of one length: the least singular value."""
    left, values, right = torch.linalg.svd(gradients, full_matrices=False)
    aligned = values.min() * left @ right
    torch.testing.assert_close(direction(name, gradients), aligned.mean(0), rtol=1e-3, atol=1e-3)


LEVELS = [0.5, 1.0, 2.0, 4.0]


def test_formulas_of_loss_weights():
    losses = torch.tensor(LEVELS, dtype=torch.float64)
    ones, mean = torch.ones(4, dtype=torch.float64), losses.log().mean().exp()
    shares = ones / 4
    cosine_slope = (
        shares / shares.norm() / losses.norm() - (shares @ losses) * losses / shares.norm() / losses.norm() ** 3
    )
    away = losses - losses.mean()
    expected = {
        "sum": ones,
        "log-sum": 1 / losses,
        "geometric-mean": mean / losses / 4,
        "imtl-l": ones,  # at the start
        "uw": ones / 2,
        "dwa": ones,
        "stch": shares * torch.softmax(losses / 4 / 0.1, 0),
        "cosmos": shares - cosine_slope,
        "pbi": ones / 2 + 5 * away / away.norm(),
    }
    for name, weights in expected.items():
        torch.testing.assert_close(
            weights_of(name, LEVELS), weights, rtol=1e-4, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}"
        )


@pytest.mark.parametrize(
    ("name", "length"),
    [
        *((name, 4.0) for name in ("sum", "dwa", "gradnorm", "pcgrad", "gradvac", "graddrop")),
        *((name, 1.0) for name in ("mean", "upgrad", "dualproj", "mgda", "imtl-g")),
        ("nash-mtl", 0.2),
    ],
)
def test_the_length_of_a_direction_is_that_of_a_sum_or_of_a_mean(name, length):
    """Of four tasks that agree, which leaves nothing else to differ by; the page on aggregation says which is which."""
    gradients = torch.zeros(4, 6)
    gradients[:, 0] = 1.0
    direction, heads, _ = step(named(name, **({"max_norm": 0.2} if name == "nash-mtl" else {})), gradients)
    assert direction.norm() == pytest.approx(length, rel=1e-3)
    torch.testing.assert_close(heads, torch.ones(4))
