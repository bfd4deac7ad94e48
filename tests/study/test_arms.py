import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotrain.grouping import Group, Grouping
from cotrain.study.arms import ALL_IN_ONE, GROUPED, SINGLE, is_random, make_arms, networks_of, weight_rows


@st.composite
def groupings(draw):
    """All tasks and a grouping of some of them: each served once, with helpers, in any order."""
    tasks = [f"task {number}" for number in range(draw(st.integers(2, 7)))]
    learnable = draw(st.permutations(tasks))[: draw(st.integers(1, len(tasks)))]
    serves: dict[int, list[str]] = {}
    for task in learnable:
        serves.setdefault(draw(st.integers(0, 2)), []).append(task)
    groups = []
    for served in serves.values():
        helpers = draw(st.lists(st.sampled_from(learnable), unique=True))
        groups.append(Group((*served, *(task for task in helpers if task not in served)), tuple(served)))
    return tasks, Grouping(tuple(groups))


def shape(arm):
    return sorted((len(group.trains), len(group.serves), group.cost) for group in arm.groups)


def content(arm):
    return frozenset((frozenset(group.trains), frozenset(group.serves)) for group in arm.groups)


@given(groupings(), st.integers(0, 3), st.integers(0, 2**32))
def test_random_covers_differ_from_the_grouping_only_in_who_trains_with_whom(case, n_random, seed):
    tasks, grouping = case
    arms = make_arms(tasks, grouping, n_random, seed)
    assert [arm.name for arm in arms[:3]] == [SINGLE, ALL_IN_ONE, GROUPED]
    covers = arms[3:]
    assert [arm.name for arm in covers] == [f"random-{number + 1}" for number in range(len(covers))]
    assert all(is_random(arm.name) for arm in covers)
    assert len(covers) <= n_random
    assert len({content(arm) for arm in arms[2:]}) == len(arms[2:])
    assert all(shape(arm) == shape(arms[2]) for arm in covers)
    for arm in arms[2:]:
        assert sorted(task for group in arm.groups for task in group.serves) == sorted(grouping.tasks)


@given(groupings(), st.integers(0, 2**32))
def test_the_same_seed_gives_the_same_arms(case, seed):
    tasks, grouping = case
    assert make_arms(tasks, grouping, 3, seed) == make_arms(tasks, grouping, 3, seed)


@given(groupings())
def test_every_network_is_trained_once(case):
    tasks, grouping = case
    arms = make_arms(tasks, grouping, 3, 0)
    networks = networks_of(arms)
    assert len({frozenset(network) for network in networks}) == len(networks)
    assert {group.trains for arm in arms for group in arm.groups} == set(networks)
    assert all(list(network) == sorted(network, key=tasks.index) for network in networks)


@given(groupings())
def test_weight_rows_are_ones_for_the_tasks_trained(case):
    tasks, grouping = case
    networks = networks_of(make_arms(tasks, grouping, 1, 0))
    rows = weight_rows(networks, tasks)
    expected = [[float(task in network) for task in tasks] for network in networks]
    np.testing.assert_array_equal(rows.numpy(), expected)


@pytest.mark.parametrize("n_tasks", [1, 4])
def test_a_grouping_that_leaves_no_choice_has_no_random_cover(n_tasks):
    tasks = [f"task {number}" for number in range(n_tasks)]
    alone = Grouping(tuple(Group((task,), (task,)) for task in tasks))
    together = Grouping((Group(tuple(tasks), tuple(tasks)),))
    for grouping in (alone, together):
        assert len(make_arms(tasks, grouping, 3, 0)) == 3


def test_as_many_covers_as_asked_for_where_there_are_enough():
    tasks = [f"task {number}" for number in range(6)]
    grouping = Grouping((Group(tuple(tasks[:3]), tuple(tasks[:3])), Group(tuple(tasks[3:]), tuple(tasks[3:]))))
    assert len(make_arms(tasks, grouping, 3, 0)) == 6


def test_random_groups_are_drawn_anew_for_every_seed():
    parts = (tuple("abc"), tuple("defgh"))
    grouping = Grouping(tuple(Group(part, part) for part in parts))
    covers = [make_arms(tuple("abcdefgh"), grouping, 1, seed)[-1].groups for seed in range(5)]
    assert len(set(covers)) > 1
