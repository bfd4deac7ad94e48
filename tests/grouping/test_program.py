import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_programs import best_with, random_program

from cotrain.grouping.program import Program, cheapest_cover, largest_worth


def later():
    return time.monotonic() + 60


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000))
def test_the_best_columns_and_their_bound(seed):
    program = random_program(seed, n=9)
    chosen, bound = program.best(later())
    best = best_with(program).max()
    assert program.worth[chosen].max(axis=0).sum() == pytest.approx(best, abs=1e-8)
    assert bound == pytest.approx(best, abs=1e-6)
    assert program.cost[chosen].sum() <= program.budget + 1e-9


def test_an_impossible_budget_gives_no_columns():
    chosen, _ = Program(np.zeros((1, 2)), np.ones(1), 0.5).best(later())
    assert len(chosen) == 0


def test_without_time_there_are_no_prices():
    rng = np.random.default_rng(0)
    program = Program(rng.normal(size=(600, 40)), np.ones(600), 3.0)
    assert program.prices(time.monotonic() - 1) is None


def test_the_cheapest_cover():
    members = np.array([[1, 1, 0], [0, 1, 1], [0, 0, 1], [1, 1, 1]], dtype=bool)
    chosen, least = cheapest_cover(members, np.array([1.0, 1.0, 0.5, 1.7]), later())
    assert chosen.tolist() == [0, 2]
    assert least == pytest.approx(1.5)


def test_the_largest_worth_is_by_size_and_never_zero():
    assert largest_worth(np.array([[1.0, -3.0, -np.inf]])) == 3
    assert largest_worth(np.array([[0.0, -np.inf]])) == 1
