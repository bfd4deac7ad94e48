from types import SimpleNamespace

import pytest
import torch

from cotrain import Task, TaskSet
from cotrain.pareto.knobs import knobs_of

TASKS = TaskSet([Task(name, "binary") for name in "abcd"])


def test_one_knob_per_task():
    knobs = knobs_of(TASKS, None)
    assert knobs.names == TASKS.names
    preferences = torch.rand(3, 4)
    assert torch.equal(knobs.task_weights(preferences), preferences)


def test_a_groups_weight_is_spread_evenly_and_none_is_lost():
    knobs = knobs_of(TASKS, {"y": ["d"], "x": ["c", "a", "b"]})
    assert knobs.names == ("y", "x")
    preferences = torch.tensor([[0.4, 0.6], [1.0, 0.0]])
    weights = knobs.task_weights(preferences)
    torch.testing.assert_close(weights, torch.tensor([[0.2, 0.2, 0.2, 0.4], [0, 0, 0, 1.0]]))
    torch.testing.assert_close(weights.sum(1), torch.ones(2))


def test_a_grouping_is_taken_by_what_each_group_serves():
    parts = [SimpleNamespace(serves=serves) for serves in (("a", "c"), (), ("b", "d"))]
    knobs = knobs_of(TASKS, SimpleNamespace(groups=parts))
    assert knobs.names == ("a+c", "b+d")
    assert knobs.shares.tolist() == [[0.5, 0, 0.5, 0], [0, 0.5, 0, 0.5]]


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ({"x": ["a", "b", "c"]}, r"Missing, or in several groups: \['d'\]"),
        ({"x": ["a", "b", "c", "d"], "y": ["a"]}, r"several groups: \['a'\]"),
        ({"x": ["a", "b", "c", "d", "e"]}, r"Unknown: \['e'\]"),
        ({"x": ["a", "b", "c", "d"], "y": []}, r"Without a task: \['y'\]"),
    ],
)
def test_groups_that_are_no_partition(groups, words):
    with pytest.raises(ValueError, match=words):
        knobs_of(TASKS, groups)
