import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted_affinities import partitions, plain_density, random_similarity

from cotrain.grouping.density_bound import centred, relaxation_bound, row_bound

PARTITIONS = {n: partitions(n) for n in range(2, 7)}


def best(similarity, n_clusters):
    return max(
        plain_density(similarity, labels)
        for labels in PARTITIONS[len(similarity)]
        if n_clusters is None or labels.max() + 1 == n_clusters
    )


@given(
    seed=st.integers(0, 9999),
    n_tasks=st.integers(2, 6),
    n_clusters=st.integers(1, 6) | st.none(),
    rough=st.floats(0, 10),
    exponent=st.integers(-8, 8),
)
def test_no_partition_is_denser_whatever_the_multipliers(seed, n_tasks, n_clusters, rough, exponent):
    n_clusters = None if n_clusters is None else min(n_clusters, n_tasks)
    similarity = random_similarity(n_tasks, seed) * 10.0**exponent
    multipliers = rough * random_similarity(n_tasks, seed + 1) * 10.0**exponent
    top = best(similarity, n_clusters)
    assert relaxation_bound(similarity, multipliers, n_clusters) >= top
    assert row_bound(similarity, n_clusters) >= top


@given(seed=st.integers(0, 9999), n_tasks=st.integers(2, 9), n_clusters=st.integers(1, 9))
def test_it_is_the_published_bound_at_its_best_row_multipliers(seed, n_tasks, n_clusters):
    n_clusters = min(n_clusters, n_tasks)
    rng = np.random.default_rng(seed)
    similarity, multipliers = random_similarity(n_tasks, seed), np.abs(random_similarity(n_tasks, seed + 1))
    raised = similarity + multipliers
    ours = relaxation_bound(similarity, multipliers, n_clusters)

    def published(y):
        return y.sum() + np.linalg.eigvalsh(raised - (y[:, None] + y) / 2)[n_tasks - n_clusters :].sum()

    for scale in (0, 1, 10):
        assert published(scale * rng.normal(size=n_tasks)) >= ours - 1e-9
    # y that makes e an eigenvector, of the K largest: then the two are equal.
    level = raised.mean() * 2 - 10 * np.abs(raised).sum()
    y = 2 * raised.mean(axis=0) - raised.mean() + (level - raised.mean()) / n_tasks
    assert published(y) == pytest.approx(ours, rel=1e-9, abs=1e-6)


def test_without_a_number_of_clusters_it_holds_for_every_number():
    similarity = random_similarity(12)
    bounds = [relaxation_bound(similarity, np.zeros((12, 12)), k) for k in range(1, 13)]
    assert relaxation_bound(similarity, np.zeros((12, 12)), None) == pytest.approx(max(bounds))
    assert row_bound(similarity, None) == pytest.approx(row_bound(similarity, 1))


def test_a_negative_multiplier_counts_as_none():
    similarity = random_similarity(8)
    assert relaxation_bound(similarity, -np.ones((8, 8)), 3) == relaxation_bound(similarity, np.zeros((8, 8)), 3)


def test_the_only_partition_is_bounded_by_its_density():
    similarity = random_similarity(8)
    alone, together = similarity.trace(), similarity.sum() / 8
    assert relaxation_bound(similarity, np.zeros((8, 8)), 8) == pytest.approx(alone)
    assert relaxation_bound(similarity, np.zeros((8, 8)), 1) == pytest.approx(together)
    assert row_bound(similarity, 8) == pytest.approx(alone)


def test_a_row_counts_with_its_own_diagonal_and_its_best_partners():
    similarity = np.array([[1.0, 4.0, -9.0], [4.0, -2.0, 0.0], [-9.0, 0.0, 6.0]])
    assert row_bound(similarity, None) == pytest.approx(5 / 2 + 2 / 2 + 6)
    similarity[0, 0] = -9.0
    assert row_bound(similarity, 2) == pytest.approx(-5 / 2 + 2 / 2 + 6)


def test_rows_of_a_centred_matrix_sum_to_0_and_other_directions_stay():
    similarity = random_similarity(7)
    found = centred(similarity)
    np.testing.assert_allclose(found.sum(axis=0), 0, atol=1e-12)
    direction = np.array([1.0, -1, 2, -2, 3, -3, 0])
    assert direction @ found @ direction == pytest.approx(direction @ similarity @ direction)
