"""Intervals of a front by resampling the samples, the same ones at all preferences (Efron, 1979)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Interval", "interval_of", "mean_interval", "resampled_means"]

CHUNK = 2**22
"""Counts that are held at a time: 32 MB."""


@dataclass(frozen=True)
class Interval:
    """A value and where it may lie on another sample of the same size.

    Args:
        value: On the samples as they are.
        low: Lower end.
        high: Upper end.
        level: Share of resampled values inside.
    """

    value: float
    low: float
    high: float
    level: float = 0.95

    def __str__(self) -> str:
        return f"{self.value:.5g} ({self.level:.0%}: {self.low:.5g} to {self.high:.5g})"


def resampled_means(values: Tensor, labelled: Tensor, *, draws: int, seed: int) -> Iterator[Tensor]:
    """Means over the labelled samples of `draws` samples with replacement, a chunk of draws at a time.

    Args:
        values: [K, N, T], 0 without a label.
        labelled: [N, T].
        draws: How many.
        seed: The same seed draws the same samples whatever the values are, so two fronts are compared pair by pair.

    Yields:
        [d, K, T] float64; NaN where a draw has no label of a task.
    """
    points, rows, tasks = values.shape
    centre = (values.sum(1, dtype=torch.float64) / labelled.sum(0)).float()
    # From the mean, in float32, the rounding is that of deviations; and equal samples have an interval of width 0.
    deviations = (values - centre.nan_to_num()[:, None]).masked_fill(~labelled, 0)
    columns = torch.cat([deviations.permute(1, 0, 2).reshape(rows, -1), labelled.float()], dim=1)
    generator = torch.Generator().manual_seed(seed)
    step = max(1, CHUNK // rows)
    for start in range(0, draws, step):
        number = min(step, draws - start)
        sums = _counts(number, rows, generator) @ columns
        labels = sums[:, points * tasks :].double()
        drawn = sums[:, : points * tasks].double().view(number, points, tasks) / labels[:, None]
        yield centre.double() + drawn


def mean_interval(values: Tensor, labelled: Tensor, *, draws: int, level: float, seed: int) -> tuple[Tensor, Tensor]:
    """Low and high [K, T] of every mean."""
    drawn = torch.cat(list(resampled_means(values, labelled, draws=draws, seed=seed)))
    low, high = _ends(drawn, level)
    return low, high


def interval_of(
    statistic: Callable[[Tensor], float], means: Tensor, drawn: Iterator[Tensor], *, level: float
) -> Interval:
    """The percentile interval of a statistic of the means [K, T]; a draw without a label of a task is left out.

    Args:
        statistic: From means [K, T] to a number.
        means: [K, T] of the samples as they are.
        drawn: Chunks [d, K, T].
        level: Share of resampled values inside.
    """
    known = ~means.isnan()
    whole = (chunk[~chunk[:, known].isnan().any(1)] for chunk in drawn)
    numbers = torch.tensor([statistic(one) for chunk in whole for one in chunk], dtype=torch.float64)
    low, high = _ends(numbers, level)
    return Interval(statistic(means), float(low), float(high), level)


def _ends(drawn: Tensor, level: float) -> tuple[Tensor, Tensor]:
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, such as 0.95. Got {level}.")
    if len(drawn) < 2:
        raise ValueError(f"An interval needs at least 2 draws, and 1,000 for steady ends. Got {len(drawn)}.")
    low, high = drawn.nanquantile(torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=drawn.dtype), dim=0)
    return low, high


def _counts(draws: int, rows: int, generator: torch.Generator) -> Tensor:
    """[draws, rows]: how often each sample is drawn."""
    chosen = torch.randint(rows, (draws, rows), generator=generator) + torch.arange(draws).unsqueeze(1) * rows
    return torch.bincount(chosen.flatten(), minlength=draws * rows).view(draws, rows).float()
