"""The hypervolume of a front in its own directions, and by how much two fronts differ in it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from torch import Tensor

from cotrain.pareto.bootstrap import Interval, interval_of
from cotrain.pareto.hypervolume import hypervolume

if TYPE_CHECKING:
    from cotrain.pareto.front import Front

__all__ = ["Quantity", "Reference", "front_difference", "front_volume"]

Quantity: TypeAlias = Literal["metric", "loss"]
Reference: TypeAlias = "float | Sequence[float] | Mapping[str, float] | Tensor"
"""Worse than every point: one number for all tasks, one for each in their order, or by name of task."""


def front_difference(
    first: "Front",
    second: "Front",
    reference: Reference,
    *,
    metric: Quantity = "metric",
    tasks: Sequence[str] | None = None,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """How much more hypervolume `first` has than `second`, with an interval: both on the same resampled samples.

    Args:
        first: A front with sample scores.
        second: Another on the same samples in the same order.
        reference: See `Front.hypervolume`.
        metric: "metric" or "loss".
        tasks: Which tasks; None for all.
        draws: Resampled sets.
        level: Share of draws inside.
        seed: Of the draws.

    Raises:
        ValueError: If the fronts are of other tasks or samples, or one was read from a file.
    """
    if first.tasks != second.tasks or first.metric_names != second.metric_names:
        raise ValueError(f"Both fronts must be of the same tasks. Got {list(first.tasks)} and {list(second.tasks)}.")
    if first.known_scores().digest != second.known_scores().digest:
        raise ValueError(
            "Both fronts must be of the same samples in the same order. Got different targets: evaluate both on the"
            " same dataset, or on a DataLoader without shuffle."
        )
    end = len(first)

    def difference(means: Tensor) -> float:
        parts = (first, means[:end]), (second, means[end:])
        volumes = [front_volume(front, values, reference, metric=metric, tasks=tasks) for front, values in parts]
        return volumes[0] - volumes[1]

    pairs = zip(*(front.resampled(metric, draws=draws, seed=seed) for front in (first, second)), strict=True)
    drawn = (torch.cat(pair, dim=1) for pair in pairs)
    return interval_of(difference, torch.cat([first.of(metric), second.of(metric)]), drawn, level=level)


def front_volume(
    front: "Front", values: Tensor, reference: Reference, *, metric: Quantity, tasks: Sequence[str] | None
) -> float:
    """The hypervolume of values [K, T] that have the tasks and directions of a front; see `Front.hypervolume`."""
    names = list(front.tasks if tasks is None else tasks)
    unknown = [name for name in names if name not in front.tasks]
    if unknown:
        raise ValueError(f"There is no task {unknown[0]!r}. The tasks are {list(front.tasks)}.")
    columns = [front.tasks.index(name) for name in names]
    up = front.larger_is_better(metric)
    return hypervolume(values[:, columns], _reference(reference, names), maximize=[up[column] for column in columns])


def _reference(reference: Reference, tasks: Sequence[str]) -> Tensor:
    """[T] from any of its forms."""
    if isinstance(reference, Mapping):
        if set(reference) != set(tasks):
            raise ValueError(f"The reference must name {list(tasks)}. Got {list(reference)}.")
        reference = [float(reference[task]) for task in tasks]
    values = torch.as_tensor(reference, dtype=torch.float64)
    if values.dim() == 0:
        return values.expand(len(tasks))
    if values.shape != (len(tasks),):
        raise ValueError(f"The reference needs one number, or one for each of {list(tasks)}. Got {list(values.shape)}.")
    return values
