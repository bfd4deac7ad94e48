import math

import pytest
import torch

from cotrain import Task, TaskSet
from cotrain.errors import DataError
from cotrain.task import as_tasks


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "", "kind": "binary"}, "needs a name without '\\+'"),
        ({"name": "a+b", "kind": "binary"}, "joined by '\\+'. Got 'a\\+b'"),
        ({"name": "a", "kind": "ordinal"}, "unknown kind 'ordinal'. Use binary, multiclass"),
        ({"name": "a", "kind": "binary", "n_outputs": 3}, "Declare it as Task\\('a', 'multiclass', 3\\)"),
        ({"name": "a", "kind": "multiclass"}, "at least 2. Got 1"),
        ({"name": "a", "kind": "regression", "n_outputs": 0}, "at least one output. Got n_outputs=0"),
        ({"name": "a", "kind": "custom"}, "custom and needs loss="),
        ({"name": "a", "kind": "regression", "scale": 0.0}, "positive scale. Got 0.0"),
        ({"name": "a", "kind": "regression", "scale": math.nan}, "positive scale. Got nan"),
    ],
)
def test_parts_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Task(**arguments)


def test_a_task_set_is_a_sequence_with_names_and_columns(mixed_tasks):
    assert mixed_tasks.names == ("yes", "which", "much")
    assert mixed_tasks.n_outputs == 5
    assert mixed_tasks.slices == {"yes": slice(0, 1), "which": slice(1, 4), "much": slice(4, 5)}
    assert mixed_tasks[1].name == "which"
    assert mixed_tasks[1:] == TaskSet(list(mixed_tasks)[1:]) != mixed_tasks
    assert hash(mixed_tasks) == hash(TaskSet(mixed_tasks))
    assert eval(repr(mixed_tasks)) == mixed_tasks
    assert as_tasks(mixed_tasks) is mixed_tasks
    assert as_tasks(list(mixed_tasks)) == mixed_tasks


def test_names_must_be_unique_and_there_must_be_one():
    with pytest.raises(ValueError, match="no task"):
        TaskSet([])
    with pytest.raises(ValueError, match=r"unique. Got \['a'\] more than once"):
        TaskSet([Task("a", "binary"), Task("b", "binary"), Task("a", "regression")])


def test_select_takes_tasks_in_the_order_asked_for(mixed_tasks):
    assert mixed_tasks.select(["much", "yes"]).names == ("much", "yes")
    with pytest.raises(ValueError, match=r"no task \['x'\]. The tasks are \['yes', 'which', 'much'\]"):
        mixed_tasks.select(["yes", "x"])


def test_pack_puts_outputs_side_by_side(mixed_tasks):
    outputs = {"much": torch.ones(2), "yes": torch.zeros(2, 1), "which": torch.full((2, 3), 5.0)}
    assert mixed_tasks.pack(outputs).tolist() == [[0, 5, 5, 5, 1]] * 2
    packed = torch.zeros(2, 5)
    assert mixed_tasks.pack(packed) is packed


@pytest.mark.parametrize("shape", [(2, 4), (5,), (2, 5, 1)])
def test_pack_refuses_another_width(mixed_tasks, shape):
    with pytest.raises(ValueError, match=r"shape \[batch, 5\]"):
        mixed_tasks.pack(torch.zeros(shape))


def test_pack_refuses_missing_outputs_and_widths_that_only_fit_in_sum(mixed_tasks):
    with pytest.raises(ValueError, match=r"no output for \['which', 'much'\]. It gave \['yes'\]"):
        mixed_tasks.pack({"yes": torch.zeros(2)})
    with pytest.raises(ValueError, match=r"output of task 'yes' must have the shape \[batch, 1\]. Got \[2, 3\]"):
        mixed_tasks.pack({"yes": torch.zeros(2, 3), "which": torch.zeros(2, 1), "much": torch.zeros(2)})


def test_units_come_from_the_labelled_training_targets():
    tasks = TaskSet([Task("a", "regression"), Task("b", "binary"), Task("c", "regression", location=1.0, scale=2.0)])
    targets = torch.tensor([[1.0, 0.0, 9.0], [math.nan, 1.0, 8.0], [5.0, 1.0, 7.0]])
    with_units = tasks.with_units(targets)
    assert (with_units[0].location, with_units[0].scale) == (3.0, 2.0)
    assert with_units[1:] == tasks[1:]
    assert tasks[0].scale is None
    wide = TaskSet([Task("a", "regression", 2)]).with_units({"a": torch.tensor([[1.0, 3.0], [math.nan, 5.0]])})
    assert wide[0].location == 3.0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([math.nan, math.nan, math.nan], "at least two different training targets. Got 0 labels"),
        ([0.1, 0.1, 0.1], "at least two different training targets. Got 3 labels"),
        ([4.0, math.nan, math.nan], "at least two different training targets. Got 1 labels"),
        ([1.0, 2.0, math.inf], "infinite training targets"),
    ],
)
def test_targets_that_give_no_units_are_refused(values, message):
    with pytest.raises(DataError, match=message):
        TaskSet([Task("a", "regression")]).with_units(torch.tensor(values).unsqueeze(1))


def test_a_tiny_spread_on_a_large_constant_is_no_spread():
    third = torch.full((1000, 1), 1 / 3 * 1e6, dtype=torch.float64)
    with pytest.raises(DataError, match="all the same"):
        TaskSet([Task("a", "regression")]).with_units(third)


def test_predictions_are_probabilities_and_values_in_original_units():
    tasks = TaskSet(
        [
            Task("b", "binary"),
            Task("m", "multiclass", 2),
            Task("r", "regression", location=10.0, scale=2.0),
            Task("w", "regression", 2, location=10.0, scale=2.0),
            Task("n", "regression"),
            Task("c", "custom", 2, loss=lambda outputs, targets: outputs.sum(1)),
        ]
    )
    outputs = torch.tensor([[0.0, 0.0, math.log(3.0), 1.5, 1.0, -1.0, 7.0, 8.0, 9.0]])
    found = {name: value.squeeze(0).tolist() for name, value in tasks.predictions(outputs).items()}
    assert found == {
        "b": 0.5, "m": pytest.approx([0.25, 0.75]), "r": 13.0, "w": [12.0, 8.0], "n": 7.0, "c": [8.0, 9.0],
    }  # fmt: skip


def test_target_of_finds_a_column_or_a_name(mixed_tasks):
    assert mixed_tasks.target_of("which", torch.tensor([[1.0, 2.0, 3.0]])).tolist() == [2.0]
    assert mixed_tasks.target_of("which", {"which": torch.tensor([4])}).tolist() == [4]
    with pytest.raises(ValueError, match="no targets for task 'which'"):
        mixed_tasks.target_of("which", {"yes": torch.zeros(1)})
