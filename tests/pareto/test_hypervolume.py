from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cotrain.pareto.hypervolume import hypervolume, nondominated


@st.composite
def point_sets(draw):
    """[K, T] points above 0; from a coarse lattice, so that ties and duplicates are drawn too."""
    tasks, points = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    row = st.lists(st.integers(1, 6), min_size=tasks, max_size=tasks)
    return torch.tensor(draw(st.lists(row, min_size=points, max_size=points)), dtype=torch.float64) / 6


def by_inclusion_exclusion(points):
    """The volume of the union of the boxes [0, point]."""
    return sum(
        (-1) ** (size + 1) * torch.stack(chosen).amin(0).prod().item()
        for size in range(1, len(points) + 1)
        for chosen in combinations(points, size)
    )


def plainly_nondominated(points):
    return torch.tensor(
        [not any(bool((other >= point).all() and (other > point).any()) for other in points) for point in points]
    )


@given(point_sets())
def test_equals_inclusion_exclusion(points):
    reference = torch.zeros(points.shape[1])
    assert hypervolume(points, reference) == pytest.approx(by_inclusion_exclusion(list(points)), rel=1e-12)


@given(point_sets())
def test_the_mask_equals_the_definition(points):
    assert torch.equal(nondominated(points), plainly_nondominated(points))


@given(point_sets())
def test_dominated_points_add_nothing(points):
    reference = torch.zeros(points.shape[1])
    more = torch.cat([points, points / 2])
    assert hypervolume(more, reference) == pytest.approx(hypervolume(points, reference), rel=1e-12)
    assert hypervolume(points[nondominated(points)], reference) == pytest.approx(hypervolume(points, reference))


@given(point_sets())
def test_a_better_point_adds(points):
    reference = torch.zeros(points.shape[1])
    better = points.clone()
    better[0] = points.amax(0) + 0.1
    assert hypervolume(better, reference) > hypervolume(points, reference)


@given(point_sets())
def test_minimising_is_maximising_mirrored(points):
    ones = torch.ones(points.shape[1])
    assert hypervolume(1 - points, ones, maximize=False) == pytest.approx(hypervolume(points, 0 * ones))
    mixed = torch.cat([1 - points[:, :1], points[:, 1:]], dim=1)
    up = [False] + [True] * (points.shape[1] - 1)
    reference = torch.tensor([1.0] + [0.0] * (points.shape[1] - 1))
    assert hypervolume(mixed, reference, maximize=up) == pytest.approx(hypervolume(points, 0 * ones))
    assert torch.equal(nondominated(mixed, maximize=up), nondominated(points))


def test_points_that_are_not_above_the_reference_count_nothing():
    points = torch.tensor([[0.5, 0.5], [0.9, -0.1]])
    assert hypervolume(points, torch.zeros(2)) == 0.25
    assert hypervolume(points[1:], torch.zeros(2)) == 0.0
    assert hypervolume(points[:0], torch.zeros(2)) == 0.0


def test_a_point_with_nan_is_dominated():
    points = torch.tensor([[torch.nan, 1.0], [0.5, 0.5]])
    assert nondominated(points).tolist() == [False, True]
    assert nondominated(points[:1]).tolist() == [False]


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"Got \[2, 3\] and \[2\]"):
        hypervolume(torch.ones(2, 3), torch.zeros(2))
    with pytest.raises(ValueError, match="finite"):
        hypervolume(torch.tensor([[torch.inf, 1.0]]), torch.zeros(2))
    with pytest.raises(ValueError, match="one entry per metric, 2"):
        nondominated(torch.ones(1, 2), maximize=[True, True, False])
    with pytest.raises(ValueError, match=r"Points must be \[K, T\]"):
        nondominated(torch.ones(2))


def test_what_would_never_end_is_refused():
    points = torch.rand(40, 12, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="at most 8 tasks"):
        hypervolume(points, torch.zeros(12))
    assert hypervolume(points[:10], torch.zeros(12)) > 0
