import json
import math

import pytest
import torch

from cotrain.affinity import Affinity
from cotrain.errors import StudyError
from cotrain.study import StudyConfig, StudyFolder
from cotrain.study.decide import choose_groups
from cotrain.study.gain_models import affinity_scores, basis, learnable_tasks, predicted_gains, trained_table

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
    return StudyConfig("planted", **{"budget": 2, "method": "transference", **changes})


def groups_of(grouping):
    return {frozenset(group.trains) for group in grouping.groups}


def test_the_predicted_gains_are_those_of_the_learnable_tasks(tmp_path):
    folder = measured(tmp_path)
    assert learnable_tasks(folder) == ["a", "b", "c"]
    mean, std = affinity_scores(folder).predict([("a", "b"), ("a", "b", "c"), ("c",)])
    assert mean[0] == pytest.approx([0.2, 0.1, math.nan], nan_ok=True)
    assert mean[1] == pytest.approx([(0.2 - 0.1) / 2, (0.1 - 0.4) / 2, (-0.3 - 0.2) / 2])
    assert mean[2] == pytest.approx([math.nan, math.nan, 0.0], nan_ok=True)
    assert std[0, 0] == pytest.approx(0.01)


def test_tasks_that_help_each_other_are_grouped(tmp_path):
    assert groups_of(choose_groups(measured(tmp_path), config())) == {frozenset("ab"), frozenset("c")}


def test_a_pair_that_was_seldom_observed_has_a_wide_error_bar(tmp_path):
    stderr = torch.full((4, 4), 0.01, dtype=torch.float64)
    stderr[1, 0] = torch.nan
    _, std = affinity_scores(measured(tmp_path, stderr=stderr)).predict([("a", "b"), ("a", "c")])
    column = torch.tensor([0.0, 0.20, -0.10], dtype=torch.float64)
    assert std[0, 0] == pytest.approx(float(column.std(correction=0)))
    assert std[1, 0] == pytest.approx(0.01)


def test_a_pair_that_was_never_observed_has_no_known_effect(tmp_path):
    matrix, stderr = MATRIX.clone(), torch.full((4, 4), 0.01, dtype=torch.float64)
    matrix[1, 0] = stderr[1, 0] = torch.nan
    gains = affinity_scores(measured(tmp_path, matrix=matrix, stderr=stderr))
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


@pytest.mark.parametrize("method", ["linearized", "transference"])
def test_a_prediction_that_no_real_group_stands_behind_says_so(tmp_path, method):
    assert basis(measured(tmp_path), config(method=method), None).endswith("unverified: no group was trained for it")


def test_the_largest_group_is_limited(tmp_path):
    grouping = choose_groups(measured(tmp_path), config(budget=3, max_size=1))
    assert groups_of(grouping) == {frozenset("a"), frozenset("b"), frozenset("c")}


def test_no_learnable_task_is_said_with_what_to_do(tmp_path):
    with pytest.raises(StudyError, match=r"No task could be told from chance .* train longer with --epochs"):
        choose_groups(measured(tmp_path, learnable=()), config())


def trained(folder, losses):
    """Groups that the study has trained, by the names of their tasks."""
    record = {"tasks": ["a", "b", "c"], "losses": [{"loss": loss} for loss in losses]}
    (folder.path / "trainings.json").write_text(json.dumps(record))
    return folder


SINGLES = [{"a": 1.0}, {"b": 2.0}, {"c": 0.5}]
PAIRS = [{"a": 0.8, "b": 1.5}, {"a": 1.2, "c": 0.6}, {"b": 2.2, "c": 0.4}]


def test_only_trained_groups_are_chosen_by_a_search(tmp_path):
    folder = trained(measured(tmp_path), [*SINGLES, *PAIRS[:2]])
    grouping = choose_groups(folder, config(method="search"))
    assert groups_of(grouping) == {frozenset("ab"), frozenset("c")}
    assert grouping.value == pytest.approx(0.2 + 0.5)
    assert grouping.standing == "proven best"
    assert all(group.measured for group in grouping.groups)


def test_losses_become_gains_over_the_tasks_alone(tmp_path):
    table = trained_table(trained(measured(tmp_path), [*SINGLES, *PAIRS]))
    mean, _ = table.predict([("a", "b"), ("b", "c")])
    assert mean[0, :2] == pytest.approx([0.2, 0.25])
    assert mean[1, 1:] == pytest.approx([-0.1, 0.2])


def test_pairs_predict_larger_groups_by_their_mean(tmp_path):
    folder = trained(measured(tmp_path), [*SINGLES, *PAIRS])
    model = predicted_gains(folder, config(method="pairs"))
    mean, _ = model.predict([("a", "b", "c")])
    assert mean[0] == pytest.approx([(0.2 - 0.2) / 2, (0.25 - 0.1) / 2, (-0.2 + 0.2) / 2])
    assert groups_of(choose_groups(folder, config(method="pairs"))) == {frozenset("ab"), frozenset("bc")}
    assert "each really trained" in basis(folder, config(method="pairs"), model)


def test_clusters_of_the_affinity_are_where_it_is_densest(tmp_path):
    settings = config(method="affinity-clusters")
    grouping = choose_groups(measured(tmp_path), settings)
    assert groups_of(grouping) == {frozenset("ab"), frozenset("c")}
    assert basis(measured(tmp_path), settings, None) == "density of the lookahead affinity within clusters"


@pytest.mark.parametrize("method", ["search", "pairs"])
def test_without_trained_groups_the_methods_that_need_them_say_so(tmp_path, method):
    with pytest.raises(StudyError, match=r"trained no groups to learn from\. Start a study with --method search or"):
        choose_groups(measured(tmp_path), config(method=method))


@pytest.mark.parametrize("method", ["search", "pairs", "linearized", "affinity-clusters"])
def test_a_single_learnable_task_is_trained_alone(tmp_path, method):
    assert groups_of(choose_groups(measured(tmp_path, learnable=("b",)), config(method=method))) == {frozenset("b")}
    assert predicted_gains(measured(tmp_path, learnable=("b",)), config(method=method)) is None
