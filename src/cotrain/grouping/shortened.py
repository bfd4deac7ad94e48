"""Shortened trainings in a search: what a group shows after a part of its training, and what that is worth."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from math import floor
from pathlib import Path

from cotrain.grouping.backends import Backend
from cotrain.grouping.calibrated_gains import CalibratedGains
from cotrain.grouping.constraints import whole_number
from cotrain.grouping.gains import GainModel
from cotrain.grouping.measured_losses import MeasuredLosses, Names, TrainGroups
from cotrain.grouping.stacked_gains import StackedGains
from cotrain.grouping.table import GainTable

__all__ = ["SearchTrainings", "Shortened"]

ROUNDING = 1e-9
"""Ten trainings of price .1 are one training, whatever their sum in floating point."""

FIRST_SHARE = 0.5
"""Of the trainings beyond the tasks alone that shortened ones may take before the first choice."""


@dataclass(frozen=True)
class Shortened:
    """Trainings that stop early, by which a search tells which groups deserve a full one (early stop, ESA).

    Attributes:
        train_groups: As that of the search, for a part of the training. Every group that is trained in full is
            trained shortly first, and the full training is to go on where the shortened one stopped, as a fleet does
            with its checkpoint: together they count as one training.
        price: What a shortened training that is not gone on with counts, in full trainings; above 0 and below 1.
        groups: How many groups are tried shortly before each choice of what to train in full.

    Raises:
        ValueError: If the price or the number is out of range.
    """

    train_groups: TrainGroups
    price: float
    groups: int = 4

    def __post_init__(self) -> None:
        if not 0 < self.price < 1:
            raise ValueError(
                f"price is what a shortened training costs of a full one, between 0 and 1. Got {self.price!r}."
            )
        whole_number("groups", self.groups)


class SearchTrainings:
    """The full trainings of a search and, if wanted, the shortened ones: losses, price, and the model of both.

    Attributes:
        full: The losses of full trainings.
    """

    def __init__(
        self,
        tasks: Names,
        train_groups: TrainGroups,
        known: GainTable | None,
        log: str | os.PathLike[str] | None,
        shortened: Shortened | None,
    ) -> None:
        """Takes the arguments of `search_groups`; the log of shortened trainings stands beside that of full ones."""
        self.full = MeasuredLosses(tasks, train_groups, known, log)
        self._shortened = shortened
        self._short: MeasuredLosses | None = None
        if shortened is not None:
            path = None if log is None else Path(log)
            beside = None if path is None else path.with_name(f"{path.stem}-shortened{path.suffix}")
            self._short = MeasuredLosses(tasks, shortened.train_groups, None, beside)

    @property
    def only_shortened(self) -> tuple[Names, ...]:
        """The groups that had a shortened training and no full one."""
        return () if self._short is None else tuple(group for group in self._short.groups if group not in self.full)

    @property
    def spent(self) -> float:
        """What all trainings cost, in full ones."""
        price = 0.0 if self._shortened is None else self._shortened.price
        return self.full.spent + price * len(self.only_shortened)

    def left(self, trainings: int) -> int:
        """How many full trainings can still be paid."""
        return floor(trainings - self.spent + ROUNDING)

    def first_groups(self, left: int, *, shortly: bool) -> int:
        """How many groups to begin with: `left` full ones, or as many shortened ones as half of that pays."""
        if self._shortened is None or not shortly:
            return left
        return floor(FIRST_SHARE * left / self._shortened.price + ROUNDING)

    def to_try(self, trainings: int) -> int:
        """How many groups to try shortly now: as many as leave one full training."""
        if self._shortened is None:
            return 0
        affordable = floor((trainings - 1 - self.spent) / self._shortened.price + ROUNDING)
        return max(0, min(self._shortened.groups, affordable))

    def train(self, groups: Iterable[Names]) -> list[Names]:
        """Trains those in full that were not; returns them."""
        new = [group for group in groups if group not in self.full]
        self.try_shortly(new)
        return self.full.train(new)

    def try_shortly(self, groups: Iterable[Names]) -> list[Names]:
        """Trains those shortly that were not tried or trained; returns them."""
        return [] if self._short is None else self._short.train(group for group in groups if group not in self.full)

    def model(self, backend: Backend) -> GainModel:
        """The gain model of all trainings so far.

        A back-end that is fitted to the shortened gains is a score: `CalibratedGains` makes gains of it by the groups
        that were trained in full. Stacking decides how much it counts beside the back-end fitted to these alone. On
        three published tables a gain after a fifth of the training correlates with the later one by .65, .21 and .23.
        """
        table = self.full.table()
        if self._short is None or not set(self.full.tasks) <= {task for group in self._short.groups for task in group}:
            return backend(table)
        score = backend(self._short.table())
        return StackedGains(table, {"full": backend, "shortened": partial(CalibratedGains, score=score)})
