"""The maps of every sample and task that a `DataMap` gives."""

from dataclasses import dataclass

from torch import Tensor

__all__ = ["DataMaps"]


@dataclass(frozen=True, eq=False)
class DataMaps:
    """What a `DataMap` recorded, of N samples.

    Attributes:
        confidence: [N, T] float32 mean over the visits of what the network gave the true label; NaN where the
            sample has no label or was not visited.
        variability: [N, T] float32 standard deviation over the visits; 0 after one visit, NaN without any.
        correctness: [N, T] float32 share of visits at which the sample was right; NaN without any.
        visits: [N, T] int32.
        tasks: The tasks' names, in the order of the columns.
        epochs: Finished epochs.
        snapshots: The maps as they were at the ends of the chosen epochs, in order; `epochs` tells them apart.
        samples: [N] positions of the rows in the training split; None if every sample has a row.
    """

    confidence: Tensor
    variability: Tensor
    correctness: Tensor
    visits: Tensor
    tasks: tuple[str, ...]
    epochs: int
    snapshots: tuple["DataMaps", ...] = ()
    samples: Tensor | None = None
