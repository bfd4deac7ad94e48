"""The control beside every selection: as many networks, with chance deciding who trains with whom."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from cotrain.grouping.gains import BoolArray, check_tasks
from cotrain.grouping.grouping import Group, Grouping


def random_like(grouping: Grouping, rng: np.random.Generator) -> Grouping:
    """The same grouping with its tasks' names permuted, every permutation equally likely.

    Group sizes, overlaps, helpers and costs stay as they are, so it takes the same budget and the same trainings,
    and only the choice of who trains with whom is left to chance. It can return the grouping it was given (always
    for single tasks alone and for all in one): there, no choice was made that could be checked.

    Args:
        grouping: What to imitate.
        rng: Decides the permutation.

    Returns:
        A `Grouping` without a value, status "random".
    """
    tasks = grouping.tasks
    renamed = dict(zip(tasks, (tasks[i] for i in rng.permutation(len(tasks))), strict=True))
    groups = tuple(
        Group(
            trains=tuple(renamed[task] for task in group.trains),
            serves=tuple(renamed[task] for task in group.serves),
            cost=group.cost,
            label=group.label,
        )
        for group in grouping.groups
    )
    return Grouping(groups, status="random", solver="random names", budget=grouping.budget)


def random_cover(tasks: Iterable[str], n_networks: int, rng: np.random.Generator) -> Grouping:
    """A set of different groups that covers all tasks, every such set equally likely.

    Unlike `random_like` it imitates nothing: for a few networks its groups hold about half of the tasks. A task that
    is in several groups is served by any of them with equal chance; once they are trained, `serve_groups` lets the
    best one serve it.

    Args:
        tasks: T names.
        n_networks: How many groups, 1 to 2^T - 1.
        rng: Decides the groups.

    Returns:
        A `Grouping` without a value, status "random". A group can happen to serve nobody.

    Raises:
        ValueError: If there are not that many different groups.
    """
    names = check_tasks(tasks)
    if not 1 <= n_networks < 2 ** len(names):
        raise ValueError(
            f"{len(names)} tasks have {2 ** len(names) - 1} different groups. Got n_networks={n_networks}."
        )
    members = _draw(len(names), n_networks, rng)
    while not (members.any(axis=0).all() and members.any(axis=1).all() and _all_differ(members)):
        members = _draw(len(names), n_networks, rng)
    server = np.where(members, rng.random(members.shape), -1.0).argmax(axis=0)
    groups = tuple(
        Group(
            trains=tuple(names[j] for j in np.flatnonzero(row)),
            serves=tuple(names[j] for j in np.flatnonzero(server == i)),
        )
        for i, row in enumerate(members)
    )
    return Grouping(groups, status="random", solver="random cover", budget=float(n_networks))


def _draw(n_tasks: int, n_networks: int, rng: np.random.Generator) -> BoolArray:
    """[n_networks, n_tasks]. Uniform over a set that holds every cover; rejection then leaves the covers uniform."""
    if n_networks <= n_tasks or n_tasks > 20:
        # A task is in a uniformly drawn non-empty set of networks: all tasks are covered by construction, and few
        # draws have an empty network or two equal ones.
        members = rng.random((n_networks, n_tasks)) < 0.5
        while not (covered := members.any(axis=0)).all():
            members[:, ~covered] = rng.random((n_networks, int((~covered).sum()))) < 0.5
        return members
    # Many networks for few tasks: all differ by construction, and few draws leave a task out.
    codes = rng.choice(2**n_tasks - 1, size=n_networks, replace=False) + 1
    return (codes[:, None] >> np.arange(n_tasks) & 1).astype(np.bool_)


def _all_differ(members: BoolArray) -> bool:
    return len(np.unique(members, axis=0)) == len(members)
