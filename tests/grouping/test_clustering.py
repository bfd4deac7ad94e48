import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cotrain.grouping.agreement import adjusted_rand_index, coassociation
from cotrain.grouping.clustering import cluster_tasks
from cotrain.grouping.memberships import fuzzy_memberships

MODES = ["fuzzy_kmeans", "fuzzy_c_means", "hard", "points"]
NAMES = [f"t{t}" for t in range(12)]
TRUTH = np.repeat([0, 1, 2], 4)
NAN = np.nan


def features_of(mode, seed, n_runs=1, noise=0.3, dtype=np.float64):
    """Three groups of four tasks; for points each group has its points in places of its own."""
    rng = np.random.default_rng(seed)
    runs = []
    for _ in range(n_runs):
        if mode == "points":
            centres = np.array([[0.1, 0.1], [0.9, 0.1], [0.5, 0.4]])
            place = np.where(rng.random((12, 60)) < 0.8, TRUTH[:, None], rng.integers(3, size=(12, 60)))
            run = centres[place] + 0.1 * noise * rng.normal(size=(12, 60, 2))
        else:
            run = 2 * np.eye(3, 8)[TRUTH] + noise * rng.normal(size=(12, 8))
        runs.append(run.astype(dtype))
    return runs if n_runs > 1 else runs[0]


