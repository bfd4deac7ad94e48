"""The candidate networks that a selection compares, with their gains and costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from cotrain.grouping.constraints import Resource
from cotrain.grouping.costs import Costs, CostTable
from cotrain.grouping.gains import BoolArray, FloatArray, GainModel, Groups, ListedGroups, group_name, membership
from cotrain.grouping.table import GainTable

__all__ = ["Candidate", "Costs", "Pool", "Valuer", "first_groups", "in_order", "listed_groups", "merge", "take"]

MOST_LISTED = 2**15
"""All groups are listed up to this number: every T <= 15, and larger T under a small enough `max_size`."""

MOST_TASKS_FOR_PAIRS = 60
"""Up to this T every pair is a candidate, even where not all groups can be listed."""


@dataclass(frozen=True)
class Candidate:
    """A network outside the gain model, such as a smaller single-task network.

    Attributes:
        trains: The tasks that it is trained on.
        gains: The gain of each of them, over the same usual single-task network as all other gains.
        cost: What it takes of the budget.
        label: What kind of network it is, for the report.
        measured: Whether the gains are measurements.
        resources: What it takes of each `Resource` of the constraints, by name.
    """

    trains: tuple[str, ...]
    gains: Mapping[str, float]
    cost: float
    label: str
    measured: bool = True
    resources: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Pool:
    """n candidates over T tasks, in the order of size, then names: the last criterion of a tie.

    Attributes:
        tasks: The T task names in alphabetical order, so that the order of the caller's tasks changes nothing.
        members: [n, T].
        mean: [n, T], the gains; NaN where the task is not in the group.
        std: [n, T], their standard deviations.
        cost: [n].
        used: [n, R], what each takes of each resource.
        measured: [n].
        labels: [n], the kind of network.
    """

    tasks: tuple[str, ...]
    members: BoolArray
    mean: FloatArray
    std: FloatArray
    cost: FloatArray
    used: FloatArray
    measured: BoolArray
    labels: NDArray[np.str_]

    def names(self, row: int) -> tuple[str, ...]:
        """The tasks of one candidate."""
        return tuple(self.tasks[j] for j in np.flatnonzero(self.members[row]))


@dataclass(frozen=True)
class Valuer:
    """Values groups: asks the gain model, checks its answer, and looks up the costs.

    Attributes:
        gains: The gain model.
        costs: See `Costs`; a group that is absent costs 1. None: every network costs 1.
        kappa: Whether standard deviations are used (above 0), and so must be finite.
        max_size: The most tasks that a network may train; None: no limit.
        resources: What else is counted.
        trained: Groups whose network is there already and costs nothing.
    """

    gains: GainModel
    costs: Costs | None
    kappa: float
    max_size: int | None
    resources: Sequence[Resource] = ()
    trained: frozenset[frozenset[str]] = frozenset()
    _cost: CostTable = field(init=False, repr=False)
    _used: tuple[CostTable, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        tasks = self.gains.tasks
        object.__setattr__(self, "_cost", CostTable(self.costs, tasks))
        used = tuple(CostTable(each.costs, tasks, what=each.name, absent=None) for each in self.resources)
        object.__setattr__(self, "_used", used)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks in alphabetical order."""
        return tuple(sorted(self.gains.tasks))

    def value(self, members: BoolArray) -> Pool:
        """The pool of the given groups: [n, T], columns as `tasks`, as `in_order` returns them."""
        tasks = self.tasks
        names = ListedGroups.of(members, tasks)
        mean, std = self.gains.predict(names)
        place = np.argsort(np.array(self.gains.tasks))
        mean, std = np.asarray(mean, dtype=np.float64), np.asarray(std, dtype=np.float64)
        for table, what in ((mean, "gain"), (std, "std")):
            if table.shape != members.shape:
                raise ValueError(
                    f"predict must return a {what} table of [groups, tasks] = {list(members.shape)}."
                    f" Got {list(table.shape)}."
                )
        mean, std = mean[:, place], std[:, place]
        _refuse_not_finite(mean, members, names, tasks, "gain")
        if self.kappa > 0:
            _refuse_not_finite(std, members, names, tasks, "std")
        cost = np.array([0.0 if frozenset(group) in self.trained else self._cost(group) for group in names])
        used = np.array([[table(group) for table in self._used] for group in names])
        return Pool(
            tasks,
            members,
            np.where(members, mean, np.nan),
            np.where(members, std, np.nan),
            cost,
            used.reshape(len(names), len(self._used)),
            np.asarray(self.gains.measured(names), dtype=np.bool_),
            np.full(len(names), "", dtype=np.str_),
        )

    def with_extra(self, pool: Pool, extra: Iterable[Candidate]) -> Pool:
        """The pool with further networks; of equals the pool's own stands first.

        Raises:
            ValueError: If a candidate's gains are not one finite number for each of its tasks, a cost is negative,
                or it does not say what it takes of a resource.
        """
        added = list(extra)
        if not added:
            return pool
        members = membership([candidate.trains for candidate in added], pool.tasks)
        mean = np.full(members.shape, np.nan)
        for row, candidate in enumerate(added):
            if set(candidate.gains) != set(candidate.trains):
                raise ValueError(
                    f"Candidate {group_name(candidate.trains)} needs one gain for each of its tasks."
                    f" Got gains of {', '.join(candidate.gains) or 'none'}."
                )
            mean[row, members[row]] = [candidate.gains[task] for task in pool.tasks if task in candidate.gains]
        _refuse_not_finite(mean, members, [candidate.trains for candidate in added], pool.tasks, "gain")
        further = Pool(
            pool.tasks,
            members,
            mean,
            np.where(members, 0.0, np.nan),
            np.array([self._cost.checked(candidate.cost, candidate.trains) for candidate in added]),
            np.array([self._taken(candidate) for candidate in added]).reshape(len(added), len(self._used)),
            np.array([candidate.measured for candidate in added]),
            np.array([candidate.label for candidate in added], dtype=np.str_),
        )
        both = _stacked([pool, further])
        return take(both, np.lexsort((*(~both.members).T[::-1], both.members.sum(axis=1))))

    def _taken(self, candidate: Candidate) -> list[float]:
        taken = []
        for resource, table in zip(self.resources, self._used, strict=True):
            if resource.name not in candidate.resources:
                raise ValueError(
                    f"Candidate {group_name(candidate.trains)} does not say what it takes of {resource.name!r}."
                    f" Pass Candidate(..., resources={{{resource.name!r}: ...}})."
                )
            taken.append(table.checked(candidate.resources[resource.name], candidate.trains))
        return taken


