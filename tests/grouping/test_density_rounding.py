import numpy as np
import pytest
from planted_affinities import indicator, planted, random_similarity

from cotrain.grouping import density_rounding as module
from cotrain.grouping.density_rounding import rounded, seeded, spectral_points, top_eigenvectors


def same(labels, truth):
    return np.array_equal(labels[:, None] == labels, np.asarray(truth)[:, None] == truth)


def test_the_eigenvectors_of_a_partition_are_rounded_to_it():
    truth = np.array([0, 1, 1, 2, 0, 3, 2, 1, 0, 3])
    points = top_eigenvectors(indicator(truth), 4)
    found = list(rounded(points, 4, n_init=7, rng=np.random.default_rng(0)))
    assert len(found) == 7
    assert all(same(labels, truth) for labels in found)


def test_restarts_differ_and_the_generator_decides_them():
    points = np.random.default_rng(0).normal(size=(40, 6))
    first, again, other = (
        [labels.tolist() for labels in rounded(points, 6, n_init=8, rng=np.random.default_rng(seed))]
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
    assert len({tuple(labels) for labels in first}) > 1


@pytest.mark.parametrize("n_clusters", [2, 3, 5, 6])
def test_every_number_of_clusters_is_reached_with_equal_points(n_clusters):
    points = np.array([[0.0], [0.0], [0.0], [1.0], [1.0], [1.0]])
    for labels in rounded(points, n_clusters, n_init=2, rng=np.random.default_rng(0)):
        assert sorted(set(labels.tolist())) == list(range(n_clusters))


def test_eigenvectors_rebuild_the_matrix_and_negative_values_count_as_0():
    matrix = random_similarity(9)
    points = top_eigenvectors(matrix, 9)
    values, vectors = np.linalg.eigh(matrix)
    np.testing.assert_allclose(points @ points.T, (vectors * np.maximum(values, 0)) @ vectors.T, atol=1e-12)
    few = top_eigenvectors(matrix, 2)
    np.testing.assert_allclose(few @ few.T, (vectors[:, -2:] * values[-2:]) @ vectors[:, -2:].T, atol=1e-12)


def test_large_matrices_go_the_same_way_by_another_method(monkeypatch):
    matrix = random_similarity(60)
    expected = top_eigenvectors(matrix, 4)
    monkeypatch.setattr(module, "DENSE", 59)
    called = []
    lanczos = module.eigsh
    monkeypatch.setattr(module, "eigsh", lambda *args, **options: called.append(1) or lanczos(*args, **options))
    found = top_eigenvectors(matrix, 4)
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-3)
    assert called == [1]
    top_eigenvectors(matrix, 20)
    assert called == [1]


def test_spectral_points_find_clear_clusters_among_negative_affinities():
    affinity, truth = planted(30, 3, strength=4.0, noise=0.2)
    similarity = (affinity + affinity.T) / 2 - 10.0
    points = spectral_points(similarity, 3)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1)
    assert same(next(rounded(points, 3, n_init=5, rng=np.random.default_rng(0))), truth)
    np.testing.assert_allclose(np.abs(spectral_points(similarity + 7.0, 3)), np.abs(points), atol=1e-6)


def test_equal_similarities_are_no_error():
    assert np.isfinite(spectral_points(np.full((6, 6), -2.0), 2)).all()
    assert np.isfinite(spectral_points(np.full((2, 2), -2.0), 1)).all()


@pytest.mark.parametrize("n_clusters", [1, 2, 4, 12])
def test_seeds_give_every_number_of_clusters(n_clusters):
    for seed in range(5):
        labels = seeded(random_similarity(12, seed), n_clusters)
        assert sorted(set(labels.tolist())) == list(range(n_clusters))


def test_seeds_are_far_from_each_other():
    affinity, truth = planted(20, 4, strength=5.0, noise=0.1)
    assert same(seeded((affinity + affinity.T) / 2, 4), truth)
