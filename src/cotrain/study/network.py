"""The networks of a study: one architecture for all of its trainings, chosen by the shape of the inputs."""

import math
from collections.abc import Iterable
from typing import Literal

from torch import nn

from cotrain.errors import ArgumentsError
from cotrain.model import SharedTrunk
from cotrain.task import Task

__all__ = ["make_network"]

SMALL_IMAGE = 8
"""Up to this height and width (scikit-learn's digits) an image has no more structure than an MLP can use."""


def make_network(
    kind: Literal["auto", "cnn", "mlp"], tasks: Iterable[Task], input_shape: tuple[int, ...], width: int
) -> SharedTrunk:
    """A trunk with heads for the tasks.

    mlp: two hidden layers of `width`. cnn: two 3 x 3 convolutions with stride 2 (8 and 16 channels) and a hidden
    layer of `width`. Neither has BatchNorm, so that many of them can be trained as one stack.

    Args:
        kind: Which one; auto: cnn for images larger than 8 x 8, else mlp.
        tasks: The tasks.
        input_shape: Of one sample; images are (channels, height, width).
        width: Of the hidden layers.

    Raises:
        ArgumentsError: If a cnn is asked for inputs that are no images.
    """
    is_image = len(input_shape) == 3
    if kind == "cnn" and not is_image:
        raise ArgumentsError(f"network cnn needs images. Got inputs of shape {list(input_shape)}: use mlp.")
    if kind == "cnn" or (kind == "auto" and is_image and min(input_shape[1:]) > SMALL_IMAGE):
        channels, height, length = input_shape
        half = (math.ceil(height / 2), math.ceil(length / 2))
        quarter = (math.ceil(half[0] / 2), math.ceil(half[1] / 2))
        trunk = nn.Sequential(
            nn.Conv2d(channels, 8, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(16 * quarter[0] * quarter[1], width),
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
