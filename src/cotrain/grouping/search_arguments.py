"""Checks of a search's arguments before anything is trained: a mistake is told in a second, not after an hour."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import get_args

import numpy as np

from cotrain.grouping.constraints import whole_number
from cotrain.grouping.gains import BoolArray, FloatArray, Groups, membership
from cotrain.grouping.measured_losses import Names
from cotrain.grouping.next_trainings import Acquisition, Wishes
from cotrain.grouping.shortened import Shortened

__all__ = ["check_called", "check_covered", "check_search"]


def check_search(
    tasks: Names, wishes: Wishes, *, trainings: int, batch: int, acquisition: str, tolerance: float
) -> None:
    """Refuse what no training could mend, by a choice among networks that change nothing.

    Floors on gains are left out of it: whether they can be met is what the trainings will tell.

    Raises:
        ValueError: See `search_groups`.
    """
    whole_number("trainings", trainings)
    whole_number("batch", batch)
    if acquisition not in get_args(Acquisition):
        raise ValueError(f"acquisition must be one of {', '.join(get_args(Acquisition))}. Got {acquisition!r}.")
    if not tolerance >= 0:
        raise ValueError(f"tolerance is a share of the choice's own scale, 0 or more. Got {tolerance!r}.")
    constraints = wishes.constraints and replace(wishes.constraints, min_gain=None)
    replace(wishes, constraints=constraints).by_mean(_Unchanged(tasks))


def check_called(train_groups: object, backend: object, shortened: object) -> None:
    """Refuse what cannot be called, which would only show after the first trainings.

    Raises:
        ValueError: If one of them is of another kind.
    """
    if not callable(train_groups):
        raise ValueError(  # noqa: TRY004  # as for every other wrong argument
            "train_groups is a function from groups to losses [groups, tasks]. Got"
            f" {type(train_groups).__name__}: {train_groups!r}."
        )
    if not callable(backend):
        raise ValueError(  # noqa: TRY004
            "backend makes a gain model of a GainTable: a class such as MembershipRidge, or a function. Got"
            f" {type(backend).__name__}. For a model that does not look at the table pass lambda table: model."
        )
    if not isinstance(shortened, Shortened | None):
        raise ValueError(  # noqa: TRY004
            f"shortened is given as Shortened(...). Got {shortened!r}."
        )


def check_covered(tasks: Names, groups: Iterable[Names], trainings: int) -> None:
    """Refuse first groups that do not hold every task: nothing could be said about one that is in none.

    Raises:
        ValueError: If a task is in none of them.
    """
    missing = sorted(set(tasks).difference(*groups))
    if missing:
        raise ValueError(
            f"trainings={trainings} is too few: the first groups to train leave out {', '.join(missing)}."
            f" Allow {len(tasks)} or more, or pass the losses of the tasks alone as known=..."
        )


class _Unchanged:
    """The gains of networks before anything is known: 0 for all, with losses of 1."""

    def __init__(self, tasks: Names) -> None:
        self.tasks = tasks
        self.single_losses: FloatArray = np.ones(len(tasks))

    def predict(self, groups: Groups) -> tuple[FloatArray, FloatArray]:
        gains = np.where(membership(groups, self.tasks), 0.0, np.nan)
        return gains, gains.copy()

    def measured(self, groups: Groups) -> BoolArray:
        return np.zeros(len(groups), dtype=np.bool_)
