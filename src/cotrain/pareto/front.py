"""A front: what a model reaches at many preferences, and what to read from it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cotrain.pareto.bootstrap import Interval, interval_of, mean_interval, resampled_means
from cotrain.pareto.front_choice import FrontChoice, choose
from cotrain.pareto.front_files import read_csv, read_json, to_csv, to_json
from cotrain.pareto.front_order import CornerOrder, OrderViolations, corners_in_order, order_violations
from cotrain.pareto.front_plot import plot_front
from cotrain.pareto.front_text import front_text
from cotrain.pareto.front_volume import Quantity, Reference, front_volume
from cotrain.pareto.hypervolume import nondominated
from cotrain.pareto.sample_scores import SampleScores, larger_is_better

__all__ = ["Front"]


COLLAPSED = 1e-3
"""Variation of the losses, relative to their mean, up to which a front is one point."""


@dataclass(frozen=True, eq=False)
class Front:
    """Losses and metrics at K preferences over G names, for T tasks.

    Args:
        names: G names of what a preference is over: the tasks, or groups of them.
        tasks: T names of tasks.
        preferences: [K, G], each summing to 1.
        losses: [K, T] float64 mean losses over the labelled samples; NaN for a task without labels.
        metrics: [K, T] float64: accuracy (binary and multiclass; larger is better), mae in the target's own units
            (regression) or the loss (custom).
        metric_names: T names of these metrics: "accuracy", "mae" or "loss".
        shares: [G, T], how a name's weight is spread over the tasks; rows sum to 1.
        scores: What every sample scored, from which intervals are drawn; None for a front that was read from a file.
    """

    names: tuple[str, ...]
    tasks: tuple[str, ...]
    preferences: Tensor
    losses: Tensor
    metrics: Tensor
    metric_names: tuple[str, ...]
    shares: Tensor
    scores: SampleScores | None = None

    def __post_init__(self) -> None:
        points, tasks = len(self.preferences), len(self.tasks)
        expected = {
            "preferences": (points, len(self.names)),
            "losses": (points, tasks),
            "metrics": (points, tasks),
            "shares": (len(self.names), tasks),
        }
        for name, shape in expected.items():
            got = tuple(getattr(self, name).shape)
            if got != shape:
                raise ValueError(
                    f"A front of {len(self.names)} names and {tasks} tasks needs {name} {shape}. Got {got}."
                )
        if len(self.metric_names) != tasks:
            raise ValueError(f"A front needs a metric for each of {tasks} tasks. Got {list(self.metric_names)}.")

    def __len__(self) -> int:
        return len(self.preferences)

    def __str__(self) -> str:
        return front_text(self)

    def hypervolume(
        self, reference: Reference, *, metric: Quantity = "metric", tasks: Sequence[str] | None = None
    ) -> float:
        """Volume between the front and a reference: accuracies are maximised, mae and losses minimised.

        Say the reference wherever you give the value. Points that are worse than it in any task add nothing.

        Args:
            reference: Worse than every point: one number, one per task, or by name; usually 0 for accuracies.
            metric: "metric" or "loss".
            tasks: Which tasks; None for all. The volume is exact, and beyond 8 tasks takes too long.

        Raises:
            ValueError: If the reference does not fit, a task has no labels, or there are too many tasks.
        """
        return front_volume(self, self.of(metric), reference, metric=metric, tasks=tasks)

    def hypervolume_interval(
        self,
        reference: Reference,
        *,
        metric: Quantity = "metric",
        tasks: Sequence[str] | None = None,
        draws: int = 1000,
        level: float = 0.95,
        seed: int = 0,
    ) -> Interval:
        """The hypervolume and a bootstrap interval: samples are resampled, the same ones at all preferences.

        It tells what another test set of this size might give, not what another training might. The largest of many
        noisy points is too good on any sample, so the interval lies somewhat high and need not hold the value itself.

        Args:
            reference: See `hypervolume`.
            metric: "metric" or "loss".
            tasks: Which tasks; None for all.
            draws: Resampled sets; 1,000 steady the ends to about a tenth of the width.
            level: Share of draws inside.
            seed: Of the draws.

        Raises:
            ValueError: As in `hypervolume`, or if the front was read from a file.
        """
        volume = partial(front_volume, self, reference=reference, metric=metric, tasks=tasks)
        return interval_of(volume, self.of(metric), self.resampled(metric, draws=draws, seed=seed), level=level)

    def intervals(
        self, *, metric: Quantity = "metric", draws: int = 1000, level: float = 0.95, seed: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Bootstrap intervals of every metric: low and high, [K, T] each; see `hypervolume_interval`."""
        scores = self.known_scores()
        return mean_interval(scores.of(metric), scores.labelled, draws=draws, level=level, seed=seed)

    def nondominated(self, *, metric: Quantity = "metric") -> Tensor:
        """[K] booleans: no other point is at least as good for every task with labels, and better for one."""
        values = self.of(metric)
        known = self._known(values)
        return nondominated(
            values[:, known], maximize=[up for up, k in zip(self.larger_is_better(metric), known, strict=True) if k]
        )

    def knee(self, *, metric: Quantity = "metric") -> int:
        """The point that gives up least of all tasks together (Das, 1999).

        Every metric is brought to 0 at its worst and 1 at its best among the non-dominated points. The knee lies
        farthest beyond the hyperplane through the points that are 1 for one task and 0 for all others, which for two
        tasks is the line through the ends of the front.
        """
        kept = self.nondominated(metric=metric)
        values = self.of(metric)
        known = self._known(values)
        gains = torch.where(torch.tensor(self.larger_is_better(metric)), values, -values)[:, known]
        if not bool(kept.any()):
            return 0
        low, high = gains[kept].amin(0), gains[kept].amax(0)
        scaled = ((gains - low) / torch.where(high > low, high - low, 1.0)).sum(1)
        return int(scaled.masked_fill(~kept, -torch.inf).argmax())

    def order_violations(self) -> OrderViolations:
        """Steps between neighbouring preferences on which a share rises and its loss rises too."""
        return order_violations(self)

    def corners_in_order(self) -> dict[str, CornerOrder]:
        """For each name: is its loss lowest where it is preferred most, of all corners, and of all points?"""
        return corners_in_order(self)

    def is_collapsed(self) -> bool:
        """Whether the preference changes nothing: no task's loss varies by more than a thousandth over the front.

        Hypernetworks without a penalty end like that on Census-Income: all rays give one network.
        """
        losses = self.losses[:, self._known(self.losses)]
        varied = losses.amax(0) - losses.amin(0)
        return len(self) > 1 and bool((varied <= COLLAPSED * losses.abs().mean(0)).all())

    def ranges(self) -> dict[str, tuple[float, float]]:
        """Smallest and largest value on the front of each metric ("accuracy/age") and loss ("loss/age")."""
        columns = self.columns()
        return {name: (float(values.min()), float(values.max())) for name, values in columns.items()}

    def choose(
        self,
        *,
        minimize: str | None = None,
        maximize: str | None = None,
        subject_to: Mapping[str, str] | None = None,
    ) -> FrontChoice:
        """The preference that is best in one respect while others stay within bounds.

        The front should be of validation samples; what it promises is then to be measured on others. Two names: a
        monotone curve through each metric smooths the noise, and preferences between the points are searched too. More
        names: the best point, refined along a step to a neighbour if all metrics move as their shares do there.

        Args:
            minimize: "loss/TASK", "mae/TASK", "metric/TASK", or a bare task for its loss.
            maximize: "accuracy/TASK", "metric/TASK", or a bare task for its metric. Give one of the two.
            subject_to: {name: bound}, such as {"age": ">= 0.82", "loss/income": "<= 0.3"}; a bare task is its metric.

        Returns:
            The choice; where no preference keeps the bounds, the one that misses them least, flagged.

        Raises:
            UnknownNameError: If there is no such task or metric.
            ValueError: If both or none of minimize and maximize are given, or a bound is not understood.
        """
        return choose(self, minimize=minimize, maximize=maximize, subject_to=subject_to or {})

    def to_csv(self, path: Path | str) -> None:
        """Write one row per preference: its shares, the losses and the metrics. Whole or not at all."""
        to_csv(self, Path(path))

    @classmethod
    def from_csv(cls, path: Path | str, *, shares: Tensor | None = None) -> "Front":
        """Read what `to_csv` wrote, without the sample scores.

        Args:
            path: The file.
            shares: [G, T]; needed only if the preference is over groups, which the table does not describe.

        Raises:
            DataError: If the file is not such a table.
        """
        return cls(**read_csv(Path(path), shares))

    def to_json(self, path: Path | str) -> None:
        """Write everything but the sample scores. Whole or not at all."""
        to_json(self, Path(path))

    @classmethod
    def from_json(cls, path: Path | str) -> "Front":
        """Read what `to_json` wrote, without the sample scores.

        Raises:
            DataError: If the file is not one of ours.
        """
        return cls(**read_json(Path(path)))

    def plot(self) -> Any:
        """A `plotly.graph_objects.Figure`.

        Two tasks: the front with intervals, hollow where dominated, the knee marked. Three names: the triangle of
        preferences, coloured by a metric that is chosen in a menu. Otherwise parallel coordinates.

        Raises:
            ImportError: If plotly is not installed; the message holds the command.
        """
        return plot_front(self)

    def of(self, metric: Quantity) -> Tensor:
        """[K, T]: the metrics, or the losses."""
        if metric not in ("metric", "loss"):
            raise ValueError(f"metric must be 'metric' or 'loss'. Got {metric!r}.")
        return self.metrics if metric == "metric" else self.losses

    def columns(self) -> dict[str, Tensor]:
        """[K] values by name: "loss/TASK" of every task, then "accuracy/TASK" or "mae/TASK"."""
        losses = {f"loss/{task}": self.losses[:, number] for number, task in enumerate(self.tasks)}
        named = zip(self.metric_names, self.tasks, strict=True)
        return losses | {f"{metric}/{task}": self.metrics[:, number] for number, (metric, task) in enumerate(named)}

    def knob_losses(self) -> Tensor:
        """[K, G] loss of each name: of its task, or the mean over its group's tasks with labels."""
        weights = self.shares.double() * self._known(self.losses)
        parts = (self.losses.unsqueeze(1) * weights).where(weights > 0, 0)  # NaN of another task must not get in
        return parts.sum(-1) / weights.sum(-1)

    def larger_is_better(self, metric: Quantity = "metric") -> list[bool]:
        """The direction of each task's metric, or of the losses."""
        return larger_is_better(self.metric_names) if metric == "metric" else [False] * len(self.tasks)

    def resampled(self, metric: Quantity = "metric", *, draws: int = 1000, seed: int = 0) -> Iterator[Tensor]:
        """Bootstrap draws of `of(metric)`, [d, K, T] at a time, from which any statistic has its interval."""
        scores = self.known_scores()
        return resampled_means(scores.of(metric), scores.labelled, draws=draws, seed=seed)

    def known_scores(self) -> SampleScores:
        """The sample scores.

        Raises:
            ValueError: If the front was read from a file.
        """
        if self.scores is None:
            raise ValueError(
                "This front was read from a file, which holds no sample scores, so no interval can be drawn. Evaluate"
                " the model again: manifold.front(samples)."
            )
        return self.scores

    def _known(self, values: Tensor) -> Tensor:
        """[T]: the task has labels."""
        return ~values.isnan().all(0)
