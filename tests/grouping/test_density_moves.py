import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted_affinities import plain_density, planted, random_similarity

from cotrain.grouping.density import density
from cotrain.grouping.density_moves import by_moves, by_moves_and_swaps


def start(seed, n_tasks, n_clusters):
    rng = np.random.default_rng(seed)
    return rng.permutation(np.arange(n_tasks) % n_clusters)


def moved(labels, *, free):
    """All partitions that one move makes of it."""
    for t in range(len(labels)):
        if free or (labels == labels[t]).sum() > 1:
            for k in range(labels.max() + 2 if free else labels.max() + 1):
                other = labels.copy()
                other[t] = k
                yield other


def swapped(labels):
    for i in range(len(labels)):
        for j in range(i):
            other = labels.copy()
            other[[i, j]] = other[[j, i]]
            yield other


cases = given(
    seed=st.integers(0, 9999),
    n_tasks=st.integers(2, 10),
    n_clusters=st.integers(1, 5),
    free=st.booleans(),
    unit=st.sampled_from([1e-20, 1.0, 1e20]),
)


@cases
def test_no_move_is_left_that_raises_the_density(seed, n_tasks, n_clusters, free, unit):
    n_clusters = min(n_clusters, n_tasks)
    similarity, first = random_similarity(n_tasks, seed) * unit, start(seed, n_tasks, n_clusters)
    before = first.copy()
    labels = by_moves(similarity, first, free=free)
    np.testing.assert_array_equal(first, before)
    reached = plain_density(similarity, labels)
    assert reached >= plain_density(similarity, first) - 1e-9 * unit
    assert all(plain_density(similarity, other) <= reached + 1e-8 * unit for other in moved(labels, free=free))
    assert sorted(set(labels.tolist())) == list(range(labels.max() + 1))
    assert free or labels.max() + 1 == n_clusters


@cases
def test_no_swap_is_left_either(seed, n_tasks, n_clusters, free, unit):
    n_clusters = min(n_clusters, n_tasks)
    similarity, first = random_similarity(n_tasks, seed) * unit, start(seed, n_tasks, n_clusters)
    labels = by_moves_and_swaps(similarity, first, free=free)
    reached = plain_density(similarity, labels)
    assert reached >= plain_density(similarity, by_moves(similarity, first, free=free)) - 1e-9 * unit
    neighbours = [*moved(labels, free=free), *swapped(labels)]
    assert all(plain_density(similarity, other) <= reached + 1e-8 * unit for other in neighbours)
    assert free or labels.max() + 1 == n_clusters


def test_swaps_find_what_moves_miss():
    gains = []
    for seed in range(20):
        similarity = random_similarity(12, seed)
        alone = by_moves(similarity, start(seed, 12, 4), free=False)
        both = by_moves_and_swaps(similarity, start(seed, 12, 4), free=False)
        gains.append(density(similarity, both) - density(similarity, alone))
    assert max(gains) > 0.01


def test_a_free_number_of_clusters_is_opened_and_emptied():
    similarity, truth = planted(60, 20, strength=5.0, noise=0.1)
    similarity = (similarity + similarity.T) / 2
    np.fill_diagonal(similarity, 0.0)
    labels = by_moves(similarity, np.arange(60), free=True)
    np.testing.assert_array_equal(labels[:, None] == labels, truth[:, None] == truth)
    # Far more clusters are worth it than may be empty at a time.
    repelling = -np.ones((60, 60)) - 0.01 * np.diag(np.arange(60.0))
    assert len(set(by_moves(repelling + 2 * np.eye(60), np.arange(60) % 2, free=True).tolist())) == 60


def test_it_stops_at_the_deadline():
    similarity, first = random_similarity(12), start(0, 12, 4)
    np.testing.assert_array_equal(by_moves(similarity, first, free=False, deadline=time.monotonic()), first)
    once = by_moves_and_swaps(similarity, first, free=False, deadline=time.monotonic())
    whole = by_moves_and_swaps(similarity, first, free=False)
    assert density(similarity, first) < density(similarity, once) < density(similarity, whole)


@pytest.mark.parametrize("free", [False, True])
def test_planted_clusters_are_kept(free):
    similarity, truth = planted(40, 4, strength=3.0, noise=0.1)
    similarity = (similarity + similarity.T) / 2
    np.fill_diagonal(similarity, 0.0)
    disturbed = truth.copy()
    disturbed[:6] = (disturbed[:6] + 1) % 4
    labels = by_moves_and_swaps(similarity, disturbed, free=free)
    np.testing.assert_array_equal(labels[:, None] == labels, truth[:, None] == truth)
