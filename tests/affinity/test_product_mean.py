import numpy as np
import pytest
import torch

from cotrain.affinity.product_mean import ProductMean
from cotrain.files import read_state, write_state


def observations(n, seed=0, missing=0.2, correlated=0.0):
    g = torch.Generator().manual_seed(seed)
    found, drift = [], torch.zeros(4, 3).double()
    for _ in range(n):
        drift = correlated * drift + torch.randn(4, 3, generator=g).double()
        left, right = drift.clone(), torch.randn(5, 3, generator=g).double()
        left[torch.rand(4, generator=g) < missing] = torch.nan
        right[torch.rand(5, generator=g) < missing] = torch.nan
        found.append((left, right, float(torch.rand(1, generator=g)) + 0.1))
    return found


def plain(found):
    """[n, 4, 5] products, NaN where not seen, and weights."""
    return np.array([(left @ right.T).numpy() for left, right, _ in found]), np.array([w for *_, w in found])


@pytest.mark.parametrize("n", [1, 7, 10, 43])
def test_mean_and_count_are_those_of_the_products(n):
    found = observations(n)
    mean = ProductMean(4, 5)
    for one in found:
        mean.add(*one)
    products, weights = plain(found)
    seen = ~np.isnan(products)
    total = (np.nan_to_num(products) * weights[:, None, None]).sum(0)
    share = (seen * weights[:, None, None]).sum(0)
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(mean.mean().numpy(), total / share, rtol=1e-12)
    assert np.array_equal(mean.count.numpy(), seen.sum(0))


def test_the_error_is_that_of_block_means():
    found = [(left, right, 1.0) for left, right, _ in observations(70, missing=0)]
    mean = ProductMean(4, 5)
    for one in found:
        mean.add(*one)
    blocks = plain(found)[0].reshape(7, 10, 4, 5).mean(1)
    np.testing.assert_allclose(mean.stderr().numpy(), blocks.std(0, ddof=1) / 7**0.5, rtol=1e-10)


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_intervals_cover_the_truth(missing):
    """Products of independent rows are 0 on average: 95 % intervals must hold it in 90 to 99 % of the cases."""
    held = []
    for seed in range(60):
        mean = ProductMean(4, 5)
        for one in observations(200, seed=seed, missing=missing, correlated=0.3):
            mean.add(*one)
        held.append(mean.mean().abs() < 2.1 * mean.stderr())
    assert 0.9 < torch.stack(held).double().mean() < 0.99


@pytest.mark.parametrize("repeats", [1, 2, 5])
def test_the_effective_number_counts_what_is_independent(repeats):
    """Every observation so many times in a row: n / repeats, also where entries are missing."""
    found = []
    for seed in range(20):
        mean = ProductMean(4, 5)
        for left, right, _ in observations(200 // repeats, seed=seed):
            for _ in range(repeats):
                mean.add(left, right)
        found.append(mean.effective_n() / mean.count * repeats)
        assert (mean.effective_n() <= mean.count).all()
    ratio = torch.stack(found)
    assert ratio.median() == pytest.approx(0.95 if repeats == 1 else 1.05, abs=0.15)  # cut at n; 19 degrees of freedom


def test_the_effective_number_is_the_variance_of_one_over_that_of_the_mean():
    found = observations(90, missing=0)
    mean = ProductMean(4, 5)
    for one in found:
        mean.add(*one)
    products, weights = plain(found)
    kish = weights.sum() ** 2 / (weights**2).sum()
    centred = products - np.average(products, axis=0, weights=weights)
    variance = np.average(centred**2, axis=0, weights=weights) * kish / (kish - 1)
    expected = np.clip(variance / mean.stderr().numpy() ** 2, 1, kish)
    np.testing.assert_allclose(mean.effective_n().numpy(), expected, rtol=1e-9)


def test_a_constant_has_as_many_as_observations():
    mean = ProductMean(4, 5)
    left, right, _ = observations(1, missing=0)[0]
    for _ in range(40):
        mean.add(left, right)
    assert (mean.effective_n() == 40).all()


def test_without_errors_the_mean_is_the_same(tmp_path):
    found = observations(33)
    whole, lean, resumed = ProductMean(4, 5), ProductMean(4, 5, errors=False), ProductMean(4, 5, errors=False)
    for one in found:
        whole.add(*one)
        lean.add(*one)
    write_state(tmp_path / "state.safetensors", lean.state_dict())
    resumed.load_state_dict(read_state(tmp_path / "state.safetensors"))
    assert torch.equal(lean.mean().nan_to_num(), whole.mean().nan_to_num())
    resumed.merge(lean.state_dict())
    torch.testing.assert_close(resumed.mean(), lean.mean(), equal_nan=True)
    assert torch.equal(resumed.count, 2 * lean.count)
    assert set(lean.state_dict()) < set(whole.state_dict())


def test_fewer_than_three_blocks_have_no_error():
    mean = ProductMean(4, 5)
    for one in observations(20, missing=0):
        mean.add(*one)
    assert mean.stderr().isnan().all()
    assert mean.effective_n().isnan().all()
    mean.add(*observations(1, missing=0)[0])
    assert mean.stderr().isfinite().all()


def test_merging_is_as_one_stream_and_resuming_as_none(tmp_path):
    found = observations(57)
    whole, first, second, resumed = (ProductMean(4, 5) for _ in range(4))
    for number, one in enumerate(found):
        whole.add(*one)
        (first if number < 30 else second).add(*one)
        if number == 33:
            write_state(tmp_path / "state.safetensors", whole.state_dict())
            resumed.load_state_dict(read_state(tmp_path / "state.safetensors"))
        if number > 33:
            resumed.add(*one)
    assert torch.equal(resumed.mean(), whole.mean())
    assert torch.equal(resumed.stderr(), whole.stderr())
    first.merge(second.state_dict())
    torch.testing.assert_close(first.mean(), whole.mean(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(first.stderr(), whole.stderr(), rtol=1e-10, atol=1e-12)
    assert torch.equal(resumed.effective_n(), whole.effective_n())
    torch.testing.assert_close(first.effective_n(), whole.effective_n(), rtol=1e-8, atol=1e-8)
    assert torch.equal(first.count, whole.count)
