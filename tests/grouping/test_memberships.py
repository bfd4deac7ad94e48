import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotrain.grouping.memberships import calibrated_fuzziness, fuzzy_memberships, loss_weights, sparse_memberships

NAN = np.nan


def random_memberships(seed, n=7, n_clusters=4):
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.full(n_clusters, 0.5), size=n)
    weights[rng.random(n) < 0.2] = 0
    weights[0] = rng.dirichlet(np.ones(n_clusters))
    return weights


@given(
    fuzziness=st.floats(1.001, 3),
    distances=st.lists(
        st.lists(st.sampled_from([0.0, 1e-10, 0.5, 1.0, 1e6]), min_size=3, max_size=3), min_size=1, max_size=5
    ),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_memberships_are_finite_and_sum_to_one(fuzziness, distances, dtype):
    values = np.array(distances, dtype=dtype)
    weights = fuzzy_memberships(values, fuzziness)
    assert weights.dtype == np.float64
    assert np.isfinite(weights).all()
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-12)
    nearest = values == values.min(axis=1, keepdims=True)
    for row, mine in zip(weights, nearest, strict=True):
        assert (row[mine] == row.max()).all()  # ties share equally


@given(seed=st.integers(0, 999), fuzziness=st.floats(1.2, 5))
def test_memberships_are_the_powers_of_the_definition(seed, fuzziness):
    distances = np.random.default_rng(seed).uniform(0.5, 2, size=(6, 4))
    powers = distances ** (-2 / (fuzziness - 1))
    np.testing.assert_allclose(
        fuzzy_memberships(distances, fuzziness), powers / powers.sum(axis=1, keepdims=True), rtol=1e-9
    )
    np.testing.assert_allclose(
        fuzzy_memberships(distances, fuzziness), fuzzy_memberships(distances * 1e200, fuzziness), rtol=1e-9
    )


@pytest.mark.parametrize("fuzziness", [1 + 1e-15, 1.001, 1.07, 2, 1000])
def test_a_task_on_a_centre_belongs_there_alone(fuzziness):
    distances = [[0, 1, 2], [0, 0, 1], [0, 0, 0], [3, 3, 3], [0, 1e-300, 1e300]]
    expected = [[1, 0, 0], [0.5, 0.5, 0], [1 / 3] * 3, [1 / 3] * 3, [1, 0, 0]]
    np.testing.assert_array_equal(fuzzy_memberships(distances, fuzziness)[:3], expected[:3])
    np.testing.assert_allclose(fuzzy_memberships(distances, fuzziness)[3], expected[3], rtol=1e-15)
    assert fuzzy_memberships(distances, fuzziness)[4, 0] == fuzzy_memberships(distances, fuzziness)[4].max()


@given(
    seed=st.integers(0, 999),
    n_clusters=st.integers(2, 6),
    wanted=st.floats(0.55, 0.95),
    spread=st.sampled_from([0.01, 0.3, 2.0]),
)
def test_the_fuzziness_gives_the_wanted_mean(seed, n_clusters, wanted, spread):
    distances = np.exp(spread * np.random.default_rng(seed).normal(size=(20, n_clusters)))
    fuzziness = calibrated_fuzziness(distances, wanted)
    reached = fuzzy_memberships(distances, fuzziness).max(axis=1).mean()
    if 1.0011 < fuzziness < 100.9:
        assert reached == pytest.approx(wanted, abs=1e-9)
    else:
        assert (reached < wanted) == (fuzziness < 2)


def test_a_fuzziness_out_of_reach_is_the_nearest_end():
    assert calibrated_fuzziness(np.ones((5, 1))) == pytest.approx(101)
    assert calibrated_fuzziness(1 - np.eye(4)) == pytest.approx(101)
    assert calibrated_fuzziness(np.ones((5, 2))) == pytest.approx(1.001)
    assert calibrated_fuzziness([[1.0, 2.0]]) == calibrated_fuzziness([[1.0, 2.0]], 0.7)


