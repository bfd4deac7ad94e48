from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_affinities import as_sets, names, partitions, plain_density, planted

from cotrain.grouping.affinity_clusters import cluster_affinity
from cotrain.grouping.affinity_scale import similarity_of
from cotrain.grouping.agreement import adjusted_rand_index

PARTITIONS = {n: partitions(n) for n in range(2, 8)}
WAYS = ["exact", "splitting", "spectral"]


def affinity_of(n_tasks, seed):
    return np.random.default_rng(seed).normal(size=(n_tasks, n_tasks))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 9999),
    n_tasks=st.integers(2, 7),
    n_clusters=st.integers(1, 7) | st.none(),
    solver=st.sampled_from(["auto", *WAYS]),
    standardise=st.booleans(),
    cost=st.sampled_from([0.0, 0.5, -0.5]),
)
def test_value_and_bound_enclose_the_best_of_all_partitions(seed, n_tasks, n_clusters, solver, standardise, cost):
    n_clusters = None if n_clusters is None else min(n_clusters, n_tasks)
    matrix = affinity_of(n_tasks, seed)
    alone = matrix.diagonal()
    np.fill_diagonal(matrix, 0.0)
    similarity = similarity_of(matrix, alone, standardise=standardise) - cost * np.eye(n_tasks)
    options = {"n_init": 2, "standardise": standardise, "alone": alone, "cost": cost}
    found = cluster_affinity(matrix, names(n_tasks), n_clusters, solver=solver, **options)
    best = max(
        plain_density(similarity, part)
        for part in PARTITIONS[n_tasks]
        if n_clusters is None or part.max() + 1 == n_clusters
    )
    grouping = found.grouping
    assert grouping.value == pytest.approx(plain_density(similarity, found.labels))
    assert grouping.value <= best + 1e-9
    assert grouping.bound >= max(best, grouping.value) - 1e-9
    assert n_clusters is None or found.n_clusters == n_clusters
    assert sorted(grouping.tasks) == names(n_tasks)
    np.testing.assert_allclose(found.similarity, similarity)
    if solver in ("auto", "exact") or grouping.status == "optimal":
        assert grouping.status == "optimal"
        assert grouping.value == pytest.approx(best)
        assert grouping.gap <= 1e-6 * np.abs(similarity).max() * 2


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 9999), solver=st.sampled_from(WAYS), n_clusters=st.sampled_from([3, None]))
def test_permuting_the_tasks_permutes_the_answer(seed, solver, n_clusters):
    rng = np.random.default_rng(seed)
    n_tasks = 9 if solver == "exact" else 14
    matrix, alone, order = affinity_of(n_tasks, seed), rng.normal(size=n_tasks), rng.permutation(n_tasks)
    given_names = names(n_tasks)
    options = {"solver": solver, "n_init": 2}
    one = cluster_affinity(matrix, given_names, n_clusters, alone=alone, **options)
    other = cluster_affinity(
        matrix[np.ix_(order, order)], [given_names[t] for t in order], n_clusters, alone=alone[order], **options
    )
    assert as_sets(one) == as_sets(other)
    assert one.grouping.value == other.grouping.value
    assert one.grouping.bound == other.grouping.bound
    np.testing.assert_array_equal(
        one.labels[order][:, None] == one.labels[order], other.labels[:, None] == other.labels
    )
    np.testing.assert_array_equal(one.similarity[np.ix_(order, order)], other.similarity)


