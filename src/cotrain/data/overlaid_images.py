"""MultiFashion and MultiMNIST: several images laid over one another, each of which is to be told.

Built as the Pareto Manifold Learning paper's MultiMNIST (Dimitriadis et al., arXiv 2210.09759, from its code), except
that the drawing is seeded, and that training and validation share no source image: results do not compare digit by
digit. Nor do they compare with the 36 x 36 file that other papers use.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from cotrain.data.dataset import MultiTaskData, Split, choose_names
from cotrain.data.fashion_mnist import FASHION_CLASSES
from cotrain.data.image_files import BRIGHTEST, N_CLASSES, LabelledImages, read_image_files
from cotrain.data.locations import files_in, locate
from cotrain.data.notes import describe_target
from cotrain.data.sources import MULTI_FASHION
from cotrain.errors import DataError
from cotrain.task import Task, TaskSet

__all__ = ["load_multi_fashion", "load_multi_mnist", "overlay"]

SIDE = 28
_VALID_PART = 6  # one in six: 10,000 of the 60,000, as many as there are test images
_DIGITS = tuple(f"digit {label}" for label in range(N_CLASSES))
_CHUNK = 2048  # images resized at once: 10 MB of canvas


@dataclass(frozen=True)
class _Layout:
    """Where the images lie on a square canvas: their top left corners (row, column), and how it is resized."""

    canvas: int
    corners: dict[str, tuple[int, int]]
    resizing: str


_LAYOUTS = {
    2: _Layout(36, {"top_left": (0, 0), "bottom_right": (6, 6)}, "bicubic"),
    3: _Layout(42, {"top_left": (0, 0), "bottom_centre": (14, 7), "top_right": (0, 14)}, "bilinear"),
}


def load_multi_fashion(
    *, targets: Sequence[str] | None = None, n_images: int = 2, seed: int = 0, folder: Path | str | None = None
) -> MultiTaskData:
    """Overlaid images of Fashion-MNIST; a task per image, to tell which of the ten classes it is.

    Two images: canvas 36 x 36, the first with its corner at (0, 0), the second at (6, 6). Three: canvas 42 x 42, at
    (0, 0), (14, 7) and (0, 14). Where they overlap the brighter pixel counts. The canvas is resized to 28 x 28
    (antialiased; two images bicubic, three bilinear), without clipping: bicubic values go a little below 0 and above 1.
    Every source image is used once in each position, and never beside itself.

    Args:
        targets: Names of the tasks to keep, of "top_left" and "bottom_right" (or of "top_left", "bottom_centre" and
            "top_right"); None keeps all. The images are the same.
        n_images: 2 or 3.
        seed: Of the validation images (10,000 of the 60,000), and of what is laid over what.
        folder: Where Fashion-MNIST's four files are; None looks in the usual places.

    Returns:
        Inputs [N, 1, 28, 28]: 50,000 for training, 10,000 for validation, 10,000 of test images for test.

    Raises:
        DataError: If a file is not found or damaged, a target is unknown, or `n_images` is neither 2 nor 3.
    """
    paths = locate(MULTI_FASHION, folder=folder)
    train, test = read_image_files(paths)
    return _overlaid("multi-fashion", train, test, FASHION_CLASSES.names, targets=targets, n_images=n_images, seed=seed)


def load_multi_mnist(
    folder: Path | str, *, targets: Sequence[str] | None = None, n_images: int = 2, seed: int = 0
) -> MultiTaskData:
    """Overlaid digits, from MNIST's own files; otherwise as `load_multi_fashion`.

    Args:
        folder: Where MNIST's four IDX files are, compressed or not. They are neither bundled nor downloaded.
        targets: Names of the tasks to keep; None keeps all.
        n_images: 2 or 3.
        seed: Of the validation images, and of what is laid over what.

    Returns:
        As `load_multi_fashion`.

    Raises:
        DataError: As `load_multi_fashion`.
    """
    paths = files_in(Path(folder), [file.name for file in MULTI_FASHION.files])
    if paths is None:
        raise DataError(
            f"MNIST's files were not found in {folder}: {', '.join(file.name for file in MULTI_FASHION.files)}."
            " Give the folder that holds all four."
        )
    train, test = read_image_files(paths)
    return _overlaid("multi-mnist", train, test, _DIGITS, targets=targets, n_images=n_images, seed=seed)


def overlay(images: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Lay images over one another, the brighter pixel counting, and resize the canvas.

    Args:
        images: Two or three stacks [N, 28, 28], from 0 to 255, one per position.

    Returns:
        [N, 1, 28, 28] float32; black is 0, the brightest pixel of a canvas at most 1 before resizing.

    Raises:
        DataError: If there are neither 2 nor 3 stacks, or the images are not 28 x 28.
    """
    layout = _layout(len(images))
    shapes = {stack.shape[1:] for stack in images}
    if shapes != {(SIDE, SIDE)}:
        raise DataError(f"Images to be overlaid must be {SIDE} x {SIDE} pixels. Got {sorted(shapes)}.")
    # Resizing is linear and the same for rows and columns: two products with one matrix [28, canvas].
    unit = torch.eye(layout.canvas).view(1, 1, layout.canvas, layout.canvas)
    weights = interpolate(unit, (SIDE, layout.canvas), mode=layout.resizing, antialias=True).view(SIDE, layout.canvas)
    weights /= BRIGHTEST
    resized = []
    for start in range(0, len(images[0]), _CHUNK):
        parts = [stack[start : start + _CHUNK] for stack in images]
        canvas = np.zeros((len(parts[0]), layout.canvas, layout.canvas), dtype=np.uint8)
        for part, (row, column) in zip(parts, layout.corners.values(), strict=True):
            place = canvas[:, row : row + SIDE, column : column + SIDE]
            np.maximum(place, part, out=place)
        resized.append(weights @ torch.from_numpy(canvas).float() @ (weights.T * BRIGHTEST))
    return torch.cat(resized).unsqueeze_(1)


