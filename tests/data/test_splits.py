import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cotrain.data.splits import random_split, stratified_split
from cotrain.errors import DataError

LABELS = st.lists(st.integers(0, 4), min_size=10, max_size=200).map(np.array)


@settings(deadline=None)
@given(LABELS, st.integers(0, 9))
def test_every_sample_is_in_exactly_one_part(labels: np.ndarray, seed: int) -> None:
    parts = stratified_split(labels, shares=(0.4, 0.3, 0.3), seed=seed)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(labels)))


@settings(deadline=None)
@given(LABELS)
def test_every_class_is_shared_alike(labels: np.ndarray) -> None:
    shares = (0.4, 0.3, 0.3)
    parts = stratified_split(labels, shares=shares)
    for label in np.unique(labels):
        for part, share in zip(parts, shares, strict=True):
            assert abs((labels[part] == label).sum() - share * (labels == label).sum()) <= 1


def test_a_split_is_random_and_seeded() -> None:
    first, again, other = (random_split(100, seed=seed) for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])
    assert [len(part) for part in first] == [60, 20, 20]


@pytest.mark.parametrize("shares", [(0.5, 0.5, 0.5), (1.0, 0.0, 0.0), (1.2, -0.1, -0.1)])
def test_shares_must_sum_to_one(shares: tuple[float, float, float]) -> None:
    with pytest.raises(DataError, match="positive with sum 1"):
        random_split(100, shares=shares)


def test_too_few_samples() -> None:
    with pytest.raises(DataError, match="2 samples are too few"):
        random_split(2)


@settings(deadline=None)
@given(st.integers(1, 300), st.tuples(*[st.integers(1, 20)] * 3))
def test_parts_of_any_shares_hold_all_samples_or_the_split_is_refused(
    n_samples: int, ratio: tuple[int, int, int]
) -> None:
    shares = (ratio[0] / sum(ratio), ratio[1] / sum(ratio), ratio[2] / sum(ratio))
    try:
        parts = random_split(n_samples, shares=shares)
    except DataError:
        assert min(shares) * n_samples < 1
    else:
        assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(n_samples))
        assert all(abs(len(part) - share * n_samples) <= 1 for part, share in zip(parts, shares, strict=True))
