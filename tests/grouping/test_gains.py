import pytest

from cotrain.grouping.gains import GainModel, check_tasks, group_name, membership
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
