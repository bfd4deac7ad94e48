import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from cotrain.grouping import k_means as module
from cotrain.grouping.geometry import task_geometry
from cotrain.grouping.k_means import centre_distances, k_means


def solve(points, n_clusters, seed=0, n_init=20):
    found = task_geometry(points)
    rng = np.random.default_rng(seed)
    return k_means(found.squared, n_clusters, weights=found.weights, n_init=n_init, rng=rng), found


@given(seed=st.integers(0, 999), n=st.integers(1, 14), n_clusters=st.integers(1, 6), width=st.integers(1, 5))
def test_the_result_is_a_fixed_point_of_the_definition(seed, n, n_clusters, width):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n, width))[rng.integers(n, size=n)]  # some of them twice
    n_clusters = min(n_clusters, len(np.unique(points, axis=0)))
    solved, found = solve(points, n_clusters, seed, n_init=3)
    labels = solved.labels[found.row]
    assert set(labels) == set(range(n_clusters))
    centres = np.stack([points[labels == k].mean(axis=0) for k in range(n_clusters)])
    squared = ((points[:, None] - centres) ** 2).sum(axis=2)
    np.testing.assert_allclose(solved.squared[found.row], squared, atol=1e-12)
    np.testing.assert_allclose(solved.averages @ points[found.position], centres, atol=1e-12)
    assert solved.inertia == pytest.approx(squared.min(axis=1).sum(), abs=1e-12)
    assert (squared[np.arange(n), labels] <= squared.min(axis=1) + 1e-12).all()
    assert solved.restarts.shape == (3, found.n_distinct)


@pytest.mark.parametrize(("n", "width", "n_clusters"), [(60, 2, 7), (80, 10, 5), (40, 300, 4), (30, 5, 1)])
def test_as_good_as_the_reference(n, width, n_clusters):
    for seed in range(2):
        points = np.random.default_rng(seed).normal(size=(n, width))
        reference = KMeans(n_clusters, n_init=20, random_state=seed).fit(points)
        assert solve(points, n_clusters, seed)[0].inertia <= reference.inertia_ * 1.01


def test_planted_groups_are_found_in_many_dimensions():
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(4), 6)
    points = rng.normal(size=(24, 2000)) + 0.3 * rng.normal(size=(4, 2000))[truth]
    solved, found = solve(points, 4)
    labels = solved.labels[found.row]
    assert len(set(zip(labels, truth, strict=True))) == 4


def test_same_seed_same_result_and_more_restarts_are_never_worse():
    points = np.random.default_rng(3).normal(size=(40, 3))
    one, again = solve(points, 8, seed=5)[0], solve(points, 8, seed=5)[0]
    np.testing.assert_array_equal(one.restarts, again.restarts)
    np.testing.assert_array_equal(one.squared, again.squared)
    single = [solve(points, 8, seed, n_init=1)[0].inertia for seed in range(10)]
    assert one.inertia <= np.median(single)
    assert len({round(value, 9) for value in single}) > 1  # the seed is used


def test_restarts_beyond_the_memory_take_turns(monkeypatch):
    points = np.random.default_rng(3).normal(size=(30, 3))
    whole = solve(points, 5)[0]
    monkeypatch.setattr(module, "CHUNK", 30 * 5 * 3)
    chunked = solve(points, 5)[0]
    assert chunked.restarts.shape == (20, 30)
    assert chunked.inertia == pytest.approx(whole.inertia, rel=0.02)


def test_a_point_counts_as_often_as_its_weight():
    points = np.random.default_rng(1).normal(size=(12, 2))
    repeated = np.repeat(points, [1, 3, 1, 1, 2, 1, 1, 1, 1, 4, 1, 1], axis=0)
    solved, found = solve(repeated, 3)
    assert found.n_distinct == 12
    assert solved.inertia <= KMeans(3, n_init=20, random_state=0).fit(repeated).inertia_ * 1.0001


def test_a_point_alone_is_exactly_at_its_centre():
    points = np.random.default_rng(0).normal(size=(5, 3)) * 1e6
    solved, _ = solve(points, 5)
    np.testing.assert_array_equal(solved.squared[np.arange(5), solved.labels], 0)
    assert solved.inertia == 0
    assert sorted(solved.labels) == list(range(5))


def test_clusters_that_become_empty_start_again():
    points = np.array([[0.0], [1.0], [10.0], [11.0], [20.0]])
    squared = task_geometry(points).squared
    weights = np.ones(5)
    start = np.zeros((2, 5), dtype=np.intp)
    start[1] = 2
    labels = module._lloyd(squared, start, 4, weights)
    assert all(set(row) == {0, 1, 2, 3} for row in labels)


def test_an_empty_cluster_takes_the_farthest_point_and_disturbs_no_other():
    points = np.array([[0.0], [1.0], [100.0], [101.0], [200.0], [207.0]])
    squared = (points - points.T) ** 2
    labels = module._lloyd(squared, np.array([[0, 0, 1, 1, 2, 2]]), 4, np.ones(6))
    assert labels.tolist() == [[0, 0, 1, 1, 3, 2]]


def test_starts_are_drawn_by_weight():
    weights = np.ones(50)
    weights[[7, 30]] = 1e9
    starts = module._plus_plus(1 - np.eye(50), 2, weights, 20, np.random.default_rng(0))
    assert {frozenset(start) for start in starts.tolist()} == {frozenset([7, 30])}


def test_points_that_coincide_numerically_do_not_break_it():
    solved = k_means(np.zeros((4, 4)), 3, weights=np.ones(4), n_init=2, rng=np.random.default_rng(0))
    assert solved.inertia == 0
    assert np.isfinite(solved.squared).all()


def test_no_draw_lies_beyond_the_points():
    class Highest:
        def random(self, shape):
            return np.ones(shape)

    drawn = module._draw(np.array([[0.1, 0.2, 0.3, 0.0]]), 2, Highest())
    assert (drawn <= 3).all()


def test_iterations_are_limited(monkeypatch):
    monkeypatch.setattr(module, "MAX_ITERATIONS", 1)
    rng = np.random.default_rng(0)
    squared, start = task_geometry(rng.normal(size=(60, 2))).squared, rng.integers(6, size=(1, 60))
    once = module._lloyd(squared, start, 6, np.ones(60))
    assert not np.array_equal(once, module._lloyd(squared, once, 6, np.ones(60)))


def test_centre_distances_are_those_of_the_means():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(9, 4))
    averages = rng.dirichlet(np.ones(9), size=3)
    expected = ((averages @ points)[:, None] - points) ** 2
    found = task_geometry(points)
    squared = found.squared[found.row][:, found.row]
    np.testing.assert_allclose(centre_distances(squared, averages), expected.sum(axis=2), atol=1e-12)
