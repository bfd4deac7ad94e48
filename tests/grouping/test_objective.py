import numpy as np
import pytest

from cotrain.grouping import GainTable
from cotrain.grouping.objective import make_objective

GAINS = GainTable("ab", [("a", "b")], [[0.5, -1]])
LOSSES = GainTable("ab", [("a", "b")], [[0.5, -1]], single_losses=[2, 4])


@pytest.mark.parametrize(
    ("gains", "name", "weights", "said", "unit"),
    [
        (GAINS, "auto", None, "mean_gain", [0.5, 0.5]),
        (LOSSES, "auto", None, "total_loss", [2, 4]),
        (LOSSES, "mean_gain", None, "mean_gain", [0.5, 0.5]),
        (GAINS, "auto", [1, 3], "mean_gain", [0.25, 0.75]),
        (LOSSES, "total_loss", {"b": 3, "a": 1}, "total_loss", [2, 12]),
    ],
)
def test_units_of_the_objective(gains, name, weights, said, unit):
    objective = make_objective(gains, name, weights, 1.0)
    assert objective.name == said
    np.testing.assert_allclose(objective.unit, unit)


def test_worth_deducts_deviations_and_is_never_that_of_an_absent_task():
    objective = make_objective(LOSSES, "auto", None, 2.0)
    worth = objective.worth(np.array([[0.5, np.nan]]), np.array([[0.1, np.nan]]))
    np.testing.assert_allclose(worth, [[2 * 0.3, -np.inf]])
