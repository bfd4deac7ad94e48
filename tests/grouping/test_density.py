import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted_affinities import indicator, plain_density, random_similarity

from cotrain.grouping.density import cluster_members, density, in_order, is_proven


@given(seed=st.integers(0, 9999), labels=st.lists(st.integers(-3, 5), min_size=1, max_size=12))
def test_density_is_its_definition(seed, labels):
    similarity = random_similarity(len(labels), seed)
    found = density(similarity, np.array(labels))
    assert found == pytest.approx(plain_density(similarity, labels), abs=1e-12)
    assert found == pytest.approx((similarity * indicator(labels)).sum(), abs=1e-12)


@given(labels=st.lists(st.integers(-3, 5), min_size=1, max_size=12))
def test_clusters_are_in_the_order_of_their_first_task(labels):
    labels = np.array(labels)
    numbered = in_order(labels)
    assert [int(np.flatnonzero(numbered == k)[0]) for k in range(numbered.max() + 1)] == sorted(
        int(np.flatnonzero(labels == k)[0]) for k in set(labels.tolist())
    )
    np.testing.assert_array_equal(numbered[:, None] == numbered, labels[:, None] == labels)
    members = cluster_members(labels)
    assert [group.tolist() for group in members] == [
        np.flatnonzero(numbered == k).tolist() for k in range(numbered.max() + 1)
    ]


def test_a_gap_counts_in_units_of_the_largest_entry():
    similarity = np.array([[0.0, -1e3], [-1e3, 0.0]])
    assert is_proven(similarity, 5.0, 5.0009)
    assert not is_proven(similarity, 5.0, 5.0011)
    assert not is_proven(similarity / 1e3, 5.0, 5.0009)
