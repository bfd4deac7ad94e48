"""How alike tasks are learned: the correlation of their confidences, and points whose distances it gives."""

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["TaskCorrelation"]

ROUNDING = 10 * torch.finfo(torch.float64).eps
"""An eigenvalue below this share of the largest one is rounding."""


@dataclass(frozen=True, eq=False)
class TaskCorrelation:
    """What a `TaskGram` recorded.

    Attributes:
        correlation: [T, T] float64, symmetric, diagonal 1: for every pair of tasks, the correlation over samples
            and epochs of their confidences, each centred in its epoch. 0 for a flat task, its diagonal included.
            NaN for a task without labels; of partial labels, also for a pair with too few samples in common.
        n: [T] int64 labelled visits in all epochs.
        tasks: The tasks' names, in the order of rows and columns.
        flat: The names of the tasks with labels whose confidence is the same for all samples of an epoch.
        epochs: Finished epochs.
    """

    correlation: Tensor
    n: Tensor
    tasks: tuple[str, ...]
    flat: tuple[str, ...]
    epochs: int

    def features(self) -> Tensor:
        """Points whose Euclidean distances are those of the tasks' standardised confidences.

        The squared distance of tasks t and s is R_tt + R_ss - 2 R_ts. That is the distance of their stacked
        per-epoch confidences, centred in every epoch and scaled to length 1, so any clustering by distances gives
        the same; without samples, D = r < T numbers remain. With H for centring, H R H = U L U^T and the points
        are U L^(1/2). Negative eigenvalues, which partial labels can bring, are clipped. There, a pair without a
        correlation is placed by the mean of the known ones of its two tasks.
        On one processor core it takes 0.2 s for T = 1,000 and 4 s for 3,000, growing as T^3, and some 50 T^2 bytes.

        Returns:
            [T, r] float64, columns by falling variance. NaN for a task that can be compared with no other one.

        Warns:
            UserWarning: If pairs without a correlation had to be placed.

        Raises:
            ValueError: If no task can be placed.
        """
        known = ~self.correlation.isnan()
        placed = known.diagonal() & (known.sum(1) > min(1, len(self.tasks) - 1))
        if not bool(placed.any()):
            raise ValueError(
                f"None of the tasks {list(self.tasks)} has a known correlation with another one, so they have no"
                " features. Record tasks that label the same samples."
            )
        matrix = _without_gaps(self.correlation[placed][:, placed])
        means = matrix.mean(0)
        values, vectors = torch.linalg.eigh(matrix - means - means[:, None] + means.mean())
        kept = values > ROUNDING * values[-1].clamp(min=1)
        points = (vectors[:, kept] * values[kept].sqrt()).flip(1)
        found = torch.full((len(self.tasks), points.shape[1]), torch.nan, dtype=torch.float64)
        found[placed] = points
        return found


def _without_gaps(matrix: Tensor) -> Tensor:
    gaps = matrix.isnan()
    if not bool(gaps.any()):
        return matrix
    n_pairs = int(gaps.sum()) // 2
    warnings.warn(
        f"{n_pairs} pairs of tasks have too few labelled samples in common for a correlation."
        " They are placed by the mean correlation of their two tasks with the others.",
        stacklevel=3,
    )
    others = matrix.clone().fill_diagonal_(torch.nan)
    total, number = others.nansum(1), (~others.isnan()).sum(1)
    return torch.where(gaps, (total[:, None] + total) / (number[:, None] + number), matrix)
