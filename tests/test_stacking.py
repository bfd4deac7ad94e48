import re

import pytest
import torch
from torch import Tensor, nn

from cotrain import Batch, SharedTrunk, Task, TaskSet
from cotrain.optimizers import keep_members
from cotrain.stacked_layers import is_written_out
from cotrain.stacking import Stack, activation_bytes, why_not_stackable

TASKS = TaskSet([Task("a", "binary"), Task("b", "multiclass", 2)])
BATCH = Batch(torch.arange(2), torch.randn(2, 4), torch.tensor([[1.0, 1.0], [0.0, 0.0]]))


def networks(make, number: int) -> list[nn.Module]:
    return [make() for _ in range(number)]


class Sequence(nn.Module):
    """Linear layers on [B, L, F], one without a bias, one used twice, and a head on the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(1, 4, bias=False)
        self.twice = nn.Linear(4, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        tokens = self.twice(torch.tanh(self.twice(self.embed(inputs.unsqueeze(-1)))))
        outputs = self.head(tokens.mean(1))
        return {"b": outputs[:, 1:], "a": outputs[:, 0]}


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))


def reused_activation() -> nn.Module:
    tanh = nn.Tanh()
    return nn.Sequential(nn.Linear(4, 5), tanh, nn.Linear(5, 3), tanh)


def reused_linear() -> nn.Module:
    linear = nn.Linear(4, 4)
    return nn.Sequential(linear, nn.Tanh(), linear, nn.Linear(4, 3))


def trunk_with_a_part_aside() -> nn.Module:
    model = SharedTrunk(nn.Sequential(nn.Linear(4, 5), nn.ReLU(inplace=True)), TASKS, 5)
    model.aside = nn.Linear(7, 7)
    return model


def hooked() -> nn.Module:
    model = mlp()
    model[0].register_forward_hook(lambda module, inputs, outputs: outputs * 2)
    return model


ARCHITECTURES = {
    "mlp": mlp,
    "sequence": Sequence,
    "without a bias": lambda: nn.Linear(4, 3, bias=False),
    "shared trunk": lambda: SharedTrunk(mlp(), TASKS, 3),
    "a part aside": trunk_with_a_part_aside,
    "activation used twice": reused_activation,
    "layer used twice": reused_linear,
    "hook": hooked,
    "pointwise": lambda: nn.Sequential(nn.ELU(), nn.Linear(4, 3), nn.SiLU(), nn.Softplus(), nn.LeakyReLU()),
}
IMAGE_LAYERS = {
    "convolutions": lambda: [nn.Conv2d(4, 3, 3, padding="same"), nn.GELU(), nn.Conv2d(3, 2, 1, bias=False)],
    "groups of shared images": lambda: [nn.Conv2d(4, 6, 1, groups=2)],
    "groups of own images": lambda: [nn.Conv2d(4, 6, 1), nn.Conv2d(6, 4, 2, padding=1, groups=2)],
    "circular": lambda: [nn.Conv2d(4, 3, 2, padding=1, padding_mode="circular")],
    "pools": lambda: [nn.AvgPool2d(2, 1), nn.Conv2d(4, 3, 1, padding=1), nn.MaxPool2d(2), nn.AvgPool2d(1)],
    "flatten": lambda: [nn.Conv2d(4, 3, 1), nn.Flatten(2), nn.Flatten(-2, -1)],
}


@pytest.mark.parametrize("layers", IMAGE_LAYERS)
def test_a_stack_of_image_networks_gives_what_its_networks_give(layers):
    members = networks(lambda: nn.Sequential(*IMAGE_LAYERS[layers](), nn.Flatten(), nn.LazyLinear(3)), 3)
    batch = Batch(torch.arange(5), torch.randn(5, 4, 2, 2), torch.zeros(5, 2))
    expected = torch.stack([member(batch.inputs) for member in members])
    assert why_not_stackable(members[0], TASKS, batch) is None
    stack = Stack(members, TASKS)
    found = stack.map(batch.inputs, lambda outputs: outputs, train=True)
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(found)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    for place, member in enumerate(members):
        for name, value in member.named_parameters():
            torch.testing.assert_close(stack.parameters[name].grad[place], value.grad, rtol=1e-4, atol=1e-5)


def test_a_layer_with_two_results_is_left_to_vmap():
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool, self.head = nn.MaxPool2d(2, return_indices=True), nn.Linear(4, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.head(self.pool(inputs)[0].flatten(1))

    assert not is_written_out(nn.MaxPool2d(2, return_indices=True))
    members = networks(Pooled, 2)
    inputs = torch.randn(5, 4, 2, 2)
    found = Stack(members, TASKS).map(inputs, lambda outputs: outputs, train=False)
    torch.testing.assert_close(found, torch.stack([member(inputs) for member in members]))


@pytest.mark.parametrize("make", ARCHITECTURES.values(), ids=ARCHITECTURES)
@pytest.mark.parametrize("number", [1, 3])
def test_a_stack_gives_what_its_networks_give_with_the_same_gradients(make, number):
    members = networks(make, number)
    stack = Stack(members, TASKS)
    assert len(stack) == number
    assert why_not_stackable(members[0], TASKS, BATCH) is None
    together = stack.map(BATCH.inputs, lambda outputs: TASKS.losses(outputs, BATCH.targets), train=True)
    alone = torch.stack([TASKS.losses(member(BATCH.inputs), BATCH.targets) for member in members])
    torch.testing.assert_close(together, alone)
    weights = torch.rand(number, 2)
    (together * weights).sum().backward()
    (alone * weights).sum().backward()
    for place, member in enumerate(members):
        for name, value in member.named_parameters():
            if value.grad is None:
                assert stack.parameters[name].grad is None
            else:
                torch.testing.assert_close(stack.parameters[name].grad[place], value.grad)


def test_a_stack_copies_its_networks_and_several_results_come_stacked():
    member = mlp()
    stack = Stack([member] * 3, TASKS)
    with torch.no_grad():
        stack.parameters["0.weight"].zero_()
    assert bool((member[0].weight != 0).any())
    sums, counts = stack.map(BATCH.inputs, lambda o: TASKS.sample_losses(o, BATCH.targets), train=False)
    assert (sums.shape, counts.shape[-2:]) == ((3, 2, 2), (2, 2))


def test_tied_and_frozen_parameters_stay_so():
    def make() -> nn.Module:
        model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3))
        model[2].weight = model[0].weight
        model[4].weight.requires_grad_(False)
        return model

    members = networks(make, 2)
    stack = Stack(members, TASKS)
    assert list(stack.parameters) == ["0.weight", "0.bias", "2.bias", "4.bias"]
    together = stack.map(BATCH.inputs, lambda outputs: outputs, train=True)
    alone = torch.stack([member(BATCH.inputs) for member in members])
    torch.testing.assert_close(together, alone)
    together.sum().backward()
    alone.sum().backward()
    torch.testing.assert_close(stack.parameters["0.weight"].grad[1], members[1][0].weight.grad)


def test_kept_members_are_those_that_go_on():
    members = networks(mlp, 4)
    for member in members:
        member[0].weight.requires_grad_(False)  # constants leave, too
    stack = Stack(members, TASKS)
    positions = torch.tensor([3, 1])
    optimizer = torch.optim.SGD(stack.parameters.values())
    stack.keep(positions, keep_members(optimizer, positions))
    assert len(stack) == 2
    found = stack.map(BATCH.inputs, lambda outputs: outputs, train=False)
    torch.testing.assert_close(found, torch.stack([members[number](BATCH.inputs) for number in (3, 1)]))


def test_dropout_has_another_mask_in_each_network_and_none_in_evaluation():
    stack = Stack([nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5))] * 8, TASKS)
    train = stack.map(BATCH.inputs, lambda outputs: outputs, train=True)
    assert len({tuple(one.flatten().tolist()) for one in train}) > 4
    evaluation = stack.map(BATCH.inputs, lambda outputs: outputs, train=False)
    torch.testing.assert_close(evaluation, evaluation[:1].expand_as(evaluation))


class TakesItem(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = mlp()

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = self.inner(inputs)
        return outputs if float(outputs.detach().sum()) > -1e9 else -outputs


class TransformerLayer(nn.Module):
    """Has operations of its own for evaluation, for which vmap has no rule."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(1, 4), nn.Linear(4, 3)
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.layer(self.embed(inputs.unsqueeze(-1))).mean(1))


