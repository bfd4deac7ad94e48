"""Reads the four files that MNIST and its successors come in: images and labels, for training and for test."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cotrain.data.idx import read_idx
from cotrain.errors import DataError

__all__ = ["BRIGHTEST", "N_CLASSES", "LabelledImages", "read_image_files"]

BRIGHTEST = 255
N_CLASSES = 10


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images with a class each.

    Args:
        images: [N, H, W], from 0 to `BRIGHTEST`.
        labels: [N], from 0 to 9.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.labels)


def read_image_files(paths: Mapping[str, Path]) -> tuple[LabelledImages, LabelledImages]:
    """Training and test images from the four IDX files.

    Args:
        paths: By the published names, such as "train-images-idx3-ubyte.gz".

    Raises:
        DataError: If a file is damaged, a label is not from 0 to 9, or the files do not fit together.
    """
    train, test = (
        _read_pair(paths[f"{part}-images-idx3-ubyte.gz"], paths[f"{part}-labels-idx1-ubyte.gz"])
        for part in ("train", "t10k")
    )
    if train.images.shape[1:] != test.images.shape[1:]:
        raise DataError(
            f"Training images are {train.images.shape[1:]} and test images {test.images.shape[1:]} pixels in"
            f" {paths['train-images-idx3-ubyte.gz'].parent}. They belong to different data sets: get them again."
        )
    return train, test


def _read_pair(image_path: Path, label_path: Path) -> LabelledImages:
    images, labels = read_idx(image_path, n_dims=3), read_idx(label_path, n_dims=1)
    if len(images) != len(labels):
        raise DataError(
            f"{image_path} has {len(images)} images but {label_path} has {len(labels)} labels."
            " They belong to different data sets: get them again."
        )
    if labels.max(initial=0) >= N_CLASSES:
        raise DataError(f"{label_path} must hold labels from 0 to 9. Got {labels.max()}. Get the file again.")
    return LabelledImages(images, labels)
