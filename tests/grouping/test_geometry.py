import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotrain.grouping import geometry
from cotrain.grouping.geometry import distinct_rows, task_geometry


def random_rows(seed, n=9, width=7, dtype=np.float64):
    """Some rows twice."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, width)).astype(dtype) + 3
    return rows[rng.integers(n, size=n)]


def plain_squared(rows):
    rows = rows.reshape(len(rows), -1).astype(np.float64)
    return ((rows[:, None] - rows[None]) ** 2).sum(axis=2)


@given(seed=st.integers(0, 999), width=st.integers(1, 40), dtype=st.sampled_from([np.float32, np.float64, np.int64]))
def test_distances_are_those_of_differences(seed, width, dtype):
    rows = (random_rows(seed, width=width) * 100).astype(dtype)
    found = task_geometry(rows)
    squared = found.squared[found.row][:, found.row]
    np.testing.assert_allclose(squared, plain_squared(rows), rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(squared, squared.T)
    np.testing.assert_array_equal(squared == 0, (rows[:, None] == rows[None]).all(axis=2))
    assert found.n_distinct == len(np.unique(rows, axis=0))
    np.testing.assert_array_equal(found.weights, np.bincount(found.row))
    np.testing.assert_array_equal(rows[found.position][found.row], rows)


@given(seed=st.integers(0, 999), data=st.data())
def test_the_order_is_the_rows_own(seed, data):
    rows = random_rows(seed)
    order = np.array(data.draw(st.permutations(range(len(rows)))))
    first, second = task_geometry(rows), task_geometry(rows[order])
    np.testing.assert_array_equal(first.row[order], second.row)
    np.testing.assert_array_equal(first.squared, second.squared)
    np.testing.assert_array_equal(first.weights, second.weights)


def test_rows_that_begin_alike_have_an_order_too():
    rows = np.random.default_rng(0).permutation(np.stack(np.meshgrid([0, 1], [2, 3], [4, 5.0]), -1).reshape(8, 3))
    np.testing.assert_array_equal(distinct_rows(rows).row[::-1], distinct_rows(rows[::-1]).row)
    assert distinct_rows(rows).n_distinct == 8


def test_what_all_rows_share_costs_no_digits():
    rows = np.random.default_rng(0).normal(size=(6, 30))
    found = task_geometry(rows + 300)
    np.testing.assert_allclose(found.squared[found.row][:, found.row], plain_squared(rows + 300), rtol=2e-13)


def test_chunks_change_nothing_that_matters(monkeypatch):
    rows = random_rows(0, width=50, dtype=np.float32)
    whole = task_geometry(rows)
    monkeypatch.setattr(geometry, "CHUNK", 20)
    chunked = task_geometry(rows)
    np.testing.assert_array_equal(whole.row, chunked.row)
    np.testing.assert_allclose(whole.squared, chunked.squared, rtol=1e-12)


@pytest.mark.parametrize("gap", [1e-4, 1e-9, 1e-14])
def test_rows_that_all_but_coincide_stay_apart(gap, monkeypatch):
    monkeypatch.setattr(geometry, "CHUNK", 40)
    rows = np.random.default_rng(0).normal(size=(6, 30))
    rows[3:] = rows[:3]
    rows[3:, 4] += gap
    found = task_geometry(rows)
    assert found.n_distinct == 6
    twins = found.squared[found.row[:3], found.row[3:]]
    np.testing.assert_allclose(twins, (rows[3:, 4] - rows[:3, 4]) ** 2, rtol=1e-9)


def test_negative_zero_is_zero():
    found = distinct_rows(np.array([[0.0, 1.0], [-0.0, 1.0], [0.0, -1.0]], dtype=np.float32))
    assert found.n_distinct == 2
    assert found.row[0] == found.row[1] != found.row[2]


def test_only_the_kept_rows_are_looked_at():
    rows = random_rows(1, n=8)
    kept = np.array([True, False, True, True, False, True, True, True])
    with_others = rows.copy()
    with_others[~kept] = np.nan
    found, alone = task_geometry(with_others, kept), task_geometry(rows[kept])
    np.testing.assert_array_equal(found.row, alone.row)
    np.testing.assert_array_equal(found.squared, alone.squared)
    np.testing.assert_array_equal(rows[found.position], rows[kept][alone.position])
    assert distinct_rows(rows, np.zeros(8, dtype=bool)).n_distinct == 0


def test_missing_values_equal_each_other():
    points = np.array([[[1.0, np.nan]], [[1.0, np.nan]], [[np.nan, 1.0]]])
    assert distinct_rows(points).n_distinct == 2
