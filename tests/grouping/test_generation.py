import numpy as np
import pytest

from cotrain.grouping import Candidate, PairMean, random_like, select_groups, serve_groups
from cotrain.grouping import candidates as candidates_module
from cotrain.grouping import generation as generation_module


def planted(n_tasks, n_clusters, seed):
    rng = np.random.default_rng(seed)
    cluster = rng.integers(0, n_clusters, n_tasks)
    matrix = 0.05 * (cluster[:, None] == cluster) + rng.normal(0, 0.02, (n_tasks, n_tasks)) - 0.03
    tasks = [f"t{i:02d}" for i in range(n_tasks)]
    parts = [tuple(np.array(tasks)[cluster == c]) for c in range(n_clusters) if (cluster == c).any()]
    return PairMean(matrix, tasks, np.full((n_tasks, n_tasks), 0.01)), parts


def test_fifteen_tasks_are_solved_over_all_groups():
    model, parts = planted(15, 3, 0)
    grouping = select_groups(model, budget=3)
    assert (grouping.status, grouping.n_candidates) == ("optimal", 2**15 - 1)
    assert grouping.value >= serve_groups(model, parts).value


def test_a_pool_is_called_a_heuristic_and_finds_what_was_planted():
    model, parts = planted(27, 3, 1)
    grouping = select_groups(model, budget=3, time_limit=100)
    assert grouping.status == "heuristic"
    assert grouping.bound is None
    assert grouping.gap is None
    assert grouping.pool_gap >= 0
    assert 27 < grouping.n_candidates < 2**15
    assert grouping.n_networks <= 3
    assert sorted(grouping.tasks) == list(model.tasks)
    assert grouping.value >= serve_groups(model, parts).value - 1e-12
    chance = [serve_groups(model, [g.trains for g in random_like(grouping, rng).groups]).value
              for rng in map(np.random.default_rng, range(5))]  # fmt: skip
    assert grouping.value > max(chance)


@pytest.mark.parametrize("budget", [2, 4])
def test_a_pool_comes_close_to_all_groups(budget, monkeypatch):
    model, _ = planted(11, 3, 2)
    exact = select_groups(model, budget=budget)
    monkeypatch.setattr(candidates_module, "MOST_LISTED", 100)
    pool = select_groups(model, budget=budget)
    assert (exact.status, pool.status) == ("optimal", "heuristic")
    assert pool.n_candidates < exact.n_candidates
    assert exact.value - 0.001 <= pool.value <= exact.value + 1e-9


@pytest.mark.parametrize("size", [8, 10, 14])
def test_a_pool_holds_a_cover_by_the_fewest_networks(size, monkeypatch):
    model, _ = planted(20, 3, 4)
    monkeypatch.setattr(candidates_module, "MOST_LISTED", 100)
    fewest = -(-20 // size)
    grouping = select_groups(model, budget=fewest, max_size=size)
    assert grouping.n_networks == fewest
    with pytest.raises(ValueError, match=f"smallest budget that does is {fewest}"):
        select_groups(model, budget=fewest - 1, max_size=size)


def test_a_pool_keeps_the_extra_networks_and_the_size_limit():
    model, _ = planted(18, 3, 3)
    half = Candidate(("t00",), {"t00": 0.9}, 0.5, "half size")
    grouping = select_groups(model, budget=4.5, max_size=9, extra=[half], time_limit=100)
    assert grouping.status == "heuristic"
    assert grouping.served_by("t00").label == "half size"
    assert max(len(group.trains) for group in grouping.groups) <= 9


def test_a_pool_that_grows_too_large_keeps_the_best(monkeypatch):
    model, parts = planted(24, 4, 5)
    free = select_groups(model, budget=6)
    monkeypatch.setattr(generation_module, "MOST_CANDIDATES", 30)
    capped = select_groups(model, budget=6)
    assert capped.n_candidates < free.n_candidates
    assert capped.value >= serve_groups(model, parts).value


def test_order_of_tasks_changes_nothing_in_a_pool():
    model, _ = planted(17, 3, 6)
    order = np.random.default_rng(0).permutation(17)
    matrix, stderr = np.zeros((17, 17)), np.full((17, 17), 0.01)
    pairs = [(model.tasks[i], model.tasks[j]) for i, j in zip(*np.triu_indices(17, 1), strict=True)]
    mean, _ = model.predict(pairs)
    for row, (i, j) in enumerate(zip(*np.triu_indices(17, 1), strict=True)):
        matrix[i, j], matrix[j, i] = mean[row, j], mean[row, i]
    other = PairMean(matrix[np.ix_(order, order)], [model.tasks[i] for i in order], stderr)
    one, two = select_groups(model, budget=3), select_groups(other, budget=3)
    assert [set(group.trains) for group in one.groups] == [set(group.trains) for group in two.groups]