def dyadic(n_tasks, seed):
    """Multiples of 1/1024: sums of them are exact, and so are means over 16."""
    return np.round(affinity_of(n_tasks, seed) * 1024) / 1024


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 9999),
    constant=st.integers(-1000, 1000),
    task=st.integers(0, 15),
    what=st.sampled_from(["row", "column", "matrix"]),
    solver=st.sampled_from(WAYS),
    n_clusters=st.sampled_from([4, None]),
)
def test_a_constant_moves_the_value_and_no_cluster(seed, constant, task, what, solver, n_clusters):
    n_tasks = 8 if solver == "exact" else 16
    matrix, task = dyadic(n_tasks, seed), task % n_tasks
    shifted = matrix.copy()
    shifted[{"row": task, "column": (slice(None), task), "matrix": ...}[what]] += constant
    options = {"solver": solver, "n_init": 2, "standardise": False}
    one = cluster_affinity(matrix, names(n_tasks), n_clusters, alone=matrix.diagonal(), **options)
    other = cluster_affinity(shifted, names(n_tasks), n_clusters, alone=shifted.diagonal(), **options)
    np.testing.assert_array_equal(one.labels, other.labels)
    by = constant * (n_tasks if what == "matrix" else 1)
    assert other.grouping.value - one.grouping.value == pytest.approx(by, abs=1e-9)
    assert other.grouping.status == one.grouping.status
    assert other.grouping.gap == pytest.approx(one.grouping.gap, abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 9999), solver=st.sampled_from(WAYS), n_clusters=st.sampled_from([4, None]))
def test_difficulty_and_scale_of_a_target_cancel_by_default(seed, solver, n_clusters):
    rng = np.random.default_rng(seed)
    n_tasks = 9 if solver == "exact" else 17
    matrix = dyadic(n_tasks, seed)
    other = (matrix + rng.integers(-10, 10, n_tasks)) * 2.0 ** rng.integers(-10, 10, n_tasks)
    options = {"solver": solver, "n_init": 2}
    one = cluster_affinity(matrix, names(n_tasks), n_clusters, **options)
    two = cluster_affinity(other, names(n_tasks), n_clusters, **options)
    np.testing.assert_array_equal(one.labels, two.labels)
    assert two.grouping.value == pytest.approx(one.grouping.value)


@pytest.mark.parametrize("what", ["row", "column", "matrix", "unit"])
def test_neither_does_any_number_where_clusters_are_clear(what):
    matrix, _ = planted(40, 5, strength=1.0)
    other = matrix.copy()
    other[{"row": 7, "column": (slice(None), 7), "matrix": ..., "unit": ...}[what]] += (
        0.1 if what == "unit" else 1e6 / 3
    )
    other *= 1e-9 / 3 if what == "unit" else 1
    options = {"standardise": False}
    one = cluster_affinity(matrix, names(40), 5, alone=matrix.diagonal(), **options)
    two = cluster_affinity(other, names(40), 5, alone=other.diagonal(), **options)
    np.testing.assert_array_equal(one.labels, two.labels)
    assert two.grouping.status == one.grouping.status
    unit = 1e-9 / 3 if what == "unit" else 1.0
    assert two.grouping.gap == pytest.approx(one.grouping.gap * unit, abs=1e-6 * unit)


def test_a_target_of_large_numbers_decides_only_without_standardising():
    matrix, truth = planted(12, 3, strength=1.0, noise=0.2)
    matrix[:, :2] = 1000 * planted(12, 3, seed=9, strength=1.0, noise=0.2)[0][:, :2]
    assert adjusted_rand_index(cluster_affinity(matrix, names(12), 3).labels, truth) > 0.7
    assert adjusted_rand_index(cluster_affinity(matrix, names(12), 3, standardise=False).labels, truth) < 0.4


def test_a_task_that_is_better_alone_stays_alone():
    matrix, _ = planted(8, 2, strength=3.0, noise=0.1)
    alone = np.zeros(8)
    alone[5] = 100.0
    found = cluster_affinity(matrix, names(8), alone=alone)
    assert frozenset([names(8)[5]]) in as_sets(found)
    assert frozenset([names(8)[5]]) not in as_sets(cluster_affinity(matrix, names(8)))


