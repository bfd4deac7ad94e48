import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cotrain.errors import StudyError
from cotrain.report.contents import read_study
from cotrain.report.trainings import (
    MAX_MEMBERS,
    MAX_ROWS,
    Trainings,
    training_rows,
    training_sentence,
    trainings_from,
)

Make = Callable[..., Path]
NAMES = ("a", "b", "c", "d", "e", "noise")


def record_of(*rounds: list[list[str]], tasks: str = "abcd", limit: int = 9, settled: bool = False) -> dict[str, Any]:
    """A task alone loses 2; every partner takes away a tenth of that."""
    groups = [group for trained in rounds for group in trained]
    return {
        "tasks": list(tasks),
        "limit": limit,
        "settled": settled,
        "rounds": [{"trained": trained, "why": "first", "expected": None, "value": None} for trained in rounds],
        "losses": [{"loss": dict.fromkeys(group, 2 - 0.2 * (len(group) - 1))} for group in groups],
    }


def members(row: tuple[str, ...]) -> str:
    """The tasks of a row; a task and its gain are never parted by the end of a line."""
    return row[1].replace("\N{NO-BREAK SPACE}", "=")


def trainings_of(*rounds: list[list[str]], **options: Any) -> Trainings:
    return trainings_from(record_of(*rounds, **options), "abcd")


@pytest.fixture
def record(make_searched: Make) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((make_searched(names=NAMES) / "trainings.json").read_text())
    return found


def test_gains_are_those_over_the_single_tasks(record: dict[str, Any]) -> None:
    losses = {frozenset(entry["loss"]): entry["loss"] for entry in record["losses"]}
    groups = trainings_from(record, NAMES).groups
    assert {frozenset(group.tasks) for group in groups} == {group for group in losses if len(group) > 1}
    for group in groups:
        for task, gain in zip(group.tasks, group.gains, strict=True):
            alone = losses[frozenset((task,))][task]
            assert alone * (1 - gain) == pytest.approx(losses[frozenset(group.tasks)][task])


@settings(deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_of_tasks_within_groups_and_of_losses_changes_nothing(random: Any) -> None:
    groups = [["a"], ["b"], ["c"], ["d"], ["a", "b", "c"], ["b", "d"], ["a", "b", "c", "d"]]
    record = record_of(groups[:4], groups[4:])
    mixed = json.loads(json.dumps(record))
    random.shuffle(mixed["losses"])
    mixed["losses"] = [{"loss": dict(random.sample(list(e["loss"].items()), len(e["loss"])))} for e in mixed["losses"]]
    for done in mixed["rounds"]:
        for group in done["trained"]:
            random.shuffle(group)
    assert trainings_from(mixed, "abcd") == trainings_from(record, "abcd")


def test_rounds_add_up_to_what_was_spent(record: dict[str, Any]) -> None:
    trainings = trainings_from(record, NAMES)
    assert [done.spent for done in trainings.rounds] == [5, 6, 8, 9, 10, 11]
    assert sum(done.trained for done in trainings.rounds) == trainings.spent == len(record["losses"]) == 11
    assert [group.place for group in trainings.groups] == list(range(6, 12))
    assert math.isnan(trainings.rounds[0].value)
    assert [done.value for done in trainings.rounds[1:4]] == [-0.5, 0.25, 0.26]
    assert [done.expected for done in trainings.rounds[3:]] == [0.2] * 3
    assert [group.why for group in trainings.groups] == ["first", "chosen", "chosen", *["improvement"] * 3]


def test_the_sentence_says_why_no_more_were_trained() -> None:
    groups = [["a"], ["b"]], [["a", "b"]]
    assert training_sentence(trainings_of(*groups, settled=True)) == (
        "3 of 9 trainings allowed were made (2 of single tasks, 1 of groups of two or more), and it ended there because"
        " no other group promised to improve the choice noticeably."
    )
    assert training_sentence(trainings_of(*groups, limit=3)).endswith(", and it ended there because none was left.")
    assert training_sentence(trainings_of(*groups)).endswith("or more).")
    assert training_sentence(trainings_of()).startswith("No group was trained")


def test_a_loss_alone_of_nothing_has_no_gain() -> None:
    record = record_of([["a"], ["b"], ["a", "b"]])
    record["losses"][0]["loss"]["a"] = 0.0
    record["losses"][2]["loss"]["b"] = None
    (row,) = training_rows(trainings_from(record, "abcd"), [])
    assert members(row) == "a=–, b=–"


def test_chosen_groups_come_first_and_name_their_network() -> None:
    singles = [[task] for task in "abcd"]
    trainings = trainings_of(singles, [["a", "b", "c", "d"], ["a", "b"], ["c", "d"]])
    rows = training_rows(trainings, [("d", "c"), ("a", "b")])
    assert [(place, members(row), network) for row in rows for place, _, _, network in [row]] == [
        ("6", "a=+0.100, b=+0.100", "network 2"),
        ("7", "c=+0.100, d=+0.100", "network 1"),
        ("5", "a=+0.300, b=+0.300, c=+0.300, d=+0.300", "–"),
    ]
    assert {why for _, _, why, _ in rows} == {"before anything was known"}


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 60), st.data())
def test_many_groups_are_cut_and_no_chosen_one_is_lost(n_tasks: int, data: st.DataObject) -> None:
    names = [f"t{t}" for t in range(n_tasks)]
    pairs = [["t0", name] for name in names[1:]]
    record = record_of([[name] for name in names], pairs)
    trainings = trainings_from(record | {"tasks": names}, names)
    chosen = data.draw(st.lists(st.sampled_from(pairs), max_size=MAX_ROWS, unique_by=tuple))
    rows = training_rows(trainings, chosen)
    assert len(rows) == min(len(pairs), MAX_ROWS)
    assert sorted(row[3] for row in rows if row[3] != "–") == sorted(f"network {k + 1}" for k in range(len(chosen)))
    rest = [int(row[0]) for row in rows[len(chosen) :]]
    assert rest == sorted(rest)