def _overlaid(
    name: str,
    train: LabelledImages,
    test: LabelledImages,
    classes: Sequence[str],
    *,
    targets: Sequence[str] | None,
    n_images: int,
    seed: int,
) -> MultiTaskData:
    positions = list(_layout(n_images).corners)
    chosen = positions if targets is None else choose_names(targets, positions, what=f"target of {name}")
    columns = [positions.index(task) for task in chosen]
    random = np.random.default_rng(seed)
    shuffled = random.permutation(len(train))
    n_valid = len(train) // _VALID_PART
    parts = (train, shuffled[n_valid:]), (train, shuffled[:n_valid]), (test, np.arange(len(test)))
    drawn = [_drawn(source, where, n_images, random) for source, where in parts]
    fitted, valid, tested = (Split(split.inputs, split.targets[:, columns]) for split in drawn)
    tasks = TaskSet(Task(task, "multiclass", N_CLASSES) for task in chosen)
    notes = {
        task.name: describe_target(
            task, column, meaning=f"label of the image at the {task.name.replace('_', ' ')}", classes=classes
        )
        for task, column in zip(tasks, fitted.targets.numpy().T, strict=True)
    }
    return MultiTaskData(name, tasks, fitted, valid, tested, notes=notes)


def _drawn(source: LabelledImages, where: NDArray[np.int64], n_images: int, random: np.random.Generator) -> Split:
    """As many overlaid images as there are sources: one random cycle of them, begun at another place per position."""
    if len(where) < n_images:
        raise DataError(
            f"{n_images} images are laid over one another, but a part of the data has {len(where)}. Give more images."
        )
    cycle = random.permutation(where)
    order = [np.roll(cycle, shift) for shift in range(n_images)]
    labels = np.stack([source.labels[chosen] for chosen in order], axis=1)
    return Split(overlay([source.images[chosen] for chosen in order]), torch.from_numpy(labels.astype(np.float32)))


def _layout(n_images: int) -> _Layout:
    if n_images not in _LAYOUTS:
        raise DataError(f"Images are overlaid in twos or threes. Got n_images={n_images}: give 2 or 3.")
    return _LAYOUTS[n_images]
