from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotrain.grouping.auxiliaries import select_auxiliaries
from cotrain.grouping.gains import membership
from cotrain.grouping.pair_mean import PairMean
from cotrain.grouping.table import GainTable

TASKS = ("main", "good", "fair", "noise", "bad")


class Planted:
    """The main task gains what each helper is worth, less a price for every pair of helpers."""

    unit = "gain"
    single_losses = None

    def __init__(self, worth, price=0.0, error=0.01, tasks=TASKS):
        self.tasks, self.worth, self.price, self.error = tuple(tasks), worth, price, error

    def predict(self, groups):
        members = membership(groups, self.tasks)
        others = members.sum(axis=1) - 1
        worth = members @ np.array([self.worth.get(task, 0.0) for task in self.tasks])
        value = worth - self.price * others * (others - 1) / 2
        several = others[:, None] > 0
        return np.where(members, value[:, None] * several, np.nan), np.where(members, self.error * several, np.nan)

    def measured(self, groups):
        return membership(groups, self.tasks).sum(axis=1) == 1


WORTH = {"good": 0.2, "fair": 0.1, "noise": 0.005, "bad": -0.3}


def affinity(error=0.01, scale=1.0):
    matrix = np.full((5, 5), 0.5)
    matrix[:, 0] = [9.0, *(scale * WORTH[task] for task in TASKS[1:])]
    return SimpleNamespace(matrix=matrix, stderr=np.full((5, 5), error), tasks=TASKS)


def test_helpers_beyond_their_error_are_kept_in_proportion_to_their_scores():
    for effects in (Planted(WORTH), affinity()):
        found = select_auxiliaries("main", effects)
        assert found.helpers == ("good", "fair")
        assert found.weights == pytest.approx({"good": 1.0, "fair": 0.5})
        assert found.scores == pytest.approx(WORTH)
        assert found.errors == pytest.approx(dict.fromkeys(WORTH, 0.01))
    assert found.unit == found.gain_unit == "score"
    assert select_auxiliaries("main", affinity(error=0.15)).helpers == ("good",)
    turned = SimpleNamespace(matrix=affinity().matrix[::-1, ::-1], stderr=affinity().stderr, tasks=TASKS[::-1])
    assert select_auxiliaries("main", turned).helpers == ("good", "fair")


def test_both_ways_are_compared_with_no_helper_and_all():
    found = select_auxiliaries("main", Planted(WORTH))
    assert found.gain == pytest.approx((0.3, 0.01))
    assert found.gain_of_all == pytest.approx((0.005, 0.01))
    assert "Predicted, unverified gain: +0.300 +- 0.010; no helper: 0; all 4 helpers: +0.005 +- 0.010" in str(found)


def test_helpers_are_added_only_while_the_gain_rises():
    assert select_auxiliaries("main", Planted(WORTH, price=0.15)).helpers == ("good",)
    assert select_auxiliaries("main", Planted(WORTH, price=0.05)).helpers == ("good", "fair")


def test_a_gain_model_may_decide_about_what_an_affinity_scored():
    decided = select_auxiliaries("main", affinity(scale=2), gains=Planted(WORTH, price=0.15))
    assert (decided.helpers, decided.unit, decided.gain_unit) == (("good",), "score", "gain")
    assert decided.gain == pytest.approx((0.2, 0.01))


def test_no_helper_is_an_answer():
    found = select_auxiliaries("main", Planted(dict.fromkeys(WORTH, -0.1)))
    assert found.helpers == ()
    assert found.gain == (0, 0)
    assert "Helpers of main: none." in str(found)


def test_scores_move_towards_the_new_ones():
    first = select_auxiliaries("main", Planted(WORTH))
    second = select_auxiliaries("main", Planted({**WORTH, "bad": 1.2}), previous=first, momentum=0.75)
    assert second.scores["bad"] == pytest.approx(0.75 * -0.3 + 0.25 * 1.2)
    assert second.scores["good"] == pytest.approx(0.2)
    assert second.errors["good"] == pytest.approx(0.01 * np.hypot(0.75, 0.25))
    assert second.helpers == ("bad", "good", "fair")
    again = select_auxiliaries("main", affinity(), gains=Planted(WORTH))
    assert select_auxiliaries("main", affinity(), gains=Planted(WORTH), previous=again).weights == again.weights


@given(st.permutations(TASKS), st.integers(0, 100))
def test_the_order_of_tasks_does_not_matter(order, seed):
    worth = dict(zip(TASKS[1:], np.random.default_rng(seed).normal(size=4), strict=True))
    one, other = (select_auxiliaries("main", Planted(worth, 0.1, tasks=tasks)) for tasks in (TASKS, order))
    assert one.weights == pytest.approx(other.weights)
    assert one.helpers == other.helpers
    assert one.gain == pytest.approx(other.gain)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("who", Planted(WORTH)), {}, "no task 'who'. There are: main, good"),
        (("main", Planted(WORTH)), {"momentum": 1.0}, "momentum must be from 0 to below 1. Got 1.0"),
        (("main", affinity()), {"gains": PairMean(affinity())}, "must be a model of gains"),
        (("main", affinity()), {"gains": Planted(WORTH, tasks=TASKS[:3])}, "same tasks"),
        (("main", Planted(WORTH)), {"previous": select_auxiliaries("good", Planted(WORTH))}, "one for 'good'"),
        (("main", Planted(WORTH)), {"previous": select_auxiliaries("main", affinity())}, "in scores"),
    ],
)
def test_bad_arguments(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        select_auxiliaries(*arguments, **options)


def test_a_group_that_nothing_is_known_of_does_not_help():
    """Pairs were measured, and the group of all three was not."""
    nan = np.nan
    table = GainTable("abc", [("a", "b"), ("a", "c"), ("b", "c")], [[0.1, 0.1, nan], [0.3, nan, 0.1], [nan, 0.1, 0.1]])
    found = select_auxiliaries("a", table)
    assert list(found.weights) == ["c"]
    assert found.gain[0] == pytest.approx(0.3)


def test_what_is_not_known_is_no_number_in_words():
    nan = np.nan
    found = select_auxiliaries("a", GainTable("abc", [("a", "b")], [[0.1, 0.1, nan]]))
    assert found.helpers == ("b",)
    assert np.isnan(found.scores["c"])
    assert str(found).endswith("Measured gain: +0.100 +- 0.000; no helper: 0; all 2 helpers: unknown; unknown pair: c.")


def test_a_gain_that_was_trained_is_called_measured():
    table = GainTable(["main", "a"], [("main", "a")], [[0.2, 0.1]])
    found = select_auxiliaries("main", table)
    assert found.verified
    assert "Measured gain: +0.200" in str(found)
