import subprocess
import sys

import onnxruntime
import pytest
import torch
from wrapped_modules import PAIR, apart, features, made, mlp

from cotrain.pareto import ParetoManifold

POINT = [0.3, 0.7]

APART = """
import sys
sys.modules["cotrain"] = None  # any import of it fails
import torch
point, inputs, expected = torch.load(sys.argv[1], weights_only=False)
assert torch.equal(point(inputs), expected)
point.train()(inputs).sum().backward()
assert not [name for name in sys.modules if name.startswith("cotrain.")]
"""


def test_an_exported_point_lives_without_cotrain(tmp_path):
    module = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.BatchNorm1d(6), torch.nn.Linear(6, 2))
    point = apart(ParetoManifold(module, PAIR, "lora", rank=1)).export(
        POINT, recalibrate=(torch.randn(20, 4), torch.zeros(20, 2))
    )
    inputs = features(4)
    torch.save((point, inputs, point(inputs).detach()), tmp_path / "point.pt")
    done = subprocess.run(
        [sys.executable, "-c", APART, str(tmp_path / "point.pt")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    module.load_state_dict(point.state_dict())
    assert torch.equal(module.eval()(inputs), point(inputs))


@pytest.mark.parametrize("form", ["full", "residual", "lora"])
def test_an_export_shares_no_memory_with_the_manifold_or_within_itself(form):
    manifold = apart(ParetoManifold(mlp(), PAIR, form, members="trunk.0", rank=1))
    point = manifold.export(POINT)
    before = {name: value.clone() for name, value in manifold.state_dict().items() if isinstance(value, torch.Tensor)}
    with torch.no_grad():
        for value in point.parameters():
            assert value.untyped_storage().nbytes() == value.nbytes
            value.fill_(7.0)
    assert all(torch.equal(manifold.state_dict()[name], value) for name, value in before.items())


@pytest.mark.parametrize("name", ["transformer layer", "batch norm 2d", "embedding", "tied"])
def test_torch_export(name):
    module, inputs = made(name)
    point = apart(ParetoManifold(module, PAIR)).export(POINT, recalibrate=(inputs, torch.zeros(6, 2)))
    program = torch.export.export(point, (inputs,))
    torch.testing.assert_close(program.module()(inputs), point(inputs), rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore")  # of the exporter about itself
def test_onnx(tmp_path):
    module, inputs = made("batch norm 2d")
    point = apart(ParetoManifold(module, PAIR, "lora", rank=1)).export(POINT, recalibrate=(inputs, torch.zeros(6, 2)))
    path = tmp_path / "point.onnx"
    torch.onnx.export(point, (inputs,), path, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(path)
    (found,) = session.run(None, {session.get_inputs()[0].name: inputs.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), point(inputs).detach(), rtol=1e-4, atol=1e-5)


def test_an_export_has_one_preference():
    with pytest.raises(ValueError, match=r"one preference. Got 2"):
        ParetoManifold(mlp(), PAIR).export(torch.eye(2))
