"""Fashion-MNIST (Xiao, Rasul and Vollgraf, arXiv 1708.07747): 70,000 images of clothes, 28 x 28, with 15 tasks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cotrain.data.dataset import MultiTaskData
from cotrain.data.image_files import BRIGHTEST, read_image_files
from cotrain.data.image_tasks import ImageClasses, image_task_data
from cotrain.data.locations import locate
from cotrain.data.sources import FASHION_MNIST

__all__ = ["FASHION_CLASSES", "load_fashion_mnist"]

FASHION_CLASSES = ImageClasses(
    ("t_shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle_boot"),
    "footwear",
    (5, 7, 9),
)
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
    train, test = read_image_files(locate(FASHION_MNIST, folder=folder))
    n_train = len(train)
    shuffled = np.random.default_rng(seed).permutation(n_train)
    n_valid = n_train // _VALID_PART
    return image_task_data(
        "fashion-mnist",
        np.concatenate([train.images, test.images]),
        np.concatenate([train.labels, test.labels]),
        FASHION_CLASSES,
        brightest=BRIGHTEST,
        parts={
            "train": np.sort(shuffled[n_valid:]),
            "valid": np.sort(shuffled[:n_valid]),
            "test": np.arange(n_train, n_train + len(test)),
        },
        targets=targets,
        flips=flips,
        seed=seed,
    )
