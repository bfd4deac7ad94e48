import pytest
import torch
from small_transference import MIXED, mixed_batch
from torch import nn
from torch.optim import SGD, Adam, AdamW, RMSprop

from cotrain import SharedTrunk, shared_parameters
from cotrain.affinity import Transference
from cotrain.affinity.directions import by_depth, seed_of
from cotrain.affinity.estimators import Place, Point, joint_step_descends
from cotrain.affinity.sketch import sketch
from cotrain.lookahead import displacements, task_gradients
from cotrain.step_response import responses


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.embed = nn.Linear(2, 8)

    def forward(self, inputs):
        return self.layer(self.embed(inputs.unflatten(1, (3, 2)))).flatten(1)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.LSTM(2, 8, batch_first=True)

    def forward(self, inputs):
        return self.layer(inputs.unflatten(1, (3, 2)))[0][:, -1]


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.third.weight = self.second.weight
        self.second.bias.requires_grad_(False)

    def forward(self, inputs):
        return self.third(torch.tanh(self.second(torch.tanh(self.first(inputs)))))


TRUNKS = {
    "dense": (lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh()), 8),
    "norms and dropout": (
        lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.LayerNorm(8), nn.Linear(8, 8)),
        8,
    ),
    "convolution": (
        lambda: nn.Sequential(
            nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 8)
        ),
        8,
    ),
    "attention": (Attention, 24),
    "recurrent": (Recurrent, 8),
    "tied": (Tied, 8),
}


class NoForwardRule(torch.autograd.Function):
    @staticmethod
    def forward(context, inputs):
        return inputs * 2

    @staticmethod
    def backward(context, gradient):
        return gradient * 2


class ReverseOnly(nn.Module):
    def forward(self, inputs):
        return NoForwardRule.apply(inputs)


def place_of(trunk, width, rule, *, train=True, seed=3):
    torch.manual_seed(0)
    model = SharedTrunk(trunk(), MIXED, width).train(train)
    batch = mixed_batch()
    return Place(model, MIXED, batch, shared_parameters(model, MIXED, batch), rule, seed)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("name", sorted(TRUNKS))
def test_products_of_slopes_estimate_those_of_gradients(name, train):
    """Within 5 standard errors of the formula, for the parts of every estimate that are independent."""
    place = place_of(*TRUNKS[name], 0.05, train=train)
    _, _, gradients = task_gradients(place.model, MIXED, place.batch, place.parameters, seed=place.seed)
    flat = {key: value.flatten(1).double() for key, value in gradients.items()}
    parts = [torch.cat([flat[key] for key in names], 1) for names in by_depth(place.parameters) if names]
    n = 2000
    found = sketch(place, responses(place.parameters, place.rule), directions=n)
    expected, variance = torch.zeros(4, 4).double(), torch.zeros(4, 4).double()
    for part, draws in zip(parts, (n // 4, n)[-len(parts) :], strict=True):
        gram = 0.05 * part @ part.T
        squares = part**2
        expected += gram
        variance += (gram.diagonal()[:, None] * gram.diagonal() + gram**2 - 0.05**2 * 2 * squares @ squares.T) / draws
    error = (found.sources @ found.targets.T - expected).abs()
    assert (error < 5 * variance.clamp(min=1e-12).sqrt() + 1e-6).all()


def test_one_parameter_is_differentiated_exactly():
    """Along a sign in one dimension, the product is the square of the derivative."""

    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(0.7))

        def forward(self, inputs):
            return inputs * self.scale

    place = place_of(Scale, 6, 0.1)
    _, _, gradients = task_gradients(place.model, MIXED, place.batch, place.parameters, seed=0)
    found = sketch(place, responses(place.parameters, 0.1), directions=3)
    torch.testing.assert_close(
        found.sources @ found.targets.T, 0.1 * torch.outer(*[gradients["trunk.scale"].double()] * 2)
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda p: SGD(p, lr=0.1),
        lambda p: SGD(p, lr=0.1, momentum=0.9, dampening=0.2, weight_decay=0.1),
        lambda p: SGD(p, lr=0.1, momentum=0.9, nesterov=True),
        lambda p: Adam(p, lr=0.01, weight_decay=0.1),
        lambda p: AdamW(p, lr=0.01),
    ],
)
@pytest.mark.parametrize("steps", [0, 3])
def test_the_response_is_the_derivative_of_the_optimizers_step(make, steps):
    torch.manual_seed(0)
    layer = nn.Linear(4, 3).double()
    optimizer = make(layer.parameters())
    for _ in range(steps):
        layer(torch.randn(8, 4).double()).pow(2).sum().backward()
        optimizer.step()
    parameters = dict(layer.named_parameters())
    found = responses(parameters, optimizer)
    if steps == 0 and not isinstance(optimizer, SGD):
        assert found is None  # Adam's first step is the sign of the gradient: it has no first order
        return
    h = 1e-7
    small = {name: torch.full_like(value, h) for name, value in parameters.items()}
    minus = {name: -value for name, value in small.items()}
    ahead, back = (displacements(parameters, gradients, optimizer) for gradients in (small, minus))
    for name in parameters:
        torch.testing.assert_close(found[name], (back[name] - ahead[name]) / (2 * h), rtol=1e-2, atol=1e-9)


