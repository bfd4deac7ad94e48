"""What the methods on Gram matrices claim, over sampled gradients."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize, nnls
from torch import Tensor

from cotrain.aggregation.aggregation import GradientAggregation
from cotrain.aggregation.cagrad import CAGrad
from cotrain.aggregation.fairgrad import FairGrad
from cotrain.aggregation.mgda import MGDA
from cotrain.aggregation.nash import NashMTL
from cotrain.aggregation.pcgrad import PCGrad, projected_gradients_of
from cotrain.aggregation.upgrad import DualProj, UPGrad

KINDS = ("gaussian", "few dimensions", "opposed", "scales", "duplicates", "agreeing")


@st.composite
def jacobians(draw, kinds=KINDS):
    m = draw(st.integers(1, 12))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    kind = draw(st.sampled_from(kinds))
    size = max(m // 2, 1) if kind == "few dimensions" else m + 3
    jacobian = torch.randn(m, size, generator=generator, dtype=torch.float64)
    if kind == "opposed":
        jacobian[m // 2 :] = -jacobian[: m - m // 2]
    elif kind == "scales":
        jacobian *= 10 ** (16 * torch.rand(m, 1, generator=generator, dtype=torch.float64) - 8)
    elif kind == "duplicates":
        jacobian[m // 2 :] = jacobian[: m - m // 2].clone()
    elif kind == "agreeing":
        jacobian += 2
    return jacobian


solvable = jacobians(("gaussian", "scales", "duplicates", "agreeing"))


def direction(weighting, jacobian):
    return weighting(jacobian @ jacobian.T) @ jacobian


def conflict(jacobian: Tensor, found: Tensor) -> float:
    """The most negative cosine, times the direction's length in that of the gradients' mean."""
    return float(((jacobian @ found) / jacobian.norm(dim=1)).min() / jacobian.norm(dim=1).max())


@pytest.mark.parametrize("weighting", [UPGrad(), DualProj(), MGDA(), CAGrad(1.0), CAGrad(2.5)])
@given(jacobian=jacobians())
def test_no_task_is_conflicted_with(weighting, jacobian):
    assert conflict(jacobian, direction(weighting, jacobian)) > -1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("weighting", [UPGrad(), DualProj()])
@pytest.mark.parametrize("factor", [1.0, 2.0, 0.7])
def test_a_projection_is_no_longer_than_what_is_projected(weighting, dtype, factor):
    """Also where the Gram matrix is rounded and gradients are opposed but for rounding, of unequal lengths."""
    generator = torch.Generator().manual_seed(2)
    for near in [0.0, 1e-8, 1e-6, 1e-4] * 20:
        jacobian, noise = torch.randn(2, 8, 24, generator=generator, dtype=torch.float64)
        rows = torch.cat([jacobian, -factor * (jacobian + near * noise)]).to(dtype)
        found = weighting((rows @ rows.T).double()) @ rows.double()
        lengths = rows.double().norm(dim=1)
        projected = lengths.mean() if isinstance(weighting, UPGrad) else rows.double().mean(0).norm()
        assert float(found.norm()) <= float(projected) + 2e-3 * float(lengths.mean())


@given(st.integers(2, 20), st.integers(0, 2**31))
def test_upgrad_of_whole_numbers_is_not_taken_for_rounded(m, seed):
    """Against least squares on the gradients themselves, whose dual cone is thin or a point."""
    whole = torch.randint(-5, 6, (m, m // 2), generator=torch.Generator().manual_seed(seed)).double()
    whole = whole[whole.norm(dim=1) > 0]
    lengths = whole.norm(dim=1, keepdim=True)
    rows = (whole / lengths).numpy()
    projections = [row + rows.T @ nnls(rows.T, -row)[0] for row in rows]
    expected = torch.from_numpy(np.stack(projections)) * lengths
    torch.testing.assert_close(direction(UPGrad(), whole), expected.mean(0), rtol=0, atol=1e-6)


@given(jacobians())
def test_mgda_is_the_shortest_average(jacobian):
    gramian = jacobian @ jacobian.T
    weights = MGDA()(gramian)
    assert float(weights.min()) >= 0
    assert float(weights.sum()) == pytest.approx(1)
    # The conditions of the optimum, by each gradient's own length.
    norms = gramian.diagonal().sqrt()
    seen = gramian @ weights
    assert float(((seen - weights @ seen) / norms / norms.max()).min()) > -1e-12


@pytest.mark.parametrize("c", [0.1, 0.4, 1.0, 2.5])
@given(jacobian=jacobians())
def test_cagrad_helps_the_worst_task_as_much_as_can_be(c, jacobian):
    """The conditions of the optimum, in tasks' own units, which leave no room: what is added is as long as allowed,
    an average of gradients, and only of those that gain least."""
    weights = CAGrad(c)(jacobian @ jacobian.T)
    mean, found = jacobian.mean(0), weights @ jacobian
    if float(mean.norm()) < 1e-12 * float(jacobian.norm()) or not bool(weights.any()):
        return  # of the stationary: see below
    norms = jacobian.norm(dim=1)
    added = weights - 1 / len(jacobian)
    assert float(added.min()) >= 0
    assert float((added @ jacobian).norm()) == pytest.approx(c * float(mean.norm()), rel=1e-6)
    gains = jacobian @ found
    rounding = 1e-14 * norms.max() * mean.norm()  # of the longest gradient's product
    above = (gains - gains.min() - rounding).clamp(min=0) / norms / mean.norm()
    assert float((added * norms / (added * norms).sum() * above).max()) < 1e-9


@pytest.mark.parametrize("c", [0.4, 1.0])
@given(generated=st.integers(0, 2**31), size=st.integers(2, 6))
def test_cagrad_is_the_least_of_a_fine_grid(c, generated, size):
    jacobian = torch.randn(3, size, generator=torch.Generator().manual_seed(generated), dtype=torch.float64).numpy()
    mean = jacobian.mean(0)
    first, second = np.meshgrid(np.arange(101) / 100, np.arange(101) / 100)
    averages = np.stack([first, second, 1 - first - second], -1)[first + second <= 1] @ jacobian
    least = (averages @ mean + c * np.linalg.norm(mean) * np.linalg.norm(averages, axis=1)).min()
    found = direction(CAGrad(c), torch.from_numpy(jacobian)).numpy()
    gain = float((jacobian @ found).min())
    scale = np.linalg.norm(jacobian) * np.linalg.norm(mean)
    assert gain <= least + 1e-9 * scale  # no direction within reach has more, by duality
    assert gain >= least - 0.02 * scale


@given(jacobians(("gaussian", "few dimensions", "agreeing", "scales")), st.floats(1e-6, 1e6))
def test_cagrad_scales_with_the_gradients(jacobian, factor):
    one, other = direction(CAGrad(), factor * jacobian), factor * direction(CAGrad(), jacobian)
    assert float((one - other).norm()) < 1e-6 * float(other.norm())


def test_cagrad_without_a_reach_is_the_mean_and_of_one_task_longer():
    jacobian = torch.randn(4, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(direction(CAGrad(c=0), jacobian), jacobian.mean(0))
    torch.testing.assert_close(direction(CAGrad(c=0.4), jacobian[:1]), 1.4 * jacobian[0])


def test_cagrad_stands_still_where_gradients_balance_each_other():
    jacobian = torch.randn(4, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    jacobian += 1
    balanced = torch.cat([jacobian[:1], -2 * jacobian[:1]])
    assert float(direction(CAGrad(1.0), balanced).norm()) < 1e-12
    assert float(direction(CAGrad(0.4), balanced).norm()) == pytest.approx(0.6 * float(balanced.mean(0).norm()))
    assert not bool(direction(CAGrad(), torch.zeros(3, 5, dtype=torch.float64)).any())
    jacobian[0] = 0  # its gain is 0 whatever is done, and no task need lose
    assert float(direction(CAGrad(0.4), jacobian).norm()) == 0


@pytest.mark.parametrize("c", [0.4, 1.0])
@given(jacobian=jacobians())
def test_a_zero_gradient_is_to_cagrad_a_task_that_gains_nothing(c, jacobian):
    """If all others could gain the direction is 0, and else it is theirs, with a mean that is shorter."""
    zero = torch.zeros(1, jacobian.shape[1], dtype=torch.float64)
    found, alone = direction(CAGrad(c), torch.cat([zero, jacobian])), direction(CAGrad(c), jacobian)
    if bool(found.any()):
        share = len(jacobian) / (len(jacobian) + 1)
        torch.testing.assert_close(found, share * alone, rtol=1e-6, atol=1e-9 * float(jacobian.norm()))
        assert float((jacobian @ found).min()) < 1e-9 * float(jacobian.norm()) ** 2


def test_cagrad_of_a_float32_gram_matrix():
    jacobian = torch.randn(20, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).float()
    narrow = CAGrad()((jacobian @ jacobian.T).double()) @ jacobian.double()
    torch.testing.assert_close(narrow, direction(CAGrad(), jacobian.double()), rtol=1e-4, atol=1e-5)


@given(jacobians(("gaussian", "agreeing", "duplicates")))
def test_upgrad_is_its_quadratic_program(jacobian):
    m = len(jacobian)
    gramian = (jacobian @ jacobian.T).numpy()
    expected = np.zeros(len(jacobian[0]))
    for row in range(m):
        least = np.eye(m)[row] / m
        found = minimize(
            lambda v: v @ gramian @ v / 2,
            least + 0.1,
            jac=lambda v: gramian @ v,
            bounds=[(low, None) for low in least],
            method="L-BFGS-B",
            options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 5000},
        )
        expected += found.x @ jacobian.numpy()
    np.testing.assert_allclose(direction(UPGrad(), jacobian).numpy(), expected, atol=1e-5)


@given(jacobians(), st.integers(0, 2**31))
def test_upgrad_is_linear_under_scaling(jacobian, seed):
    generator = torch.Generator().manual_seed(seed)
    one, two = torch.rand(2, len(jacobian), 1, generator=generator, dtype=torch.float64) + 0.1
    both = direction(UPGrad(), (2 * one + 3 * two) * jacobian)
    apart = 2 * direction(UPGrad(), one * jacobian) + 3 * direction(UPGrad(), two * jacobian)
    assert float((both - apart).norm()) < 1e-6 * float(jacobian.norm())


@given(jacobians(("agreeing",)))
def test_without_a_conflict_projections_are_the_mean(jacobian):
    jacobian = jacobian.abs()
    for weighting in (UPGrad(), DualProj()):
        torch.testing.assert_close(direction(weighting, jacobian), jacobian.mean(0))
    torch.testing.assert_close(direction(PCGrad(), jacobian), jacobian.sum(0))


@given(solvable)
def test_nash_gives_every_task_the_same_relative_gain(jacobian):
    gramian = jacobian @ jacobian.T
    weights = NashMTL(max_norm=float("inf"))(gramian)
    torch.testing.assert_close(weights * (gramian @ weights), torch.ones(len(jacobian), dtype=torch.float64))
    assert float((weights @ jacobian).square().sum()) == pytest.approx(len(jacobian))
    assert float(direction(NashMTL(max_norm=0.5), jacobian).norm()) == pytest.approx(0.5)


@given(solvable)
def test_nash_does_not_see_the_scale_of_a_loss(jacobian):
    scales = torch.linspace(0.1, 10, len(jacobian), dtype=torch.float64).unsqueeze(1)
    torch.testing.assert_close(
        direction(NashMTL(), scales * jacobian), direction(NashMTL(), jacobian), rtol=1e-6, atol=1e-8
    )


@given(jacobians(("few dimensions", "opposed")))
def test_nash_without_a_solution_hardly_moves(jacobian):
    found = direction(NashMTL(), jacobian)
    assert conflict(jacobian, found) > -0.02 * max(float(found.norm()), 0.1)


def test_nash_between_opposed_tasks_stands_still():
    gradient = torch.randn(1, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = direction(NashMTL(), torch.cat([gradient, -gradient]))
    assert float(found.norm()) < 1e-9


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0, 5.0])
@given(jacobian=jacobians(("gaussian", "duplicates", "agreeing", "few dimensions")))
def test_fairgrad_gives_gains_that_are_a_power_of_the_weights(alpha, jacobian):
    gramian = jacobian @ jacobian.T
    weights = FairGrad(alpha)(gramian)
    cosines = gramian / gramian.diagonal().sqrt() / gramian.diagonal().sqrt().unsqueeze(1)
    if float(nnls(np.vstack([cosines.numpy(), np.ones(len(cosines))]), np.eye(len(cosines) + 1)[-1])[1]) > 0.1:
        torch.testing.assert_close((gramian @ weights) ** alpha * weights, torch.ones_like(weights), rtol=1e-5, atol=0)
    assert float(weights.min()) > 0


@pytest.mark.parametrize("alpha", [0.5, 2.0])
@given(jacobian=jacobians(("gaussian", "duplicates", "agreeing")), factor=st.floats(1e-3, 1e3))
def test_fairgrad_scales_with_the_gradients_to_a_power(alpha, jacobian, factor):
    found, expected = direction(FairGrad(alpha), factor * jacobian), direction(FairGrad(alpha), jacobian)
    expected = factor ** ((1 - alpha) / (1 + alpha)) * expected
    assert float((found - expected).norm()) < 1e-6 * float(expected.norm())


@given(solvable)
def test_fairgrad_of_one_is_nash_without_clipping(jacobian):
    ours, nash = (direction(weighting, jacobian) for weighting in (FairGrad(1.0), NashMTL(max_norm=float("inf"))))
    assert float((ours - nash).norm()) < 1e-6 * float(nash.norm())


def test_fairgrad_of_zero_is_the_mean_and_of_more_evens_the_gains():
    jacobian = torch.randn(6, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(direction(FairGrad(0), jacobian), jacobian.mean(0))
    gains = [jacobian @ direction(FairGrad(alpha), jacobian) for alpha in (1, 2, 8)]
    ratios = [float(of_tasks.max() / of_tasks.min()) for of_tasks in gains]
    assert ratios == sorted(ratios, reverse=True)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 2.0, 10.0])
def test_fairgrad_without_a_solution_stands_still(alpha):
    gradient = torch.randn(1, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = direction(FairGrad(alpha), torch.cat([gradient, -gradient]))
    assert float(found.norm()) < 1e-9
    unequal = direction(FairGrad(alpha), torch.cat([gradient, -2 * gradient]))
    assert float(unequal.norm()) < 0.1 * float(gradient.norm())


@pytest.mark.parametrize("m", [100, 1000])
def test_of_very_many_tasks(m):
    """More than dimensions, of lengths over four orders of magnitude, and many that conflict."""
    generator = torch.Generator().manual_seed(m)
    jacobian = torch.randn(m, m // 2, generator=generator, dtype=torch.float64) + 0.2
    jacobian *= 10 ** (4 * torch.rand(m, 1, generator=generator, dtype=torch.float64) - 2)
    gramian = jacobian @ jacobian.T
    weights = FairGrad()(gramian)
    torch.testing.assert_close(gramian @ weights * weights.sqrt(), torch.ones_like(weights), rtol=1e-6, atol=0)
    helped = CAGrad(1.0)(gramian)
    assert float((gramian @ helped / gramian.diagonal().sqrt()).min()) > 0


@pytest.mark.parametrize("weighting", [UPGrad(), DualProj(), MGDA(), CAGrad(), CAGrad(1.0), NashMTL(), FairGrad()])
@given(jacobian=jacobians(("gaussian", "few dimensions", "agreeing")))
def test_permutations(weighting, jacobian):
    order = torch.randperm(len(jacobian), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        direction(weighting, jacobian[order]), direction(weighting, jacobian), rtol=1e-3, atol=1e-6
    )


@given(jacobians(), st.integers(0, 2**31))
def test_pcgrad_is_the_published_loop(jacobian, seed):
    found = projected_gradients_of(jacobian @ jacobian.T, torch.Generator().manual_seed(seed)) @ jacobian
    m = len(jacobian)
    orders = torch.rand(m, m, generator=torch.Generator().manual_seed(seed)).argsort(1)
    for task in range(m):
        projected = jacobian[task].clone()
        for other in orders[task].tolist():
            product = projected @ jacobian[other]
            if other != task and product < 0:
                projected -= product / jacobian[other].square().sum() * jacobian[other]
        scale = float(jacobian.norm(dim=1).max())
        torch.testing.assert_close(found[task], projected, rtol=1e-5, atol=1e-6 * scale)


@pytest.mark.parametrize("weighting", [UPGrad(), DualProj(), NashMTL(), FairGrad()])
def test_a_zero_gradient_does_not_stop_the_others(weighting):
    jacobian = torch.randn(4, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    without = direction(weighting, jacobian[1:])
    jacobian[0] = 0
    found = direction(weighting, jacobian)
    factor = 1.0 if isinstance(weighting, NashMTL | FairGrad) else 3 / 4
    torch.testing.assert_close(found, factor * without)
    assert float(direction(MGDA(), jacobian).norm()) == 0  # a stationary point, by its definition


def test_wrong_options():
    with pytest.raises(ValueError, match=r"max_norm must be positive\. Got 0"):
        NashMTL(max_norm=0)
    with pytest.raises(ValueError, match=r"c must be finite and not negative\. Got -1"):
        CAGrad(c=-1)
    with pytest.raises(ValueError, match=r"alpha must be finite and not negative\. Got inf"):
        FairGrad(alpha=float("inf"))


def test_a_weighting_of_ones_own():
    from linear_losses import some_gradients, step

    gradients = some_gradients(3, 4)
    found, *_ = step(GradientAggregation(lambda gramian: torch.tensor([1.0, 0.0, 2.0])), gradients)
    torch.testing.assert_close(found, gradients[0] + 2 * gradients[2])
