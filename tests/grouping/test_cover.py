import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_programs import best_with, random_program

from cotrain.grouping import cover as cover_module
from cotrain.grouping.cover import choose, exchange
from cotrain.grouping.program import Program

START = np.array([0])


def later():
    return time.monotonic() + 60


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.sampled_from([1, 3, 100]))
def test_the_choice_is_the_best_however_few_columns_are_solved_first(seed, first):
    program = random_program(seed, n=10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cover_module, "FIRST_COLUMNS", first)
        choice = choose(program, START, later())
    assert choice.optimal
    assert choice.value == pytest.approx(best_with(program).max(), abs=1e-8)
    assert program.value(choice.columns) == choice.value <= choice.bound
    assert program.cost[choice.columns].sum() <= program.budget + 1e-9


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000))
def test_exchange_never_loses_and_stays_within_the_budget(seed):
    program = random_program(seed)
    chosen = exchange(program, START, later())
    assert program.value(chosen) >= program.value(START)
    assert program.cost[chosen].sum() <= program.budget + 1e-9


def test_a_cap_on_columns_gives_an_honest_bound(monkeypatch):
    monkeypatch.setattr(cover_module, "FIRST_COLUMNS", 1)
    monkeypatch.setattr(cover_module, "MOST_COLUMNS", 1)
    for seed in range(40):
        program = random_program(seed, n=10)
        choice = choose(program, START, later())
        best = best_with(program).max()
        assert choice.value - 1e-9 <= best <= choice.bound + 1e-9
        assert not choice.optimal or choice.value == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("tied", [2, 1000])
def test_equal_choices_at_less_cost_win_even_if_ties_are_capped(monkeypatch, tied):
    monkeypatch.setattr(cover_module, "MOST_TIED_COLUMNS", tied)
    worth = np.array([[0, -np.inf], [-np.inf, 0], [0, 0], [0, 0.0]])
    program = Program(worth, np.array([1.0, 1.0, 0.7, 1.5]), 2.0)
    assert choose(program, np.array([0, 1]), later()).columns.tolist() == [2]
