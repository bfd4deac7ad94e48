import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from planted_affinities import partitions, plain_density, planted, random_similarity

from cotrain.grouping import density_relaxation as module
from cotrain.grouping.density_bound import relaxation_bound
from cotrain.grouping.density_relaxation import relax

PARTITIONS = {n: partitions(n) for n in range(2, 7)}


@hypothesis_settings(max_examples=40)
@given(seed=st.integers(0, 9999), n_tasks=st.integers(2, 6), n_clusters=st.integers(1, 6) | st.none())
def test_its_bound_is_above_every_partition_and_its_solution(seed, n_tasks, n_clusters):
    n_clusters = None if n_clusters is None else min(n_clusters, n_tasks)
    similarity = random_similarity(n_tasks, seed)
    found = relax(similarity, n_clusters)
    top = max(
        plain_density(similarity, part)
        for part in PARTITIONS[n_tasks]
        if n_clusters is None or part.max() + 1 == n_clusters
    )
    assert found.bound >= top
    assert found.bound == pytest.approx((similarity * found.weights).sum(), rel=1e-3, abs=1e-3)
    assert found.finished


@pytest.mark.parametrize("n_clusters", [5, None])
def test_the_solution_is_feasible(n_clusters):
    affinity, _ = planted(40, 5)
    similarity = (affinity + affinity.T) / 2
    np.fill_diagonal(similarity, 0.0)
    found = relax(similarity, n_clusters)
    values = np.linalg.eigvalsh(found.weights)
    assert values.min() > -1e-9
    assert values.max() < 1 + 1e-9
    assert found.weights.min() > -1e-3
    np.testing.assert_allclose(found.weights.sum(axis=1), 1)
    if n_clusters is not None:
        assert found.weights.trace() == pytest.approx(n_clusters)
    assert relaxation_bound(similarity, np.zeros_like(similarity), n_clusters) > 1.05 * found.bound
    assert found.bound == pytest.approx((similarity * found.weights).sum(), rel=1e-3)


def test_clear_clusters_are_its_solution():
    affinity, truth = planted(30, 4, strength=5.0, noise=0.3)
    similarity = (affinity + affinity.T) / 2
    together = (truth[:, None] == truth) / np.bincount(truth)[truth]
    found = relax(similarity, 4)
    np.testing.assert_allclose(found.weights, together, atol=1e-4)
    assert found.bound == pytest.approx(plain_density(similarity, truth), rel=1e-5)


@pytest.mark.parametrize("unit", [1e-20, 1e20])
def test_the_unit_does_not_matter(unit):
    similarity = random_similarity(12)
    plain, scaled = relax(similarity, 3), relax(similarity * unit, 3)
    np.testing.assert_allclose(scaled.weights, plain.weights, atol=1e-6)
    assert scaled.bound == pytest.approx(plain.bound * unit)


def test_nothing_to_decide_is_no_error():
    assert relax(np.zeros((5, 5)), 2).bound == pytest.approx(0, abs=1e-12)
    assert relax(np.zeros((2, 2)), None).bound == pytest.approx(0, abs=1e-12)


def test_one_step_is_made_whatever_the_deadline():
    similarity = random_similarity(30)
    hurried, whole = relax(similarity, 5, time.monotonic()), relax(similarity, 5)
    assert not hurried.finished
    assert whole.finished
    assert math.isfinite(hurried.bound)
    assert hurried.bound > whole.bound
    np.testing.assert_allclose(hurried.weights.sum(axis=1), 1)


def test_steps_are_limited_by_their_work(monkeypatch):
    similarity = random_similarity(30)
    whole = relax(similarity, 5)
    monkeypatch.setattr(module, "WORK", 12 * 30**3)
    short = relax(similarity, 5)
    assert short.finished
    assert short.bound > whole.bound
    monkeypatch.setattr(module, "WORK", 0)
    monkeypatch.setattr(module, "LEAST_STEPS", 12)
    np.testing.assert_array_equal(relax(similarity, 5).weights, short.weights)


@given(
    values=st.lists(st.floats(-5, 5), min_size=1, max_size=12),
    share=st.floats(0, 1),
)
def test_the_projection_on_the_capped_simplex_is_the_nearest_point(values, share):
    values = np.sort(np.array(values))
    total = share * len(values)
    found = module._capped_simplex(values, total)
    assert found.min() >= 0
    assert found.max() <= 1
    assert found.sum() == pytest.approx(total, abs=1e-9)
    # Optimal: no mass can go from i to j at a profit.
    slope = found - values
    gives, takes = slope[found > 1e-9], slope[found < 1 - 1e-9]
    assert not len(gives) or not len(takes) or gives.max() <= takes.min() + 1e-6
