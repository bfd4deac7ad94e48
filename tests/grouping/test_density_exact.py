import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted_affinities import partitions, plain_density, random_similarity

from cotrain.grouping.density import density
from cotrain.grouping.density_exact import densest_partition

PARTITIONS = {n: partitions(n) for n in range(2, 8)}


@given(seed=st.integers(0, 9999), n_tasks=st.integers(2, 7), n_clusters=st.integers(1, 7) | st.none())
def test_it_is_the_best_of_all_partitions(seed, n_tasks, n_clusters):
    n_clusters = None if n_clusters is None else min(n_clusters, n_tasks)
    similarity = random_similarity(n_tasks, seed)
    allowed = [part for part in PARTITIONS[n_tasks] if n_clusters is None or part.max() + 1 == n_clusters]
    labels, compared = densest_partition(similarity, n_clusters)
    assert compared == 2**n_tasks - 1
    assert n_clusters is None or len(set(labels.tolist())) == n_clusters
    assert density(similarity, labels) == pytest.approx(max(plain_density(similarity, part) for part in allowed))


def test_ties_go_to_fewer_clusters():
    labels, _ = densest_partition(np.zeros((6, 6)), None)
    np.testing.assert_array_equal(labels, 0)


def test_it_stops_at_the_deadline():
    assert densest_partition(random_similarity(6), 3, time.monotonic()) is None
