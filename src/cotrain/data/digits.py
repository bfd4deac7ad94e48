"""Handwritten digits, 8 x 8, that ship with scikit-learn: 15 tasks without any download."""

from collections.abc import Sequence

import numpy as np

from cotrain.data.dataset import MultiTaskData
from cotrain.data.image_tasks import ImageClasses, image_task_data
from cotrain.data.splits import stratified_split

__all__ = ["DIGIT_CLASSES", "load_digits"]

DIGIT_CLASSES = ImageClasses(tuple(f"is_{digit}" for digit in range(10)), "closed_loop", (0, 6, 8, 9))
_BRIGHTEST = 16


def load_digits(*, targets: Sequence[str] | None = None, flips: bool = True, seed: int = 0) -> MultiTaskData:
    """The 1,797 digits with the 15 tasks of `cotrain.data.image_tasks`; the super-class is a closed loop.

    Args:
        targets: Names of the tasks to keep; None keeps all.
        flips: False leaves the upside-down task out, and every image as it is.
        seed: Of the split (60/20/20, stratified by digit), the flips and the coins.

    Returns:
        Inputs [N, 1, 8, 8] in [0, 1].

    Raises:
        DataError: If a target is unknown, or upside down is asked for without flips.
    """
    from sklearn import datasets  # two seconds to load, which nobody else need wait for

    digits = datasets.load_digits()
    labels = digits.target.astype(np.int64)
    parts = dict(zip(("train", "valid", "test"), stratified_split(labels, seed=seed), strict=True))
    return image_task_data(
        "digits",
        digits.images.astype(np.uint8),
        labels,
        DIGIT_CLASSES,
        brightest=_BRIGHTEST,
        parts=parts,
        targets=targets,
        flips=flips,
        seed=seed,
    )
