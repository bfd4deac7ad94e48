from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cotrain.grouping.affinity_scale import read_affinity, read_alone, similarity_of


def matrix(n_tasks=6, seed=0):
    values = np.random.default_rng(seed).normal(size=(n_tasks, n_tasks))
    np.fill_diagonal(values, 0.0)
    return values


def test_every_target_is_put_in_units_of_its_own_spread():
    values = matrix()
    found = similarity_of(values, None, standardise=True)
    columns = []
    for t in range(6):
        others = np.delete(values[:, t], t)
        columns.append((values[:, t] - others.mean()) / others.std())
    expected = np.array(columns).T
    expected = (expected + expected.T) / 2
    np.fill_diagonal(expected, 0.0)
    np.testing.assert_allclose(found, expected)
    np.testing.assert_array_equal(found, found.T)


def test_offset_and_scale_of_a_target_cancel():
    values = matrix()
    scale, offset = np.array([1e-6, 1.0, 3.0, 1e6, 2.0, 0.1]), np.array([5.0, -2.0, 1e3, 0.0, 7.0, 0.1])
    other, alone = values * scale + offset, np.arange(6.0)
    for scores in (None, alone):
        shifted = None if scores is None else scores * scale + offset
        np.testing.assert_allclose(
            similarity_of(other, shifted, standardise=True), similarity_of(values, scores, standardise=True), atol=1e-9
        )


def test_scores_alone_are_on_the_scale_of_their_column():
    values = matrix()
    column = np.delete(values[:, 2], 2)
    found = similarity_of(values, np.full(6, 0.5), standardise=True)
    assert found[2, 2] == pytest.approx((0.5 - column.mean()) / column.std())
    plain = similarity_of(values, np.arange(6.0), standardise=False)
    np.testing.assert_array_equal(plain.diagonal(), np.arange(6.0))
    np.testing.assert_allclose(plain - np.diag(np.arange(6.0)), (values + values.T) / 2)


@pytest.mark.parametrize("level", [0.1, 1 / 3, -7.3e9 / 7])
def test_a_target_of_equal_entries_says_nothing(level):
    for n_tasks in range(4, 12):  # the mean of equal numbers is another number at some counts
        values = matrix(n_tasks)
        values[:, 3] = 0.0
        expected = similarity_of(values, None, standardise=True)
        values[:, 3] = level
        values[3, 3] = 0.0
        np.testing.assert_allclose(similarity_of(values, None, standardise=True), expected, atol=1e-9)


def test_an_affinity_brings_its_names_and_is_not_changed():
    values = torch.full((2, 2), torch.nan)
    values[0, 1], values[1, 0] = 1.0, 2.0
    affinity = SimpleNamespace(matrix=values, tasks=("a", "b"))
    found, names = read_affinity(affinity, None)
    np.testing.assert_array_equal(found, [[0, 1], [2, 0]])
    assert names == ("a", "b")
    assert values[0, 0].isnan()
    assert read_affinity(affinity, [SimpleNamespace(name="x"), "y"])[1] == ("x", "y")
    own = np.ones((2, 2))
    read_affinity(own, ["a", "b"])
    assert own[0, 0] == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_entry_that_is_not_finite_is_named(bad):
    values = matrix(3)
    values[2, 0] = bad
    with pytest.raises(ValueError, match=r"task 'c' for task 'a' is not a finite number. Got -?(nan|inf)\. Observe"):
        read_affinity(values, "abc")


def test_shapes_and_names_are_checked():
    with pytest.raises(ValueError, match=r"affinity of 3 tasks must be \[T, T\]. Got \[2, 2\]"):
        read_affinity(np.ones((2, 2)), "abc")
    with pytest.raises(ValueError, match=r"does not name its tasks. Pass tasks="):
        read_affinity(np.ones((2, 2)), None)
    with pytest.raises(ValueError, match="'a' twice"):
        read_affinity(np.ones((2, 2)), "aa")


def test_scores_alone_are_one_number_or_one_for_every_task():
    assert read_alone(None, 3) is None
    np.testing.assert_array_equal(read_alone(2.0, 3), [2, 2, 2])
    np.testing.assert_array_equal(read_alone([1, 2, 3], 3), [1, 2, 3])
    for bad in ([1.0, 2.0], [[1.0], [2.0], [3.0]], np.nan, [1, np.inf, 2]):
        with pytest.raises(ValueError, match="one for each of the 3 tasks"):
            read_alone(bad, 3)
