"""Selections from gains that are drawn again: nothing to draw changes nothing, and shares are what was counted."""

import numpy as np
import pytest

from cotrain.grouping import Candidate, GainTable, PairMean, select_groups
from cotrain.grouping.constraints import Constraints
from cotrain.grouping.stability import selection_stability

NAN = np.nan


def two_pairs(std):
    """a and b gain together, and so do c and d; other groups lose."""
    groups = [("a", "b"), ("c", "d"), ("a", "c"), ("b", "d"), ("a", "b", "c", "d")]
    gains = [[0.3, 0.3, NAN, NAN], [NAN, NAN, 0.2, 0.1], [-0.1, NAN, -0.1, NAN], [NAN, -0.1, NAN, -0.1], [-0.2] * 4]
    noise = [[std if not np.isnan(gain) else NAN for gain in row] for row in gains]
    return GainTable("abcd", groups, gains, noise)


def test_without_uncertainty_every_draw_is_the_selection():
    table = two_pairs(0.0)
    found = selection_stability(table, budget=2, draws=5)
    assert found.grouping.groups == select_groups(table, budget=2).groups
    assert found.group_shares == (1.0, 1.0)
    assert found.chosen == {("a", "b"): 1.0, ("c", "d"): 1.0}
    assert found.n_draws == 5
    expected = np.kron(np.eye(2), np.ones((2, 2)))
    np.testing.assert_array_equal(found.together, expected)
    np.testing.assert_allclose(found.gain, [0.3, 0.3, 0.2, 0.1])
    assert found.distinguishable.all()


def test_uncertainty_is_shared_out_and_the_same_seed_gives_the_same():
    table = two_pairs(0.25)
    one, two = (selection_stability(table, budget=3, draws=30, seed=4, kappa=0) for _ in range(2))
    np.testing.assert_array_equal(one.together, two.together)
    assert one.chosen == two.chosen
    other = selection_stability(table, budget=3, draws=30, seed=5, kappa=0)
    assert one.chosen != other.chosen
    np.testing.assert_array_equal(one.together, one.together.T)
    np.testing.assert_array_equal(one.together.diagonal(), 1)
    assert 0 < one.together[0, 1] < 1
    assert list(one.chosen.values()) == sorted(one.chosen.values(), reverse=True)
    assert one.together[0, 1] > one.together[0, 2]


def test_a_gain_below_its_own_deviation_is_not_distinguishable():
    found = selection_stability(two_pairs(0.25), budget=2, draws=1, kappa=0)
    np.testing.assert_array_equal(found.distinguishable, [True, True, False, False])
    np.testing.assert_allclose(found.std, 0.25)
    text = str(found)
    assert "not distinguishable from training alone: c, d" in text
    assert text.count("not distinguishable") == 1
    predicted = PairMean(np.array([[0.0, 0.3], [0.3, 0.0]]), ["a", "b"], np.full((2, 2), 0.01))
    assert "predicted, unverified" in str(selection_stability(predicted, budget=1, draws=1))
    assert "unverified" not in text
    alone = selection_stability(two_pairs(1.0), budget=4, draws=1)
    assert not alone.distinguishable.any()
    assert "not distinguishable" not in str(alone)


def test_the_draws_have_the_predicted_mean_and_deviation():
    table = GainTable("ab", [("a", "b")], [[0.1, 0.1]], [[0.2, 0.0]])
    found = selection_stability(table, budget=2, draws=250, kappa=0)
    # b always gains; a is served by the pair where 0.1 + 0.2 z > 0, in the share P(z > -0.5) = 0.691 of the draws.
    assert found.chosen[("a", "b")] == 1
    assert found.together[0, 1] == pytest.approx(0.691, abs=0.09)


def test_order_of_tasks_permutes_the_table():
    model = PairMean(np.random.default_rng(0).normal(size=(4, 4)), "abcd", np.full((4, 4), 0.3))
    found = selection_stability(model, budget=2, draws=10)
    matrix = np.array(
        [[model.predict([(i, j)])[0][0, "abcd".index(j)] if i != j else 0 for j in "dbca"] for i in "dbca"]
    )
    other = selection_stability(PairMean(matrix, "dbca", np.full((4, 4), 0.3)), budget=2, draws=10)
    order = ["abcd".index(task) for task in "dbca"]
    np.testing.assert_array_equal(other.together, found.together[np.ix_(order, order)])


def test_constraints_and_extra_networks_hold_in_every_draw():
    half = Candidate(("d",), {"d": 0.05}, 0.5, "half")
    some = Constraints(must_link=[("a", "b")], min_gain={"d": 0.0}, n_networks=3)
    found = selection_stability(two_pairs(0.3), budget=4, draws=20, extra=[half], constraints=some, max_size=3)
    assert found.together[0, 1] == 1
    assert all(("a" in group) == ("b" in group) for group in found.chosen)
    assert found.grouping.served_by("d").label == "half"
    assert found.gain[3] == 0.05


def test_disjoint_selections_are_drawn_too():
    found = selection_stability(two_pairs(0.2), budget=4, draws=20, constraints=Constraints(helpers=False))
    assert found.grouping.solver == "subset dynamic programme"
    np.testing.assert_array_equal(found.together.diagonal(), 1)


def test_out_of_time_at_least_one_draw_is_made():
    found = selection_stability(two_pairs(0.2), budget=2, draws=1000, time_limit=1e-4)
    assert found.n_draws == 1
    np.testing.assert_array_equal(found.together.diagonal(), 1)


def test_a_bad_argument_is_refused():
    with pytest.raises(ValueError, match="At least 1 draw"):
        selection_stability(two_pairs(0.1), budget=2, draws=0)

    class Unknown(PairMean):
        def predict(self, groups):
            mean, std = super().predict(groups)
            return mean, np.full_like(std, np.nan)

    with pytest.raises(ValueError, match="nothing to draw from"):
        selection_stability(Unknown(np.ones((2, 2)), "ab", np.ones((2, 2))), budget=2, kappa=0)
