"""Find good disjoint groups when there are too many to list: merge, move and exchange tasks between groups."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from cotrain.grouping.appraisal import Appraisal
from cotrain.grouping.candidates import Candidate, Pool, Valuer, first_groups, in_order, merge, take
from cotrain.grouping.gains import BoolArray, FloatArray
from cotrain.grouping.geometry import IntArray
from cotrain.grouping.legal_groups import legal, repaired, task_blocks
from cotrain.grouping.program import SLACK, Program

__all__ = ["best_allowed", "good_partitions", "partition_pool"]

RANDOM_STARTS = 6
"""Random partitions that are improved beside the single tasks and all in one."""

MOST_CANDIDATES = 5_000
"""The pool keeps at most this many groups beside the first and the final ones: those of the largest mean worth."""

MOST_BLOCKS_TO_SWAP = 40
"""Exchanges are quadratic in number; for more tasks two moves have to do."""

NOT_ALLOWED = -1e12
"""What a group counts as that the constraints forbid: no sum of worths makes up for it."""

LEAST_RISE = 1e-9
"""An improvement by less, as a share of the largest worth, is that of rounding."""


def partition_pool(
    valuer: Valuer,
    appraisal: Appraisal,
    budget: float,
    extra: Sequence[Candidate],
    deadline: float,
) -> tuple[Pool, IntArray | None]:
    """The groups that a local search over partitions looks at, with the extra networks, and where the best ones stand.

    From the single tasks, from all in one and from random partitions, the best of all merges, moves of one task and
    exchanges of two is made, until none raises the total worth. The program that then chooses among all groups that
    were looked at can combine those of several partitions, and starts from the best of them that is within all limits
    (None if none is). The same input gives the same pool, unless the time runs out.

    Args:
        valuer: Values groups.
        appraisal: Says what candidates are worth, and which resources they take.
        budget: The budget.
        extra: Networks outside the gain model.
        deadline: When to stop, as `time.monotonic` counts.
    """
    search = _Search(valuer, appraisal, budget, deadline)
    partitions = search.partitions()
    base = valuer.value(in_order(np.concatenate([search.first, *partitions])))
    seen = merge(search.pools)
    if len(seen.members) > MOST_CANDIDATES:
        mean = search.values(seen.members)[0] / seen.members.sum(axis=1)
        seen = take(seen, np.sort(np.argsort(-mean, kind="stable")[:MOST_CANDIDATES]))
    pool = valuer.with_extra(merge([base, seen]), extra)
    program, alive = appraisal.program(pool, budget)
    best = best_allowed(partitions, take(pool, alive), program)
    return pool, None if best is None else alive[best]


def good_partitions(valuer: Valuer, appraisal: Appraisal, budget: float, deadline: float) -> list[BoolArray]:
    """The partitions [k, T] that the same search ends with: within the limits where it found the way."""
    return _Search(valuer, appraisal, budget, deadline).partitions()


def best_allowed(partitions: Sequence[BoolArray], pool: Pool, program: Program) -> IntArray | None:
    """Where the groups of the best of some partitions stand in a pool that holds them; None if none is allowed."""
    row = {members.tobytes(): number for number, members in reversed(list(enumerate(pool.members)))}
    rows = [np.array([row.get(group.tobytes(), -1) for group in each], dtype=np.intp) for each in partitions]
    allowed = [each for each in rows if (each >= 0).all() and program.allows(each)]
    return np.sort(max(allowed, key=program.value)) if allowed else None


class _Search:
    """Values groups once, and improves partitions by them."""

    def __init__(self, valuer: Valuer, appraisal: Appraisal, budget: float, deadline: float) -> None:
        self.valuer, self.appraisal, self.deadline = valuer, appraisal, deadline
        constraints = appraisal.constraints
        self.limits = np.array([budget, *(resource.limit for resource in constraints.resources)])
        self.blocks = task_blocks(constraints, valuer.tasks)
        groups = first_groups(valuer.gains, valuer.max_size, constraints.trained)
        self.first = repaired(groups, constraints, valuer.tasks)
        self.pools: list[Pool] = []
        nothing = np.packbits(np.zeros(len(valuer.tasks), dtype=np.bool_)).tobytes()
        self._known: dict[bytes, FloatArray] = {nothing: np.zeros(1 + len(self.limits))}

    def partitions(self) -> list[BoolArray]:
        """The partitions [k, T] that the starts lead to, without the groups that the constraints forbid."""
        self.values(self.first)
        rng = np.random.default_rng(0)
        count = len(self.blocks)
        starts = [np.arange(count), np.zeros(count, dtype=np.intp)]
        starts += [rng.integers(0, 2 + number, count) for number in range(RANDOM_STARTS)]
        found = []
        for start in starts:
            found.append(legal(self.improved(start), self.appraisal.constraints, self.valuer.tasks))
            if time.monotonic() > self.deadline:
                break
        return found

    def values(self, groups: BoolArray) -> tuple[FloatArray, FloatArray]:
        """What disjoint groups [n, T] are worth, [n], and what they take of budget and resources, [n, 1 + R].

        An empty one nothing. A group that is not allowed is worth so little that the search leaves it first.
        """
        keys = [row.tobytes() for row in np.packbits(groups, axis=1)]
        missing = {key: row for row, key in enumerate(keys) if key not in self._known}
        self._known |= dict.fromkeys(missing, np.array([NOT_ALLOWED, *np.zeros(len(self.limits))]))
        allowed = legal(groups[list(missing.values())], self.appraisal.constraints, self.valuer.tasks)
        if len(allowed):
            pool = self.valuer.value(in_order(allowed))
            self.pools.append(pool)
            worth = np.where(pool.members, self.appraisal.allowed_worth(pool), 0.0).sum(axis=1)
            table = np.column_stack([np.maximum(worth, NOT_ALLOWED), pool.cost, pool.used])
            self._known |= zip((row.tobytes() for row in np.packbits(pool.members, axis=1)), table, strict=True)
        table = np.array([self._known[key] for key in keys]).reshape(-1, 1 + len(self.limits))
        return table[:, 0], table[:, 1:]

    def improved(self, labels: IntArray) -> BoolArray:
        """[k, T], the partition that the best change of all leads to, again and again, from labels [U] of the blocks.

        While a partition takes more than the budget or a resource allows, or is of another number of groups than it
        must be, only changes towards that are made.
        """
        blocks = self.blocks
        groups = np.array([blocks[labels == label].any(axis=0) for label in np.unique(labels)])
        while time.monotonic() < self.deadline:
            first, second, after = _changes(groups, blocks)
            old = np.concatenate([groups, np.zeros((1, groups.shape[1]), dtype=np.bool_)])
            value, cost = self.values(old)
            each, takes = self.values(np.concatenate(after, 1).reshape(-1, groups.shape[1]))
            rise = each.reshape(-1, 2).sum(axis=1) - value[first] - value[second]
            spent = cost.sum(axis=0) + takes.reshape(-1, 2, len(self.limits)).sum(axis=1) - cost[first] - cost[second]
            count = len(groups) + sum(one.any(axis=1).astype(np.intp) for one in after) - 1 - (second < len(groups))
            excess, now = self._excess(spent, count), self._excess(cost.sum(axis=0), len(groups))
            able = excess < now if now > 0 else (excess == 0) & (rise > LEAST_RISE * np.abs(value[:-1]).max())
            if not able.any():
                break
            best = int(np.where(able, rise, -np.inf).argmax())
            kept = np.delete(groups, [first[best], *([second[best]] if second[best] < len(groups) else [])], axis=0)
            groups = np.concatenate([kept, after[0][[best]], after[1][[best]]])
            groups = groups[groups.any(axis=1)]
        return groups

    def _excess(self, spent: Any, count: Any) -> Any:
        """By how much partitions that take [..., 1 + R] break limits, as shares of them, and the number of networks."""
        exactly = self.appraisal.constraints.n_networks
        scale = np.where((self.limits > 0) & np.isfinite(self.limits), self.limits, 1.0)
        over = np.maximum((spent - self.limits) / scale - SLACK, 0.0).sum(axis=-1)
        return over if exactly is None else over + np.abs(count - exactly)


def _changes(groups: BoolArray, blocks: BoolArray) -> tuple[IntArray, IntArray, tuple[BoolArray, BoolArray]]:
    """All changes of two of k groups [k, T]: which two, k being a new one, and what they then are, [m, T] each."""
    k, n_blocks = len(groups), len(blocks)
    owner = (groups[:, None] & blocks).any(axis=2).argmax(axis=0)
    one, other = np.triu_indices(k, 1)
    parts = [(one, other, groups[one] | groups[other], np.zeros((len(one), groups.shape[1]), dtype=np.bool_))]
    everywhere = np.concatenate([groups, np.zeros((1, groups.shape[1]), dtype=np.bool_)])
    moved, target = (index.ravel() for index in np.indices((n_blocks, k + 1)))
    other_one = target != owner[moved]
    moved, target = moved[other_one], target[other_one]
    source = owner[moved]
    parts.append((source, target, groups[source] & ~blocks[moved], everywhere[target] | blocks[moved]))
    if n_blocks <= MOST_BLOCKS_TO_SWAP:
        u, v = np.triu_indices(n_blocks, 1)
        apart = owner[u] != owner[v]
        u, v = u[apart], v[apart]
        left, right = groups[owner[u]] & ~blocks[u] | blocks[v], groups[owner[v]] & ~blocks[v] | blocks[u]
        parts.append((owner[u], owner[v], left, right))
    first, second, left, right = (np.concatenate(column) for column in zip(*parts, strict=True))
    return first, second, (left, right)
