"""What a preference is over: the tasks themselves, or a few groups of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from cotrain.task import TaskSet

__all__ = ["MOST_KNOBS", "Groups", "Knobs", "knobs_of"]

MOST_KNOBS = 5
"""Beyond, random preferences no longer come near a corner: with 20 the largest share is above .9 in none of 50,000."""


class _Group(Protocol):
    @property
    def serves(self) -> tuple[str, ...]: ...


class _Grouping(Protocol):
    @property
    def groups(self) -> Sequence[_Group]: ...


Groups: TypeAlias = Mapping[str, Sequence[str]] | _Grouping
"""{group name: task names}, or a `cotrain.grouping.Grouping`, of which each group's served tasks count."""


@dataclass(frozen=True)
class Knobs:
    """The entries of a preference.

    Args:
        names: K names, of tasks or groups.
        shares: [K, T], how a knob's weight is spread over the tasks; rows sum to 1.
    """

    names: tuple[str, ...]
    shares: Tensor

    def task_weights(self, preferences: Tensor) -> Tensor:
        """[n, T] weights of the tasks' losses from preferences [n, K]."""
        return preferences @ self.shares.to(preferences)


def knobs_of(tasks: TaskSet, groups: Groups | None) -> Knobs:
    """One knob per task, or one per group, whose weight is spread evenly over its tasks.

    Args:
        tasks: T tasks.
        groups: A partition of the tasks; None for one knob per task.

    Raises:
        ValueError: If a task is in no group or in two, a group is empty, or a name is unknown.
    """
    if groups is None:
        return Knobs(tasks.names, torch.eye(len(tasks)))
    if isinstance(groups, Mapping):
        parts = {name: tuple(members) for name, members in groups.items()}
    else:
        parts = {"+".join(group.serves): tuple(group.serves) for group in groups.groups if group.serves}
    placed = [name for members in parts.values() for name in members]
    unknown = [name for name in placed if name not in tasks.names]
    wrong = [name for name in tasks.names if placed.count(name) != 1]
    empty = [name for name, members in parts.items() if not members]
    if unknown or wrong or empty:
        raise ValueError(
            f"Groups of a preference must hold each of the tasks {list(tasks.names)} exactly once."
            + (f" Unknown: {unknown}." if unknown else "")
            + (f" Missing, or in several groups: {wrong}." if wrong else "")
            + (f" Without a task: {empty}." if empty else "")
        )
    shares = torch.zeros(len(parts), len(tasks))
    for row, members in zip(shares, parts.values(), strict=True):
        row[[tasks.names.index(name) for name in members]] = 1 / len(members)
    return Knobs(tuple(parts), shares)
