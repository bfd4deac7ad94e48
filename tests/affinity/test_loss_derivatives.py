import pytest
import torch
from small_transference import MIXED, Net, mixed_batch
from torch import nn

from cotrain import SharedTrunk, Task, TaskSet, shared_parameters
from cotrain.affinity import Transference
from cotrain.affinity.estimators import Place
from cotrain.affinity.loss_derivatives import LossDerivatives
from cotrain.affinity.sign_directions import SignDirections
from cotrain.lookahead import task_gradients

pytestmark = pytest.mark.filterwarnings("ignore:.*observed fewer than")


class Halved(nn.Module):
    """Adds a part that a backward pass does not see."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, inputs):
        features = torch.tanh(self.layer(inputs))
        with torch.no_grad():
            unseen = 3 * torch.tanh(features)
        return features + unseen


class TwoRules(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(inputs):
        return inputs * 2

    @staticmethod
    def setup_context(context, inputs, output):
        pass

    @staticmethod
    def backward(context, gradient):
        return gradient * 2

    @staticmethod
    def jvp(context, tangent):
        return tangent * 7


class Disagreeing(nn.Module):
    def forward(self, inputs):
        return TwoRules.apply(inputs)


class StraightThrough(nn.Module):
    """What is detached has no derivative both ways."""

    def forward(self, inputs):
        return inputs + (inputs.round() - inputs).detach()


def deep(middle):
    torch.manual_seed(0)
    return SharedTrunk(nn.Sequential(nn.Linear(6, 8), nn.Tanh(), middle, nn.Linear(8, 8), nn.Tanh()), MIXED, 8)


def place_of(model, batch=None, seed=3):
    batch = mixed_batch() if batch is None else batch
    return Place(model, MIXED, batch, shared_parameters(model, MIXED, batch), 0.1, seed)


@pytest.mark.parametrize("train", [True, False])
def test_slopes_are_products_with_the_gradients(train):
    torch.manual_seed(0)
    place = place_of(Net(MIXED).train(train))
    _, signs = next(SignDirections(1, 5, place.parameters).chunks(5))
    losses, labelled, gradients = task_gradients(place.model, MIXED, place.batch, place.parameters, seed=place.seed)
    found = LossDerivatives.at(place)
    expected = sum(gradients[name].flatten(1) @ signs[name].flatten(1).T for name in signs)
    torch.testing.assert_close(found.along(signs, check=True), expected.double(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.losses, losses)
    assert torch.equal(found.labelled, labelled)


@pytest.mark.parametrize("middle", [Halved, Disagreeing])
@pytest.mark.parametrize("along", ["parameters", "tasks"])
def test_derivatives_unlike_those_of_a_backward_pass_are_noticed(middle, along):
    """On the first observation; it is gram then, and says so."""
    model = deep(middle())
    sketched = Transference(model, MIXED, estimator="sketch", along=along, lr=0.01)
    with pytest.warns(
        UserWarning, match=r"by gram and not by sketch: forward mode .*other derivatives than a backward"
    ):
        sketched.observe(mixed_batch())
    gram = Transference(model, MIXED, estimator="gram", lr=0.01)
    gram.observe(mixed_batch())
    assert sketched.result().estimator == "gram"
    assert torch.equal(sketched.result().matrix, gram.result().matrix)


@pytest.mark.parametrize("middle", [StraightThrough, lambda: nn.Dropout(0.5), lambda: nn.BatchNorm1d(8)])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_no_false_alarm(middle, precision):
    sketched = Transference(deep(middle()), MIXED, estimator="sketch", lr=0.01)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        sketched.observe(mixed_batch())
    assert sketched.result().estimator == "sketch"


def test_a_task_that_is_not_finite_hides_nothing():
    tasks = TaskSet([*MIXED[:3], Task("own", "custom", 2, loss=lambda o, y: 1 + (o * 0).sum(1).sqrt())])
    place = place_of(deep(Halved()))
    place = Place(place.model, tasks, place.batch, place.parameters, 0.1, 0)
    _, signs = next(SignDirections(1, 4, place.parameters).chunks(4))
    derivatives = LossDerivatives.at(place)
    assert derivatives.sound.tolist() == [True, True, True, False]
    with pytest.raises(NotImplementedError, match="other derivatives than a backward pass"):
        derivatives.along(signs, check=True)
    assert derivatives.along(signs)[:3].isfinite().all()


def test_only_the_first_observation_pays_for_the_check(monkeypatch):
    checks = []
    plain = LossDerivatives._check
    monkeypatch.setattr(LossDerivatives, "_check", lambda self, *rest: checks.append(1) or plain(self, *rest))
    sketched = Transference(deep(nn.Tanh()), MIXED, estimator="sketch", lr=0.01)
    for step in range(3):
        sketched.observe(mixed_batch(step))
    assert len(checks) == 2  # the last module, and what is before it
