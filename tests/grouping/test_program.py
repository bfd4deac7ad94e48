import time
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_programs import best_with, random_program

from cotrain.grouping.program import Program, Rows, largest_worth, servers
from cotrain.grouping.relaxation import price_at


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
    cost = np.array([1.0, 1.0, 0.5, 1.7])
    chosen, least = Program(np.where(members, 0.0, -np.inf), cost, 0.0).cheapest(cost, later())
    assert chosen.tolist() == [0, 2]
    assert least == pytest.approx(1.5)


def test_the_largest_worth_is_by_size_and_never_zero():
    assert largest_worth(np.array([[1.0, -3.0, -np.inf]])) == 3
    assert largest_worth(np.array([[0.0, -np.inf]])) == 1


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 4), st.booleans())
def test_who_serves_whom_agrees_with_all_ways(seed, k, each_serves):
    rng = np.random.default_rng(seed)
    worth = np.where(rng.random((k, 3)) < 0.7, rng.normal(size=(k, 3)), -np.inf)
    ways = [way for way in np.ndindex(k, k, k) if not each_serves or len(set(way)) == k]
    values = [worth[list(way), range(3)].sum() for way in ways]
    found = servers(worth, each_serves=each_serves)
    if not values or np.isinf(max(values)):
        assert found is None
        return
    assert worth[found, range(3)].sum() == pytest.approx(max(values))
    assert not each_serves or len(set(found)) == k


def test_networks_that_must_each_serve_are_not_two_for_the_same_task():
    # The two cheapest columns serve the first task only: together they are no choice.
    worth = np.array([[0.0, -np.inf, -np.inf], [0.0, -np.inf, -np.inf], [0.0, 0.0, 0.0], [-np.inf, 0.0, 0.0]])
    cost = np.array([0.1, 0.1, 1.0, 1.5])
    exactly = Rows.scaled(np.array([np.ones(4), -np.ones(4)]), np.array([3.0, -3.0]))
    program = Program(worth, cost, 9.0, exactly, each_serves=True)
    chosen, least = program.cheapest(cost, later())
    assert chosen.tolist() == [0, 2, 3]
    assert least == pytest.approx(2.6)
    assert not program.allows(np.array([0, 1, 2]))
    assert program.allows(chosen)


@given(st.integers(0, 10_000), st.booleans(), st.booleans())
def test_prices_under_rows_bound_every_choice(seed, disjoint, each_serves):
    rng = np.random.default_rng(seed)
    plain = random_program(seed, n=8)
    rows = Rows.scaled(rng.normal(size=(2, 8)), rng.normal(size=2) + 1)
    program = Program(plain.worth, plain.cost, plain.budget, rows, disjoint, each_serves and not disjoint)
    choices = [np.array(c) for size in range(1, 5) for c in combinations(range(8), size) if program.allows(np.array(c))]
    if not choices:
        return
    prices = (rng.normal(size=4), float(rng.uniform(0, 2)), rng.uniform(0, 2, 2))
    for found in (prices, program.prices(later())):
        bounded = price_at(program, *found)
        for chosen in choices:
            assert program.value(chosen) <= bounded.bound_with()[chosen].min() + 1e-7
    best, bound = program.best(later())
    assert program.value(best) == pytest.approx(max(map(program.value, choices)), abs=1e-7)
    assert bound >= program.value(best) - 1e-7