def listed_groups(gains: GainModel, max_size: int | None, further: Groups = ()) -> BoolArray | None:
    """All groups that may be chosen, [n, T] with columns in alphabetical order; None if there are too many to list.

    For a `GainTable` these are the measured groups, every task alone and the further groups; for a model that
    predicts, all groups.
    """
    tasks = tuple(sorted(gains.tasks))
    largest = len(tasks) if max_size is None else min(max_size, len(tasks))
    if isinstance(gains, GainTable):
        measured = membership([*gains.groups, *further], tasks)
        members = np.concatenate([np.eye(len(tasks), dtype=np.bool_), measured])
        return in_order(members[members.sum(axis=1) <= largest])
    if sum(comb(len(tasks), size) for size in range(1, largest + 1)) > MOST_LISTED:
        return None
    return np.concatenate([_of_size(len(tasks), size) for size in range(1, largest + 1)])


def first_groups(gains: GainModel, max_size: int | None, further: Groups = ()) -> BoolArray:
    """Where to start when not all groups can be listed, [n, T] with columns in alphabetical order.

    Every task alone, all tasks together, all pairs (up to 60 tasks), around every task the tasks that go best with
    it in pairs, in growing numbers, the rest of the tasks for each of these, and partitions into groups of such
    sizes, so that a budget of `T / max_size` networks is enough; none is larger than `max_size`. And the further
    groups, of any size.
    """
    tasks = tuple(sorted(gains.tasks))
    count = len(tasks)
    largest = count if max_size is None else min(max_size, count)
    pairs = _of_size(count, 2)
    mean, _ = gains.predict([(tasks[i], tasks[j]) for i, j in map(np.flatnonzero, pairs)])
    mutual = np.full((count, count), np.inf)
    first, second = np.triu_indices(count, 1)
    mutual[first, second] = mutual[second, first] = np.nansum(mean, axis=1)
    rank = np.argsort(np.argsort(-mutual, axis=1, kind="stable"), axis=1)
    sizes = np.unique(np.geomspace(1, largest, num=12).round().astype(np.intp))
    around = np.concatenate([rank < size for size in sizes])
    rest = ~around[((~around).sum(axis=1) >= 1) & ((~around).sum(axis=1) <= largest)]
    parts = [_partition(rank, int(size)) for size in sizes]
    everything = [np.ones((1, count), dtype=np.bool_)] if largest == count else []
    listed = [pairs] if count <= MOST_TASKS_FOR_PAIRS and largest >= 2 else []
    given = membership(tuple(map(tuple, further)), tasks)
    return in_order(np.concatenate([around, rest, *parts, *listed, *everything, given]))


