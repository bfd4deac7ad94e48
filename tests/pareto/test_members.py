import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cotrain.pareto.low_rank import plain
from cotrain.pareto.members import FullMembers, LowRankMembers, ResidualMembers

BASE = {
    "layer.weight": torch.randn(8, 6, dtype=torch.float64),
    "conv.weight": torch.randn(6, 4, 3, 3, dtype=torch.float64),
    "layer.bias": torch.randn(8, dtype=torch.float64),
    "scale": torch.tensor(2.0, dtype=torch.float64),
}


def moved(members):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in members.parameters():
            value.add_(torch.randn(value.shape, generator=generator, dtype=value.dtype))
    return members


def made(form, count):
    if form == "full":
        return FullMembers({name: value.expand(count, *value.shape) for name, value in BASE.items()})
    if form == "residual":
        return ResidualMembers(BASE, count)
    return LowRankMembers(BASE, count, 1, torch.Generator().manual_seed(0))


def values_at(members, preference):
    found = {name: stack[0] for name, stack in members.mixed(preference.unsqueeze(0)).items()}
    return {**found, **{name: plain(value) for name, value in members.operands(preference).items()}}


@pytest.mark.parametrize("form", ["full", "residual", "lora"])
@given(weights=st.lists(st.floats(0.01, 1), min_size=1, max_size=5))
def test_values_are_the_same_mixture_of_those_at_the_corners(form, weights):
    preference = torch.tensor(weights, dtype=torch.float64) / sum(weights)
    members = moved(made(form, len(weights)))
    found = values_at(members, preference)
    assert set(found) == set(BASE)
    corners = [values_at(members, corner) for corner in torch.eye(len(weights), dtype=torch.float64)]
    for name, value in found.items():
        assert value.shape == BASE[name].shape
        expected = sum(share * corner[name] for share, corner in zip(preference, corners, strict=True))
        torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("form", ["full", "residual", "lora"])
def test_many_preferences_are_mixed_as_each_alone(form):
    members = moved(made(form, 3))
    preferences = torch.rand(4, 3, dtype=torch.float64).softmax(1)
    together = members.mixed(preferences)
    for row, preference in enumerate(preferences):
        for name, value in members.mixed(preference.unsqueeze(0)).items():
            torch.testing.assert_close(together[name][row], value[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("form", ["full", "residual", "lora"])
def test_at_the_start_all_are_the_base(form):
    for name, value in values_at(made(form, 2), torch.tensor([0.25, 0.75], dtype=torch.float64)).items():
        assert torch.equal(value, BASE[name])


def test_low_rank_is_of_low_rank_and_costs_less():
    members = moved(made("lora", 3))
    first, second = (values_at(members, corner)["layer.weight"] for corner in torch.eye(3, dtype=torch.float64)[:2])
    assert torch.linalg.matrix_rank(first - second) == 2
    assert set(members.residuals) == {"/layer/bias", "/scale"}
    assert set(members.dense_names) == {"conv.weight", "layer.bias", "scale"}
    assert sum(v.numel() for v in (*members.up.values(), *members.down.values())) == 3 * (8 + 6 + 6 + 36)
