"""Fashion-MNIST (Xiao, Rasul and Vollgraf, arXiv 1708.07747): 70,000 images of clothes, 28 x 28, with 15 tasks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cotrain.data.dataset import MultiTaskData
from cotrain.data.idx import read_idx
from cotrain.data.image_tasks import ImageClasses, image_task_data
from cotrain.data.locations import locate
from cotrain.data.sources import FASHION_MNIST
from cotrain.errors import DataError

__all__ = ["FASHION_CLASSES", "load_fashion_mnist"]

FASHION_CLASSES = ImageClasses(
    ("t_shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle_boot"),
    "footwear",
    (5, 7, 9),
)
_BRIGHTEST = 255
_VALID_PART = 6  # one in six: 10,000 of the 60,000, as many as there are test images


def load_fashion_mnist(
    *, targets: Sequence[str] | None = None, flips: bool = True, seed: int = 0, folder: Path | str | None = None
) -> MultiTaskData:
    """Fashion-MNIST with the 15 tasks of `cotrain.data.image_tasks`; the super-class is footwear.

    Odd labels and footwear go together here (phi .66: labels 5, 7 and 9 are all odd), unlike on CIFAR10.

    Args:
        targets: Names of the tasks to keep; None keeps all.
        flips: False leaves the upside-down task out, and every image as it is.
        seed: Of the validation images (10,000 of the 60,000), the flips and the coins.
        folder: Where the four files are; None looks in the usual places (`cotrain datasets` lists them).

    Returns:
        Inputs [N, 1, 28, 28] in [0, 1]: 50,000 for training, 10,000 for validation, the official 10,000 for test.

    Raises:
        DataError: If a file is not found or damaged, a target is unknown, or upside down is asked for without flips.
    """
    paths = locate(FASHION_MNIST, folder=folder)
    train_images, train_labels = _read_pair(paths["train-images-idx3-ubyte.gz"], paths["train-labels-idx1-ubyte.gz"])
    test_images, test_labels = _read_pair(paths["t10k-images-idx3-ubyte.gz"], paths["t10k-labels-idx1-ubyte.gz"])
    if train_images.shape[1:] != test_images.shape[1:]:
        raise DataError(
            f"Training images are {train_images.shape[1:]} and test images {test_images.shape[1:]} pixels in"
            f" {paths['train-images-idx3-ubyte.gz'].parent}. They belong to different data sets: get them again."
        )
    n_train = len(train_labels)
    shuffled = np.random.default_rng(seed).permutation(n_train)
    n_valid = n_train // _VALID_PART
    return image_task_data(
        "fashion-mnist",
        np.concatenate([train_images, test_images]),
        np.concatenate([train_labels, test_labels]),
        FASHION_CLASSES,
        brightest=_BRIGHTEST,
        parts={
            "train": np.sort(shuffled[n_valid:]),
            "valid": np.sort(shuffled[:n_valid]),
            "test": np.arange(n_train, n_train + len(test_labels)),
        },
        targets=targets,
        flips=flips,
        seed=seed,
    )


def _read_pair(image_path: Path, label_path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    images, labels = read_idx(image_path, n_dims=3), read_idx(label_path, n_dims=1)
    if len(images) != len(labels):
        raise DataError(
            f"{image_path} has {len(images)} images but {label_path} has {len(labels)} labels."
            " They belong to different data sets: get them again."
        )
    if labels.max(initial=0) >= len(FASHION_CLASSES.names):
        raise DataError(f"{label_path} must hold labels from 0 to 9. Got {labels.max()}. Get the file again.")
    return images, labels
