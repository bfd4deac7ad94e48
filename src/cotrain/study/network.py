"""The networks of a study: one architecture for all of its trainings, chosen by the shape of the inputs."""

import itertools
import math
from bisect import bisect_left
from collections.abc import Iterable
from typing import Literal

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cotrain.errors import ArgumentsError
from cotrain.model import SharedTrunk
from cotrain.task import Task

__all__ = ["make_network", "make_wider", "multiply_adds"]

CHANNELS = 8

SMALL_IMAGE = 8
"""Up to this height and width (scikit-learn's digits) an image has no more structure than an MLP can use."""


def make_network(
    kind: Literal["auto", "cnn", "mlp"],
    tasks: Iterable[Task],
    input_shape: tuple[int, ...],
    width: int,
    channels: int = CHANNELS,
) -> SharedTrunk:
    """A trunk with heads for the tasks.

    mlp: two hidden layers of `width`. cnn: two 3 x 3 convolutions with stride 2 (`channels` and twice as many) and a
    hidden layer of `width`. Neither has BatchNorm, so that many of them can be trained as one stack.

    Args:
        kind: Which one; auto: cnn for images larger than 8 x 8, else mlp.
        tasks: The tasks.
        input_shape: Of one sample; images are (channels, height, width).
        width: Of the hidden layers.
        channels: Of a cnn's first layer.

    Raises:
        ArgumentsError: If a cnn is asked for inputs that are no images.
    """
    is_image = len(input_shape) == 3
    if kind == "cnn" and not is_image:
        raise ArgumentsError(f"network cnn needs images. Got inputs of shape {list(input_shape)}: use mlp.")
    if kind == "cnn" or (kind == "auto" and is_image and min(input_shape[1:]) > SMALL_IMAGE):
        n_colours, height, length = input_shape
        half = (math.ceil(height / 2), math.ceil(length / 2))
        quarter = (math.ceil(half[0] / 2), math.ceil(half[1] / 2))
        trunk = nn.Sequential(
            nn.Conv2d(n_colours, channels, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2 * channels * quarter[0] * quarter[1], width),
            nn.ReLU(),
        )
    else:
        trunk = nn.Sequential(
            nn.Flatten(),
            nn.Linear(math.prod(input_shape), width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
        )
    return SharedTrunk(trunk, tasks, width)


def make_wider(
    kind: Literal["auto", "cnn", "mlp"],
    tasks: Iterable[Task],
    input_shape: tuple[int, ...],
    width: int,
    times: float,
) -> SharedTrunk:
    """The network that takes `times` as many multiplications as `make_network`, wider in all its layers.

    It is the control of equal cost for `times` networks; as near as whole widths come to it.
    """
    tasks = list(tasks)

    def cost(width: int, channels: int) -> int:
        return multiply_adds(make_network(kind, tasks, input_shape, width, channels), input_shape)

    wanted = times * cost(width, CHANNELS)
    # Channels come in coarse steps: as many as leave the width its share, which is then fitted.
    shares = (channels / CHANNELS for channels in itertools.count(CHANNELS))
    affordable = itertools.takewhile(
        lambda share: cost(round(width * share), round(CHANNELS * share)) <= wanted, shares
    )
    channels = round(CHANNELS * max(affordable, default=1.0))
    most = math.ceil(width * times)
    fitted = bisect_left(range(most), wanted, lo=width, key=lambda wide: cost(wide, channels))
    return make_network(kind, tasks, input_shape, fitted, channels)


def multiply_adds(network: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Multiplications and additions of one sample's forward pass, counted on zeros."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, *input_shape))
    return int(counter.get_total_flops())
