import pickle
import threading

import pytest
import torch
from torch import nn
from wrapped_modules import PAIR, Tied, features, made, mlp, tokens

from cotrain.pareto import ParetoManifold
from cotrain.pareto.template import Template, require_mappable


def tensors_of(module):
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def test_a_template_runs_with_any_weights_and_holds_none():
    module, other = mlp(norm=True, seed=0), mlp(norm=True, seed=1).eval()
    template = Template(module)
    assert all(value.device.type == "meta" for value in template._module.state_dict().values())
    found = template.run(tensors_of(other), features(4), training=False)
    assert torch.equal(found, other(features(4)))


def test_statistics_are_those_of_normalising_layers_alone():
    template = Template(mlp(norm=True))
    assert template.statistics == tuple(
        f"trunk.1.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")
    )
    assert Template(nn.BatchNorm1d(2, track_running_stats=False)).statistics == ()
    assert Template(nn.BatchNorm1d(2)).statistics[0] == "running_mean"


def test_what_is_built_holds_the_tensors_it_was_given():
    module = Tied()
    values = {name: value.detach().clone() for name, value in module.named_parameters()}
    built = Template(module).build(values)
    assert type(built) is Tied
    assert built.table.weight.data_ptr() == values["table.weight"].data_ptr()
    assert built.words.weight is built.table.weight
    assert not built.training


def test_ties_hold_while_it_runs():
    module = Tied()
    other = Tied()
    assert torch.equal(Template(module).run(tensors_of(other), tokens(), training=True), other(tokens()))


@pytest.mark.parametrize("name", ["linear root", "lstm", "tied", "weight norm"])
def test_two_threads_with_two_preferences_do_not_mix(name):
    module, inputs = made(name)
    manifold = ParetoManifold(module, PAIR).eval()
    with torch.no_grad():
        for value in manifold.parameters():
            value.add_(torch.randn_like(value))
    corners = [[1.0, 0.0], [0.0, 1.0]]
    alone = [manifold(inputs, corner) for corner in corners]
    wrong, start = [], threading.Barrier(2)

    def run(row):
        start.wait()
        wrong.extend(row for _ in range(60) if not torch.equal(manifold(inputs, corners[row]), alone[row]))

    threads = [threading.Thread(target=run, args=(row,)) for row in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert not torch.allclose(*alone)


def test_a_template_goes_through_a_file_after_it_ran():
    module = mlp()
    template = Template(module)
    template.run(tensors_of(module), features(4), training=False)
    again = pickle.loads(pickle.dumps(template))
    assert torch.equal(again.run(tensors_of(module), features(4), training=False), module.eval()(features(4)))


class SparseTable(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.eye(2).to_sparse())


class QuantisedTable(nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(2, 2)
        self.register_buffer("codes", torch.quantize_per_tensor(torch.eye(2), 0.1, 0, torch.qint8))


@pytest.mark.filterwarnings("ignore")
def test_state_that_cannot_be_mixed_is_named():
    for module, words in (
        (SparseTable(), r"\['table'\] is sparse or quantised"),
        (QuantisedTable(), r"\['codes'\] is sparse or quantised"),
        (nn.Sequential(nn.Linear(2, 2), nn.LazyLinear(2)), r"\['1.weight', '1.bias'\] have no shape yet"),
        (nn.Sequential(nn.ReLU()), "Sequential has no parameter"),
    ):
        with pytest.raises(ValueError, match=words):
            require_mappable(module)
        with pytest.raises(ValueError, match=words):
            ParetoManifold(module, PAIR)
