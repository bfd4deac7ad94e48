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
from cotrain.grouping.program import SLACK

__all__ = ["partition_pool"]

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
) -> Pool:
    """The groups that a local search over partitions looks at, with the extra networks.

    From the single tasks, from all in one and from random partitions, the best of all merges, moves of one task and
    exchanges of two is made, until none raises the total worth. The program that then chooses among all groups that
    were looked at can combine those of several partitions. The same input gives the same pool, unless the time runs
    out.

    Args:
        valuer: Values groups.
        appraisal: Says what candidates are worth. Resources are left to the choice among the pool.
        budget: The budget.
        extra: Networks outside the gain model.
        deadline: When to stop, as `time.monotonic` counts.
    """
    constraints = appraisal.constraints
    blocks = task_blocks(constraints, valuer.tasks)
    first = repaired(first_groups(valuer.gains, valuer.max_size, constraints.trained), constraints, valuer.tasks)
    search = _Search(valuer, appraisal, budget, deadline)
    search.values(first)
    rng = np.random.default_rng(0)
    starts = [np.arange(len(blocks)), np.zeros(len(blocks), dtype=np.intp)]
    starts += [rng.integers(0, 2 + number, len(blocks)) for number in range(RANDOM_STARTS)]
    final = [first]
    for start in starts:
        final.append(search.improved(blocks, start))
        if time.monotonic() > deadline:
            break
    base = valuer.value(in_order(legal(np.concatenate(final), constraints, valuer.tasks)))
    seen = merge(search.pools)
    if len(seen.members) > MOST_CANDIDATES:
        mean = search.values(seen.members)[0] / seen.members.sum(axis=1)
        seen = take(seen, np.sort(np.argsort(-mean, kind="stable")[:MOST_CANDIDATES]))
    return valuer.with_extra(merge([base, seen]), extra)


class _Search:
    """Values groups once, and improves partitions by them."""

    def __init__(self, valuer: Valuer, appraisal: Appraisal, budget: float, deadline: float) -> None:
        self.valuer, self.appraisal, self.budget, self.deadline = valuer, appraisal, budget, deadline
        self.pools: list[Pool] = []
        nothing = np.packbits(np.zeros(len(valuer.tasks), dtype=np.bool_)).tobytes()
        self._known: dict[bytes, tuple[float, float]] = {nothing: (0.0, 0.0)}

    def values(self, groups: BoolArray) -> tuple[FloatArray, FloatArray]:
        """What disjoint groups [n, T] are worth and what they cost, [n] each; an empty one nothing.

        A group that is not allowed is worth so little that the search leaves it first.
        """
        keys = [row.tobytes() for row in np.packbits(groups, axis=1)]
        missing = {key: row for row, key in enumerate(keys) if key not in self._known}
        self._known |= dict.fromkeys(missing, (NOT_ALLOWED, 0.0))
        allowed = legal(groups[list(missing.values())], self.appraisal.constraints, self.valuer.tasks)
        if len(allowed):
            pool = self.valuer.value(in_order(allowed))
            self.pools.append(pool)
            worth = np.where(pool.members, self.appraisal.allowed_worth(pool), 0.0).sum(axis=1)
            for row, value, cost in zip(np.packbits(pool.members, axis=1), worth, pool.cost, strict=True):
                self._known[row.tobytes()] = (max(float(value), NOT_ALLOWED), float(cost))
        table = np.array([self._known[key] for key in keys]).reshape(-1, 2)
        return table[:, 0], table[:, 1]

    def improved(self, blocks: BoolArray, labels: IntArray) -> BoolArray:
        """[k, T], the partition that the best change of all leads to, again and again, from labels [U] of the blocks.

        While a partition takes more than the budget or is of another number of groups than it must be, only changes
        towards that are made.
        """
        groups = np.array([blocks[labels == label].any(axis=0) for label in np.unique(labels)])
        while time.monotonic() < self.deadline:
            first, second, after = _changes(groups, blocks)
            old = np.concatenate([groups, np.zeros((1, groups.shape[1]), dtype=np.bool_)])
            value, cost = self.values(old)
            new_value, new_cost = (
                table.reshape(-1, 2).sum(axis=1)
                for table in self.values(np.concatenate(after, 1).reshape(-1, groups.shape[1]))
            )
            rise = new_value - value[first] - value[second]
            spent = cost.sum() + new_cost - cost[first] - cost[second]
            count = len(groups) + sum(one.any(axis=1).astype(np.intp) for one in after) - 1 - (second < len(groups))
            excess, now = self._excess(spent, count), self._excess(cost.sum(), len(groups))
            able = excess < now if now > 0 else (excess == 0) & (rise > LEAST_RISE * np.abs(value[:-1]).max())
            if not able.any():
                break
            best = int(np.where(able, rise, -np.inf).argmax())
            kept = np.delete(groups, [first[best], *([second[best]] if second[best] < len(groups) else [])], axis=0)
            groups = np.concatenate([kept, after[0][[best]], after[1][[best]]])
            groups = groups[groups.any(axis=1)]
        return groups

    def _excess(self, spent: Any, count: Any) -> Any:
        """By how much partitions break the budget and the number of networks."""
        exactly = self.appraisal.constraints.n_networks
        over = np.maximum(spent - self.budget - SLACK, 0.0)
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