def test_large_groups_say_how_many_tasks_they_do_not_name() -> None:
    names = [f"t{t}" for t in range(MAX_MEMBERS + 7)]
    record = record_of([[name] for name in names], [names])
    (row,) = training_rows(trainings_from(record | {"tasks": names}, names), [])
    assert row[1].count("t") == MAX_MEMBERS
    assert row[1].endswith(" and 7 more")


def test_an_unknown_reason_is_shown_as_it_is() -> None:
    record = record_of([["a"], ["b"], ["a", "b"]])
    record["rounds"][0]["why"] = "by hand"
    assert training_rows(trainings_from(record, "abcd"), [])[0][2] == "by hand"


def test_studies_that_train_nothing_to_learn_have_none(make_folder: Make) -> None:
    study = read_study(make_folder(names=NAMES))
    assert study.trainings is None
    assert not study.is_verified


def test_only_groups_of_two_or_more_verify_a_prediction(make_searched: Make) -> None:
    assert read_study(make_searched(names=NAMES)).is_verified
    alone = record_of([["a"], ["b"], ["c"], ["d"]])
    assert not read_study(make_searched(names=NAMES, trainings=alone)).is_verified


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"tasks": ["zebra"]}, "has no field or task 'zebra'"),
        ({"rounds": [{"trained": [["a"]]}]}, "has no field or task 'why'"),
        ({"rounds": 3}, "cannot be understood"),
        ({"losses": [{}]}, "has no field or task 'loss'"),
        ({"losses": [{"loss": {"a": 1.0}}]}, r"the group b was trained and has no losses"),
        ({"losses": [{"loss": {"a": 1.0, "b": 1.0}}], "rounds": [{"trained": [["a", "b"]], "why": "first",
          "expected": None, "value": None}]}, "has no field or task 'a'"),
        ({"limit": "many"}, "cannot be understood"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_named_with_what_to_do(make_searched: Make, changes: dict[str, Any], complaint: str) -> None:
    folder = make_searched(names=NAMES, trainings=changes)
    with pytest.raises(StudyError, match=rf"^trainings.json in .*{complaint}.* run the study again with --resume"):
        read_study(folder)


def test_a_file_that_is_no_json_is_refused(make_searched: Make) -> None:
    folder = make_searched(names=NAMES)
    (folder / "trainings.json").write_text("{")
    with pytest.raises(StudyError, match=r"^trainings.json in .* cannot be understood"):
        read_study(folder)