def rows(features, order):
    return [run[order] for run in features] if isinstance(features, list) else features[order]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("n_runs", [1, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_mode_gives_memberships_and_finds_what_is_there(mode, n_runs, dtype):
    found = cluster_tasks(features_of(mode, 0, n_runs, dtype=dtype), NAMES, 3, mode=mode)
    assert found.memberships.dtype == np.float64
    assert found.memberships.shape == (12, 3)
    np.testing.assert_allclose(found.memberships.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_array_equal(found.memberships[np.arange(12), found.labels], found.memberships.max(axis=1))
    assert adjusted_rand_index(found.labels, TRUTH) == 1
    assert sorted(found.groups) == [tuple(NAMES[:4]), tuple(NAMES[4:8]), tuple(NAMES[8:])]
    assert found.stability == 1 if n_runs == 3 else np.isnan(found.stability)
    assert found.restart_agreement == pytest.approx(1, abs=0.1)
    assert (found.certainty > 0.8).all()
    assert found.coassociation.shape == (12, 12)
    assert found.tasks == tuple(NAMES)
    assert found.mode == mode
    assert (found.fuzziness is None) == (mode in ("hard", "points"))
    if mode == "hard":
        assert set(found.memberships.ravel()) == {0, 1}


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=10)
@given(data=st.data(), seed=st.integers(0, 99), n_runs=st.sampled_from([1, 3]), n_clusters=st.integers(1, 5))
def test_permuted_tasks_get_the_same_memberships_bit_for_bit(mode, data, seed, n_runs, n_clusters):
    features = features_of(mode, seed, n_runs, noise=2.0)
    for run in features if n_runs > 1 else [features]:
        run[7] = run[2]
        run[9] = NAN
    order = np.array(data.draw(st.permutations(range(12))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one = cluster_tasks(features, NAMES, n_clusters, mode=mode, n_init=3, seed=seed, noise=["t4"])
        other = cluster_tasks(
            rows(features, order), [NAMES[t] for t in order], n_clusters, mode=mode, n_init=3, seed=seed, noise=["t4"]
        )
    np.testing.assert_array_equal(one.memberships[order], other.memberships)
    np.testing.assert_array_equal(one.labels[order], other.labels)
    np.testing.assert_array_equal(one.certainty[order], other.certainty)
    np.testing.assert_array_equal(one.coassociation[np.ix_(order, order)], other.coassociation)
    assert [set(group) for group in one.groups] == [set(group) for group in other.groups]
    assert one.fuzziness == other.fuzziness
    assert (one.stability, one.restart_agreement) == pytest.approx(
        (other.stability, other.restart_agreement), nan_ok=True
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("n_runs", [1, 3])
def test_a_task_and_its_duplicate_get_identical_rows(mode, n_runs):
    features = features_of(mode, 1, n_runs, noise=2.0)
    for run in features if n_runs > 1 else [features]:
        run[11] = run[0]
    found = cluster_tasks(features, NAMES, 4, mode=mode)
    np.testing.assert_array_equal(found.memberships[0], found.memberships[11])
    assert found.labels[0] == found.labels[11]
    assert found.coassociation[0, 11] == 1


@pytest.mark.parametrize("mode", MODES)
def test_the_seed_decides(mode):
    features = features_of(mode, 2, noise=4.0)
    one, again = (cluster_tasks(features, NAMES, 4, mode=mode, seed=1, n_init=2) for _ in range(2))
    np.testing.assert_array_equal(one.memberships, again.memberships)
    np.testing.assert_array_equal(one.coassociation, again.coassociation)
    others = [cluster_tasks(features, NAMES, 4, mode=mode, seed=seed, n_init=1) for seed in range(12)]
    assert len({other.memberships.tobytes() for other in others}) > 1
    assert np.isnan(others[0].restart_agreement)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("n_clusters", [-1, 0, 9, 12])
def test_an_impossible_number_of_clusters(mode, n_clusters):
    features = features_of(mode, 0)
    features[5] = features[6] = features[7]
    features[1] = features[2]
    cluster_tasks(features, NAMES[:8] + NAMES[8:], 8, mode=mode, noise=["t9"])
    with pytest.raises(ValueError, match=f"Got {n_clusters} clusters and 8 different rows of 11 tasks"):
        cluster_tasks(features, NAMES, n_clusters, mode=mode, noise=["t9"])


def test_the_run_with_the_fewest_different_rows_decides():
    features = features_of("hard", 0, 2)
    features[1][:6] = features[1][0]
    with pytest.raises(ValueError, match="Got 8 clusters and 7 different rows of 12 tasks"):
        cluster_tasks(features, NAMES, 8)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("n_runs", [1, 2])
def test_what_is_left_out_joins_no_cluster_and_changes_nothing(mode, n_runs):
    features = features_of(mode, 3, n_runs)
    runs = features if n_runs > 1 else [features]
    runs[-1][5] = NAN
    with pytest.warns(UserWarning, match=r"Tasks \['t5'\] have NaN features and join no cluster"):
        found = cluster_tasks(features, NAMES, 3, mode=mode, noise=["t0"], universal=["t8"])
    out = np.array([0, 5, 8])
    kept = np.setdiff1d(np.arange(12), out)
    np.testing.assert_array_equal(found.memberships[out], 0)
    np.testing.assert_array_equal(found.labels[out], -1)
    assert np.isnan(found.certainty[out]).all()
    assert np.isnan(found.coassociation[out]).all()
    assert np.isnan(found.coassociation[:, out]).all()
    assert (found.noise, found.universal) == (("t0",), ("t8",))
    alone = cluster_tasks(rows(features, kept), [NAMES[t] for t in kept], 3, mode=mode)
    np.testing.assert_array_equal(found.memberships[kept], alone.memberships)
    np.testing.assert_array_equal(found.labels[kept], alone.labels)
    assert found.groups == alone.groups
    assert found.grouping() == alone.grouping()


def test_a_flagged_task_without_features_is_not_warned_of():
    features = features_of("hard", 3)
    features[5] = NAN
    cluster_tasks(features, NAMES, 3, noise=["t5"])


def test_all_tasks_left_out():
    with pytest.raises(ValueError, match="Got 1 clusters and 0 different rows of 0 tasks"):
        cluster_tasks(features_of("hard", 0), NAMES, 1, noise=NAMES)


def test_a_map_with_some_missing_points_is_clustered():
    features = features_of("points", 0)
    features[:, ::3, 0] = NAN
    found = cluster_tasks(features, NAMES, 3, mode="points")
    assert adjusted_rand_index(found.labels, TRUTH) == 1


def test_fuzzy_rows_are_those_of_the_distances_to_the_means():
    features = features_of("hard", 4, noise=1.0)
    found = cluster_tasks(features, NAMES, 3, fuzziness=1.3)
    means = np.stack([features[found.labels == k].mean(axis=0) for k in range(3)])
    distances = np.sqrt(((features[:, None] - means) ** 2).sum(axis=2))
    np.testing.assert_allclose(found.memberships, fuzzy_memberships(distances, 1.3), rtol=1e-9)
    assert found.fuzziness == 1.3


def test_iterated_memberships_are_a_fixed_point():
    features = features_of("hard", 4, noise=1.0)
    found = cluster_tasks(features, NAMES, 3, mode="fuzzy_c_means", fuzziness=1.5)
    powers = found.memberships**1.5
    means = powers.T @ features / powers.sum(axis=0)[:, None]
    distances = np.sqrt(((features[:, None] - means) ** 2).sum(axis=2))
    np.testing.assert_allclose(found.memberships, fuzzy_memberships(distances, 1.5), atol=2e-3)
    assert not np.allclose(found.memberships, cluster_tasks(features, NAMES, 3, fuzziness=1.5).memberships, atol=2e-3)


@pytest.mark.parametrize("n_runs", [1, 3])
def test_the_fuzziness_is_calibrated_over_tasks_and_runs(n_runs):
    features = features_of("hard", 5, n_runs, noise=1.0)
    found = cluster_tasks(features, NAMES, 3)
    runs = features if n_runs > 1 else [features]
    each = [cluster_tasks(run, NAMES, 3, fuzziness=found.fuzziness).memberships for run in runs]
    # The runs have the seeds 0, 1, ...; with 20 restarts all of them find the same clusters here.
    assert np.concatenate(each).max(axis=1).mean() == pytest.approx(0.7, abs=1e-6)


def test_labels_do_not_depend_on_the_fuzziness():
    features = features_of("hard", 6, noise=2.0)
    found = [cluster_tasks(features, NAMES, 4, fuzziness=m) for m in (1.001, 1.07, 2.0, 1e15)]
    for other in found[1:]:
        np.testing.assert_array_equal(found[0].labels, other.labels)


def test_several_runs_outvote_one_bad_one():
    features = features_of("hard", 7, 5, noise=0.8)
    features[2] = features[2][np.random.default_rng(0).permutation(12)]
    for mode in ("fuzzy_kmeans", "hard"):
        found = cluster_tasks(features, NAMES, 3, mode=mode)
        assert adjusted_rand_index(found.labels, TRUTH) == 1
        single = [cluster_tasks(run, NAMES, 3, mode=mode).labels for run in features]
        pairs = [adjusted_rand_index(a, b) for n, a in enumerate(single) for b in single[:n]]
        assert found.stability == pytest.approx(np.mean(pairs))
        assert found.stability < 0.8
        assert (found.certainty < 1).all()


def test_memberships_of_runs_are_averaged():
    features = features_of("hard", 8, 2, noise=0.5)
    found = cluster_tasks(features, NAMES, 3, fuzziness=1.5)
    each = [cluster_tasks(run, NAMES, 3, fuzziness=1.5) for run in features]
    aligned = [one.memberships[:, [one.labels[t] for t in (0, 4, 8)]] for one in each]
    expected = np.mean(aligned, axis=0)[:, np.argsort([found.labels[t] for t in (0, 4, 8)])]
    np.testing.assert_allclose(found.memberships, expected, atol=1e-12)


def test_a_clustering_as_networks():
    features = features_of("hard", 0)
    grouping = cluster_tasks(features, NAMES, 3, mode="hard", noise=["t3"]).grouping()
    assert sorted(group.trains for group in grouping.groups) == [tuple(NAMES[:3]), tuple(NAMES[4:8]), tuple(NAMES[8:])]
    assert all(group.trains == group.serves for group in grouping.groups)
    assert (grouping.status, grouping.solver) == ("given", "hard")


def test_the_coassociation_is_that_of_the_restarts():
    features = features_of("hard", 7, noise=2.0)
    found = cluster_tasks(features, NAMES, 3, n_init=1)
    np.testing.assert_array_equal(found.coassociation, coassociation([found.labels]))
    many = cluster_tasks(features, NAMES, 3, n_init=8).coassociation * 8
    np.testing.assert_array_equal(many, np.round(many))
    assert len(np.unique(many)) > 2


def test_a_cluster_to_which_no_task_belongs_most_gets_no_network():
    rng = np.random.default_rng(0)
    places = np.array([[0.1, 0.1], [0.9, 0.1], [0.5, 0.9]])
    mixed = np.where(np.arange(60) % 3 == 0, 2, np.repeat([0, 1], 6)[:, None])  # a third of every task's points
    features = places[mixed] + 0.01 * rng.normal(size=(12, 60, 2))
    found = cluster_tasks(features, NAMES, 3, mode="points")
    np.testing.assert_allclose(found.memberships[:, 2], 1 / 3)
    assert [len(group) for group in found.groups] == [6, 6, 0]
    assert [group.trains for group in found.grouping().groups] == list(found.groups[:2])


@pytest.mark.parametrize("mode", MODES)
def test_one_cluster(mode):
    found = cluster_tasks(features_of(mode, 0, 2), NAMES, 1, mode=mode)
    np.testing.assert_array_equal(found.memberships, np.ones((12, 1)))
    np.testing.assert_array_equal(found.certainty, 1)
    assert found.stability == 1


def test_every_task_alone():
    found = cluster_tasks(features_of("hard", 0), NAMES, 12)
    np.testing.assert_array_equal(found.memberships.max(axis=1), 1)
    np.testing.assert_array_equal(found.certainty, 1)
    np.testing.assert_array_equal(found.coassociation, np.eye(12))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "soft"}, "mode must be one of fuzzy_kmeans, fuzzy_c_means, hard, points. Got 'soft'"),
        ({"n_init": 0}, "n_init must be the number of restarts, at least 1. Got 0"),
        ({"fuzziness": 1.0}, "fuzziness must be a finite number above 1. Got 1.0"),
        ({"fuzziness": NAN}, "Got nan"),
        ({"noise": ["t1", "coin"]}, r"unknown tasks \['coin'\]"),
        ({"universal": ["sky"]}, r"unknown tasks \['sky'\]. Known tasks: t0, t1"),
        ({"mode": "points"}, r"\[12, P, 2\] for 12 tasks. Got \[12, 8\]"),
        ({"tasks": NAMES[:11]}, r"\[11, D\] for 11 tasks. Got \[12, 8\]"),
        ({"tasks": ["a"] * 12}, "must differ"),
    ],
)
def test_what_is_refused(options, message):
    arguments = {"tasks": NAMES, **options}
    with pytest.raises(ValueError, match=message):
        cluster_tasks(features_of("hard", 0), n_clusters=3, **arguments)
