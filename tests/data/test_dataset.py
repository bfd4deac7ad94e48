import pytest
import torch

from cotrain import Task, TaskSet
from cotrain.data import MultiTaskData, Split, make_planted_tasks
from cotrain.errors import DataError


def test_select_keeps_the_named_tasks_in_the_order_given() -> None:
    data = make_planted_tasks(6, 3, n_samples=50, kinds="regression")
    chosen = data.select(["g1_t4", "g0_t0"])
    assert chosen.tasks.names == ("g1_t4", "g0_t0")
    assert chosen.groups == (1, 0)
    assert list(chosen.notes) == ["g1_t4", "g0_t0"]
    for part, whole in zip(chosen.splits.values(), data.splits.values(), strict=True):
        assert torch.equal(part.targets, whole.targets[:, [4, 0]])
        assert torch.equal(part.inputs, whole.inputs)


@pytest.mark.parametrize(
    ("names", "message"),
    [(["g0_t9"], "Did you mean .*'g0_t0'"), (["g0_t0", "g0_t0"], "named 2 times"), ([], "at least one target")],
)
def test_select_refuses(names: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        make_planted_tasks(2, 1, n_samples=20).select(names)


def test_fingerprint_is_that_of_the_values() -> None:
    data = make_planted_tasks(3, 1, n_samples=30, seed=1)
    assert data.fingerprint == make_planted_tasks(3, 1, n_samples=30, seed=1).fingerprint
    assert data.fingerprint != make_planted_tasks(3, 1, n_samples=30, seed=2).fingerprint
    assert data.fingerprint != data.select(data.tasks.names[:2]).fingerprint
    renamed = TaskSet([Task("other", "binary"), *data.tasks[1:]])
    assert data.fingerprint != MultiTaskData("planted", renamed, data.train, data.valid, data.test).fingerprint


def test_fingerprint_sees_one_changed_label() -> None:
    data = make_planted_tasks(3, 1, n_samples=30)
    before = data.fingerprint
    targets = data.test.targets.clone()
    targets[0, 0] = 1 - targets[0, 0]
    changed = MultiTaskData(
        data.name, data.tasks, data.train, data.valid, Split(data.test.inputs, targets), groups=data.groups
    )
    assert changed.fingerprint != before


def test_shapes_must_agree() -> None:
    with pytest.raises(DataError, match=r"same N.*\[3, 2\].*\[4, 1\]"):
        Split(torch.zeros(3, 2), torch.zeros(4, 1))
    with pytest.raises(DataError, match="float32"):
        Split(torch.zeros(3, 2), torch.zeros(3, 1, dtype=torch.long))
    part = Split(torch.zeros(3, 2), torch.zeros(3, 1))
    with pytest.raises(DataError, match="2 tasks but its training targets have 1 columns"):
        MultiTaskData("d", TaskSet([Task("a", "binary"), Task("b", "binary")]), part, part, part)


def test_input_shape_is_that_of_one_sample() -> None:
    assert make_planted_tasks(2, 1, n_samples=20, n_features=7).input_shape == (7,)
