import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotrain.study.hindsight import hindsight

TASKS = ("a", "b", "c", "d")


def losses_of(seed, groups):
    rng = np.random.default_rng(seed)
    networks = [*((task,) for task in TASKS), *groups]
    return {network: {task: float(rng.uniform(0.1, 1)) for task in network} for network in networks}


@given(st.integers(0, 999), st.integers(1, 3))
def test_regret_is_that_of_a_plain_search_over_all_choices(seed, n_seeds):
    chosen = [("a", "b"), ("c", "d")]
    groups = [TASKS, *chosen, ("a", "c"), ("b", "d")]
    losses = {number: losses_of([seed, number], groups) for number in range(n_seeds)}
    found = hindsight(chosen, TASKS, losses)

    def saved(networks, table):
        best = [min((table[g][t] / table[(t,)][t] for g in networks if t in g), default=math.inf) for t in TASKS]
        return 1 - sum(best) / len(TASKS)

    lost = [max(saved(pair, table) for pair in combinations(table, 2)) - saved(chosen, table)
            for table in losses.values()]  # fmt: skip
    assert found.regret == pytest.approx(np.mean(lost))
    assert found.random >= 0
    assert (found.n_networks, found.n_trained) == (2, 9)
    assert "choice of 2 among the 9 networks of the check" in found.sentence
    assert ("In hindsight no choice" in found.sentence) == (found.regret <= 0)


def test_tasks_that_cannot_be_learnt_are_not_compared():
    chosen = [("a", "b"), ("c", "d")]
    losses = {0: losses_of(0, [TASKS, *chosen, ("a", "c"), ("b", "d"), ("b", "c")])}
    found = hindsight([("a", "b"), ("c", "d")], ("a", "b", "c"), losses)
    assert found.n_networks == 2
    assert found.regret >= 0


def test_with_nothing_else_to_choose_it_says_nothing():
    chosen = [("a", "b"), ("c", "d")]
    assert hindsight(chosen, TASKS, {0: losses_of(0, [TASKS, *chosen])}) is None
    assert hindsight([("a",)], ("a",), {0: losses_of(0, [TASKS])}) is None
