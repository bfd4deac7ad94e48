import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from cotrain.pareto.low_rank import LowRank, PerSample, plain


def parts(rows, columns, rank, seed, samples=None):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((rows, columns), (rows, rank), (rank, columns), (rank,) if samples is None else (samples, rank))
    return [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]


def dense_of(base, up, down, gates):
    return base + up @ torch.diag(gates) @ down


def assert_same_gradients(found, expected, leaves):
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    cotangent = torch.randn(found.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for one, other in zip(
        torch.autograd.grad(found, leaves, cotangent), torch.autograd.grad(expected, leaves, cotangent), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


sizes = st.integers(1, 6)


@given(sizes, sizes, sizes, st.sampled_from([1, 2, 200]), st.booleans(), st.integers(0, 20))
def test_linear_with_few_rows_and_with_many(rows, columns, rank, samples, with_bias, seed):
    leaves = parts(rows, columns, rank, seed)
    features = torch.randn(samples, columns, dtype=torch.float64)
    bias = torch.randn(rows, dtype=torch.float64) if with_bias else None
    found = F.linear(features, LowRank(*leaves), bias)
    assert_same_gradients(found, F.linear(features, dense_of(*leaves), bias), leaves)


@given(sizes, sizes, sizes, st.booleans(), st.booleans(), st.integers(0, 20))
def test_embedding(rows, columns, rank, padded, by_frequency, seed):
    leaves = parts(rows, columns, rank, seed)
    if padded:
        leaves[1].data[0] = 0  # as it is at the start, and stays, since nothing reaches it
    numbers = torch.randint(rows, (3, 2), generator=torch.Generator().manual_seed(seed))
    padding = 0 if padded else None
    found = F.embedding(numbers, LowRank(*leaves), padding, scale_grad_by_freq=by_frequency)
    expected = F.embedding(numbers, dense_of(*leaves), padding, scale_grad_by_freq=by_frequency)
    assert_same_gradients(found, expected, leaves)


def test_an_embedding_of_bounded_rows():
    leaves = parts(5, 4, 2, 0)
    with torch.no_grad():
        found = F.embedding(torch.arange(5), LowRank(*leaves), max_norm=1.0)
        assert torch.equal(found, F.embedding(torch.arange(5), LowRank(*leaves).dense(), max_norm=1.0))
    assert float(found.norm(dim=1).max()) <= 1 + 1e-6


@pytest.mark.parametrize(
    "use",
    [
        lambda weight, x: x @ weight.t(),
        lambda weight, x: torch.einsum("bi,oi->bo", x, weight),
        lambda weight, x: (weight * 2).sum() + x.sum(),
        lambda weight, x: F.linear(x, F.normalize(weight, dim=1)),
        lambda weight, x: torch.cat([weight, weight])[1:],
        lambda weight, x: F.bilinear(x, x, weight.unsqueeze(0).expand(2, -1, -1)[:, :4, :4]),
    ],
)
def test_everything_else_gets_the_dense_weight(use):
    leaves = parts(5, 4, 2, 0)
    features = torch.randn(3, 4, dtype=torch.float64)
    assert_same_gradients(use(LowRank(*leaves), features), use(dense_of(*leaves), features), leaves)


@given(sizes, sizes, sizes, st.integers(1, 5), st.booleans(), st.integers(0, 20))
def test_one_preference_per_sample_is_each_sample_alone(rows, columns, rank, samples, sequence, seed):
    base, up, down, gates = leaves = parts(rows, columns, rank, seed, samples)
    biases = torch.randn(samples, rows, dtype=torch.float64, requires_grad=True)
    shape = (samples, 3, columns) if sequence else (samples, columns)
    features = torch.randn(shape, dtype=torch.float64)
    found = F.linear(features, LowRank(*leaves), PerSample(biases))
    expected = torch.stack(
        [F.linear(features[n], dense_of(base, up, down, gates[n]), biases[n]) for n in range(samples)]
    )
    assert_same_gradients(found, expected, [*leaves, biases])
    numbers = torch.randint(rows, shape[:-1])
    expected = torch.stack([F.embedding(numbers[n], dense_of(base, up, down, gates[n])) for n in range(samples)])
    assert_same_gradients(F.embedding(numbers, LowRank(*leaves)), expected, leaves)


def test_per_sample_values_where_there_can_be_none():
    weight = LowRank(*parts(5, 4, 2, 0, samples=3))
    with pytest.raises(ValueError, match="One preference per sample is possible where"):
        weight * 2
    with pytest.raises(ValueError, match="One preference per sample is possible where"):
        F.layer_norm(torch.randn(3, 5), (5,), PerSample(torch.ones(3, 5)))
    with pytest.raises(ValueError, match=r"Got 3 preferences and features of shape \[6, 4\]"):
        F.linear(torch.randn(6, 4, dtype=torch.float64), weight)


def test_a_shape_is_asked_without_forming_the_weight(monkeypatch):
    weight = LowRank(*parts(5, 4, 2, 0))
    monkeypatch.setattr(LowRank, "dense", lambda self: pytest.fail("formed"))
    assert (weight.shape, weight.ndim, weight.size(1), weight.numel()) == ((5, 4), 2, 4, 20)
    assert weight.dtype == torch.float64
    assert not weight.is_sparse


def test_plain_is_dense_and_has_memory_of_its_own():
    leaves = parts(5, 4, 2, 0)
    assert type(plain(LowRank(*leaves))) is torch.Tensor
    whole = torch.randn(2, 3)
    assert plain(whole) is whole
    row = plain(whole[0])
    assert row.untyped_storage().nbytes() == row.nbytes
