import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.metrics import silhouette_score

from cotrain.grouping.cluster_sizes import mean_silhouette, stability_by_size

NAMES = [f"t{t}" for t in range(12)]


def planted(seed, noise=0.05):
    rng = np.random.default_rng(seed)
    return np.repeat(np.eye(3), 4, axis=0) + noise * rng.normal(size=(12, 3))


@given(labels=st.lists(st.integers(0, 3), min_size=10, max_size=10), seed=st.integers(0, 99))
def test_the_silhouette_is_that_of_the_reference(labels, seed):
    points = np.random.default_rng(seed).normal(size=(10, 2))
    found = mean_silhouette(cdist(points, points), np.array(labels))
    if len(set(labels)) >= 2:
        assert found == pytest.approx(silhouette_score(points, labels))
    else:
        assert np.isnan(found)


def test_coinciding_tasks_and_single_tasks_have_no_silhouette():
    assert mean_silhouette(np.zeros((4, 4)), np.array([0, 0, 1, 1])) == 0
    assert mean_silhouette(np.ones((3, 3)) - np.eye(3), np.arange(3)) == 0


def test_planted_groups_are_stable_and_apart():
    found = stability_by_size([planted(seed) for seed in range(3)], NAMES, [2, 3, 6])
    assert [row.n_clusters for row in found] == [2, 3, 6]
    assert found[1].stability == 1
    assert found[1].silhouette > 0.8 > found[2].silhouette
    assert found[2].stability < 1
    assert found == stability_by_size([planted(seed) for seed in range(3)], NAMES, [2, 3, 6])


def test_one_run_has_no_stability():
    (row,) = stability_by_size(planted(0), NAMES, [1])
    assert np.isnan(row.stability)
    assert np.isnan(row.silhouette)


def test_duplicates_count():
    features = planted(0)
    features[:3] = features[3]
    (row,) = stability_by_size(features, NAMES, [3])
    labels = np.repeat([0, 1, 2], 4)
    assert row.silhouette == pytest.approx(silhouette_score(features, labels))


@pytest.mark.parametrize("size", [0, 12])
def test_an_impossible_size(size):
    features = planted(0)
    features[0] = features[1]
    with pytest.raises(ValueError, match=f"Got {size} clusters and 11 different rows"):
        stability_by_size(features, NAMES, [3, size])


def test_missing_features():
    features = planted(0)
    features[2, 1] = np.nan
    with pytest.raises(ValueError, match=r"Tasks \['t2'\] have NaN features"):
        stability_by_size(features, NAMES, [3])
