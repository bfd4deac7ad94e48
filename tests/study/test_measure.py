import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotrain.affinity import measuring_price
from cotrain.study.measure import measuring_interval


@given(st.integers(2, 1000), st.integers(1, 100_000))
def test_measuring_is_cheap_in_a_long_training_and_frequent_in_a_short_one(n_tasks, n_steps):
    every = measuring_interval(n_tasks + 1, n_steps)
    assert every >= 1
    measurements = -(-n_steps // every)
    assert measurements >= min(10, n_steps)
    if measurements > 20:  # more than it takes for error bars
        assert measurements * (n_tasks + 1) <= 2 * n_steps + (n_tasks + 1)


@pytest.mark.parametrize(("n_tasks", "n_steps", "every"), [(15, 1700, 8), (15, 51, 5), (15, 3, 1), (2, 1000, 2)])
def test_known_intervals(n_tasks, n_steps, every):
    assert measuring_interval(n_tasks + 1, n_steps) == every


def test_what_auto_takes_is_priced():
    assert measuring_price("auto", 24) == measuring_price("lookahead", 24) == 25
    assert measuring_price("auto", 1000) == measuring_price("sketch", 1000) == 3
    assert measuring_price("gram", 100) > 60
