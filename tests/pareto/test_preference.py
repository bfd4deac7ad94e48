from math import comb

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cotrain.errors import UnknownNameError
from cotrain.pareto import preference_grid, simplex_lattice
from cotrain.pareto.preference import as_preferences


@given(st.lists(st.floats(0, 10), min_size=1, max_size=6).filter(lambda values: sum(values) > 0.1))
def test_a_tensor_a_list_and_a_mapping_are_one_preference(weights):
    shares = [weight / sum(weights) for weight in weights]
    names = [f"task {number}" for number in range(len(shares))]
    found = as_preferences(shares, names)
    assert torch.equal(found, as_preferences(torch.tensor(shares, dtype=torch.float64), names))
    assert torch.equal(found, as_preferences(dict(reversed(list(zip(names, shares, strict=True)))), names))
    assert torch.equal(found, as_preferences(torch.tensor([shares, shares], dtype=torch.float64), names)[1])
    torch.testing.assert_close(found, torch.tensor(shares))
    assert found.dtype == torch.float32


def test_a_name_that_is_left_out_has_no_share():
    assert as_preferences({"b": 1.0}, ["a", "b"]).tolist() == [0, 1]


def test_typed_decimals_are_made_to_sum_to_one():
    assert as_preferences([0.33333, 0.33333, 0.33333], "abc").double().sum() == pytest.approx(1, abs=1e-7)


@pytest.mark.parametrize(
    ("preference", "words"),
    [
        ([-0.5, 1.5], r"non-negative and sum to 1. Got \[-0.5, 1.5\]"),
        ([0.5, 0.4], "which sums to 0.9. Divide"),
        ([float("nan"), 1.0], "non-negative"),
        ([[0.5, 0.5], [2.0, 2.0]], r"Got \[2.0, 2.0\]"),
        ([1.0], r"needs 2 entries, one for each of \['a', 'b'\]. Got the shape \[1\]"),
        ([0.3, 0.3, 0.4], "needs 2 entries"),
        ({"a": 0.5, "c": 0.5}, "unknown name 'c'"),
        ({"a": 0.5}, "sums to 0.5"),
        ({}, "sums to 0"),
        (None, "is missing"),
        (0.5, "needs 2 entries"),
    ],
)
def test_what_is_no_preference(preference, words):
    with pytest.raises(ValueError, match=words):
        as_preferences(preference, ["a", "b"])


def test_an_unknown_name_is_its_own_error():
    with pytest.raises(UnknownNameError):
        as_preferences({"c": 1}, ["a"])


@pytest.mark.parametrize(("count", "divisions"), [(1, 3), (2, 10), (3, 10), (4, 6), (5, 4)])
def test_a_lattice_has_every_point_once_from_the_first_corner_to_the_last(count, divisions):
    lattice = simplex_lattice(count, divisions)
    assert lattice.shape == (comb(divisions + count - 1, count - 1), count)
    numerators = (lattice.double() * divisions).round().long()
    torch.testing.assert_close(numerators.double() / divisions, lattice.double(), atol=1e-6, rtol=0)
    assert (numerators.sum(1) == divisions).all()
    rows = [tuple(row) for row in numerators.tolist()]
    assert rows == sorted(set(rows), reverse=True)
    assert rows[0] == (divisions, *[0] * (count - 1))
    assert rows[-1] == (*[0] * (count - 1), divisions)


def test_a_lattice_that_would_be_too_large():
    with pytest.raises(ValueError, match="has 1001 points"):
        simplex_lattice(5, 10)


@given(st.integers(2, 7), st.integers(9, 40), st.integers(0, 3))
def test_a_grid_of_a_number_holds_the_corners_and_lies_on_the_simplex(count, number, seed):
    names = [str(name) for name in range(count)]
    grid = preference_grid(number, names, seed=seed)
    assert grid.shape == (number, count)
    assert (grid >= 0).all()
    torch.testing.assert_close(grid.sum(1), torch.ones(number))
    assert len({tuple(row) for row in grid.tolist()}) == number
    for corner in torch.eye(count):
        assert (grid == corner).all(1).any()
    assert torch.equal(grid, preference_grid(number, names, seed=seed))


@pytest.mark.parametrize(("count", "number"), [(1, 1), (2, 11), (3, 66), (4, 84), (5, 70), (6, 106)])
def test_the_default_grid(count, number):
    assert preference_grid(None, [str(name) for name in range(count)]).shape == (number, count)


def test_a_grid_of_given_preferences_and_one_too_small():
    assert preference_grid([0.2, 0.8], "ab").shape == (1, 2)
    assert preference_grid(4, "abc").shape == (4, 3)
    with pytest.raises(ValueError, match=r"at least 4 preferences. Got 3"):
        preference_grid(3, "abc")
    with pytest.raises(ValueError, match="at least 2 preferences"):
        preference_grid(1, "ab")
