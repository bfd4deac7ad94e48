import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_programs import best_with, random_program

from cotrain.grouping.relaxation import near_prices, price_at, relax


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000), st.floats(0, 3))
def test_any_prices_bound_every_choice(seed, mu):
    program = random_program(seed, n=8)
    bounded = price_at(program, np.random.default_rng(seed).normal(size=4), mu)
    best = best_with(program)
    assert bounded.bound >= best.max() - 1e-9
    assert (bounded.bound_with() >= best - 1e-9).all()


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000))
def test_found_prices_bound_every_choice_and_the_linear_program_is_the_tightest(seed):
    program = random_program(seed, n=8)
    best, start, later = best_with(program), np.array([0]), time.monotonic() + 60
    near, exact = near_prices(program, start, later), relax(program, start, later)
    for bounded in (near, exact):
        assert (bounded.bound_with() >= best - 1e-7).all()
    assert exact.bound <= near.bound + 1e-9
    assert exact.bound <= price_at(program, *program.prices(later)).bound + 1e-6


def test_without_time_the_bound_is_still_one():
    program = random_program(3, n=8)
    assert relax(program, np.array([0]), time.monotonic() - 1).bound >= best_with(program).max() - 1e-9


def test_columns_join_until_the_prices_are_those_of_all(monkeypatch):
    program = random_program(5, n_tasks=6, n=300)
    later = time.monotonic() + 60
    everything = price_at(program, *program.prices(later)).bound
    monkeypatch.setattr("cotrain.grouping.relaxation.COLUMNS_PER_ROUND", 5)
    assert relax(program, np.array([0]), later).bound == pytest.approx(everything, abs=1e-6)
