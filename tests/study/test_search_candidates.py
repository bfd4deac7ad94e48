import pytest

from cotrain.study.search_candidates import MOST_CONSIDERED, search_candidates

TASKS = tuple(f"task {number:02d}" for number in range(40))


@pytest.mark.parametrize(
    ("count", "budget", "max_size"), [(12, 3, None), (14, 3, 5), (14, 7, 2), (40, 4, 10), (40, 1, None)]
)
def test_they_are_different_groups_within_the_limits_that_cover_the_tasks_within_the_budget(count, budget, max_size):
    tasks = TASKS[:count]
    found = search_candidates(tasks, budget, max_size, seed=0)
    assert len(set(map(frozenset, found))) == len(found) <= MOST_CONSIDERED
    assert all(2 <= len(group) <= (max_size or count) for group in found)
    assert all(list(group) == sorted(group) for group in found)
    assert max_size is not None or tasks in found
    size = max(2, -(-count // budget))
    parts = [group for group in found if len(group) == size]
    assert any(parts)
    first = [found.index(part) for part in parts][:budget]
    assert set().union(*(found[row] for row in first)) == set(tasks)
    assert found == search_candidates(tasks, budget, max_size, seed=0)
    assert max_size == 2 or found != search_candidates(tasks, budget, max_size, seed=1)


@pytest.mark.parametrize(("count", "max_size"), [(2, None), (11, None), (40, 1)])
def test_few_groups_are_all_considered(count, max_size):
    assert search_candidates(TASKS[:count], 40, max_size, seed=0) is None
