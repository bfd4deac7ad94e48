import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from cotrain.pareto.rays import RaySampler, default_concentration


def sampler(names, rays, *, concentration=1.0, stratified=True, corners=0.25, seed=0):
    return RaySampler(names, rays, concentration=concentration, stratified=stratified, corners=corners, seed=seed)


@given(st.integers(1, 6), st.integers(1, 7), st.floats(0.05, 5), st.booleans(), st.floats(0, 1), st.integers(0, 10))
def test_rays_lie_on_the_simplex_and_the_corner_share_is_exact(names, rays, concentration, stratified, corners, seed):
    draw = sampler(names, rays, concentration=concentration, stratified=stratified, corners=corners, seed=seed).draw
    steps = [draw() for _ in range(12)]
    for step in steps:
        assert step.shape == (rays, names)
        assert (step >= 0).all()
        torch.testing.assert_close(step.sum(1), torch.ones(rays), atol=1e-6, rtol=0)
    if names > 1 and concentration >= 1 and corners > 0:
        on_faces = sum(
            int(((step == 0).any(1) if names == 2 else (step == 0).sum(1) >= names - 2).sum()) for step in steps
        )
        if names != 3 and abs(12 * rays * corners % 1 - 0.5) < 0.49:
            assert on_faces == int(12 * rays * corners)


def test_corners_come_in_turn():
    draw = sampler(2, 4).draw
    corners = [row for step in (draw() for _ in range(6)) for row in step.tolist() if 1.0 in row]
    assert corners == [[1, 0], [0, 1]] * 3
    draw = sampler(3, 2, corners=1.0).draw
    steps = torch.cat([draw() for _ in range(3)])
    assert sorted(row for row in steps.tolist() if 1.0 in row) == [[0, 0, 1], [0, 1, 0], [1, 0, 0]]
    edges = [row for row in steps.tolist() if 1.0 not in row]
    assert len(edges) == 3
    assert all(row.count(0.0) == 1 for row in edges)


@pytest.mark.parametrize("concentration", [0.3, 1.0, 4.0])
def test_two_names_have_one_ray_in_each_quantile(concentration):
    draw = sampler(2, 5, concentration=concentration, corners=0).draw
    bounds = beta.ppf(np.linspace(0, 1, 6), concentration, concentration)
    for _ in range(20):
        found = np.sort(draw()[:, 0].double().numpy())
        assert (bounds[:-1] - 1e-6 <= found).all()
        assert (found <= bounds[1:] + 1e-6).all()


@pytest.mark.parametrize("kind", [list, torch.tensor])
def test_every_name_may_have_a_concentration_of_its_own(kind):
    draw = sampler(2, 5, concentration=kind([0.5, 3.0]), corners=0).draw
    bounds = beta.ppf(np.linspace(0, 1, 6), 0.5, 3.0)
    for _ in range(20):
        found = np.sort(draw()[:, 0].double().numpy())
        assert (bounds[:-1] - 1e-6 <= found).all()
        assert (found <= bounds[1:] + 1e-6).all()
    draw = sampler(3, 300, concentration=kind([0.5, 3.0, 1.0]), corners=0).draw
    mean = torch.stack([draw() for _ in range(20)]).mean((0, 1))
    torch.testing.assert_close(mean, torch.tensor([0.5, 3.0, 1.0]) / 4.5, atol=0.02, rtol=0)


def test_equal_concentrations_are_one():
    one, three = (sampler(3, 6, concentration=value).draw() for value in (0.4, [0.4] * 3))
    assert torch.equal(one, three)


@pytest.mark.parametrize("concentration", [0.0, -1.0, float("nan"), [1.0, 2.0], [1.0, 2.0, 0.0]])
def test_a_concentration_that_is_none_is_named(concentration):
    with pytest.raises(ValueError, match="a positive number, or one for each of 3 names"):
        sampler(3, 4, concentration=concentration)


def test_more_names_have_all_rotations_of_a_draw():
    draw = sampler(4, 8, corners=0).draw
    for _ in range(5):
        torch.testing.assert_close(draw().mean(0), torch.full((4,), 0.25))


def test_the_order_of_rays_is_random():
    draw = sampler(2, 4, corners=0.25).draw
    places = {int((draw() == 1).any(1).nonzero()[0]) for _ in range(40)}
    assert places == {0, 1, 2, 3}


@pytest.mark.parametrize("names", [2, 3])
def test_a_saved_state_goes_on_as_if_nothing_had_happened(names):
    first = sampler(names, 3, corners=0.3)
    for _ in range(3):
        first.draw()
    second = sampler(names, 3, corners=0.3, seed=7)
    second.load_state_dict(first.state_dict())
    for _ in range(5):
        assert torch.equal(first.draw(), second.draw())


def test_default_concentration_keeps_corners_in_reach():
    assert [default_concentration(names) for names in (1, 2, 4, 20)] == [1, 1, 0.5, 0.1]
