from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotrain.grouping import Grouping
from cotrain.report.selection import selection_from, selection_sentences
from cotrain.report.trainings import Trainings, trainings_from
from cotrain.study.config import TRAINING_METHODS, Method

GROUPS = [{"trains": ["a", "b"], "serves": ["a", "b"]}, {"trains": ["c"], "serves": ["c"]}]
STATES: list[dict[str, Any]] = [
    {"status": "optimal", "bound": 0.5},
    {"status": "time_limit", "bound": 0.51},
    {"status": "heuristic", "bound": 0.6},
    {"status": "heuristic", "bound": None, "n_candidates": 77},
    {"status": "heuristic", "bound": 0.6, "value": -0.5},
    {"status": "given", "bound": None},
]
PREDICTIONS = {
    "search": "Error 0.26 on 4 trained groups, each left out in turn: 0.70 ridge (0.257), 0.30 task mean (0.26).",
    "pairs": "mean of the gains of all pairs, each really trained once",
    "linearized": "linearised network, unverified: no group was trained for it",
    "transference": "pair mean of the lookahead affinity, unverified: no group was trained for it",
    "affinity-clusters": "density of the lookahead affinity within clusters",
    "data-maps": "kinship in combined features of the data maps of 3 runs",
}


def trained(method: str) -> Trainings | None:
    if method not in TRAINING_METHODS:
        return None
    groups = [["a"], ["b"], ["c"], ["a", "b"]]
    done = {"trained": groups, "why": "first", "expected": None, "value": 0.5}
    losses = [{"loss": dict.fromkeys(group, 1.0)} for group in groups]
    record = {"tasks": ["a", "b", "c"], "limit": 4, "settled": False, "rounds": [done], "losses": losses}
    return trainings_from(record, "abc")


def words(method: str, objective: str = "total_loss", **changes: Any) -> str:
    grouping = {"groups": GROUPS, "value": 0.5, "bound": 0.5, "status": "optimal", "solver": "HiGHS"} | changes
    decision = {
        "method": method,
        "prediction": PREDICTIONS.get(method),
        "grouping": {**grouping, "objective": objective},
    }
    return " ".join(selection_sentences(selection_from(decision), trained(method)))


@pytest.mark.parametrize("changes", STATES)
@pytest.mark.parametrize("method", [name for name in get_args(Method) if name != "data-maps"])
def test_every_choice_by_value_says_how_sure_it_is_in_the_words_of_the_grouping(
    method: str, changes: dict[str, Any]
) -> None:
    expected = Grouping.from_dict({"groups": GROUPS, "value": 0.5, **changes}).standing
    assert f", {expected} (HiGHS)" in words(method, **changes)


@pytest.mark.parametrize("method", get_args(Method))
def test_every_method_says_what_it_rests_on_in_whole_sentences(method: str) -> None:
    text = words(method)
    assert PREDICTIONS[method].rstrip(".") in text
    assert text.endswith(".")
    assert ".." not in text
    assert text.count("(") == text.count(")")
    assert text.startswith("Chosen ")


@pytest.mark.parametrize("method", get_args(Method))
def test_predictions_without_a_trained_group_are_called_unverified_once(method: str) -> None:
    assert words(method).count("unverified") == (method in ("linearized", "transference"))


def test_a_search_says_among_what_it_chose() -> None:
    text = words("search")
    assert text.startswith(
        "Chosen among the 4 groups that were trained, by their validation losses: total loss saved over single tasks"
        " 0.5, proven best (HiGHS). That is about the trained groups:"
    )
    assert text.endswith("0.30 task mean (0.26). Before each name stands its weight, behind it its own error.")
    lost = selection_from({"method": "search", "grouping": {"groups": GROUPS, "value": 0.5, "status": "optimal"}})
    assert "Chosen among the groups that were trained" in " ".join(selection_sentences(lost, None))


def test_clusters_of_data_maps_have_neither_value_nor_bound() -> None:
    text = words("data-maps", value=None, bound=None, status="given", solver="clusters (hard)")
    assert text.startswith(f"Chosen by clustering the tasks: {PREDICTIONS['data-maps']}; clusters (hard). ")
    assert "no value and no bound" in text
    assert "; " not in words("data-maps", solver="").partition(". ")[0]


@pytest.mark.parametrize("method", [name for name in get_args(Method) if name != "data-maps"])
def test_groups_without_a_value_are_not_certified(method: str) -> None:
    text = words(method, value=None, bound=None, status="given", solver="")
    assert text == "No value was put on these groups (given, not chosen for its value)."


def test_a_score_is_not_called_a_gain() -> None:
    assert "predicted scores (" in words("transference", "mean_score")
    assert "mean score (which is no gain) 0.5" in words("transference", "mean_score")
    assert "predicted gains (" in words("linearized", "mean_gain")


@given(st.floats(0.1, 3.0), st.floats(0.01, 1.0))
def test_a_deduction_is_named_where_there_was_one(kappa: float, less: float) -> None:
    deducted = words("pairs", value=0.5, value_at_mean=0.5 + less, kappa=kappa)
    assert f"0.5 after a deduction of {kappa:g} s.d., " in deducted
    for changes in ({"kappa": 0.0, "value_at_mean": 0.5 + less}, {"kappa": kappa, "value_at_mean": 0.5}):
        assert "deduction" not in words("pairs", **changes)


def test_an_old_folder_without_a_method_is_read_as_unverified() -> None:
    selection = selection_from({"grouping": {"groups": GROUPS, "value": 0.5, "status": "optimal"}})
    assert not selection.predicts_gains
    (first, _) = selection_sentences(selection, None)
    assert first == "Chosen by unverified predicted scores (of unrecorded origin): value 0.5, proven best."
