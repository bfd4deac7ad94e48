import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cotrain.affinity.statistics import RunningMean


@settings(deadline=None, max_examples=40)
@given(n=st.integers(1, 95), missing=st.floats(0, 0.9), offset=st.floats(-100, 100), seed=st.integers(0, 99))
def test_streaming_equals_the_stored_history(n, missing, offset, seed):
    g = torch.Generator().manual_seed(seed)
    history = torch.randn(n, 2, 3, generator=g, dtype=torch.float64) + offset
    history[torch.rand(n, 2, 3, generator=g) < missing] = torch.nan
    running = RunningMean(2, 3)
    for values in history:
        running.add(values)
    for i in range(2):
        for j in range(3):
            seen = history[:, i, j]
            seen = seen[~seen.isnan()]
            k = len(seen)
            assert running.count[i, j] == k
            mean, stderr = running.mean()[i, j], running.stderr()[i, j]
            if not k:
                assert mean.isnan()
                continue
            torch.testing.assert_close(mean, seen.mean())
            if k < 10:
                assert stderr.isnan()
            elif k < 40:
                torch.testing.assert_close(stderr, seen.std() / k**0.5, rtol=1e-6, atol=1e-8)
            else:
                blocks = seen[: k // 10 * 10].reshape(-1, 10).mean(1)
                torch.testing.assert_close(stderr, blocks.std() * (10 / k) ** 0.5, rtol=1e-5, atol=1e-7)


def test_a_constant_has_no_error():
    running = RunningMean(1)
    for _ in range(50):
        running.add(torch.tensor([0.1], dtype=torch.float64))
    assert running.stderr().item() < 1e-8


@pytest.mark.parametrize("correlation", [0.0, 0.15])
def test_intervals_hold_the_mean(correlation):
    """200 planted repetitions of 300 neighbouring observations: 95 % intervals hold the truth in 90-99 %."""
    g = torch.Generator().manual_seed(0)
    running, state = RunningMean(200), torch.randn(200, generator=g)
    for _ in range(300):
        noise = torch.randn(200, generator=g)
        state = correlation * state + (1 - correlation**2) ** 0.5 * noise
        running.add(state.double() + 3)
    covered = ((running.mean() - 3).abs() < 1.96 * running.stderr()).double().mean()
    assert 0.9 <= covered <= 0.99


def test_resuming_equals_no_interruption():
    g = torch.Generator().manual_seed(0)
    whole, part = RunningMean(3), RunningMean(3)
    for step in range(55):
        values = torch.randn(3, generator=g, dtype=torch.float64)
        whole.add(values)
        part.add(values)
        if step == 27:
            state = part.state_dict()
            part.add(values)  # what happens after saving is not in the saved state
            part = RunningMean(3)
            part.load_state_dict(state)
    torch.testing.assert_close(part.state_dict(), whole.state_dict(), rtol=0, atol=0)


def filled(history, weights=None):
    running = RunningMean(*history.shape[1:])
    for number, values in enumerate(history):
        running.add(values, 1.0 if weights is None else weights[number])
    return running


def noise(n, *shape, seed=0, missing=0.0):
    g = torch.Generator().manual_seed(seed)
    history = torch.randn(n, *shape, generator=g, dtype=torch.float64) + 2
    return history.masked_fill(torch.rand(n, *shape, generator=g) < missing, torch.nan)


def plain_statistics(seen, weights):
    """Mean, standard error and Kish's n of one entry, written down from the definitions."""
    n = weights.sum() ** 2 / (weights**2).sum()
    mean = (weights * seen).sum() / weights.sum()
    freedom = weights.sum() - (weights**2).sum() / weights.sum()
    variance = (weights * (seen - mean) ** 2).sum() / freedom
    single = variance
    if len(seen) >= 40:
        k = len(seen) // 10 * 10
        w, x = weights[:k].reshape(-1, 10), seen[:k].reshape(-1, 10)
        of_block = w.sum(1)
        means = (w * x).sum(1) / of_block
        middle = (of_block * means).sum() / of_block.sum()
        squares = (w**2).sum(1)
        expected = (squares / of_block).sum() - squares.sum() / of_block.sum()  # of the next line, in variances
        variance = (of_block * (means - middle) ** 2).sum() / expected
    return mean, (variance / n).sqrt(), n, single


@given(
    n=st.integers(1, 70),
    missing=st.floats(0, 0.6),
    first_weighted=st.integers(0, 45),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
    seed=st.integers(0, 99),
)
def test_weights_equal_the_definitions(n, missing, first_weighted, scale, seed):
    history = noise(n, 3, seed=seed, missing=missing)
    weights = torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.1
    weights[:first_weighted] = 1
    weights[::7] = 0
    running = filled(history, (weights * scale).tolist())
    for entry in range(3):
        kept = ~history[:, entry].isnan() & (weights > 0)
        assert running.count[entry] == kept.sum()
        mean, stderr, kish, variance = plain_statistics(history[kept, entry], weights[kept])
        torch.testing.assert_close(running.mean()[entry], mean, equal_nan=True)
        if kept.sum() < 10:
            assert running.stderr()[entry].isnan()
            assert running.effective_n()[entry].isnan()
            continue
        torch.testing.assert_close(running.stderr()[entry], stderr, rtol=1e-6, atol=1e-9)
        effective = (variance / stderr**2).clamp(1).minimum(kish)
        torch.testing.assert_close(running.effective_n()[entry], effective, rtol=1e-5, atol=1e-9)


def test_equal_weights_are_no_weights():
    history = noise(87, 4, missing=0.2)
    plain, equal = filled(history), filled(history, [0.5] * 87)  # a power of 2: no rounding
    for statistic in ("mean", "stderr", "effective_n"):
        torch.testing.assert_close(getattr(equal, statistic)(), getattr(plain, statistic)(), rtol=1e-12, atol=0)


def test_weight_zero_counts_nothing():
    history = noise(60, 3)
    with_zeros = RunningMean(3)
    for values in history:
        with_zeros.add(values)
        with_zeros.add(values * 1e9, weight=0)
    torch.testing.assert_close(with_zeros.state_dict(), filled(history).state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_weight_is_a_number_from_0_on(weight):
    running = RunningMean(1)
    with pytest.raises(ValueError, match="weight must be a finite number of at least 0"):
        running.add(torch.ones(1), weight)
    assert running.count.item() == 0


def test_weighted_intervals_hold_the_mean():
    """Rising weights over 300 independent observations, 400 times: 95 % intervals hold the truth in 90-99 %."""
    weights = torch.linspace(0.01, 1, 300).tolist()
    running = filled(noise(300, 400), weights)
    covered = ((running.mean() - 2).abs() < 1.96 * running.stderr()).double().mean()
    assert 0.9 <= covered <= 0.99


@given(
    sizes=st.lists(st.integers(0, 60), min_size=1, max_size=5),
    missing=st.floats(0, 0.6),
    weighted=st.lists(st.booleans(), min_size=5, max_size=5),
    as_state=st.booleans(),
)
def test_merged_parts_have_the_mean_of_everything(sizes, missing, weighted, as_state):
    history = noise(sum(sizes), 3, seed=len(sizes), missing=missing)
    parts = history.split(sizes)
    each = [torch.linspace(0.5, 3, n).double() if w else torch.ones(n) for n, w in zip(sizes, weighted, strict=False)]
    total = RunningMean(3)
    for part, weights in zip(parts, each, strict=True):
        other = filled(part, weights.tolist())
        before = other.state_dict()
        total.merge(before if as_state else other)
        torch.testing.assert_close(other.state_dict(), before, rtol=0, atol=0, equal_nan=True)
    weight = torch.cat(each).double().unsqueeze(1) * ~history.isnan()
    assert torch.equal(total.count, (weight > 0).sum(0))
    expected = (weight * history.nan_to_num()).sum(0) / weight.sum(0)
    torch.testing.assert_close(total.mean(), expected, rtol=1e-12, atol=1e-12, equal_nan=True)
    assert torch.equal(total.stderr().isnan(), total.count < 10)
    kish = weight.sum(0) ** 2 / (weight**2).sum(0)
    assert bool((total.effective_n().nan_to_num(0) <= kish.nan_to_num(0) * (1 + 1e-9)).all())


def test_merging_the_order_of_the_parts_does_not_matter():
    parts = [noise(n, 2, seed=n) for n in (50, 60, 70)]  # whole blocks
    one, other = filled(parts[0]), filled(parts[2])
    one.merge(filled(parts[1]))
    one.merge(filled(parts[2]))
    other.merge(filled(parts[1]))
    other.merge(filled(parts[0]))
    torch.testing.assert_close(one.state_dict(), other.state_dict(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [100, 107])
def test_merged_errors_are_those_of_one_stream(size):
    """On independent data, up to the blocks that are left out."""
    history = noise(4 * size, 2000)
    whole, total = filled(history), RunningMean(2000)
    for part in history.split(size):
        total.merge(filled(part))
    ratio = (total.stderr() / whole.stderr()).mean()
    assert abs(ratio - 1) < 0.02
    if size % 10 == 0:
        torch.testing.assert_close(total.stderr(), whole.stderr(), rtol=1e-9, atol=0)


def test_what_is_in_the_open_block_stays_there():
    """Going on after a merge fills one's own block, not the other's."""
    history = noise(95, 2)
    merged = filled(history[:45])
    merged.merge(filled(history[45:52]))
    for values in history[52:]:
        merged.add(values)
    blocks = torch.cat([history[:45], history[52:]])[:80].reshape(8, 10, 2).mean(1)
    torch.testing.assert_close(merged.stderr(), blocks.std(0) * (10 / 95) ** 0.5, rtol=1e-9, atol=0)


def test_many_parts_without_a_block_have_the_error_of_independent_observations():
    history = noise(63, 2)
    total = RunningMean(2)
    for part in history.split(9):
        total.merge(filled(part))
    torch.testing.assert_close(total.stderr(), history.std(0) / 63**0.5, rtol=1e-9, atol=0)


def test_going_on_after_a_merge_with_weights():
    """Only ratios of weights matter, also where they come in by the merge."""
    history = noise(130, 2)
    weights = torch.linspace(0.5, 2, 55).double()
    one, half = filled(history[:45]), filled(history[:45], [0.5] * 45)
    one.merge(filled(history[45:100], weights.tolist()))
    half.merge(filled(history[45:100], (weights / 2).tolist()))
    for values in history[100:]:
        one.add(values)
        half.add(values, 0.5)
    for statistic in ("count", "mean", "stderr", "effective_n"):
        first, second = (getattr(running, statistic) for running in (one, half))
        first, second = (first, second) if statistic == "count" else (first(), second())
        torch.testing.assert_close(first, second, rtol=1e-12, atol=0)


def test_only_the_same_shape_can_be_merged():
    with pytest.raises(ValueError, match=r"same shape can be merged. Got \[2\] and \[1, 2\]"):
        RunningMean(2).merge(RunningMean(1, 2))


@pytest.mark.parametrize(("correlation", "low", "high"), [(0.0, 0.7, 1.0), (0.5, 0.3, 0.55)])
def test_neighbours_that_are_alike_count_less(correlation, low, high):
    """An AR(1) stream of n has n (1 - c) / (1 + c) independent observations, a third for c = 0.5."""
    g = torch.Generator().manual_seed(0)
    running, state = RunningMean(200), torch.randn(200, generator=g)
    for _ in range(600):
        state = correlation * state + (1 - correlation**2) ** 0.5 * torch.randn(200, generator=g)
        running.add(state.double())
    effective = running.effective_n()
    assert effective.max() <= 600
    assert effective.min() >= 1
    assert low * 600 <= effective.median() <= high * 600


def test_a_constant_was_observed_as_often_as_it_was():
    """Although rounding gives both variances some digits above 0."""
    constants = noise(1, 300).flatten() * torch.tensor([1e-8, 0, 1e8], dtype=torch.float64).repeat(100)
    assert filled(constants.repeat(53, 1)).effective_n().tolist() == [53] * 300
    assert filled(constants.repeat(9, 1)).effective_n().isnan().all()


def test_a_slow_drift_is_worth_at_least_one_observation():
    steps = torch.arange(50, dtype=torch.float64).div(10).floor().mul(1.0).unsqueeze(1)
    effective = filled(steps).effective_n()
    assert 1 <= effective.item() < 6
    # One observation outweighs all others, which differ from it: the estimate of their worth is below 1.
    values = torch.cat([torch.zeros(10), torch.full((30,), 10.0)]).double().unsqueeze(1)
    assert filled(values, [1e6] + [1.0] * 39).effective_n().item() == 1


def test_resuming_with_weights_equals_no_interruption():
    history = noise(85, 3, missing=0.1)
    weights = [1.0] * 13 + torch.linspace(0.5, 2, 72).tolist()
    whole, part = filled(history, weights), filled(history[:37], weights[:37])
    again, state = RunningMean(3), part.state_dict()
    again.load_state_dict(state)
    for values, weight in zip(history[37:], weights[37:], strict=True):
        again.add(values, weight)
    torch.testing.assert_close(again.state_dict(), whole.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(state, part.state_dict(), rtol=0, atol=0)  # what was loaded stays as it is


def test_a_state_must_be_whole():
    state = filled(noise(12, 2), [0.5] * 12).state_dict()
    for name in state:
        with pytest.raises(KeyError, match=name):
            RunningMean(2).load_state_dict({key: value for key, value in state.items() if key != name})
    for name in state["weights"]:
        less = {key: value for key, value in state["weights"].items() if key != name}
        with pytest.raises(KeyError, match=name):
            RunningMean(2).load_state_dict({**state, "weights": less})


def test_precision_does_not_depend_on_the_weight_being_a_float32_number():
    running = filled(torch.tensor([[1.0], [4.0]], dtype=torch.float64), [0.1, 0.2])
    assert abs(running.mean().item() - 3) < 1e-14