def in_order(members: BoolArray) -> BoolArray:
    """The different rows of [n, T], by size, then by names (columns stand in alphabetical order)."""
    return members[_first_in_order(members)]


def take(pool: Pool, rows: NDArray[np.intp] | BoolArray) -> Pool:
    """Some candidates of a pool, in the given order."""
    return Pool(pool.tasks, *(getattr(pool, name)[rows] for name in _COLUMNS))


def merge(pools: Sequence[Pool]) -> Pool:
    """The candidates of several pools without extra networks; a group is kept once."""
    both = _stacked(pools)
    return take(both, _first_in_order(both.members))


def _stacked(pools: Sequence[Pool]) -> Pool:
    return Pool(pools[0].tasks, *(np.concatenate([getattr(pool, name) for pool in pools]) for name in _COLUMNS))


_COLUMNS = ("members", "mean", "std", "cost", "used", "measured", "labels")


def _partition(rank: NDArray[np.intp], size: int) -> BoolArray:
    """[k, T], groups of `size` tasks: the first task that is left with those left that it ranks [T, T] first."""
    left = np.ones(len(rank), dtype=np.bool_)
    parts = []
    while left.any():
        place = np.where(left, rank[int(left.argmax())], len(rank))
        parts.append(left & (place <= np.sort(place)[size - 1]))
        left &= ~parts[-1]
    return np.array(parts)


def _first_in_order(members: BoolArray) -> NDArray[np.intp]:
    """Where each different row stands first, by size, then by names."""
    _, first = np.unique(np.packbits(members, axis=1), axis=0, return_index=True)
    first = first[::-1]
    return first[np.argsort(members[first].sum(axis=1), kind="stable")]


def _of_size(count: int, size: int) -> BoolArray:
    """[n, count], all groups of one size, by names."""
    chosen = np.array(list(combinations(range(count), size)), dtype=np.intp)
    members = np.zeros((len(chosen), count), dtype=np.bool_)
    members[np.arange(len(chosen))[:, None], chosen] = True
    return members


def _refuse_not_finite(
    table: FloatArray, members: BoolArray, groups: Groups, tasks: tuple[str, ...], what: str
) -> None:
    wrong = members & ~np.isfinite(table)
    if wrong.any():
        row, j = np.argwhere(wrong)[0]
        raise ValueError(
            f"The {what} of task {tasks[j]!r} in group {group_name(groups[row])} is not a finite number."
            f" Got {table[row, j]}. Measure it, or leave the group out."
        )
