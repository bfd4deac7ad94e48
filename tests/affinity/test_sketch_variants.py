from functools import partial

import pytest
import torch
from small_transference import MIXED, Net, mixed_batch, warm, watched
from torch import nn
from torch.optim import SGD, Adam

from cotrain import SharedTrunk, shared_parameters
from cotrain.affinity import Transference
from cotrain.affinity.directions import by_depth
from cotrain.affinity.estimators import Place
from cotrain.affinity.sketch import sketch
from cotrain.affinity.task_signs import TaskSigns
from cotrain.errors import StudyError
from cotrain.files import read_state, write_state
from cotrain.lookahead import task_gradients
from cotrain.step_response import responses

pytestmark = pytest.mark.filterwarnings("ignore:.*observed fewer than")
VARIANTS = [(along, last) for along in ("parameters", "tasks") for last in ("sketched", "exact")]
OPTIMIZERS = {"sgd": partial(SGD, lr=0.05), "adam": partial(Adam, lr=0.01)}


def dense():
    torch.manual_seed(0)
    return SharedTrunk(nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh()), MIXED, 8)


def place_of(model, rule, seed=0):
    batch = mixed_batch()
    return Place(model, MIXED, batch, shared_parameters(model, MIXED, batch), rule, seed)


def products(place, names, response):
    """G D G^T over some of the parameters."""
    parameters = {name: place.parameters[name] for name in names}
    _, _, gradients = task_gradients(place.model, MIXED, place.batch, parameters, seed=place.seed)
    return sum(((value * response[name]).flatten(1) @ value.flatten(1).T).double() for name, value in gradients.items())


def draws(model, optimizer, n, along, last, directions=4):
    found = []
    for seed in range(n):
        place = place_of(model, optimizer, seed)
        signs = TaskSigns(4) if along == "tasks" else None
        one = sketch(
            place, responses(place.parameters, optimizer), directions=directions, signs=signs, last_module=last
        )
        found.append(one.sources @ one.targets.T)
    return torch.stack(found)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("along", "last"), VARIANTS)
def test_every_variant_estimates_the_same_without_bias(along, last, optimizer):
    """Within 5 standard errors of G D G^T, entry by entry."""
    model = dense()
    rule = warm(model, OPTIMIZERS[optimizer])
    place = place_of(model, rule)
    response = responses(place.parameters, rule)
    found = draws(model, rule, 100, along, last)
    error = (found.mean(0) - products(place, place.parameters, response)).abs()
    assert (error < 5 * found.std(0) / 100**0.5 + 1e-7).all()
    if along == "tasks":
        torch.testing.assert_close(found, found.mT)


@pytest.mark.parametrize("along", ["parameters", "tasks"])
def test_the_exact_last_module_takes_noise_away(along):
    model = dense()
    rule = SGD(model.parameters(), lr=0.05)
    noise = [draws(model, rule, 60, along, last).var(0).mean() for last in ("sketched", "exact")]
    assert noise[1] < 0.8 * noise[0]


@pytest.mark.parametrize("along", ["parameters", "tasks"])
@pytest.mark.parametrize("width", [1, 8])
def test_with_nothing_before_the_last_module_it_is_gram(along, width):
    """Both where gradients are shorter than there are tasks, and longer."""
    torch.manual_seed(0)
    trunk = nn.Linear(6, 8) if width == 8 else nn.Sequential(nn.Flatten(), Shift())
    model = SharedTrunk(trunk, MIXED, 8 if width == 8 else 6)
    gram, exact = (
        Transference(model, MIXED, lr=0.05, **options)
        for options in ({"estimator": "gram"}, {"estimator": "sketch", "along": along, "last_module": "exact"})
    )
    for step in range(35):
        gram.observe(mixed_batch(step))
        exact.observe(mixed_batch(step))
    found, expected = exact.result(), gram.result()
    assert found.estimator == "sketch"
    torch.testing.assert_close(found.matrix, expected.matrix, rtol=1e-4, atol=1e-7)
    assert torch.equal(found.observations, expected.observations)


