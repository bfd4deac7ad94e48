"""The images that a task finds hardest and most ambiguous, as one strip each."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from cotrain.report.png import png_url
from cotrain.report.wording import decimal

STRIPS = {"hardest": "hardest", "most_ambiguous": "most ambiguous"}
"""Tensor in the file -> what it is called on the page."""

CHOSEN_BY = {"hardest": 0, "most_ambiguous": 1}
"""Tensor in the file -> what its images were chosen by: the column of confidence or variability."""

LARGEST = 32
"""Pixels of an image's longer side; larger ones are shown smaller than that and would only make the page heavy."""

TINY = 200
"""Pixels of a strip below which it is enlarged, so that its pixels must stay sharp."""

GAP = 128
"""The grey between two images, told from both a light and a dark page."""


@dataclass(frozen=True, eq=False)
class Thumbnails:
    """Per kind of strip the images [T', n, H, W, C] uint8 and their places [T', n, 2]: confidence, variability."""

    images: Mapping[str, NDArray[np.uint8]]
    places: Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Strip:
    """Images of one task side by side.

    Attributes:
        title: Which images these are, with the range of the confidence or variability that they were chosen by.
        says: Confidence and variability of every image, for a tooltip and for those who cannot see it.
        url: The picture, as a data: URL.
        width: Its pixels.
        height: Its pixels.
        tiny: Whether the page enlarges it.
    """

    title: str
    says: str
    url: str
    width: int
    height: int
    tiny: bool


def read_thumbnails(path: Path, n_tasks: int) -> Thumbnails:
    """Reads thumbnails.safetensors, which holds the first tasks of a study's `n_tasks`.

    Raises:
        KeyError: If a tensor is missing.
        ValueError: If tensors do not fit each other or the tasks.
    """
    stored = load_file(path)
    images = {name: stored[name] for name in STRIPS}
    places = {name: stored[f"{name}_places"] for name in STRIPS}
    for name in STRIPS:
        found, where = images[name], places[name]
        fits = found.ndim == 5 and found.size and found.shape[4] in (1, 3) and len(found) <= n_tasks
        if not fits or found.dtype != np.uint8 or where.shape != (*found.shape[:2], 2):
            raise ValueError(
                f"expected {name} as uint8 [tasks <= {n_tasks}, images, height, width, 1 or 3] with places"
                f" [tasks, images, 2], got {found.dtype} {found.shape} with {where.shape}"
            )
    return Thumbnails(images, places)


def strips(thumbnails: Thumbnails | None, t: int) -> tuple[Strip, ...]:
    """The strips of the task at position `t`; none for tasks without images, and without labels."""
    if thumbnails is None:
        return ()
    found = [
        _strip(name, thumbnails.images[name][t], thumbnails.places[name][t])
        for name in STRIPS
        if t < len(thumbnails.images[name]) and np.isfinite(thumbnails.places[name][t, 0]).all()
    ]
    return tuple(found)


def shrunk(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[n, H, W, C] images with squares of pixels averaged, until no side is longer than `LARGEST`."""
    factor = -(-max(images.shape[1:3]) // LARGEST)
    if factor == 1:
        return images
    sums: NDArray[np.float64] = images.astype(np.float64)
    counts = np.ones((1, *images.shape[1:3], 1))
    for side in (1, 2):
        starts = np.arange(0, images.shape[side], factor)
        sums, counts = np.add.reduceat(sums, starts, side), np.add.reduceat(counts, starts, side)
    return np.round(sums / counts).astype(np.uint8)


def _strip(name: str, images: NDArray[np.uint8], places: NDArray[np.float32]) -> Strip:
    kept = _first_of_each(images, places)
    small, known = shrunk(images[kept]), places[kept]
    gap = max(1, small.shape[2] // 14)
    spaced = np.pad(small, ((0, 0), (0, 0), (0, gap), (0, 0)), constant_values=GAP)
    joined = np.concatenate(list(spaced), axis=1)[:, :-gap]
    low, high = (decimal(float(end(known[:, CHOSEN_BY[name]])), 2) for end in (np.min, np.max))
    each = "; ".join(f"{decimal(float(mean), 2)}, {decimal(float(std), 2)}" for mean, std in known)
    return Strip(
        title=f"{STRIPS[name]}, {low}" + (f" to {high}" if high != low else ""),
        says=f"{STRIPS[name].capitalize()} training images from the left, confidence and variability: {each}",
        url=png_url(joined),
        width=joined.shape[1],
        height=joined.shape[0],
        tiny=joined.shape[1] < TINY,
    )


def _first_of_each(images: NDArray[np.uint8], places: NDArray[np.float32]) -> NDArray[np.bool_]:
    """[n] without the copies of the first image that fill the strip of a task with few labels."""
    copies: NDArray[np.bool_] = (images == images[0]).all(axis=(1, 2, 3)) & (places == places[0]).all(axis=1)
    copies[0] = False
    return ~copies
