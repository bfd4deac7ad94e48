import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cotrain.report.contents import Study, TaskNote
from cotrain.report.results import Arm, Check, Group, RelativeLoss, TaskMetric
from cotrain.report.selection import selection_from
from cotrain.report.tables import cost_rows, named_values, score_columns, score_rows, step_rows, task_rows

ARMS = ("single", "all-in-one", "grouped")


def study_of(check: Check | None = None, *, noise: Sequence[str] = (), **changes: object) -> Study:
    note = TaskNote("t", "binary", "a note", True, "AUC", 0.9, 0.0004, 0.8, 0.75, False)
    values: dict[str, object] = {
        "configuration": {},
        "measure": {},
        "tasks": (note,),
        "pairs": {},
        "groups": (Group(("t",), ("t",)),),
        "noise": tuple(noise),
        "selection": selection_from({"grouping": {"groups": [{"trains": ["t"], "serves": ["t"]}]}}),
        "trainings": None,
        "clusters": None,
        "maps": None,
        "thumbnails": None,
        "gains": (),
        "check": check,
        "verdict": None,
        "front": (),
        "seconds": {},
        **changes,
    }
    return Study(**values)  # type: ignore[arg-type]


def check_of(metrics: Sequence[Sequence[float]], *, higher: bool = True, learnable: bool = True) -> Check:
    """One task; `metrics` holds the seeds' values of single, all-in-one and grouped."""
    arms = tuple(
        Arm(name, k + 1, 10.0, np.array(values).reshape(-1, 1), np.zeros((len(values), 1)), None)
        for k, (name, values) in enumerate(zip(ARMS, metrics, strict=True))
    )
    return Check("full", (0, 1), {"t": TaskMetric("auroc", higher, learnable)}, arms, None)


def best_of(check: Check) -> list[bool]:
    (row,) = score_rows(study_of(check), check)
    return [score.best for score in row.scores]


def test_mean_and_sample_deviation_over_the_seeds() -> None:
    check = check_of([[0.8, 0.9], [0.5, 0.5], [0.7, 0.6]])
    (row,) = score_rows(study_of(check), check)
    assert score_columns(check) == ["Single tasks", "All in one", "Chosen groups"]
    assert [(score.mean, score.spread) for score in row.scores] == [
        ("0.850", "0.071"),
        ("0.500", "0.000"),
        ("0.650", "0.071"),
    ]


@settings(deadline=None)
@given(st.lists(st.integers(0, 1000), min_size=3, max_size=3), st.booleans())
def test_best_is_every_arm_that_none_beats(thousandths: list[int], higher: bool) -> None:
    expected = max(thousandths) if higher else min(thousandths)
    metrics = [[value / 1000] for value in thousandths]
    assert best_of(check_of(metrics, higher=higher)) == [value == expected for value in thousandths]


def test_arms_that_read_the_same_are_equally_good() -> None:
    assert best_of(check_of([[0.98001], [0.98049], [0.97]])) == [True, True, False]


def test_nothing_is_best_at_chance() -> None:
    assert best_of(check_of([[0.51], [0.49], [0.52]], learnable=False)) == [False, False, False]


def test_nothing_is_best_where_only_one_arm_has_a_value() -> None:
    check = check_of([[math.nan], [math.nan], [0.5]])
    (row,) = score_rows(study_of(check), check)
    assert [score.mean for score in row.scores] == ["–", "–", "0.500"]
    assert not any(score.best for score in row.scores)


def test_a_task_without_a_metric_is_compared_by_its_loss() -> None:
    arms = tuple(
        Arm(name, 1, 1.0, np.full((1, 1), np.nan), np.full((1, 1), loss), None)
        for name, loss in zip(ARMS, (0.3, 0.2, 0.4), strict=True)
    )
    check = Check("full", (0,), {"t": TaskMetric("loss", False, True)}, arms, None)
    (row,) = score_rows(study_of(check), check)
    assert [(score.mean, score.best) for score in row.scores] == [("0.300", False), ("0.200", True), ("0.400", False)]


def test_costs_carry_the_interval_where_there_is_one() -> None:
    def arm(name: str, relative: RelativeLoss | None) -> Arm:
        return Arm(name, 3, 12345.0, np.zeros((1, 1)), np.zeros((1, 1)), relative)

    arms = (
        arm("single", None),
        arm("grouped", RelativeLoss(0.9, 0.8, 1.0, ())),
        arm("random-2", RelativeLoss(1.1, math.nan, math.nan, ())),
    )
    assert cost_rows(Check("quick", (0,), {}, arms, None)) == [
        ("Single tasks", "3", "12,345", "1 (reference)"),
        ("Chosen groups", "3", "12,345", "0.900 [0.800, 1.000]"),
        ("Random cover 2", "3", "12,345", "1.100"),
    ]


def test_steps_end_with_their_sum() -> None:
    assert step_rows(study_of(seconds={"measure": 30.0, "check": 600.0})) == [
        ("measure", "30 s"),
        ("check", "10 min"),
        ("all steps", "10 min"),
    ]
    assert step_rows(study_of()) == []


def test_tasks_say_whether_they_beat_chance() -> None:
    assert task_rows(study_of()) == [("t", "binary", "a note", "AUC 0.900", "< 0.001", "0.750", "0.80", "yes")]
    assert task_rows(study_of(noise=["t"]))[0][-1] == "no"
    unknown = TaskNote("t", "custom", "", True, "", math.nan, math.nan, math.nan, 1.0, True)
    assert task_rows(study_of(tasks=(unknown,))) == [
        ("t", "custom", "", "–", "–", "1.000, learned by everybody", "–", "yes")
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (True, "yes"), (0.001, "0.001"), ([1, None], "1, –"), ([], "–"), ("x", "x"), (3, "3")],
)
def test_values_of_a_configuration_as_text(value: object, text: str) -> None:
    assert named_values({"outer": {"inner": value}}) == [("outer.inner", text)]