class Shift(nn.Module):
    """Three parameters, for four tasks."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.tensor([0.3, -0.2, 0.1]))

    def forward(self, inputs):
        return inputs * self.shift.repeat(2)


@pytest.mark.parametrize(("along", "last"), VARIANTS)
def test_products_of_the_last_module_are_exact(along, last):
    """What is left of the estimate when the part before it is taken away."""
    model = dense()
    place = place_of(model, 0.1)
    response = responses(place.parameters, 0.1)
    early, late = by_depth(place.parameters)
    for name in early:
        response[name].zero_()
    signs = TaskSigns(4) if along == "tasks" else None
    found = sketch(place, response, directions=4, signs=signs, last_module=last)
    exact = torch.allclose(found.sources @ found.targets.T, products(place, late, response), rtol=1e-4, atol=1e-8)
    assert exact == (last == "exact")


@pytest.mark.parametrize(("along", "last"), VARIANTS)
def test_resuming_equals_no_interruption(along, last, tmp_path, assert_same):
    torch.manual_seed(0)
    model = Net(MIXED)
    make = partial(Transference, model, MIXED, estimator="sketch", along=along, last_module=last, lr=0.05, seed=3)
    whole, first, second = make(), make(), make()
    for step in range(33):
        whole.observe(mixed_batch(step))
        (first if step < 17 else second).observe(mixed_batch(step))
        if step == 16:
            write_state(tmp_path / "state.safetensors", first.state_dict())
            second.load_state_dict(read_state(tmp_path / "state.safetensors"))
    assert_same(second.state_dict(), whole.state_dict())


@pytest.mark.parametrize(("along", "last"), VARIANTS)
def test_an_absent_and_a_spoilt_task_leave_the_others_right(along, last):
    torch.manual_seed(0)
    model, batch = Net(MIXED).eval(), mixed_batch(missing=False)
    batch.targets[:, 1] = torch.nan
    batch.targets[0, 3] = torch.inf  # the loss of this task and its derivative are not finite
    watching = Transference(model, MIXED, estimator="sketch", along=along, last_module=last, lr=0.05)
    for _ in range(30):
        watching.observe(batch)
    with pytest.warns(UserWarning, match=r"not finite.*own \(30\)"):
        found = watching.result()
    exact = Transference(model, MIXED, estimator="gram", lr=0.05)
    exact.observe(batch)
    with pytest.warns(UserWarning, match="not finite"):
        expected = exact.result()
    rest = [0, 2]
    assert found.matrix[[1, 3]].isnan().all()
    assert found.matrix[:, [1, 3]].isnan().all()
    error = (found.matrix - expected.matrix)[rest][:, rest].abs()
    assert (error < 6 * found.stderr[rest][:, rest] + 1e-7).all()


def test_merging_takes_over_the_scales_and_other_variants_are_refused():
    one, other = (watched(steps, estimator="sketch", along="tasks") for steps in (range(12), range(12, 30)))
    parts = [part.state_dict()["estimation"]["seen"]["signs"] for part in (one, other)]
    one.merge(other.state_dict())
    merged = one.state_dict()["estimation"]["seen"]["signs"]
    torch.testing.assert_close(merged["squares"], parts[0]["squares"] + parts[1]["squares"])
    with pytest.raises(StudyError, match=r"of sketch by signs of tasks on .*, not of sketch on"):
        watched(range(1), estimator="sketch").merge(other.state_dict())


@pytest.mark.parametrize(("along", "last"), VARIANTS)
def test_the_price_that_is_announced_is_the_one_that_is_paid(along, last):
    """But for the first observation, and every tenth, which tries the step for all tasks."""
    torch.manual_seed(0)
    watching = Transference(Net(MIXED), MIXED, estimator="sketch", along=along, last_module=last, directions=6, lr=0.1)
    passes = []
    for step in range(3):
        watching.observe(mixed_batch(step))
        passes.append(watching.state_dict()["passes"])
    assert passes[2] - passes[1] == 1 + (2 if along == "parameters" else 4) * 2
    assert passes[1] - passes[0] == passes[2] - passes[1]
    assert passes[0] == passes[2] - passes[1] + 7
