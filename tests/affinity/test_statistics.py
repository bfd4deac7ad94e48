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
