from itertools import chain, combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from cotrain.grouping.neighbours import one_task_apart

TASKS = "abcdef"
EVERY = [frozenset(group) for size in range(1, 7) for group in combinations(TASKS, size)]


@settings(deadline=None, max_examples=50)
@given(
    groups=st.lists(st.sampled_from(EVERY), min_size=1, max_size=4),
    max_size=st.none() | st.integers(2, 6),
)
def test_they_are_the_groups_one_addition_drop_or_exchange_away(groups, max_size):
    found = one_task_apart([tuple(group) for group in groups], TASKS, max_size)
    expected = {
        near
        for group in groups
        for near in EVERY
        if 2 <= len(near) <= (max_size or 6) and {len(near - group), len(group - near)} in ({0, 1}, {1})
    }
    assert set(map(frozenset, found)) == expected
    assert len(found) == len(expected)
    assert all(list(group) == sorted(group) for group in found)


def test_of_many_tasks_none_is_exchanged():
    tasks = [f"{number:02d}" for number in range(41)]
    found = one_task_apart([tuple(tasks[:3])], tasks)
    assert len(found) == 41
    assert set(chain.from_iterable(found)) == set(tasks)
