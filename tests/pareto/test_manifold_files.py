import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from wrapped_modules import PAIR, Tied, apart, features, made, mlp

from cotrain import Task, TaskSet
from cotrain.errors import StudyError
from cotrain.pareto import ParetoManifold

THREE = TaskSet([Task("a", "binary"), Task("b", "multiclass", 3), Task("c", "regression", location=3.0, scale=2.0)])


@pytest.mark.parametrize("form", ["full", "residual", "lora"])
def test_what_was_saved_comes_back_bit_for_bit(form, tmp_path, assert_same):
    groups = {"left": ["a", "c"], "right": ["b"]}
    manifold = apart(ParetoManifold(mlp(THREE, norm=True), THREE, form, rank=2, groups=groups))
    manifold.calibrate((torch.randn(40, 4), torch.zeros(40, 3)), divisions=3)
    manifold.save(tmp_path / "manifold.safetensors")
    again = ParetoManifold.load(tmp_path / "manifold.safetensors", mlp(THREE, norm=True, seed=5))
    states = [dict(one.state_dict()) for one in (again, manifold)]
    learnt = [state.pop("statistics._extra_state") for state in states]
    assert_same(*states)
    assert learnt[0]["divisions"] == learnt[1]["divisions"] == 3
    assert_same(*(dict(sorted(one["at_anchors"].items())) for one in learnt))
    assert again.names == ("left", "right")
    assert again.tasks == THREE
    assert again.member_names == manifold.member_names
    preference = [0.21, 0.79]
    assert torch.equal(again(features(4), preference), manifold.eval()(features(4), preference))


@pytest.mark.parametrize("name", ["tied", "bare parameters", "lstm"])
def test_any_module(name, tmp_path):
    module, inputs = made(name)
    manifold = apart(ParetoManifold(module, PAIR))
    manifold.save(tmp_path / "m")
    again = ParetoManifold.load(str(tmp_path / "m"), made(name, seed=9)[0])
    assert torch.equal(again(inputs, [0.3, 0.7]), manifold.eval()(inputs, [0.3, 0.7]))


def test_tied_tensors_are_written_once(tmp_path):
    ParetoManifold(Tied(), PAIR).save(tmp_path / "m")
    names = list(load_file(tmp_path / "m"))
    assert len(names) == len(dict(Tied().named_parameters()))
    assert not any("words" in name or "other_name" in name for name in names)


def test_another_architecture_is_told_by_the_names_that_differ(tmp_path):
    ParetoManifold(mlp(norm=True), PAIR).save(tmp_path / "m")
    with pytest.raises(StudyError, match=r"another architecture than SharedTrunk") as caught:
        ParetoManifold.load(tmp_path / "m", mlp(hidden=6))
    words = str(caught.value)
    assert "only in the file: trunk.1.weight" in words
    assert "trunk.0.weight (5, 4) there, (6, 4) here" in words
    assert "buffers of one of the two: trunk.1.num_batches_tracked" in words
    more = mlp(norm=True)
    more.extra = nn.Linear(2, 2)
    with pytest.raises(StudyError, match=r"only in the module: extra.weight, extra.bias"):
        ParetoManifold.load(tmp_path / "m", more)


def rewritten(path, change):
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    change(tensors)
    save_file(tensors, path, metadata=metadata)


def test_files_that_are_damaged_or_of_another_kind(tmp_path):
    path = tmp_path / "m"
    for content in (b"", b"not a file of ours", json.dumps({"a": 1}).encode()):
        path.write_bytes(content)
        with pytest.raises(StudyError, match="is not a saved Pareto manifold, or is damaged"):
            ParetoManifold.load(path, mlp())
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(StudyError, match="is not a saved Pareto manifold"):
        ParetoManifold.load(path, mlp())
    ParetoManifold(mlp(), PAIR).save(path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(StudyError, match="is damaged"):
        ParetoManifold.load(path, mlp())
    for change in (
        lambda tensors: tensors.pop("shared./heads/bias"),
        lambda tensors: tensors.update({"shared./heads/bias": torch.zeros(7)}),
        lambda tensors: tensors.update(more=torch.zeros(1)),
    ):
        ParetoManifold(mlp(), PAIR).save(path)
        rewritten(path, change)
        with pytest.raises(StudyError, match="its tensors do not fit"):
            ParetoManifold.load(path, mlp())


def test_other_tasks_and_tasks_with_code(tmp_path):
    path = tmp_path / "m"
    ParetoManifold(mlp(), PAIR).save(path)
    with pytest.raises(StudyError, match="give the same tasks in the same order"):
        ParetoManifold.load(path, mlp(), PAIR[::-1])
    coded = TaskSet([Task("first", "custom", loss=lambda o, t: (o[:, 0] - t).abs()), PAIR[1]])
    ParetoManifold(mlp(coded), coded).save(path)
    with pytest.raises(StudyError, match=r"\['first'\] of .* have a loss or metric of their own"):
        ParetoManifold.load(path, mlp(coded))
    assert ParetoManifold.load(path, mlp(coded), coded).tasks == coded
