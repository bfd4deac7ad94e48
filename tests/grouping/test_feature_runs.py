import numpy as np
import pytest

from cotrain.grouping.feature_runs import read_runs

NAN = np.nan


def test_one_run_or_several():
    one = np.arange(6.0).reshape(2, 3)
    for features, n_runs in ((one, 1), (one.tolist(), 1), ([one], 1), ([one, one[:, :2]], 2), (np.stack([one] * 3), 3)):
        runs, names, missing = read_runs(features, ["a", "b"], 2)
        assert len(runs) == n_runs
        np.testing.assert_array_equal(runs[0], one)
        assert names == ("a", "b")
        assert not missing.any()
    points = np.arange(12.0).reshape(2, 3, 2)
    for features, n_runs in ((points, 1), ([points, points[:, :1]], 2), (np.stack([points] * 3), 3)):
        assert len(read_runs(features, ["a", "b"], 3)[0]) == n_runs


def test_features_are_not_copied():
    one = np.ones((2, 3), dtype=np.float32)
    assert read_runs(one, ["a", "b"], 2)[0][0] is one
    assert read_runs([one], ["a", "b"], 2)[0][0] is one


def test_a_vector_misses_with_one_value_and_a_map_with_all():
    runs = [np.array([[1.0, 2.0], [1.0, NAN], [1.0, 2.0]]), np.array([[1.0, 2.0], [1.0, 2.0], [NAN, NAN]])]
    assert read_runs(runs, "abc", 2)[2].tolist() == [False, True, True]
    points = np.ones((3, 2, 2))
    points[1, 0, 0] = points[2, 0, 0] = points[2, 1, 1] = NAN
    assert read_runs(points, "abc", 3)[2].tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("features", "n_dims", "message"),
    [
        ([], 2, r"\[2, D\], or a sequence of such arrays. Got an empty one"),
        (np.ones((3, 4)), 2, r"\[2, D\] for 2 tasks. Got \[3, 4\]"),
        (np.ones((2, 0)), 2, r"Got \[2, 0\]"),
        (np.ones(2), 2, r"Got \[2\]"),
        ([np.ones((2, 3)), np.ones((3, 3))], 2, r"Got \[3, 3\]"),
        (np.ones((2, 4)), 3, r"\[2, P, 2\] for 2 tasks. Got \[2, 4\]"),
        (np.ones((2, 4, 3)), 3, r"Got \[2, 4, 3\]"),
        (np.array([[1.0, 1.0], [NAN, np.inf]]), 2, "task 'b' are infinite"),
        (np.array([[1.0, -np.inf], [NAN, 1.0]]), 2, "task 'a' are infinite"),
        (np.array([[[1.0, 1.0], [NAN, np.inf]], [[NAN, 1.0], [1.0, 1.0]]]), 3, "task 'a' are infinite"),
    ],
)
def test_what_is_refused(features, n_dims, message):
    with pytest.raises(ValueError, match=message):
        read_runs(features, ["a", "b"], n_dims)
