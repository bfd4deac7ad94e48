from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import Subset, TensorDataset

from cotrain import Task, TaskSet
from cotrain.checks import check_inputs, check_samples, check_targets
from cotrain.data import MultiTaskData, Split, make_planted_tasks, validate
from cotrain.errors import DataError
from cotrain.kernels import NO_CLASS

NAN, INF = float("nan"), float("inf")


def data_with(kind: str = "binary", part: str = "train", **labels: float) -> MultiTaskData:
    """Planted data whose first task has the label at a position (`at3=nan`) or all labels (`all=1.0`) changed."""
    data = make_planted_tasks(3, 1, n_samples=50, kinds=kind)
    split: Split = getattr(data, part)
    targets = split.targets.clone()
    for where, value in labels.items():
        targets[slice(None) if where == "all" else int(where.removeprefix("at")), 0] = value
    return replace(data, **{part: Split(split.inputs, targets)})


@given(st.lists(st.sampled_from(["binary", "multiclass", "regression"]), min_size=2, max_size=6), st.integers(0, 99))
@settings(deadline=None, max_examples=20)
def test_good_data_passes_with_or_without_missing_labels(kinds: list[str], seed: int) -> None:
    data = make_planted_tasks(len(kinds), 1, n_samples=100, kinds=kinds, seed=seed)
    validate(data)
    targets = data.train.targets.clone()
    targets[:10] = NAN
    validate(replace(data, train=Split(data.train.inputs, targets)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (data_with(all=1.0), "'g0_t0' has the same target 1 for every labelled training sample"),
        (data_with("regression", all=2.5), "the same target 2.5"),
        (data_with("multiclass", all=2.0), "the same target 2"),
        (data_with(all=NAN), "'g0_t0' has no label among the 30 training samples"),
        (data_with("multiclass", all=-100.0), "no label among the 30 training"),
        (data_with(part="valid", all=NAN), "no label among the 10 validation"),
        (data_with(part="test", all=NAN), "no label among the 10 test"),
        (data_with("regression", at3=INF), "'g0_t0' has infinite training targets"),
        (data_with(part="test", at3=-INF), "infinite test targets"),
        (data_with(at3=2.0), r"binary and must have targets 0 or 1. Got 3 distinct values: 0, 1, 2.*'multiclass', 3"),
        (data_with(all=-1.0, at3=1.0), "Got 2 distinct values: -1, 1. Map its values to 0 and 1.$"),
        (data_with("multiclass", at3=3.0), "3 classes, numbered 0 to 2. Got the training targets 0, 1, 2, 3"),
        (data_with("multiclass", at3=-1.0), "numbered 0 to 2"),
        (data_with("multiclass", part="valid", at3=0.5), "Got the validation targets 0, 0.5, 1, 2"),
    ],
)
def test_targets_that_cannot_be_trained_on_are_named(data: MultiTaskData, message: str) -> None:
    with pytest.raises(DataError, match=message):
        validate(data)


def test_one_class_in_the_test_samples_is_no_error() -> None:
    validate(data_with(part="test", all=1.0))


def test_the_number_that_means_no_class_is_no_label() -> None:
    validate(data_with("multiclass", at3=-100.0))
    validate(data_with(at3=-100.0))


def test_a_single_task_is_no_question() -> None:
    data = make_planted_tasks(3, 1, n_samples=50)
    with pytest.raises(DataError, match=r"has 1 task \(g0_t1\).*at least 2"):
        validate(data.select(["g0_t1"]))


def test_the_other_tasks_with_the_fault_are_counted() -> None:
    tasks = TaskSet(Task(f"t{number}", "binary") for number in range(1000))
    with pytest.raises(DataError, match=r"Task 't0' is binary.*999 more tasks have the same fault"):
        check_targets(tasks, torch.full((4, 1000), 7.0))


def test_a_custom_task_may_have_any_finite_target() -> None:
    tasks = TaskSet([Task("own", "custom", loss=lambda outputs, targets: (outputs[:, 0] - targets).abs())])
    check_targets(tasks, torch.tensor([[-7.5], [NAN]]))
    with pytest.raises(DataError, match="infinite"):
        check_targets(tasks, torch.tensor([[INF]]))


def test_columns_with_bad_inputs_are_named() -> None:
    inputs = torch.zeros(6, 4)
    inputs[1, 2], inputs[3, 3] = NAN, INF
    with pytest.raises(DataError, match=r"training inputs have NaN values in columns 2, 3 \(2 values in all\)"):
        check_inputs(inputs)
    with pytest.raises(DataError, match="columns wage, age"):
        check_inputs(inputs, names=("a", "b", "wage", "age"), part="test")
    inputs[1, 2] = 0.0
    with pytest.raises(DataError, match="infinite values in columns 3"):
        check_inputs(inputs)


def test_many_bad_columns_are_counted() -> None:
    with pytest.raises(DataError, match="columns 0, 1, 2, 3, 4 and 95 more"):
        check_inputs(torch.full((2, 100), NAN))


def test_images_with_bad_pixels_are_named() -> None:
    images = torch.zeros(5, 1, 3, 3)
    images[4, 0, 1, 1] = NAN
    with pytest.raises(DataError, match="NaN values in samples 4"):
        check_inputs(images)


def test_bad_inputs_of_any_split_are_found() -> None:
    data = make_planted_tasks(3, 1, n_samples=50)
    inputs = data.test.inputs.clone()
    inputs[0, 1] = NAN
    with pytest.raises(DataError, match="test inputs have NaN values in columns 1"):
        validate(replace(data, test=Split(inputs, data.test.targets)))


def test_targets_by_name_are_checked_too():
    tasks = TaskSet([Task("yes", "binary"), Task("place", "regression", n_outputs=2)])
    inputs, place = torch.zeros(3, 2), torch.zeros(3, 2)
    check_samples(tasks, (inputs, {"yes": torch.tensor([0, 1, NO_CLASS]), "place": place}), part="training")
    with pytest.raises(DataError, match="Task 'yes' is binary and must have targets 0 or 1"):
        check_samples(tasks, (inputs, {"yes": torch.tensor([0, 1, 2]), "place": place}), part="training")


def test_samples_of_other_datasets_are_left_to_the_training():
    check_samples(
        TaskSet([Task("yes", "binary")]), Subset(TensorDataset(torch.full((2, 1), NAN)), [0]), part="training"
    )
