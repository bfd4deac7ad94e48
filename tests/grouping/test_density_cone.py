import time

import numpy as np
import pytest
from planted_affinities import planted, random_similarity

from cotrain.grouping import density_cone as module
from cotrain.grouping.density_bound import relaxation_bound
from cotrain.grouping.density_cone import relax_by_cone
from cotrain.grouping.density_relaxation import relax

SOLVERS = [("clarabel", 1e-6), ("scs", 1e-3)]


def soon():
    return time.monotonic() + 60


@pytest.mark.parametrize(("solver", "exact_to"), SOLVERS)
@pytest.mark.parametrize("n_clusters", [3, None])
def test_other_solvers_agree_with_ours(solver, exact_to, n_clusters):
    pytest.importorskip(solver)
    affinity, _ = planted(14, 3)
    similarity = (affinity + affinity.T) / 2
    np.fill_diagonal(similarity, 0.1)
    ours, theirs = relax(similarity, n_clusters), relax_by_cone(similarity, n_clusters, solver, soon())
    assert theirs.finished
    assert theirs.bound == pytest.approx(ours.bound, rel=max(exact_to, 1e-4))
    assert theirs.bound == pytest.approx((similarity * theirs.weights).sum(), rel=10 * exact_to)
    np.testing.assert_allclose(theirs.weights, ours.weights, atol=0.02)
    np.testing.assert_array_equal(theirs.weights, theirs.weights.T)


@pytest.mark.parametrize(("solver", "exact_to"), SOLVERS)
def test_without_time_the_bound_still_holds(solver, exact_to):
    pytest.importorskip(solver)
    similarity = random_similarity(30)
    hurried = relax_by_cone(similarity, 4, solver, time.monotonic())
    assert not hurried.finished
    assert np.isfinite(hurried.weights).all()
    assert hurried.bound >= relax(similarity, 4).bound * (1 - 1e-4)


@pytest.mark.parametrize(("solver", "extra"), [("clarabel", "sdp"), ("scs", "scs")])
def test_a_solver_that_is_not_installed_names_the_extra(solver, extra, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, solver, None)
    with pytest.raises(ImportError, match=rf'pip install "cotrain\[{extra}\]"'):
        relax_by_cone(random_similarity(4), 2, solver, soon())


def test_a_solver_that_fails_leaves_a_bound_that_holds(monkeypatch):
    def failing(program, limit):
        return np.full(len(program.cost), np.nan), np.full(len(program.right), np.nan), True

    monkeypatch.setitem(module._SOLVERS, "scs", failing)
    similarity = random_similarity(8)
    found = relax_by_cone(similarity, 3, "scs", soon())
    assert not found.finished
    assert found.bound == relaxation_bound(similarity, np.zeros((8, 8)), 3)
    np.testing.assert_allclose(found.weights.sum(axis=1), 1)
