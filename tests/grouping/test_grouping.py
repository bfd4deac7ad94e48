import json
import math

import pytest

from cotrain.grouping.grouping import Group, Grouping

TWO = (Group(("a", "b"), ("a",), measured=True), Group(("b", "c"), ("b", "c"), cost=0.5, label="half size"))


def test_helpers_train_and_do_not_serve():
    assert TWO[0].helpers == ("b",)
    assert TWO[1].helpers == ()


def test_a_grouping_knows_who_serves_whom():
    grouping = Grouping(TWO, value=1.0, bound=1.5)
    assert grouping.tasks == ("a", "b", "c")
    assert grouping.served_by("b") is TWO[1]
    assert grouping.n_networks == 2
    assert grouping.cost == 1.5
    assert grouping.gap == 0.5
    assert grouping.relative_gap == 0.5
    with pytest.raises(ValueError, match="Unknown task 'x'"):
        grouping.served_by("x")


def test_without_a_bound_there_is_no_gap():
    assert Grouping(TWO, value=1.0).gap is None
    assert Grouping(TWO, value=0.0, bound=1.0).relative_gap is None


@pytest.mark.parametrize(
    "grouping",
    [
        Grouping(TWO),
        Grouping(TWO, value=0.1, bound=0.1, status="optimal", solver="s", seconds=1.5, objective="mean_gain",
                 value_at_mean=0.2, kappa=1.0, budget=2.0, n_candidates=7, pool_gap=0.0),
    ],
)  # fmt: skip
def test_json_there_and_back(grouping):
    assert Grouping.from_json(grouping.to_json()) == grouping
    assert Grouping.from_dict(grouping.as_dict()) == grouping


def test_json_has_null_for_what_is_not_finite():
    record = json.loads(Grouping(TWO, value=math.nan, bound=math.inf).to_json())
    assert record["value"] is None
    assert record["bound"] is None
    assert record["groups"][1]["trains"] == ["b", "c"]


def test_a_record_without_groups_is_refused():
    with pytest.raises(ValueError, match="no 'groups'"):
        Grouping.from_dict({"value": 1})


def test_the_text_says_who_only_helps_and_what_is_known():
    text = str(Grouping(TWO, value=0.1, bound=0.1, status="optimal", objective="mean_gain", kappa=1, value_at_mean=0.2))
    assert "a, helped by b" in text
    assert "b + c [half size]" in text
    assert "mean gain over training alone 0.1 (0.2 without" in text
    assert "1 of the networks predicted only, unverified; proven best" in text
    assert "the best of 9 candidates" in str(Grouping(TWO, value=0.1, status="heuristic", n_candidates=9))


def test_what_predictions_rest_on_stands_in_place_of_calling_it_unverified():
    text = str(Grouping(TWO, value=0.1, objective="mean_gain", basis="9 trained groups"))
    assert "unverified" not in text
    assert "1 of the networks predicted; " in text
    assert text.endswith("\nPredictions: 9 trained groups")


@pytest.mark.parametrize(
    ("trains", "serves"), [((), ()), (("a", "a"), ("a",)), (("a",), ("b",)), (("a", "b"), ("a", "a"))]
)
def test_an_impossible_group_is_refused(trains, serves):
    with pytest.raises(ValueError, match="A group"):
        Group(trains, serves)


def test_every_task_is_served_exactly_once():
    with pytest.raises(ValueError, match="'a' is served by two"):
        Grouping((Group(("a",), ("a",)), Group(("a", "b"), ("a", "b"))))
    with pytest.raises(ValueError, match="'b' is trained but served by no group"):
        Grouping((Group(("a", "b"), ("a",)),))


def test_how_sure_a_choice_is_stands_in_words():
    def standing(**known):
        return Grouping(TWO, **known).standing

    assert standing(value=1.0, bound=1.0, status="optimal") == "proven best"
    assert standing(value=1.0, bound=1.021, status="heuristic") == "within 2.1% of the best possible"
    assert standing(value=0.5, bound=2.0, status="heuristic") == "within 75.0% of the best possible"
    stopped = standing(value=1.0, bound=1.021, status="time_limit")
    assert stopped == "within 2.1% of the best possible (stopped by the time limit)"
    assert standing(value=-1.0, bound=0.25, status="heuristic") == "at most 1.25 below the best possible"
    assert standing(value=1.0, status="heuristic", n_candidates=9) == "the best of 9 candidates, without proof"
    assert standing(status="given") == "given, not chosen for its value"