class OnlyInTraining(nn.Module):
    """Can be vectorised in training mode alone."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = mlp()

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = self.inner(inputs)
        return outputs if self.training else outputs * float(outputs.detach().abs().max() > -1)


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (
            nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)),
            r"its forward pass updates buffers \(1.running_mean\)",
        ),
        (mlp().requires_grad_(False), "the module has no trainable parameter"),
        (TakesItem(), "it cannot be vectorised \\(vmap: It looks like"),
        (OnlyInTraining(), "it cannot be vectorised \\(vmap: It looks like"),
        (TransformerLayer(), "it cannot be vectorised \\(There is a performance drop"),
        (nn.Linear(4, 2), "it cannot be vectorised \\(The model must give outputs of shape"),
        (nn.Linear(5, 3), "it cannot be vectorised \\("),
    ],
)
def test_why_a_network_cannot_be_stacked(network, reason, assert_same):
    torch.manual_seed(0)
    state, random = {name: value.clone() for name, value in network.state_dict().items()}, torch.get_rng_state()
    assert re.match(reason, why_not_stackable(network, TASKS, BATCH) or "")
    assert_same(dict(network.state_dict()), state)
    assert torch.equal(torch.get_rng_state(), random)
    assert network.training


def test_an_own_loss_that_cannot_be_vectorised_is_a_reason_too():
    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.squeeze(1) - targets) ** 2 * (1.0 if float(outputs.detach().sum()) > -1e9 else 2.0)

    tasks = TaskSet([Task("a", "custom", loss=loss), TASKS[1]])
    assert "cannot be vectorised" in str(why_not_stackable(mlp(), tasks, BATCH))


def test_activations_are_what_is_kept_for_the_backward_pass_without_the_weights():
    n, width = 10, 64
    network = nn.Sequential(nn.Linear(32, width), nn.ReLU(), nn.Linear(width, 3))
    batch = Batch(torch.arange(n), torch.randn(n, 32), torch.zeros(n, 2))
    random = torch.get_rng_state()
    assert activation_bytes(network, batch) == 4 * n * (32 + width)
    dropout = nn.Sequential(network, nn.Dropout())
    assert activation_bytes(dropout.eval(), batch) > activation_bytes(network, batch)
    assert not dropout.training
    assert torch.equal(torch.get_rng_state(), random)
