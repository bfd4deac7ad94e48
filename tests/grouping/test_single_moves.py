import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotrain.grouping.single_moves import single_moves


def inertia(points, labels, weights):
    total = 0.0
    for k in np.unique(labels):
        mine, mass = points[labels == k], weights[labels == k, None]
        total += (mass * (mine - (mass * mine).sum(axis=0) / mass.sum()) ** 2).sum()
    return total


def random_case(seed, n, n_clusters, width, n_starts=3):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n, width))
    weights = rng.integers(1, 4, size=n).astype(float)
    starts = rng.integers(n_clusters, size=(n_starts, n))
    squared = ((points[:, None] - points) ** 2).sum(axis=2)
    return points, weights, starts, squared


@given(seed=st.integers(0, 9999), n=st.integers(2, 12), n_clusters=st.integers(1, 5), width=st.integers(1, 8))
def test_no_single_move_is_left_that_lowers_the_inertia(seed, n, n_clusters, width):
    points, weights, starts, squared = random_case(seed, n, n_clusters, width)
    found = single_moves(squared, starts, n_clusters, weights)
    for start, labels in zip(starts, found, strict=True):
        reached = inertia(points, labels, weights)
        assert reached <= inertia(points, start, weights) + 1e-9
        for t in range(n):
            if (labels == labels[t]).sum() > 1:
                for k in range(n_clusters):
                    moved = labels.copy()
                    moved[t] = k
                    assert inertia(points, moved, weights) >= reached - 1e-9


@given(seed=st.integers(0, 9999))
def test_partitions_do_not_see_each_other(seed):
    _, weights, starts, squared = random_case(seed, 10, 4, 3, n_starts=5)
    before = starts.copy()
    together = single_moves(squared, starts, 4, weights)
    for start, labels in zip(starts, together, strict=True):
        np.testing.assert_array_equal(single_moves(squared, start[None], 4, weights)[0], labels)
    np.testing.assert_array_equal(starts, before)


def test_no_cluster_is_emptied_and_an_empty_one_is_filled():
    _, weights, _, squared = random_case(0, 8, 4, 2)
    labels = single_moves(squared, np.zeros((1, 8), dtype=np.intp), 4, weights)
    assert set(labels[0]) == {0, 1, 2, 3}


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
def test_the_unit_does_not_matter(scale):
    _, weights, starts, squared = random_case(4, 12, 3, 4)
    np.testing.assert_array_equal(
        single_moves(squared * scale, starts, 3, weights), single_moves(squared, starts, 3, weights)
    )
