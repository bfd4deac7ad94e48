"""The written-out layers give what each network gives by itself."""

import pytest
import torch
from torch import nn
from torch.func import stack_module_state

from cotrain import SharedTrunk, Task
from cotrain.stacked_layers import Stacked, is_written_out, run

IMAGES = (5, 2, 9, 7)
NETWORKS = {
    "mlp": (lambda: nn.Sequential(nn.Linear(6, 7), nn.GELU(), nn.Linear(7, 3, bias=False), nn.Tanh()), (5, 6)),
    "sequence": (lambda: nn.Sequential(nn.Linear(6, 7), nn.ReLU(), nn.Linear(7, 3)), (5, 4, 6)),
    "convolutions": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, stride=2, padding=1, bias=False),
            nn.ReLU(),
            nn.Conv2d(4, 6, 3, padding="same", groups=2),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 4, 1, dilation=2),
            nn.Flatten(),
            nn.Linear(16, 3),
        ),
        IMAGES,
    ),
    "pooled first": (
        lambda: nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(24, 4), nn.Unflatten(1, (2, 2))),
        IMAGES,
    ),
    "averaged": (
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.AvgPool2d(3), nn.Flatten(1, -1), nn.Linear(8, 2)),
        IMAGES,
    ),
    "trunk": (
        lambda: SharedTrunk(
            nn.Sequential(nn.Flatten(-3), nn.Linear(126, 4), nn.ELU()),
            [Task("a", "binary"), Task("b", "multiclass", 3)],
            4,
        ),
        IMAGES,
    ),
}


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "pooled first"])
def test_equals_each_network_by_itself_with_gradients(name: str) -> None:
    make, shape = NETWORKS[name]
    torch.manual_seed(0)
    networks = [make().double() for _ in range(3)]
    inputs = torch.randn(*shape, dtype=torch.float64)
    parameters, _ = stack_module_state(networks)
    assert is_written_out(networks[0])
    outputs = run(networks[0], parameters, Stacked(inputs, False))
    assert outputs.own
    outputs.value.square().sum().backward()
    for number, network in enumerate(networks):
        alone = network(inputs)
        torch.testing.assert_close(outputs.value[number], alone)
        alone.square().sum().backward()
        for key, value in network.named_parameters():
            torch.testing.assert_close(parameters[key].grad[number], value.grad)


def test_what_comes_before_the_first_weights_stays_shared() -> None:
    network = nn.Sequential(nn.MaxPool2d(2), nn.ReLU(), nn.Flatten())
    images = torch.randn(*IMAGES)
    outputs = run(network, {}, Stacked(images, False))
    assert not outputs.own
    torch.testing.assert_close(outputs.value, network(images))


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3)),
        nn.Sequential(nn.Linear(3, 3), nn.Dropout()),
        nn.Conv2d(1, 1, 3, padding_mode="reflect"),
        NETWORKS["pooled first"][0](),
        type("Mine", (nn.Linear,), {})(3, 3),
    ],
)
def test_layers_without_a_rule_are_left_to_vmap(module: nn.Module) -> None:
    assert not is_written_out(module)


def test_modules_with_hooks_are_left_to_vmap() -> None:
    module = nn.Sequential(nn.Linear(3, 3))
    assert is_written_out(module)
    module[0].register_forward_hook(lambda *_: None)
    assert not is_written_out(module)
