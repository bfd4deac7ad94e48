"""TorchJD's limits, each with what the adapter does about it; and its public names, of which each is used here."""

import ast
import builtins
import importlib
import sys
from pathlib import Path

import pytest
import torch
import torchjd
from linear_losses import MIXED, Net, linear_tasks, mixed_batch, some_gradients, step, trained
from torchjd import aggregation as theirs
from torchjd import scalarization

import cotrain.aggregation
from cotrain.aggregation.aggregation import GradientAggregation
from cotrain.aggregation.fairgrad import FairGrad
from cotrain.aggregation.mgda import MGDA
from cotrain.aggregation.names import named
from cotrain.aggregation.torchjd_adapter import from_torchjd
from cotrain.aggregation.upgrad import UPGrad

AGGREGATORS = {
    "AlignedMTL": {},
    "ConFIG": {},
    "Constant": {"weights": torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0])},
    "ExcessMTL": {},
    "FairGrad": {"alpha": 2.0},
    "GradDrop": {},
    "GradVac": {},
    "IMTLG": {},
    "Krum": {"n_byzantine": 1},
    "MGDA": {},
    "Mean": {},
    "PCD": {},
    "PCGrad": {},
    "Random": {},
    "Sum": {},
    "TrimmedMean": {"trim_number": 1},
}


PYTORCHS_OWN = {"_buffers", "_parameters"}


@pytest.mark.parametrize("name", AGGREGATORS)
def test_the_same_as_torchjd_by_itself(name):
    """A contract: where nothing is special, the adapter adds nothing of its own."""
    gradients, options = some_gradients(5, 7), AGGREGATORS[name]
    found, *_ = step(from_torchjd(getattr(theirs, name)(**options), seed=3), gradients)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        expected = getattr(theirs, name)(**options)(gradients)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: scalarization.Constant(torch.tensor([1.0, 2.0, 3.0])),
        lambda: scalarization.COSMOS(1.0, torch.ones(3)),
        lambda: scalarization.GeometricMean(),
        lambda: scalarization.IMTLL(3),
        lambda: scalarization.Mean(),
        lambda: scalarization.PBI(5.0, torch.tensor([1.0, 2.0, 3.0])),
        lambda: scalarization.STCH(0.5),
        lambda: scalarization.Sum(),
        lambda: scalarization.UW(3),
    ],
)
def test_the_same_as_a_scalarizer_by_itself(make):
    gradients, levels = some_gradients(3, 5), torch.tensor([0.5, 1.5, 1.0])
    found, *_ = step(from_torchjd(make()), gradients, levels=levels)
    losses = levels.clone().requires_grad_()
    expected = torch.autograd.grad(make()(losses), losses)[0] @ gradients
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_scalarizers_parameters_are_learned():
    aggregation = from_torchjd(scalarization.UW(3), lr=0.1)
    for _ in range(60):
        step(aggregation, some_gradients(3, 5), levels=torch.tensor([0.5, 1.0, 2.0]))
    torch.testing.assert_close(aggregation.module.log_var.exp(), torch.tensor([0.5, 1.0, 2.0]), rtol=0.05, atol=0)
    before = aggregation.module.log_var.detach().clone()
    step(aggregation, some_gradients(3, 5), absent=[1], levels=torch.tensor([5.0, 5.0, 5.0]))
    assert torch.equal(aggregation.module.log_var[1], before[1])
    assert not torch.equal(aggregation.module.log_var[0], before[0])


@pytest.mark.parametrize("name", ["MGDA", "Mean", "AlignedMTL"])
def test_limit_an_absent_task_is_no_zero_row(name):
    """TorchJD gets a row less; with a zero row MGDA would stall, and others shrink."""
    gradients = some_gradients(5, 7)
    found, *_ = step(from_torchjd(getattr(theirs, name)(**AGGREGATORS[name])), gradients, absent=[2])
    expected = getattr(theirs, name)(**AGGREGATORS[name])(gradients[[0, 1, 3, 4]])
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
    assert float(found.norm()) > 0.01


def test_limit_options_with_a_number_per_task():
    gradients, weights = some_gradients(5, 7), torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0])
    aggregation = from_torchjd(theirs.Constant(weights))
    found, *_ = step(aggregation, gradients, absent=[1, 2])
    torch.testing.assert_close(found, gradients[0] + gradients[3] + 3 * gradients[4])
    found, *_ = step(aggregation, gradients)
    torch.testing.assert_close(found, weights @ gradients)


