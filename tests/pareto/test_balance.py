import torch
from hypothesis import given
from hypothesis import strategies as st

from cotrain.pareto.balance import DECAY, RunningMeans


@given(st.floats(0.01, 1e4), st.integers(1, 20))
def test_a_constant_loss_is_its_mean_from_the_first_step_on(value, steps):
    means = RunningMeans(1)
    losses, present = torch.full((3, 1), value), torch.ones(3, 1, dtype=torch.bool)
    for _ in range(steps):
        means.update(losses, present)
    torch.testing.assert_close(means.scales(torch.zeros(3, 1), present), torch.tensor([value]))


def test_it_is_the_weighted_mean_of_steps():
    values = torch.rand(7, dtype=torch.float64)
    means = RunningMeans(1)
    for value in values:
        means.update(value.view(1, 1), torch.ones(1, 1, dtype=torch.bool))
    weights = DECAY ** torch.arange(6, -1, -1, dtype=torch.float64)
    found = means.scales(torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.bool))
    torch.testing.assert_close(found, ((weights * values).sum() / weights.sum()).view(1))


def test_rays_without_labels_are_not_counted():
    means = RunningMeans(3)
    losses = torch.tensor([[2.0, 0.0, 0.0], [0.0, 6.0, 0.0]])
    present = torch.tensor([[True, False, False], [False, True, False]])
    assert means.scales(losses, present).tolist() == [2, 6, 1]
    means.update(losses, present)
    assert means.scales(torch.full((2, 3), 9.0), ~present).tolist() == [2, 6, 9]


def test_a_saved_state_goes_on(assert_same):
    first, second = RunningMeans(2), RunningMeans(2)
    present = torch.ones(2, 2, dtype=torch.bool)
    first.update(torch.rand(2, 2), present)
    second.load_state_dict(first.state_dict())
    for means in (first, second):
        means.update(torch.ones(2, 2), present)
    assert_same(first.state_dict(), second.state_dict())
