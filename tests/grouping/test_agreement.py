import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from cotrain.grouping.agreement import (
    adjusted_rand_index,
    average_memberships,
    certainty,
    coassociation,
    consensus_labels,
    mean_agreement,
)

labels_of_nine = st.lists(st.integers(0, 4), min_size=9, max_size=9)


@given(labels_of_nine, labels_of_nine, st.permutations(range(5)))
def test_it_is_the_index_of_the_reference(first, second, numbers):
    found = adjusted_rand_index(first, second)
    assert found == pytest.approx(adjusted_rand_score(first, second))
    assert found == adjusted_rand_index(second, first)
    assert found == pytest.approx(adjusted_rand_index([numbers[label] for label in first], second))
    assert adjusted_rand_index(first, first) == 1
    assert adjusted_rand_index([*first, -1, 0], [*second, 0, -1]) == found


def test_partitions_without_choice_agree():
    assert adjusted_rand_index([0, 0, 0], [1, 1, 1]) == 1
    assert adjusted_rand_index([0, 1, 2], [2, 1, 0]) == 1
    assert adjusted_rand_index([0, 1, 2], [0, 0, 0]) == 0
    assert np.isnan(adjusted_rand_index([0, -1], [0, 1]))
    assert np.isnan(mean_agreement([[0, 1]]))
    assert mean_agreement([[0, 0, 1, 1], [1, 1, 0, 0], [0, 1, 0, 1]]) == pytest.approx(
        (1 + 2 * adjusted_rand_score([0, 0, 1, 1], [0, 1, 0, 1])) / 3
    )


@given(st.lists(st.lists(st.integers(-1, 3), min_size=6, max_size=6), min_size=1, max_size=5))
def test_coassociation_counts_pairs(labellings):
    found = coassociation(labellings)
    for s in range(6):
        for t in range(6):
            counted = [labels for labels in labellings if labels[s] >= 0 and labels[t] >= 0]
            if counted:
                assert found[s, t] == pytest.approx(np.mean([labels[s] == labels[t] for labels in counted]))
            else:
                assert np.isnan(found[s, t])


@given(labels_of_nine, st.integers(1, 9))
def test_the_consensus_of_equal_partitions_is_the_partition(labels, n_clusters):
    n_given = len(set(labels))
    found = consensus_labels(coassociation([labels, labels]), n_clusters)
    assert len(set(found)) == min(n_given, n_clusters)
    if n_clusters >= n_given:
        assert adjusted_rand_index(found, labels) == 1  # tasks that are always together are not torn apart


def test_the_consensus_outvotes_a_stray():
    truth = np.repeat([0, 1, 2], 4)
    votes = [truth, truth.copy(), (truth + 1) % 3]
    votes[1][0] = 2
    assert adjusted_rand_index(consensus_labels(coassociation(votes), 3), truth) == 1
    assert consensus_labels(np.ones((1, 1)), 1).tolist() == [0]


def test_the_consensus_joins_by_the_mean_and_not_along_a_chain():
    place = np.array([0, 1, 2.1, 3.3])
    assert consensus_labels(1 - abs(place[:, None] - place) / 4, 2).tolist() == [0, 0, 1, 1]


@given(seed=st.integers(0, 999))
def test_renumbered_memberships_average_to_themselves(seed):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(3), rng.integers(3, size=7)])
    weights = 0.3 * rng.dirichlet(np.ones(3), size=10) + 0.7 * np.eye(3)[labels]
    renumbered = [weights[:, rng.permutation(3)] for _ in range(4)]
    found = average_memberships(renumbered, labels)
    np.testing.assert_allclose(found, weights, atol=1e-12)
    np.testing.assert_array_equal(found.argmax(axis=1), labels)


@given(labels=st.lists(st.integers(-1, 3), min_size=8, max_size=8), seed=st.integers(0, 99))
def test_certainty_is_the_mean_over_the_mates(labels, seed):
    rng = np.random.default_rng(seed)
    together = rng.random((8, 8))
    found = certainty(together, np.array(labels))
    for t, label in enumerate(labels):
        mates = [s for s in range(8) if s != t and labels[s] == label]
        if label < 0:
            assert np.isnan(found[t])
        elif mates:
            assert found[t] == pytest.approx(together[t, mates].mean())
        else:
            assert found[t] == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: adjusted_rand_index([0, 1], [0, 1, 2]), r"Got \[2\] and \[3\]"),
        (lambda: adjusted_rand_index([[0, 1]], [[0, 1]]), r"Got \[1, 2\] and"),
        (lambda: coassociation([]), r"Got the shapes \[\]"),
        (lambda: coassociation([[0, 1], [0]]), r"Got the shapes \[\(1,\), \(2,\)\]"),
        (lambda: coassociation([[[0, 1]]]), r"Got the shapes \[\(1, 2\)\]"),
    ],
)
def test_labels_that_do_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call()