def test_limit_frank_wolfe_conflicts_and_ours_does_not():
    gradients = torch.randn(100, 300, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    gradients *= torch.logspace(-1, 1, 100).unsqueeze(1)
    ours, *_ = step(GradientAggregation(MGDA()), gradients)
    frank_wolfe, *_ = step(from_torchjd(theirs.MGDA()), gradients)
    assert float(ours.norm()) < float(frank_wolfe.norm()) / 3
    assert float((gradients @ ours).min()) > 0
    assert float((gradients @ frank_wolfe).min()) < 0


def make(name):
    return from_torchjd(theirs.GradVac()) if name == "GradVac" else named(name)


@pytest.mark.parametrize("name", ["GradVac", "pcd", "excess-mtl", "uw", "imtl-l"])
def test_limit_states_are_complete(name, assert_same):
    """Loading into a new object fails, or saves nothing, in TorchJD itself."""
    first, second = make(name), make(name)
    model = trained(first, range(4))
    second.load_state_dict(first.state_dict())
    assert_same(second.state_dict(), first.state_dict())
    batch = mixed_batch(9)
    model.zero_grad()
    torch.manual_seed(1)
    first.backward(model, MIXED, batch)
    expected = [value.grad for value in model.parameters()]
    model.zero_grad()
    torch.manual_seed(1)
    second.backward(model, MIXED, batch)
    assert all(a is b or torch.equal(a, b) for a, b in zip(expected, [v.grad for v in model.parameters()], strict=True))


@pytest.mark.parametrize("name", ["GradVac", "pcd", "excess-mtl"])
def test_limit_a_task_that_comes_and_goes_does_not_reset_the_others(name):
    """TorchJD starts anew whenever the number of rows changes."""
    steady, visited = make(name), make(name)
    gradients = 0.1 * some_gradients(5, 7)
    for number in range(4):
        one = torch.linspace(1, 1 + number, 5).unsqueeze(1) * gradients
        expected, *_ = step(steady, one[:4])
        found, *_ = step(visited, one, absent=[4])
        if name == "GradVac" and number == 1:  # the only one of them whose other rows do not count this step
            drawn = visited._generator.get_state()
            step(visited, one, absent=[0, 1, 2, 3])
            visited._generator.set_state(drawn)
    torch.testing.assert_close(found, expected)
    fresh, *_ = step(make(name), one, absent=[4])
    assert not torch.allclose(found, fresh)  # it does remember


@pytest.mark.parametrize("weighting", [theirs.MoDoWeighting, theirs.GradVacWeighting])
def test_limit_a_weighting_inside_an_aggregator_is_not_reset(weighting):
    gradients = 0.1 * some_gradients(5, 7)
    steady, visited, fresh = (from_torchjd(theirs.GramianWeightedAggregator(weighting())) for _ in range(3))
    for number in range(6):  # also where the number of steps is that of the tasks
        one = torch.linspace(1, 1 + number, 5).unsqueeze(1) * gradients
        expected, *_ = step(steady, one[:4])
        found, *_ = step(visited, one, absent=[4])
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, step(fresh, one, absent=[4])[0])


def test_public_names_only():
    """Of TorchJD's own names that are private, the sources of the package name none."""
    theirs_private = set()
    for path in Path(torchjd.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            theirs_private |= {name for name in _names_in(node) if name.startswith("_") and not name.endswith("__")}
    ours = Path(cotrain.aggregation.__file__).parent
    for path in ours.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
                continue  # an attribute of our own, whatever it is called
            wrong = _names_in(node) & theirs_private - PYTORCHS_OWN
            assert not wrong, f"{path.name}: {wrong}"
            if isinstance(node, ast.Import | ast.ImportFrom) and path.name != "torchjd_adapter.py":
                assert "torchjd" not in _names_in(node)


def _names_in(node):
    """What a node of a source refers to: an attribute, a string that may be one, or what is imported."""
    if isinstance(node, ast.Attribute):
        return {node.attr}
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return {node.value}
    if isinstance(node, ast.Import | ast.ImportFrom):
        parts = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
        return {part for name in parts for part in name.split(".")}
    return set()


def test_limit_a_late_task_starts_like_the_others():
    aggregation = named("excess-mtl")
    for _ in range(3):
        step(aggregation, some_gradients(4, 6), absent=[0])
    choices = []
    step(aggregation, some_gradients(4, 6), choices=choices)
    assert float(choices[0].weights[0]) > 0


@pytest.mark.parametrize("name", ["IMTLG", "AlignedMTL", "FairGrad", "PCD", "Mean", "GradDrop"])
def test_limit_products_in_lower_precision(name):
    torch.manual_seed(0)
    model = Net(MIXED).eval().bfloat16()
    batch = mixed_batch(missing=0)
    aggregation = from_torchjd(getattr(theirs, name)(**AGGREGATORS[name]))
    with torch.autocast("cpu", torch.bfloat16):
        aggregation.backward(model, MIXED, type(batch)(batch.index, batch.inputs.bfloat16(), batch.targets))
    assert bool(torch.isfinite(model.first.weight.grad).all())


def test_limit_no_quadprog():
    """`UPGrad()` of TorchJD wants a GPL solver; ours is another one, and gives the same as its base class allows."""
    gradients = some_gradients(4, 6, dtype=torch.float64)

    class Ours(theirs.GramianWeightedAggregator):
        def __init__(self):
            super().__init__(Weighting())

    class Weighting(theirs.Weighting):
        def forward(self, gramian):
            return UPGrad()(gramian.double()).to(gramian)

    found, *_ = step(from_torchjd(Ours()), gradients)
    expected, *_ = step(GradientAggregation(UPGrad()), gradients)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0, 5.0])