def test_a_dearer_cluster_means_fewer_of_them():
    matrix, _ = planted(14, 4)
    counts = [cluster_affinity(matrix, names(14), cost=cost).n_clusters for cost in (-5.0, 0.0, 0.5, 1.0, 50.0)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == 14
    assert counts[-1] == 1


def test_the_planted_instance_is_found_with_a_small_gap():
    matrix, truth = planted(60, 6)
    found = cluster_affinity(matrix, names(60), 6)
    assert found.grouping.relative_gap < 0.05
    assert adjusted_rand_index(found.labels, truth) > 0.85
    assert found.grouping.solver == "splitting, local search"
    assert found.grouping.objective == "density"
    assert found.grouping.n_candidates > 1


def test_clear_clusters_are_proven_beyond_the_exact_sizes():
    matrix, truth = planted(40, 4, strength=6.0, noise=0.1)
    found = cluster_affinity(matrix, names(40), 4)
    assert found.grouping.status == "optimal"
    assert found.n_clusters == 4
    assert adjusted_rand_index(found.labels, truth) == 1
    assert cluster_affinity(matrix, names(40)).n_clusters == 4


def test_the_same_seed_gives_the_same_answer():
    matrix, _ = planted(30, 4)
    one, again = (cluster_affinity(matrix, names(30), 4, seed=3) for _ in range(2))
    np.testing.assert_array_equal(one.labels, again.labels)
    assert one.grouping.bound == again.grouping.bound
    assert one.seed == 3


@pytest.mark.parametrize("n_tasks", [3, 14, 40])
@pytest.mark.parametrize("n_clusters", [3, None])
def test_the_shortest_time_limit_still_gives_clusters_and_a_bound(n_tasks, n_clusters):
    matrix, _ = planted(n_tasks, 3)
    found = cluster_affinity(matrix, names(n_tasks), n_clusters, time_limit=1e-9)
    assert sorted(found.grouping.tasks) == names(n_tasks)
    assert n_clusters is None or found.n_clusters == n_clusters
    assert found.grouping.gap >= 0
    if n_tasks > 3:
        assert found.grouping.status == "time_limit"
        assert "stopped by the time limit" in str(found)
    assert found.grouping.bound >= cluster_affinity(matrix, names(n_tasks), n_clusters).grouping.value - 1e-9


def test_an_affinity_object_brings_its_names():
    matrix, _ = planted(5, 2)
    np.fill_diagonal(matrix, np.nan)
    found = cluster_affinity(SimpleNamespace(matrix=matrix, tasks=tuple("abcde")), n_clusters=2)
    assert found.tasks == tuple("abcde")


def test_labels_groups_and_names_agree():
    matrix, _ = planted(12, 3)
    reverse = names(12)[::-1]
    found = cluster_affinity(matrix, reverse, 3)
    for number, group in enumerate(found.grouping.groups):
        assert group.serves == group.trains == tuple(reverse[t] for t in np.flatnonzero(found.labels == number))
    assert found.labels[0] == 0


def test_text_says_what_is_proven():
    matrix, _ = planted(12, 3)
    text = str(cluster_affinity(matrix, names(12), 3))
    assert text.startswith("3 clusters of 12 tasks; density ")
    assert "proven best\n1. task 0000 + " in text
    assert "% of the best possible" in str(cluster_affinity(matrix, names(12), 3, solver="spectral"))
    low = cluster_affinity(matrix, names(12), 3, solver="spectral", alone=-1e3)
    assert f"at most {low.grouping.gap:.3g} below the best possible" in str(low)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_clusters": 0}, "between 1 and the number of tasks, 17. Got 0"),
        ({"n_clusters": 18}, "between 1 and the number of tasks, 17. Got 18"),
        ({"cost": np.nan}, "cost is a finite number"),
        ({"solver": "best"}, "solver must be one of auto, exact, splitting, clarabel, scs, spectral. Got 'best'"),
        ({"solver": "exact"}, "takes up to 16 tasks. Got 17"),
        ({"n_init": 0}, "number of restarts, at least 1. Got 0"),
        ({"time_limit": 0}, "seconds above 0. Got 0"),
        ({"time_limit": np.nan}, "seconds above 0. Got nan"),
        ({"alone": [1.0, 2.0]}, "one for each of the 17 tasks"),
    ],
)
def test_arguments_out_of_their_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        cluster_affinity(affinity_of(17, 0), names(17), **options)
