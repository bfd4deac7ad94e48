from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotrain.grouping.partition_controls import (
    between_share,
    difficulty_matched,
    difficulty_order,
    random_partition,
)

labellings = st.lists(st.integers(-1, 3), min_size=1, max_size=12)


def difficulty_of(labels, seed):
    """NaN where a task was left out: nobody asks there."""
    values = np.random.default_rng(seed).random(len(labels))
    values[np.array(labels) < 0] = np.nan
    return values


@given(labellings, st.integers(0, 99), st.integers(1, 5))
def test_sizes_stay_and_what_was_left_out_stays_out(labels, seed, n_bins):
    values, rng = difficulty_of(labels, seed), np.random.default_rng(seed)
    for found in (
        random_partition(labels, rng),
        difficulty_order(labels, values),
        difficulty_matched(labels, values, rng, n_bins),
    ):
        assert sorted(found) == sorted(labels)
        np.testing.assert_array_equal(found < 0, np.array(labels) < 0)


def test_every_permutation_is_drawn_alike():
    rng = np.random.default_rng(0)
    alone = np.bincount([random_partition([0, -1, 0, 1], rng).argmax() for _ in range(3000)], minlength=4)
    assert alone[1] == 0
    assert (abs(alone[[0, 2, 3]] - 1000) < 130).all()


@given(labellings, st.integers(0, 99))
def test_difficulty_cuts_the_sorted_tasks(labels, seed):
    values = difficulty_of(labels, seed)
    found = difficulty_order(labels, values)
    ordered = [found[t] for t in np.argsort(values) if labels[t] >= 0]
    assert sum(one != other for one, other in pairwise(ordered)) == max(len(set(ordered)) - 1, 0)
    means = {k: np.mean([v for v, label in zip(values, labels, strict=True) if label == k]) for k in set(ordered)}
    assert list(dict.fromkeys(ordered)) == sorted(means, key=means.get)


def test_clusters_of_difficulty_are_their_own_control():
    labels = np.array([2, 0, 0, 1, 2, -1])
    values = np.array([0.2, 0.9, 0.8, 0.5, 0.1, 0.0])
    np.testing.assert_array_equal(difficulty_order(labels, values), labels)
    np.testing.assert_array_equal(difficulty_matched(labels, values, np.random.default_rng(0), 5), labels)


def test_matched_clusters_have_the_same_labels_in_every_bin():
    rng = np.random.default_rng(0)
    values = rng.random(20)
    labels = rng.integers(4, size=20)
    draws = [difficulty_matched(labels, values, rng, 3) for _ in range(20)]
    order = np.argsort(values)
    for found in draws:
        for bin_of in (order[:7], order[7:14], order[14:]):
            assert sorted(found[bin_of]) == sorted(labels[bin_of])
    assert len({tuple(found) for found in draws}) > 10
    whole = {tuple(sorted(difficulty_matched(labels, values, rng, 1)[order[:7]])) for _ in range(20)}
    assert len(whole) > 1
    assert difficulty_matched(labels, values, rng).shape == (20,)


@given(labellings, st.integers(0, 99))
def test_the_share_between_is_the_rest_of_that_within(labels, seed):
    values = difficulty_of(labels, seed)
    labels = np.array(labels)
    found = between_share(values, labels)
    kept = labels >= 0
    if kept.sum() < 2:
        assert np.isnan(found)
        return
    within = sum(((values[labels == k] - values[labels == k].mean()) ** 2).sum() for k in set(labels[kept]))
    total = ((values[kept] - values[kept].mean()) ** 2).sum()
    assert found == pytest.approx(1 - within / total, abs=1e-9)
    assert 0 <= found <= 1


def test_values_that_do_not_vary_have_no_share():
    assert np.isnan(between_share([0.1, 0.1, 0.1], [0, 1, 1]))
    assert between_share([0.1, 0.2, 0.2], [0, 1, 1]) == 1
    assert between_share([0.1, 0.2, 0.2, np.inf], [0, 1, 1, -1]) == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda rng: random_partition([[0, 1]], rng), r"\[T\] integers. Got int64 \[1, 2\]"),
        (lambda rng: random_partition([0.0, 1.0], rng), "Got float64"),
        (lambda rng: difficulty_order([0, 1], [0.1]), r"one difficulty per label, \[2\]. Got \[1\]"),
        (lambda rng: difficulty_order([0, 1], [0.1, np.nan]), "difficulty of task 1 is nan"),
        (lambda rng: difficulty_matched([0, 1], [0.1, 0.2], rng, 0), "n_bins must be at least 1. Got 0"),
        (lambda rng: between_share([np.inf, 0.2], [0, 1]), "value of task 0 is inf"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.random.default_rng(0))