def test_fairgrad_is_torchjds_where_that_finds_a_solution(alpha):
    for seed in range(5):
        gradients = some_gradients(6, 40, seed, dtype=torch.float64)
        gramian = gradients @ gradients.T
        theirs_found, ours = theirs.FairGradWeighting(alpha)(gramian), FairGrad(alpha)(gramian)
        torch.testing.assert_close(ours, theirs_found, rtol=1e-5, atol=0)
        torch.testing.assert_close(gramian @ ours, ours ** (-1 / alpha), rtol=1e-10, atol=0)


def test_limit_compiled_models():
    torch.manual_seed(0)
    model = Net(MIXED).eval()
    compiled, batch = torch.compile(model, backend="aot_eager"), mixed_batch(missing=0)
    for name in ("upgrad", "imtl-g", "famo", "sum"):
        found = []
        for runnable in (model, compiled):
            model.zero_grad()
            named(name).backward(runnable, MIXED, batch)
            found.append(model.first.weight.grad.clone())
        torch.testing.assert_close(*found)


def test_too_few_rows_to_leave_any_out():
    gradients = some_gradients(5, 7)
    for name in ("krum", "trimmed-mean"):
        found, *_ = step(named(name), gradients, absent=[0, 1, 2])
        torch.testing.assert_close(found, gradients[3:].mean(0))


def test_neither_aggregator_nor_scalarizer():
    with pytest.raises(ValueError, match=r"takes a torchjd.aggregation.Aggregator or .* Got Linear"):
        from_torchjd(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="lr must be positive"):
        from_torchjd(scalarization.UW(2), lr=0)
    with pytest.raises(ValueError, match=r"TorchJD's FAMO does not save all its state. Use named\('famo'\)"):
        from_torchjd(scalarization.FAMO(2))


@pytest.mark.parametrize("name", ["imtl-g", "uw"])
def test_a_missing_extra(name, monkeypatch):
    real = importlib.import_module

    def without(module, package=None):
        if module.partition(".")[0] == "torchjd":
            raise ModuleNotFoundError("No module named 'torchjd'", name="torchjd")
        return real(module, package)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(ImportError, match=r'needs torchjd, .* pip install "cotrain\[torchjd\]"'):
        named(name)


def test_without_torchjd_ours_work(monkeypatch):
    for module in [name for name in sys.modules if name.partition(".")[0] == "torchjd"]:
        monkeypatch.delitem(sys.modules, module)
    real = builtins.__import__

    def without(name, *arguments, **options):
        assert name.partition(".")[0] != "torchjd"
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    for name in ("upgrad", "cagrad", "fairgrad", "famo", "sum"):
        found, *_ = step(named(name), some_gradients(3, 4))
        assert bool(torch.isfinite(found).all())
    assert len(linear_tasks(3)) == 3


@pytest.mark.parametrize("make", [theirs.Mean, scalarization.Mean])
def test_torchjd_is_no_weighting(make):
    with pytest.raises(ValueError, match=r"Got TorchJD's Mean, .* pass from_torchjd"):
        GradientAggregation(make())


def test_a_weighting_that_has_a_name_of_torchjds():
    class Aggregator:
        def __call__(self, gramian):
            return torch.ones(len(gramian))

    gradients = some_gradients(3, 4)
    torch.testing.assert_close(step(GradientAggregation(Aggregator()), gradients)[0], gradients.sum(0))
    weighting = theirs.MeanWeighting()  # weights from a matrix are weights, whoever made them
    torch.testing.assert_close(step(GradientAggregation(weighting), gradients)[0], gradients.mean(0))
