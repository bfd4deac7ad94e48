"""The 15 binary tasks of a ten-class image set, as STG-MTL built its 15 on CIFAR10 (arXiv 2307.03374).

In order: ten one-vs-rest classes, a super-class, odd label, upside down, the complement of the super-class and a
coin flip. Kinship (super-class and its members), duplication (its complement), an image property (upside down) and
pure noise (the coin) are thus known in advance, which is what makes the set a test of a grouping method.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cotrain.data.dataset import MultiTaskData, Split, choose_names
from cotrain.data.notes import describe_target
from cotrain.errors import DataError
from cotrain.task import Task, TaskSet

__all__ = ["ImageClasses", "image_targets", "image_task_data"]

# The flips and the coins are drawn from generators of their own, so that neither depends on the other or the split.
_FLIP_STREAM = 12
_COIN_STREAM = 14
_UPSIDE_DOWN = "upside_down"


@dataclass(frozen=True)
class ImageClasses:
    """What the ten classes of an image set are.

    Args:
        names: Of the ten one-vs-rest tasks, in the order of the labels.
        super_class: Name of the super-class.
        members: The labels that belong to it.
    """

    names: tuple[str, ...]
    super_class: str
    members: tuple[int, ...]

    @property
    def task_names(self) -> tuple[str, ...]:
        """The 15 tasks in order."""
        return (*self.names, self.super_class, "odd", _UPSIDE_DOWN, f"not_{self.super_class}", "coin_flip")

    @property
    def meanings(self) -> dict[str, str]:
        """What each target says, in words."""
        members = ", ".join(map(str, self.members))
        special = (
            f"label is one of {members}",
            "label is odd",
            "the image was flipped upside down (half of the images, chosen once)",
            f"label is none of {members}",
            "a coin flip per image: pure noise",
        )
        one_vs_rest = (f"label is {number}" for number in range(len(self.names)))
        return dict(zip(self.task_names, (*one_vs_rest, *special), strict=True))


def image_task_data(
    name: str,
    images: NDArray[np.uint8],
    labels: NDArray[np.integer],
    classes: ImageClasses,
    *,
    brightest: int,
    parts: Mapping[str, NDArray[np.int64]],
    targets: Sequence[str] | None = None,
    flips: bool = True,
    seed: int = 0,
) -> MultiTaskData:
    """The data set of the chosen tasks. Images are flipped only when the upside-down task is among them.

    Args:
        name: Of the data set.
        images: [N, H, W], from 0 to `brightest`.
        labels: [N], 0 to 9.
        classes: What they mean.
        brightest: The value that becomes 1.0.
        parts: Positions of the samples of "train", "valid" and "test".
        targets: Names of the tasks to keep; None keeps all.
        flips: False leaves the upside-down task out, and every image as it is.
        seed: Of the flips and the coins.

    Returns:
        Inputs [N, 1, H, W] in [0, 1], targets [N, T] of 0 and 1.

    Raises:
        DataError: If a target is unknown, or upside down is asked for without flips.
    """
    if not flips and targets is not None and _UPSIDE_DOWN in targets:
        raise DataError(f"{_UPSIDE_DOWN!r} needs flipped images. Leave flips on, or leave this target out.")
    offered = [task for task in classes.task_names if flips or task != _UPSIDE_DOWN]
    chosen = offered if targets is None else choose_names(targets, offered, what=f"target of {name}")
    flipped = _fair_coins(len(labels), (seed, _FLIP_STREAM))
    coins = _fair_coins(len(labels), (seed, _COIN_STREAM))
    values = image_targets(labels, classes, flipped=flipped, coins=coins)
    values = values[:, [classes.task_names.index(task) for task in chosen]]
    if _UPSIDE_DOWN in chosen:
        images = np.where(flipped[:, None, None], images[:, ::-1], images)
    splits = {
        part: Split(torch.from_numpy(images[where]).float().div_(brightest).unsqueeze_(1), values[where])
        for part, where in parts.items()
    }
    tasks = TaskSet(Task(task, "binary") for task in chosen)
    labels = splits["train"].targets.numpy()
    notes = {
        task.name: describe_target(task, column, meaning=classes.meanings[task.name])
        for task, column in zip(tasks, labels.T, strict=True)
    }
    return MultiTaskData(name, tasks, splits["train"], splits["valid"], splits["test"], notes=notes)


def image_targets(
    labels: NDArray[np.integer], classes: ImageClasses, *, flipped: NDArray[np.bool_], coins: NDArray[np.bool_]
) -> Tensor:
    """The 15 targets [N, 15] (0.0 or 1.0) of images with these labels [N], flip flags [N] and coins [N]."""
    one_vs_rest = labels[:, None] == np.arange(len(classes.names))
    member = np.isin(labels, classes.members)
    special = np.stack([member, labels % 2 == 1, flipped, ~member, coins], axis=1)
    return torch.from_numpy(np.concatenate([one_vs_rest, special], axis=1).astype(np.float32))


def _fair_coins(n_samples: int, stream: tuple[int, int]) -> NDArray[np.bool_]:
    return np.random.default_rng(stream).random(n_samples) < 0.5
