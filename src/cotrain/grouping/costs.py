"""What a network takes of a budget or of a resource, looked up by its group of tasks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import SupportsFloat, TypeAlias

import numpy as np

from cotrain.grouping.gains import by_name, group_name, membership

Costs: TypeAlias = Mapping[Collection[str], float] | Callable[[tuple[str, ...]], float]
"""What a group takes: by group (names joined by `+`, tuple or frozenset; also a pandas Series), or a function of the
tuple of names."""


class CostTable:
    """Looks up what groups take, and refuses what is no cost."""

    def __init__(self, costs: Costs | None, tasks: tuple[str, ...], *, what: str = "", absent: float | None = 1.0):
        """Takes the costs as the caller wrote them.

        Args:
            costs: See `Costs`; None: 1 for every group.
            tasks: The known tasks.
            what: What is counted, for messages; empty for the budget.
            absent: What a group takes that a mapping does not hold; None: it must hold every group.

        Raises:
            ValueError: If it is neither a mapping nor a function, or a mapping names an unknown task, or holds a cost
                that is not finite or below 0.
        """
        costs = by_name(costs)
        if not (costs is None or callable(costs) or isinstance(costs, Mapping)):
            raise ValueError(
                f"{what or 'The'} costs are a mapping by group, or a function of a group. Got {type(costs).__name__}."
                " Write {'a+b': 2.0}, or lambda group: 1.0 + len(group)."
            )
        self._function = costs if callable(costs) else None
        self._what = f"The {what} cost" if what else "The cost"
        self._absent = 1.0 if costs is None else absent
        self._cost_of: dict[frozenset[str], float] = {}
        if isinstance(costs, Mapping):
            for key, cost in costs.items():
                self._cost_of[group_of(key, tasks)] = self.checked(cost, key)

    def __call__(self, group: tuple[str, ...]) -> float:
        """What one group takes."""
        if self._function is not None:
            return self.checked(self._function(group), group)
        cost = self._cost_of.get(frozenset(group), self._absent)
        if cost is None:
            raise ValueError(
                f"{self._what} of group {group_name(group)} is not given. Give one for every candidate group,"
                " or a function of the group."
            )
        return cost

    def checked(self, cost: float, group: Collection[str]) -> float:
        """The cost, refused if it is not a finite number of at least 0."""
        if not isinstance(cost, SupportsFloat) or not (np.isfinite(float(cost)) and cost >= 0):
            name = group if isinstance(group, str) else group_name(group)
            raise ValueError(f"{self._what} of group {name} must be a finite number, 0 or more. Got {cost!r}.")
        return float(cost)


def group_of(key: Collection[str], tasks: tuple[str, ...]) -> frozenset[str]:
    """The group that a mapping's key names: a tuple, a frozenset, or names joined by `+`."""
    if isinstance(key, str):
        key = (key,) if key in tasks else tuple(key.split("+"))
    membership([key], tasks)
    return frozenset(key)
