import numpy as np
import pytest

from cotrain.grouping.gains import GainModel, ListedGroups, check_tasks, group_name, membership
from cotrain.grouping.pair_mean import PairMean
from cotrain.grouping.table import GainTable


def test_membership_reads_any_collection_in_any_order():
    members = membership([("b", "a"), {"c"}, ["a", "c"]], ("a", "b", "c"))
    assert members.tolist() == [[True, True, False], [False, False, True], [True, False, True]]


@pytest.mark.parametrize(
    ("group", "message"),
    [((), "non-empty"), ("ab", "non-empty tuple"), (("a", "x"), "unknown task 'x'"), (("a", "a"), "a\\+a names")],
)
def test_membership_refuses(group, message):
    with pytest.raises(ValueError, match=message):
        membership([("a",), group], ("a", "b"))


@pytest.mark.parametrize("tasks", ["abcd", "dbac", "abcdz"])
def test_groups_that_know_their_table_are_as_any_others(tasks):
    members = np.random.default_rng(0).random((20, 4)) < 0.5
    members = members[members.any(axis=1)]
    listed = ListedGroups.of(members, "abcd")
    assert listed == tuple(tuple(task for task, there in zip("abcd", row, strict=True) if there) for row in members)
    np.testing.assert_array_equal(membership(listed, tasks), membership(tuple(listed), tasks))
    with pytest.raises(ValueError, match="unknown task"):
        membership(listed, "abc")


@pytest.mark.parametrize(
    ("tasks", "message"),
    [([], "at least 2"), (["a"], "at least 2"), (["a", "a"], "'a' twice"), (["a", ""], "non-empty string")],
)
def test_check_tasks_refuses(tasks, message):
    with pytest.raises(ValueError, match=message):
        check_tasks(tasks)


def test_group_name_joins_by_plus():
    assert group_name(("a", "b")) == "a+b"


def test_models_follow_the_protocol():
    assert isinstance(GainTable(["a", "b"], [("a", "b")], [[0.1, 0.2]]), GainModel)
    assert isinstance(PairMean([[0, 1], [1, 0]], ["a", "b"]), GainModel)
