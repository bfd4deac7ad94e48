"""Constraints as a program reads them: which columns may be chosen, which tasks they may serve, and further rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from cotrain.grouping.candidates import Pool
from cotrain.grouping.constraints import Constraints, contradiction, named
from cotrain.grouping.gains import BoolArray, FloatArray
from cotrain.grouping.program import SLACK, Program, Rows

__all__ = ["Requirement", "allowed_columns", "check_named_tasks", "requirements", "restricted_program"]


@dataclass(frozen=True)
class Requirement:
    """One constraint by itself, so that those which contradict each other can be found and named.

    Attributes:
        name: As it is written in a message.
        columns: [n], which candidates it allows.
        pairs: [n, T], which tasks it allows each to serve.
        rows: What it adds to the program.
        disjoint: See `Program`.
        each_serves: See `Program`.
        resource: Which column of `Pool.used` it limits.
    """

    name: str
    columns: BoolArray | None = None
    pairs: BoolArray | None = None
    rows: Rows | None = None
    disjoint: bool = False
    each_serves: bool = False
    resource: int | None = None


def allowed_columns(constraints: Constraints, tasks: Sequence[str], members: BoolArray) -> list[Requirement]:
    """What sizes and links allow of the groups [n, T], whatever they are worth; columns as `tasks`."""
    place = {task: j for j, task in enumerate(tasks)}
    size = members.sum(axis=1)
    found = []
    if constraints.min_size > 1:
        found.append(Requirement(f"min_size={constraints.min_size}", columns=np.asarray(size >= constraints.min_size)))
    if constraints.max_size is not None:
        found.append(Requirement(f"max_size={constraints.max_size}", columns=np.asarray(size <= constraints.max_size)))
    for block in constraints.blocks:
        inside = members[:, [place[task] for task in block]]
        found.append(
            Requirement(named("must_link", block), columns=np.asarray(inside.all(axis=1) | ~inside.any(axis=1)))
        )
    for pair in sorted({pair for group in constraints.cannot_link for pair in combinations(sorted(group), 2)}):
        together = members[:, [place[task] for task in pair]].all(axis=1)
        found.append(Requirement(named("cannot_link", pair), columns=np.asarray(~together)))
    return found


def requirements(constraints: Constraints, pool: Pool, gains: FloatArray) -> list[Requirement]:
    """All constraints on the candidates of a pool; `gains` [n, T] are those that floors are compared with."""
    n, n_tasks = pool.members.shape
    found = allowed_columns(constraints, pool.tasks, pool.members)
    if constraints.served_alone:
        shared = pool.members.sum(axis=1) > 1
        alone = np.array([task in constraints.served_alone for task in pool.tasks])
        found.append(Requirement(named("served_alone", constraints.served_alone), pairs=~np.outer(shared, alone)))
    for j, task in enumerate(pool.tasks):
        floor = constraints.floor(task)
        if floor is not None:
            pairs = np.ones((n, n_tasks), dtype=np.bool_)
            pairs[:, j] = np.nan_to_num(gains[:, j], nan=-np.inf) >= floor - SLACK
            found.append(Requirement(f"min_gain={floor:g} of task {task}", pairs=pairs))
    for number, resource in enumerate(constraints.resources):
        rows = Rows.scaled(pool.used.T[[number]], np.array([resource.limit]))
        found.append(Requirement(str(resource), rows=rows, resource=number))
    if constraints.networks_per_task is not None:
        most = constraints.networks_per_task
        rows = Rows.scaled(pool.members.T.astype(np.float64), np.full(n_tasks, float(most)))
        found.append(Requirement(f"networks_per_task={most}", rows=rows))
    if constraints.n_networks is not None:
        count = float(constraints.n_networks)
        rows = Rows.scaled(np.array([np.ones(n), -np.ones(n)]), np.array([count, -count]))
        found.append(Requirement(f"n_networks={constraints.n_networks}", rows=rows, each_serves=True))
    if not constraints.helpers:
        found.append(Requirement("helpers=False", disjoint=True))
    return found


def restricted_program(
    worth: FloatArray, pool: Pool, budget: float, kept: Sequence[Requirement]
) -> tuple[Program, NDArray[np.intp]]:
    """The program of a pool under some of its requirements, over the columns that can serve at all; and which."""
    able = np.isfinite(worth)
    disjoint = any(each.disjoint for each in kept)
    for each in kept:
        if each.columns is not None:
            able &= each.columns[:, None]
        if each.pairs is not None:
            able &= each.pairs
    if disjoint:
        able &= (able == pool.members).all(axis=1)[:, None]
    alive = np.flatnonzero(able.any(axis=1))
    rows = [each.rows for each in kept if each.rows is not None]
    program = Program(
        np.where(able, worth, -np.inf)[alive],
        pool.cost[alive],
        budget,
        Rows(np.concatenate([each.each[:, alive] for each in rows]), np.concatenate([each.limit for each in rows]))
        if rows
        else None,
        disjoint=disjoint,
        each_serves=any(each.each_serves for each in kept) and not disjoint,
    )
    return program, alive


def check_named_tasks(constraints: Constraints, tasks: Sequence[str], budget: float, *, counts_networks: bool) -> None:
    """Refuses what can be seen from the tasks and the budget alone.

    Raises:
        ValueError: If a task is unknown, or the number of networks contradicts the tasks, the sizes or the budget.
    """
    unknown = constraints.named_tasks() - set(tasks)
    if unknown:
        raise ValueError(
            f"The constraints name the unknown task {min(unknown)!r}. Known tasks: {', '.join(sorted(tasks))}."
        )
    exactly = constraints.n_networks
    if exactly is None:
        return
    name = f"n_networks={exactly}"
    if exactly > len(tasks):
        raise contradiction([name, f"the number of tasks, {len(tasks)},"], ", as each network serves a task")
    if constraints.max_size is not None and exactly * constraints.max_size < len(tasks):
        raise contradiction([name, f"max_size={constraints.max_size}"], f" for {len(tasks)} tasks")
    if counts_networks and exactly - len(set(map(frozenset, constraints.trained))) > budget:
        raise contradiction([name, f"budget={budget:g}"])
