import numpy as np
import pytest
from sklearn.cluster import KMeans

from cotrain.grouping import point_clusters as module
from cotrain.grouping.point_clusters import point_shares


def blobs(seed=0, n_tasks=4, n_points=150):
    """Points near three places; a task's shares are known."""
    rng = np.random.default_rng(seed)
    share = rng.dirichlet(np.ones(3), size=n_tasks)
    place = np.stack([rng.choice(3, size=n_points, p=row) for row in share])
    centres = np.array([[0.1, 0.1], [0.9, 0.1], [0.5, 0.4]])
    return (centres[place] + rng.normal(size=(n_tasks, n_points, 2)) * 0.01).astype(np.float32), place


def solve(points, n_clusters=3, order=None, seed=0, n_init=5):
    order = np.arange(len(points)) if order is None else order
    return point_shares(points, order, n_clusters, n_init=n_init, rng=np.random.default_rng(seed))


@pytest.mark.parametrize("chunk", [40, 2**20])
def test_shares_count_the_points_of_each_place(chunk, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", chunk)
    points, place = blobs()
    shares, restarts = solve(points)
    expected = np.stack([(place == k).mean(axis=1) for k in range(3)], axis=1)
    assert sorted(map(tuple, shares.T.round(9))) == sorted(map(tuple, expected.T.round(9)))
    assert restarts.shape == (5, 600)


def test_all_points_decide_the_centres_and_not_the_sample_alone(monkeypatch):
    monkeypatch.setattr(module, "SAMPLE", 40)
    points = np.random.default_rng(0).random((3, 500, 2))
    shares, restarts = solve(points, 4)
    assert restarts.shape == (5, 40)
    reference = KMeans(4, n_init=20, random_state=0, tol=1e-12, max_iter=2000).fit(points.reshape(-1, 2))
    expected = np.stack([np.bincount(row, minlength=4) / 500 for row in reference.labels_.reshape(3, 500)])
    order = lambda table: table[:, np.lexsort(table)]  # noqa: E731
    np.testing.assert_allclose(order(shares), order(expected), atol=0.05)


def test_points_without_a_value_are_ignored():
    points, _ = blobs()
    hidden = np.full((4, 80, 2), np.nan, dtype=np.float32)
    hidden[:, ::2, 0] = 0.7
    shares, _ = solve(points)
    with_hidden, restarts = solve(np.concatenate([hidden, points], axis=1))
    np.testing.assert_allclose(np.sort(with_hidden), np.sort(shares), atol=1e-12)
    assert restarts.shape == (5, 600)


def test_only_the_tasks_of_the_order_take_part_and_twins_are_equal():
    points, _ = blobs()
    points[1, :100] = np.nan
    points[3] = points[1]
    points[0] = np.nan
    shares, _ = solve(points, order=np.array([3, 2, 1]))
    assert shares.shape == (3, 3)
    np.testing.assert_array_equal(shares[0], shares[2])
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    again, _ = solve(points[[1, 3, 2]], order=np.array([1, 2, 0]))
    np.testing.assert_array_equal(shares, again)


def test_more_clusters_than_points():
    points = np.zeros((2, 5, 2))
    points[0] = 1
    with pytest.raises(ValueError, match=r"Got 3 clusters and 2 different points in a sample of 10"):
        solve(points, 3)


def test_a_cluster_that_lost_its_points_keeps_its_centre(monkeypatch):
    monkeypatch.setattr(module, "SAMPLE", 2)
    points = np.zeros((1, 400, 2))
    points[0, :, 0] = np.linspace(0, 1, 400)
    calls = []

    def stray(points, order, centres, original=module._sums):
        if not calls:
            centres[0] = 1e3
        calls.append(centres)
        return original(points, order, centres)

    monkeypatch.setattr(module, "_sums", stray)
    shares, _ = solve(points, 2)
    assert len(calls) > 2
    np.testing.assert_array_equal(shares, [[0, 1]])


def test_iterations_are_limited(monkeypatch):
    monkeypatch.setattr(module, "SAMPLE", 20)
    points = np.random.default_rng(0).random((3, 300, 2))
    enough = solve(points, 5)[0]
    monkeypatch.setattr(module, "MAX_ITERATIONS", 1)
    assert not np.array_equal(solve(points, 5)[0], enough)
