import json
import math

import pytest
import torch

from cotrain.affinity import Affinity
from cotrain.errors import StudyError
from cotrain.study import StudyConfig, StudyFolder
from cotrain.study.decide import choose_groups, learnable_tasks, predicted_gains

TASKS = ("a", "b", "c", "noise")
MATRIX = torch.tensor([
    [0.9, 0.10, -0.30, 5.0],
    [0.20, 0.9, -0.20, 5.0],
    [-0.10, -0.40, 0.9, 5.0],
    [5.0, 5.0, 5.0, 0.9],
], dtype=torch.float64)  # fmt: skip


def measured(path, *, matrix=MATRIX, stderr=0.01, learnable=("a", "b", "c")):
    """A folder as after measuring."""
    stderr = stderr if isinstance(stderr, torch.Tensor) else torch.full((4, 4), stderr, dtype=torch.float64)
    seen = torch.full((4, 4), 50, dtype=torch.int64)
    Affinity(matrix, stderr, TASKS, "lookahead", 50, seen).to_csv(path / "affinity.csv")
    tasks = [{"name": name, "learnable": name in learnable} for name in TASKS]
    (path / "measure.json").write_text(json.dumps({"tasks": tasks, "estimator": "lookahead"}))
    return StudyFolder(path)


def config(**changes):
    return StudyConfig("planted", **{"budget": 2, **changes})


def groups_of(grouping):
    return {frozenset(group.trains) for group in grouping.groups}


def test_the_predicted_gains_are_those_of_the_learnable_tasks(tmp_path):
    folder = measured(tmp_path)
    assert learnable_tasks(folder) == ["a", "b", "c"]
    mean, std = predicted_gains(folder).predict([("a", "b"), ("a", "b", "c"), ("c",)])
    assert mean[0] == pytest.approx([0.2, 0.1, math.nan], nan_ok=True)
    assert mean[1] == pytest.approx([(0.2 - 0.1) / 2, (0.1 - 0.4) / 2, (-0.3 - 0.2) / 2])
    assert mean[2] == pytest.approx([math.nan, math.nan, 0.0], nan_ok=True)
    assert std[0, 0] == pytest.approx(0.01)


def test_tasks_that_help_each_other_are_grouped(tmp_path):
    assert groups_of(choose_groups(measured(tmp_path), config())) == {frozenset("ab"), frozenset("c")}


def test_a_pair_that_was_seldom_observed_has_a_wide_error_bar(tmp_path):
    stderr = torch.full((4, 4), 0.01, dtype=torch.float64)
    stderr[1, 0] = torch.nan
    _, std = predicted_gains(measured(tmp_path, stderr=stderr)).predict([("a", "b"), ("a", "c")])
    column = torch.tensor([0.0, 0.20, -0.10], dtype=torch.float64)
    assert std[0, 0] == pytest.approx(float(column.std(correction=0)))
    assert std[1, 0] == pytest.approx(0.01)


def test_a_pair_that_was_never_observed_has_no_known_effect(tmp_path):
    matrix, stderr = MATRIX.clone(), torch.full((4, 4), 0.01, dtype=torch.float64)
    matrix[1, 0] = stderr[1, 0] = torch.nan
    gains = predicted_gains(measured(tmp_path, matrix=matrix, stderr=stderr))
    assert gains.predict([("a", "b")])[0][0, 0] == 0.0
    assert len(choose_groups(StudyFolder(tmp_path), config()).tasks) == 3


def test_nothing_observed_at_all_still_gives_groups(tmp_path):
    nothing = torch.full((4, 4), torch.nan, dtype=torch.float64)
    grouping = choose_groups(measured(tmp_path, matrix=nothing, stderr=nothing), config())
    assert sorted(grouping.tasks) == ["a", "b", "c"]


@pytest.mark.parametrize("budget", [1, 2, 9])
def test_one_learnable_task_is_trained_alone_whatever_the_budget(tmp_path, budget):
    grouping = choose_groups(measured(tmp_path, learnable=("b",)), config(budget=budget))
    assert [(group.trains, group.serves) for group in grouping.groups] == [(("b",), ("b",))]


def test_more_budget_than_tasks_is_no_trouble(tmp_path):
    assert sorted(choose_groups(measured(tmp_path), config(budget=9)).tasks) == ["a", "b", "c"]


def test_the_largest_group_is_limited(tmp_path):
    grouping = choose_groups(measured(tmp_path), config(budget=3, max_size=1))
    assert groups_of(grouping) == {frozenset("a"), frozenset("b"), frozenset("c")}


def test_no_learnable_task_is_said_with_what_to_do(tmp_path):
    with pytest.raises(StudyError, match=r"No task could be told from chance .* train longer with --epochs"):
        choose_groups(measured(tmp_path, learnable=()), config())
