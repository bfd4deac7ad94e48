import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cotrain.affinity import overlap
from cotrain.affinity.overlap import known_variance, overlap_correlation, shrunk


def reference(columns):
    """Pair by pair with numpy: correlations and numbers of common samples."""
    n = columns.shape[1]
    found, common = np.full((n, n), math.nan), np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            both = ~np.isnan(columns[:, i]) & ~np.isnan(columns[:, j])
            common[i, j] = both.sum()
            a, b = columns[both, i], columns[both, j]
            if len(a) and np.ptp(a) > 0 and np.ptp(b) > 0:
                found[i, j] = np.corrcoef(a, b)[0, 1]
    return found, common


def random_columns(n, missing, seed):
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(n, 1))
    columns = np.hstack(
        [
            hidden + rng.normal(size=(n, 3)),
            1e7 + hidden,  # far from 0
            1e-9 * rng.normal(size=(n, 1)),
            np.full((n, 1), 0.1),  # a constant whose mean is rounded
            rng.integers(2, size=(n, 1)).astype(float),
        ]
    )
    columns[rng.random(columns.shape) < missing] = math.nan
    columns[:, 2][: n // 2] = math.nan
    columns[:, 1][n // 2 :] = math.nan  # no sample in common with the column beside it
    return columns


@settings(deadline=None, max_examples=30)
@given(
    n=st.integers(1, 80),
    missing=st.sampled_from([0.0, 0.3, 0.9]),
    seed=st.integers(0, 999),
    chunk=st.sampled_from([1, 7, 8192]),
    whole=st.booleans(),
)
def test_every_pair_is_pearsons_over_its_common_samples(n, missing, seed, chunk, whole):
    columns = random_columns(n, missing, seed)
    if whole:
        columns = np.nan_to_num(columns, nan=0.1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overlap, "CHUNK", chunk)
        found, common = overlap_correlation(torch.tensor(columns))
    expected, expected_common = reference(columns)
    np.testing.assert_array_equal(common.numpy(), expected_common)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-6, equal_nan=True)
    assert found.nan_to_num().abs().le(1).all()


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 999))
def test_a_row_without_any_value_changes_nothing(seed):
    """It makes the complete case the masked one, so both ways of computing are compared."""
    columns = torch.randn(60, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found, common = overlap_correlation(columns)
    masked, masked_common = overlap_correlation(torch.cat([columns, torch.full((1, 5), torch.nan)]))
    torch.testing.assert_close(found, masked, rtol=0, atol=1e-13)
    assert torch.equal(common, masked_common)


def test_float32_values_keep_what_they_have():
    columns = 1 - 1e-4 * torch.rand(500, 3, generator=torch.Generator().manual_seed(0))
    found, _ = overlap_correlation(columns)
    np.testing.assert_allclose(found.numpy(), np.corrcoef(columns.double().numpy().T), rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(5, 0), (0, 0), (0, 2)])
def test_nothing_to_correlate(shape):
    found, common = overlap_correlation(torch.zeros(shape))
    assert found.shape == common.shape == (shape[1], shape[1])
    assert found.isnan().all()
    assert common.eq(0).all()


def test_few_common_samples_draw_a_correlation_towards_zero():
    common = torch.tensor([29.0, 30.0, 50.0, 1e12, 0.0]).double()
    found = shrunk(torch.full((5,), -0.8).double(), common)
    expected = torch.tensor([math.nan, -0.8 * 30 / 80, -0.4, -0.8, math.nan]).double()
    torch.testing.assert_close(found, expected, equal_nan=True)


def test_a_variance_that_is_rounding_is_not_known():
    square = torch.tensor([1.0, 1.0, 0.0, 1e20, math.nan], dtype=torch.float64)
    variance = torch.tensor([1e-11, 1e-13, 0.0, 1e6, math.nan], dtype=torch.float64)
    assert known_variance(variance, square).isnan().tolist() == [False, True, True, True, True]
    assert known_variance(variance, square)[0] == 1e-11
