import time

import numpy as np
import pytest
from planted_affinities import planted

from cotrain.grouping import density_search as module
from cotrain.grouping.density import density
from cotrain.grouping.density_relaxation import Relaxed
from cotrain.grouping.density_search import DensitySearch


def similarity_of(n_tasks=20, n_clusters=4, seed=0):
    affinity, _ = planted(n_tasks, n_clusters, seed)
    similarity = (affinity + affinity.T) / 2
    np.fill_diagonal(similarity, 0.0)
    return similarity


def search_of(similarity, n_clusters, time_limit=60.0):
    return DensitySearch(similarity, n_clusters, 5, 0, time.monotonic(), time_limit)


@pytest.mark.parametrize("n_clusters", [3, None])
def test_rounding_the_relaxation_finds_what_is_exact(n_clusters):
    for seed in range(8):
        similarity = similarity_of(12, 3, seed)
        exact, rounded = search_of(similarity, n_clusters), search_of(similarity, n_clusters)
        best = density(similarity, exact.run("exact")[0])
        assert density(similarity, rounded.run("splitting")[0]) == pytest.approx(best)
        assert exact.bound + exact.constant == pytest.approx(best)


@pytest.mark.parametrize(("n_clusters", "n_tasks"), [(1, 20), (20, 20)])
def test_the_only_partition_needs_no_search(n_clusters, n_tasks):
    similarity = similarity_of(n_tasks)
    search = search_of(similarity, n_clusters)
    labels, status, how = search.run("splitting")
    assert (status, how) == ("optimal", "the only partition")
    assert len(set(labels.tolist())) == n_clusters
    assert search.bound + search.constant == pytest.approx(density(similarity, labels))


def test_sizes_decide_the_solver(monkeypatch):
    similarity = similarity_of()
    assert search_of(similarity, 4).run("auto")[2] == "splitting, local search"
    monkeypatch.setattr(module, "MOST_RELAXED", 19)
    assert search_of(similarity, 4).run("auto")[1:] == ("heuristic", "spectral, local search")
    assert search_of(similarity_of(16), 4).run("auto")[2] == "dynamic programme over subsets"


@pytest.mark.parametrize("solver", ["clarabel", "scs"])
def test_other_solvers_of_the_relaxation_lead_to_the_same_clusters(solver):
    pytest.importorskip(solver)
    similarity = similarity_of()
    ours, theirs = search_of(similarity, 4), search_of(similarity, 4)
    values = [density(similarity, search.run(way)[0]) for search, way in ((ours, "splitting"), (theirs, solver))]
    assert values[0] == pytest.approx(values[1])
    assert theirs.bound == pytest.approx(ours.bound, rel=1e-3)


def test_an_unfinished_relaxation_is_said(monkeypatch):
    def hurried(similarity, n_clusters, deadline):
        return Relaxed(np.full(similarity.shape, 1 / len(similarity)), 1e3, finished=False)

    monkeypatch.setattr(module, "relax", hurried)
    search = search_of(similarity_of(), 4)
    assert search.run("splitting")[1] == "time_limit"
    assert search.bound < 1e3  # that of the rows is lower


def test_the_relaxation_is_left_out_once_its_time_is_over():
    search = search_of(similarity_of(), 4)
    search.relax_until = time.monotonic()
    assert search.relaxed("splitting") is None
    assert search.run("splitting")[1] == "time_limit"


def test_each_stage_stops_at_the_deadline(monkeypatch):
    """The clock is one that tells the stage: it stands until a given number of looks at it."""

    class Clock:
        def __init__(self, looks):
            self.left = looks

        def monotonic(self):
            self.left -= 1
            return 0.0 if self.left >= 0 else 1e9

    similarity = similarity_of()
    outcomes = []
    for looks in (1, 3, 6, 1000):
        search = DensitySearch(similarity, 4, 5, 0, 0.0, 60.0)
        monkeypatch.setattr(module, "time", Clock(looks))
        labels, complete = search.rounded(None)
        assert len(set(labels.tolist())) == 4
        outcomes.append((complete, search.n_compared))
    # One look per start, of which there are 6, and one before each search for swaps.
    assert outcomes == [(False, 2), (False, 4), (False, 6), (True, 6)]


def test_without_a_number_of_clusters_three_are_tried(monkeypatch):
    asked = []
    inner = module.rounded
    monkeypatch.setattr(
        module,
        "rounded",
        lambda points, k, **options: asked.append((k, points.shape[1])) or inner(points, k, **options),
    )
    similarity = similarity_of()
    search = search_of(similarity, None)
    relaxed = search.relaxed("splitting")
    middle = round(relaxed.weights.trace())
    list(search.starts(relaxed))
    assert asked == [(k, k) for k in (middle, middle - 1, middle + 1, middle)]
    asked.clear()
    list(search.starts(None))
    assert asked == [(4, 4), (3, 3), (5, 5)]
    asked.clear()
    together = Relaxed(np.full((20, 20), 1 / 20), 0.0, finished=True)
    list(search.starts(together))
    assert asked == [(1, 1), (2, 2), (1, 1)]
    asked.clear()
    list(search.starts(Relaxed(np.eye(20), 0.0, finished=True)))
    assert asked == [(20, 20), (19, 19)]