def test_what_the_optimizer_does_not_hold_does_not_respond():
    layers = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    found = responses(dict(layers.named_parameters()), SGD(layers[0].parameters(), lr=0.1))
    assert [float(value.max()) for value in found.values()] == [pytest.approx(0.1)] * 2 + [0.0, 0.0]
    assert responses(dict(layers.named_parameters()), RMSprop(layers.parameters())) is None


def test_seeds_depend_on_all_parts():
    seeds = {seed_of(seed, call) for seed in range(40) for call in range(50)}
    assert len(seeds) == 2000
    assert seed_of(1, 2) == seed_of(1, 2)


def test_the_last_module_is_apart():
    names = ["first.weight", "first.bias", "last.weight", "last.bias"]
    assert by_depth(names) == (names[:2], names[2:])
    assert by_depth(["theta"]) == ([], ["theta"])


def test_the_joint_step_is_the_same_with_and_without_every_gradient():
    for rule in (1e-3, 50.0):
        place = place_of(*TRUNKS["dense"], rule)
        assert joint_step_descends(place) == joint_step_descends(Point.at(place))


@pytest.mark.filterwarnings("ignore:.*observed fewer than")
def test_without_forward_mode_it_is_gram_and_says_so():
    torch.manual_seed(0)
    model = SharedTrunk(nn.Sequential(nn.Linear(6, 8), ReverseOnly(), nn.Linear(8, 8)), MIXED, 8)
    sketched, gram = (Transference(model, MIXED, estimator=name, lr=0.01) for name in ("sketch", "gram"))
    with pytest.warns(UserWarning, match=r"measured by gram and not by sketch: forward mode does not work.*3 plain"):
        sketched.observe(mixed_batch())
    gram.observe(mixed_batch())
    found = sketched.result()
    assert found.estimator == "gram"
    assert torch.equal(found.matrix.nan_to_num(), gram.result().matrix.nan_to_num())
    other = Transference(model, MIXED, estimator="sketch", lr=0.01)
    other.load_state_dict(sketched.state_dict())
    assert other.result().estimator == "gram"


@pytest.mark.filterwarnings("ignore:.*observed fewer than")
def test_a_step_without_known_first_order_is_gram_too():
    model = SharedTrunk(nn.Linear(6, 8), MIXED, 8)
    optimizer = RMSprop(model.parameters(), lr=0.01)
    transference = Transference(model, MIXED, estimator="sketch", optimizer=optimizer)
    with pytest.warns(UserWarning, match="the first order of a step of RMSprop is not known"):
        transference.observe(mixed_batch())
    assert transference.result().estimator == "gram"


def test_before_its_first_step_adam_is_not_measured():
    model = SharedTrunk(nn.Linear(6, 8), MIXED, 8)
    transference = Transference(model, MIXED, estimator="sketch", optimizer=Adam(model.parameters()))
    transference.observe(mixed_batch())
    with pytest.raises(ValueError, match="Nothing was observed"):
        transference.result()
