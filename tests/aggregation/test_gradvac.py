"""GradVac by all tasks side by side, against one pair after the other, PCGrad and TorchJD."""

import math

import pytest
import torch
from linear_losses import some_gradients, step
from torchjd import aggregation as theirs

from cotrain.aggregation import GradVac, from_torchjd, named
from cotrain.aggregation.gradvac import turned


def of(seed):
    return torch.Generator().manual_seed(seed)


def plain(jacobian, targets, orders):
    """One pair after the other, on the gradients themselves."""
    m = len(jacobian)
    total, met = torch.zeros(jacobian.shape[1], dtype=torch.float64), torch.full((m, m), torch.nan, dtype=torch.float64)
    for i in range(m):
        own = jacobian[i].clone()
        for j in orders[i].tolist():
            if i == j or not bool(own.any()) or not bool(jacobian[j].any()):
                continue
            cosine, target = float(torch.cosine_similarity(own, jacobian[j], dim=0)), float(targets[i, j])
            met[i, j] = cosine
            if cosine < target:
                sine, of_target = math.sqrt(1 - cosine**2), math.sqrt(1 - target**2)
                share = (target * sine - cosine * of_target) / (float(jacobian[j].norm()) * of_target)
                own = own + float(own.norm()) * share * jacobian[j]
        total += own
    return total, met


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("zero", [False, True])
def test_side_by_side_is_one_after_the_other(seed, zero):
    jacobian = torch.randn(7, 12, generator=of(seed), dtype=torch.float64) * 10 ** torch.linspace(-3, 3, 7)[:, None]
    if zero:
        jacobian[2] = 0
    targets = 1.6 * torch.rand(7, 7, generator=of(seed), dtype=torch.float64) - 0.8
    orders = torch.rand(7, 7, generator=of(seed + 9)).argsort(1)
    expected, met = plain(jacobian, targets, orders)
    weights, cosines = turned(jacobian @ jacobian.T, targets, of(seed + 9))
    torch.testing.assert_close(weights @ jacobian, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(cosines, met, equal_nan=True)


def test_every_pair_that_was_turned_last_has_its_target():
    jacobian = torch.randn(2, 9, generator=of(0), dtype=torch.float64)
    jacobian[1] -= jacobian[0]
    targets = torch.tensor([[0, 0.3], [-0.9, 0]], dtype=torch.float64)
    weights, cosines = turned(jacobian @ jacobian.T, targets, of(0))
    assert -0.9 < float(cosines[0, 1]) < 0.3  # only the first is turned
    assert float(cosines[1, 0]) == pytest.approx(float(cosines[0, 1]))
    first = weights @ jacobian - jacobian[1]
    assert float(torch.cosine_similarity(first, jacobian[1], dim=0)) == pytest.approx(0.3)


def test_its_first_step_is_pcgrads_and_with_beta_0_every_one():
    never, vaccine, pcgrad = GradVac(beta=0.0, seed=3), GradVac(seed=3), named("pcgrad", seed=3)
    for number in range(3):
        gradients = some_gradients(6, 8, seed=number)
        expected, *_ = step(pcgrad, gradients)
        torch.testing.assert_close(step(never, gradients)[0], expected, rtol=1e-4, atol=1e-5)
        found, *_ = step(vaccine, gradients)
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5) == (number == 0)


@pytest.mark.parametrize("beta", [0.1, 0.5, 1.0])
def test_of_two_tasks_without_a_choice_of_order_it_is_torchjds(beta):
    ours, torchjds = GradVac(beta=beta), from_torchjd(theirs.GradVac(beta=beta))
    for number in range(6):
        gradients = some_gradients(2, 5, seed=number)
        torch.testing.assert_close(step(ours, gradients)[0], step(torchjds, gradients)[0], rtol=1e-4, atol=1e-5)


def test_a_task_that_comes_and_goes_leaves_the_targets_of_the_others():
    steady, visited = GradVac(), GradVac()
    for number in range(4):
        gradients = some_gradients(3, 7, seed=number)
        step(steady, gradients[[0, 2]])
        step(visited, gradients, absent=[1])
    targets = visited.state_dict()["targets"]
    assert bool(targets[0, 2] != 0)
    torch.testing.assert_close(targets[[0, 2]][:, [0, 2]], steady.state_dict()["targets"])
    assert not bool(targets[1].any() or targets[:, 1].any())
    step(visited, torch.zeros(3, 7))
    torch.testing.assert_close(visited.state_dict()["targets"], targets)


def test_a_share_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"beta is a share, from 0 to 1\. Got 1\.5"):
        GradVac(beta=1.5)


def test_a_sum_beyond_all_numbers_is_no_step_and_is_forgotten(assert_same):
    """Every gradient is finite; what comes after is as if the step had not been."""
    gradients, vaccine, spared = some_gradients(3, 7), GradVac(), GradVac()
    step(vaccine, gradients), step(spared, gradients)
    with pytest.warns(UserWarning, match="The combined gradient is NaN or infinite"):
        step(vaccine, torch.full((3, 7), 1e38))
    assert vaccine.skipped_steps == 1
    assert_same(step(vaccine, gradients), step(spared, gradients))
    assert_same(vaccine.state_dict()["targets"], spared.state_dict()["targets"])