@given(seed=st.integers(0, 999), top=st.integers(1, 5), threshold=st.sampled_from([0.0, 0.15, 0.4, 1.0]))
def test_sparse_memberships_keep_the_largest(seed, top, threshold):
    before = random_memberships(seed)
    weights, kept = sparse_memberships(before, top, threshold)
    full = np.zeros_like(before)
    full[:, kept] = weights
    assert full.any(axis=0)[kept].all()
    for row, original in zip(full, before, strict=True):
        if not original.any():
            assert not row.any()
            continue
        ranked = np.argsort(-original, kind="stable")
        stays = [k for place, k in enumerate(ranked) if place == 0 or (place < top and original[k] >= threshold)]
        expected = np.zeros_like(original)
        expected[stays] = original[stays] / original[stays].sum()
        np.testing.assert_allclose(row, expected, atol=1e-15)


def test_empty_columns_are_dropped_and_ties_go_to_the_first():
    weights, kept = sparse_memberships([[0.9, 0.1, 0.0], [0.4, 0.3, 0.3]], top=2)
    assert kept.tolist() == [0, 1]
    np.testing.assert_allclose(weights, [[1, 0], [4 / 7, 3 / 7]])
    np.testing.assert_array_equal(sparse_memberships([[0.75, 0.25]], threshold=0.25)[0], [[0.75, 0.25]])


@given(seed=st.integers(0, 999), scale=st.floats(0.01, 100))
def test_weights_of_a_network_do_not_depend_on_the_scale_of_its_column(seed, scale):
    before = np.random.default_rng(seed).dirichlet(np.ones(3), size=6)
    weights = loss_weights(before)
    assert weights.shape == (3, 6)
    expected = [before[:, k] / before[:, k].sum() * 6 for k in range(3)]
    np.testing.assert_allclose(weights, expected, rtol=1e-12)
    # Column 0 times a constant, with what the rows lose or gain put into another column:
    scaled = before.copy()
    scaled[:, 0] *= min(scale, 1 / before[:, 0].max())
    scaled[:, 1] = 1 - scaled[:, 0]
    scaled[:, 2] = 0
    np.testing.assert_allclose(loss_weights(scaled[:, :2])[0], weights[0], rtol=1e-9)


def test_members_weigh_one_on_average_and_the_left_out_nothing():
    weights, _ = sparse_memberships(random_memberships(5, n=30))
    found = loss_weights(weights)
    members = (weights > 0).sum(axis=0)
    np.testing.assert_allclose(found.sum(axis=1), members)
    np.testing.assert_array_equal(found.T[weights.sum(axis=1) == 0], 0)
    np.testing.assert_array_equal(loss_weights(np.eye(3)[[0, 0, 1, 2]]), np.eye(3)[[0, 0, 1, 2]].T)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fuzzy_memberships([[1.0, 2.0]], 1.0), "above 1. Got 1.0"),
        (lambda: fuzzy_memberships([[1.0, 2.0]], np.inf), "Got inf"),
        (lambda: fuzzy_memberships([[1.0, NAN]], 2), "finite number"),
        (lambda: fuzzy_memberships([[1.0, -1.0]], 2), "at least 0"),
        (lambda: fuzzy_memberships([1.0, 1.0], 2), r"\[T, K\] with at least one centre. Got \[2\]"),
        (lambda: fuzzy_memberships(np.ones((3, 0)), 2), r"Got \[3, 0\]"),
        (lambda: calibrated_fuzziness(np.ones((0, 2))), "Got none"),
        (lambda: calibrated_fuzziness([[1.0, 2.0]], 1.0), "mean_membership must be between 0 and 1. Got 1.0"),
        (lambda: sparse_memberships([[0.5, 0.5]], top=0), "top must be at least 1.* Got 0"),
        (lambda: sparse_memberships([[0.5, 0.5]], threshold=1.5), "threshold must be between 0 and 1. Got 1.5"),
        (lambda: sparse_memberships([0.5, 0.5]), r"\[T, K\]. Got \[2\]"),
        (lambda: loss_weights([[1.0, 0.0], [1.0, 0.0]]), "Cluster 1 has no member"),
        (lambda: loss_weights([[1.0, 0.0], [-0.5, 1.5]]), "Got -0.5 for task 1 in cluster 0"),
        (lambda: loss_weights([[1.0, 0.0], [NAN, 1.0]]), "Got nan for task 1 in cluster 0"),
        (lambda: loss_weights([[1.0, 0.0], [0.5, 0.6]]), "Got 1.1 for task 1"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_rows_may_be_rounded():
    assert loss_weights([[0.5, 0.5 + 5e-7], [0.0, 0.0]]).shape == (2, 2)
