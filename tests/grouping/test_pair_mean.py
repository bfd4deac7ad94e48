from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cotrain.grouping.pair_mean import PairMean
from cotrain.grouping.selection import select_groups
from cotrain.grouping.table import GainTable

NAN = np.nan
TASKS = ["a", "b", "c", "d"]


def random_pairs(seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(4, 4)), rng.uniform(0.1, 1, size=(4, 4))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.sets(st.sampled_from(TASKS), min_size=1))
def test_prediction_is_the_mean_over_the_other_members(seed, group):
    matrix, stderr = random_pairs(seed)
    mean, std = PairMean(matrix, TASKS, stderr).predict([group])
    for j, task in enumerate(TASKS):
        others = [i for i, other in enumerate(TASKS) if other in group and i != j]
        if task not in group:
            assert np.isnan(mean[0, j])
            assert np.isnan(std[0, j])
        elif not others:
            assert (mean[0, j], std[0, j]) == (0, 0)
        else:
            assert mean[0, j] == pytest.approx(np.mean([matrix[i, j] for i in others]))
            assert std[0, j] == pytest.approx(np.sqrt(sum(stderr[i, j] ** 2 for i in others)) / len(others))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.permutations(range(4)))
def test_order_of_tasks_and_members_and_batch_do_not_matter(seed, order):
    matrix, stderr = random_pairs(seed)
    names = [TASKS[i] for i in order]
    groups = [("a", "c", "d"), ("b",), ("d", "b"), tuple(TASKS)]
    mean, std = PairMean(matrix, TASKS, stderr).predict(groups)
    other = PairMean(matrix[np.ix_(order, order)], names, stderr[np.ix_(order, order)])
    for row, group in enumerate(groups):
        alone_mean, alone_std = other.predict([group[::-1]])
        np.testing.assert_allclose(alone_mean[0], mean[row, order], atol=1e-12)
        np.testing.assert_allclose(alone_std[0], std[row, order], atol=1e-12)


def test_an_affinity_brings_its_own_names_and_errors():
    matrix, stderr = random_pairs(1)
    np.fill_diagonal(matrix, NAN)
    affinity = SimpleNamespace(matrix=matrix, stderr=stderr, tasks=[SimpleNamespace(name=task) for task in TASKS])
    ours, plain = PairMean(affinity), PairMean(matrix, TASKS, stderr)
    assert ours.tasks == tuple(TASKS)
    for one, other in zip(ours.predict([TASKS]), plain.predict([TASKS]), strict=True):
        np.testing.assert_array_equal(one, other)


def test_without_errors_the_spread_of_the_column_is_the_error():
    matrix = np.array([[9.0, 0.3, 0.1], [0.2, 9.0, 0.1], [0.4, 0.0, 9.0]])
    _, std = PairMean(matrix, ["a", "b", "c"]).predict([("a",), ("a", "b"), ("a", "b", "c")])
    assert std[0, 0] == 0
    assert std[1, 0] == std[2, 0] == pytest.approx(np.std([0, 0.2, 0.4], ddof=1))
    assert std[2, 2] == pytest.approx(np.std([0.1, 0.1, 0], ddof=1))
    assert std[2, 2] > 0


@pytest.mark.parametrize(
    ("matrix", "options", "message"),
    [
        ([[0, NAN], [1, 0]], {"tasks": ["a", "b"]}, "effect of task 'a' on task 'b'"),
        ([[0, 1], [1, 0]], {"tasks": ["a", "b"], "stderr": [[0, 1], [NAN, 0]]}, "error of task 'b' on task 'a'"),
        ([[0, 1], [1, 0]], {"tasks": ["a", "b"], "stderr": [[0, -1], [1, 0]]}, "'a' on task 'b' is negative"),
        ([[0, 1, 2], [1, 0, 2]], {"tasks": ["a", "b"]}, "2 tasks"),
        ([[0, 1], [1, 0]], {}, "needs the names"),
        ([[0]], {"tasks": ["a"]}, "at least 2"),
    ],
)
def test_a_bad_matrix_is_refused(matrix, options, message):
    with pytest.raises(ValueError, match=message):
        PairMean(matrix, **options)


def test_from_pairs_keeps_measured_pairs_and_ignores_larger_groups():
    groups = [("a",), ("a", "b"), ("a", "c"), ("b", "c"), ("a", "b", "c")]
    gains = [[0.05, NAN, NAN], [0.1, 0.2, NAN], [0.3, NAN, 0.4], [NAN, 0.5, 0.6], [9, 9, 9]]
    model = PairMean.from_pairs(GainTable(["a", "b", "c"], groups, gains, single_losses=[1, 2, 3]))
    mean, std = model.predict([("a",), ("b", "c"), ("a", "b", "c")])
    np.testing.assert_allclose(mean, [[0.05, NAN, NAN], [NAN, 0.5, 0.6], [0.2, 0.35, 0.5]])
    np.testing.assert_array_equal(std[1], [NAN, 0, 0])
    assert (std[2] > 0).all()
    assert model.measured([("a",), ("b", "c"), ("a", "b", "c")]).tolist() == [True, True, False]
    np.testing.assert_array_equal(model.single_losses, [1, 2, 3])


def test_from_pairs_names_a_missing_pair():
    with pytest.raises(ValueError, match="Pair b\\+c is not in the table"):
        PairMean.from_pairs(GainTable(["a", "b", "c"], [("a", "b"), ("a", "c")], [[0, 0, NAN], [0, NAN, 0]]))


def test_scores_are_never_called_gains() -> None:
    scores = np.array([[0.0, 0.2], [0.1, 0.0]])
    chosen = select_groups(PairMean(scores, ["a", "b"], stderr=np.zeros((2, 2))), budget=1)
    assert chosen.objective == "mean_score"
    assert "mean score (which is no gain)" in str(chosen)
    table = GainTable("ab", [("a",), ("b",), ("a", "b")], [[0, np.nan], [np.nan, 0], [0.2, 0.1]])
    assert select_groups(PairMean.from_pairs(table), budget=1).objective == "mean_gain"
