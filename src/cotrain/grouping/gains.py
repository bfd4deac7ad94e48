"""What a gain model is: anything that can say what a group of tasks does to each of its members."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import compress
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float64]
BoolArray: TypeAlias = NDArray[np.bool_]

Groups: TypeAlias = Sequence[Collection[str]]
"""Groups of tasks: each is a collection (tuple, set, list) of task names, in any order."""


@runtime_checkable
class GainModel(Protocol):
    """Predicts the gain of every task in any group.

    The gain of task t in group S is `1 - L_t(S) / L_t({t})`, with L the held-out loss: 0 is as good as training
    t alone, 0.1 means that its loss falls by 10 %. A model that knows the loss `L_t({t})` of every task may offer
    it as an attribute `single_losses` [T]; `select_groups` can then minimise the sum of losses. A model of scores,
    which rank groups but are no gains, says so by an attribute `unit` = "score".
    """

    @property
    def tasks(self) -> tuple[str, ...]:
        """The T tasks, in the order of the columns of every array."""
        ...

    def predict(self, groups: Groups) -> tuple[FloatArray, FloatArray]:
        """Gains of n groups.

        Returns:
            mean [n, T] and std [n, T]: the gain and its standard deviation over new trainings of the same group;
            NaN where the task is not in the group.
        """
        ...

    def measured(self, groups: Groups) -> BoolArray:
        """[n], whether the mean of each group is a measurement and not a prediction."""
        ...


class ListedGroups(tuple[tuple[str, ...], ...]):
    """Groups that keep their 0/1 table, which `membership` then only puts in order.

    A search asks many models, and each many times, about all groups of up to 14 tasks: with plain tuples it spent a
    fifth of its time on putting the same table together.

    Attributes:
        members: [n, T], whether the task is in the group.
        tasks: The T tasks.
    """

    members: BoolArray
    tasks: tuple[str, ...]

    @classmethod
    def of(cls, members: BoolArray, tasks: Sequence[str]) -> ListedGroups:
        """The groups of a table [n, T], none of them empty."""
        groups = cls(tuple(compress(tasks, row)) for row in members.tolist())
        groups.members, groups.tasks = members, tuple(tasks)
        return groups


def membership(groups: Groups, tasks: Sequence[str]) -> BoolArray:
    """Groups as a 0/1 table.

    Args:
        groups: n non-empty groups of task names.
        tasks: The T known tasks.

    Returns:
        [n, T], whether the task is in the group.

    Raises:
        ValueError: If a group is empty, is a bare string, names a task twice or names an unknown task.
    """
    if isinstance(groups, ListedGroups) and set(groups.tasks) == set(tasks):
        return groups.members[:, [groups.tasks.index(task) for task in tasks]]
    column = {task: j for j, task in enumerate(tasks)}
    members = np.zeros((len(groups), len(column)), dtype=np.bool_)
    rows: list[int] = []
    columns: list[int] = []
    for row, group in enumerate(groups):
        if isinstance(group, str) or len(group) == 0:
            raise ValueError(
                f"A group must be a non-empty tuple or set of task names. Got {group!r}. Write ('a', 'b'),"
                " or ('a',) for a task alone."
            )
        try:
            columns.extend([column[task] for task in group])
        except KeyError as error:
            raise ValueError(
                f"Group {group_name(group)} names the unknown task {error.args[0]!r}. Known tasks: {', '.join(tasks)}."
            ) from None
        rows.extend([row] * len(group))
    members[rows, columns] = True
    repeated = members.sum(axis=1) != np.fromiter(map(len, groups), dtype=np.intp, count=len(groups))
    if repeated.any():
        raise ValueError(f"Group {group_name(groups[int(repeated.argmax())])} names a task twice. Name each once.")
    return members


def check_tasks(tasks: Iterable[str]) -> tuple[str, ...]:
    """Task names as a tuple.

    Raises:
        ValueError: If there are fewer than 2, a name is empty, or a name is used twice.
    """
    names = tuple(tasks)
    if len(names) < 2:
        raise ValueError(f"Grouping needs at least 2 tasks. Got {len(names)}: {', '.join(names) or 'none'}.")
    if not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"Every task needs a name that is a non-empty string. Got {names!r}.")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"Task names must differ. Got {twice!r} twice. Rename one of them.")
    return names


def check_model(gains: object) -> tuple[str, ...]:
    """The tasks of a gain model.

    Raises:
        ValueError: If it is none, as an affinity by itself or a matrix is none, or `check_tasks` refuses its tasks.
    """
    if not isinstance(gains, GainModel):
        remedy = "PairMean(affinity)" if hasattr(gains, "matrix") else "PairMean(matrix, tasks)"
        raise ValueError(  # noqa: TRY004  # as for every other wrong argument
            f"A gain model is needed, something that has tasks, predict and measured. Got {type(gains).__name__}. Of"
            f" pairwise effects {remedy} makes one, of trained groups GainTable."
        )
    return check_tasks(gains.tasks)


def by_name(values: Any) -> Any:
    """What a pandas Series holds, as a dict, so that it is not taken by position; everything else as it is."""
    return dict(values.items()) if hasattr(values, "items") and not isinstance(values, Mapping) else values


def group_name(group: Collection[str]) -> str:
    """A group as it is written in tables and messages: its task names joined by `+`."""
    return "+".join(group)
