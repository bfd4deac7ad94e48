"""Which samples are trained on, validated on and tested on: random, seeded, of exact sizes."""

import numpy as np
from numpy.typing import NDArray

from cotrain.errors import DataError

__all__ = ["SHARES", "random_split", "stratified_split"]

Indices = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]

SHARES = (0.6, 0.2, 0.2)
"""Training, validation and test: enough test samples to tell two models apart on a few thousand rows."""


def random_split(n_samples: int, *, shares: tuple[float, float, float] = SHARES, seed: int = 0) -> Indices:
    """Positions of the training, validation and test samples, drawn at random.

    Args:
        n_samples: How many samples there are.
        shares: Of the three parts; they sum to 1.
        seed: Of the drawing.

    Returns:
        Three sorted arrays that hold every position exactly once.

    Raises:
        DataError: If the shares are not positive with sum 1, or a part would be empty.
    """
    return stratified_split(np.zeros(n_samples, dtype=np.int64), shares=shares, seed=seed)


def stratified_split(
    labels: NDArray[np.integer], *, shares: tuple[float, float, float] = SHARES, seed: int = 0
) -> Indices:
    """Positions of the training, validation and test samples, each class in the same shares (up to one sample).

    Args:
        labels: [N] class numbers.
        shares: Of the three parts; they sum to 1.
        seed: Of the drawing.

    Returns:
        Three sorted arrays that hold every position exactly once.

    Raises:
        DataError: If the shares are not positive with sum 1, or a part would be empty.
    """
    if len(shares) != 3 or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-9:
        raise DataError(f"The shares of training, validation and test must be positive with sum 1. Got {shares}.")
    # A sample's place in its class, in random order, as a fraction of the class decides its part.
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    order = shuffled[np.argsort(labels[shuffled], kind="stable")]
    _, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    place = np.arange(len(labels)) - np.repeat(starts, counts)
    part = np.empty(len(labels), dtype=np.int64)
    part[order] = np.searchsorted(np.cumsum(shares)[:2], (place + 0.5) / np.repeat(counts, counts))
    train, valid, test = (np.flatnonzero(part == number) for number in range(3))
    if min(len(train), len(valid), len(test)) == 0:
        raise DataError(
            f"{len(labels)} samples are too few for the shares {shares}: training, validation and test would get"
            f" {len(train)}, {len(valid)} and {len(test)}. Give more samples."
        )
    return train, valid, test
