"""Find the candidates worth having when there are too many groups to list: price, move, add, and again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cotrain.grouping.appraisal import Appraisal
from cotrain.grouping.candidates import Candidate, Pool, Valuer, first_groups, in_order, merge, take
from cotrain.grouping.constraints import Constraints
from cotrain.grouping.cover import TIE, exchange
from cotrain.grouping.covering import covering
from cotrain.grouping.gains import BoolArray, FloatArray
from cotrain.grouping.legal_groups import legal, repaired, task_blocks
from cotrain.grouping.neighbours import toggled
from cotrain.grouping.partition_pool import best_allowed, good_partitions
from cotrain.grouping.program import NOT_SERVED, Program, largest_worth
from cotrain.grouping.relaxation import PRICE_TOLERANCE, near_prices, reduced_values

SEEDS = 20
"""Groups that are improved at a time: enough variety, and a thousand neighbours for a hundred tasks."""

STEPS = 6
"""Moves between two solves for new prices; prices age as the groups improve."""

MOST_CANDIDATES = 5_000
"""The pool keeps at most this many predicted groups: the best at the current prices."""

PARTITIONS_SHARE = 0.3
"""Of the time for finding candidates, where resources are limited: for partitions that respect them."""

PATIENCE = 3
"""Rounds of new prices without a better choice."""


def generated_pool(
    valuer: Valuer,
    appraisal: Appraisal,
    budget: float,
    extra: Sequence[Candidate],
    deadline: float,
) -> tuple[Pool, NDArray[np.intp]]:
    """The first candidates, all that column generation adds to them and the extra networks, and the best choice so far.

    With dual prices `pi` of the tasks and `mu` of the budget, a missing group is worth having if
    `sum over its tasks of max(0, worth - pi) > mu * cost`. The best groups at hand are improved towards that by
    adding, dropping and swapping single tasks, until new prices find nothing more. It is a local search: what it
    finds is good and has no proof. The same input gives the same pool, unless the time runs out.

    Args:
        valuer: Values groups.
        appraisal: Says what candidates are worth. An exact number of networks is left to the choice among the pool.
        budget: The budget.
        extra: Networks outside the gain model.
        deadline: When to stop, as `time.monotonic` counts.

    Raises:
        ValueError: If the first candidates cannot cover all tasks within the budget.
    """
    search = _Search(valuer, appraisal.with_many_networks(), budget, tuple(extra), deadline)
    partitions = search.partitions()
    base = pool = valuer.value(in_order(np.concatenate([search.first(), *partitions])))
    search = replace(search, scale=largest_worth(search.worth(base)))
    now, program, chosen = search.start(pool, partitions)
    best_value, waited = -np.inf, 0
    while True:
        chosen = exchange(program, chosen, deadline)
        value = program.value(chosen)
        waited = 0 if value > best_value + TIE else waited + 1
        best_value = max(value, best_value)
        if waited == PATIENCE or time.monotonic() > deadline:
            break
        prices = near_prices(program, chosen, deadline)
        leaders = np.argsort(-prices.reduced, kind="stable")[:SEEDS]
        seeds = now.members[np.union1d(leaders, chosen)]
        found = search.improve((prices.pi, prices.mu), 0.0, seeds)
        for column in chosen:
            # What the other chosen groups give each task is its price for whoever takes the place of this one.
            others = chosen[chosen != column]
            served = program.worth[others].max(axis=0, initial=NOT_SERVED)
            own = reduced_values(program.worth[[column]], program.cost[[column]], served, prices.mu)
            found += search.improve((served, prices.mu), float(own[0]), now.members[[column]])
        found += search.without_helpers(program.worth[chosen])
        grown = merge([pool, *found])
        if len(grown.members) == len(pool.members):
            break
        if len(grown.members) > MOST_CANDIDATES + len(base.members):
            reduced = reduced_values(search.worth(grown), grown.cost, prices.pi, prices.mu)
            best = np.sort(np.argsort(-reduced, kind="stable")[:MOST_CANDIDATES])
            grown = merge([base, valuer.value(in_order(now.members[chosen])), take(grown, best)])
        pool, before = grown, take(now, chosen)
        now, program = search.program(pool)
        chosen = _rows_of(before, now)
    everything = valuer.with_extra(pool, extra)
    return everything, _rows_of(take(now, chosen), everything)


@dataclass(frozen=True)
class _Search:
    """What does not change while candidates are sought; see `generated_pool`."""

    valuer: Valuer
    appraisal: Appraisal
    budget: float
    extra: tuple[Candidate, ...]
    deadline: float
    scale: float = 1.0

    @property
    def constraints(self) -> Constraints:
        """What groups must respect."""
        return self.appraisal.constraints

    def first(self) -> BoolArray:
        """[n, T], the first groups, made to respect sizes and links."""
        groups = first_groups(self.valuer.gains, self.valuer.max_size, self.constraints.trained)
        return repaired(groups, self.constraints, self.valuer.tasks)

    def partitions(self) -> list[BoolArray]:
        """Good partitions [k, T] where resources are limited, to which neither first groups nor prices look."""
        if not self.constraints.resources:
            return []
        share = time.monotonic() + PARTITIONS_SHARE * (self.deadline - time.monotonic())
        return good_partitions(self.valuer, self.appraisal, self.budget, share)

    def worth(self, pool: Pool) -> FloatArray:
        """[n, T], scaled as a program expects."""
        return self.appraisal.allowed_worth(pool) / self.scale

    def program(self, pool: Pool) -> tuple[Pool, Program]:
        """The candidates of a pool that can serve, with the extra networks, and the program over them."""
        now = self.valuer.with_extra(pool, self.extra)
        program, alive = self.appraisal.program(now, self.budget)
        return take(now, alive), replace(program, worth=program.worth / self.scale)

    def start(self, pool: Pool, partitions: Sequence[BoolArray]) -> tuple[Pool, Program, NDArray[np.intp]]:
        """The same with a choice that respects all limits: the best of the partitions, or any."""
        now, program = self.program(pool)
        best = best_allowed(partitions, now, program)
        if best is not None:
            return now, program, best
        everything = self.valuer.with_extra(pool, self.extra)
        worth, required = self.appraisal.worth(everything), self.appraisal.required(everything)
        chosen = covering(everything, worth, self.budget, self.valuer.max_size, self.deadline, required)
        return now, program, _rows_of(take(everything, chosen), now)

    def improve(self, prices: tuple[FloatArray, float], floor: float, seeds: BoolArray) -> list[Pool]:
        """The groups within a few moves of the seeds [k, T] that are worth more than the floor at these prices."""
        tasks = self.valuer.tasks
        blocks = task_blocks(self.constraints, tasks)
        found: list[Pool] = []
        for step in range(STEPS):
            if time.monotonic() > self.deadline:
                break
            near = legal(toggled(seeds, blocks, swap=step == 0), self.constraints, tasks)
            if len(near) == 0:
                break
            tried = self.valuer.value(in_order(near))
            reduced = reduced_values(self.worth(tried), tried.cost, *prices)
            better = np.flatnonzero(reduced > floor + PRICE_TOLERANCE)
            if len(better) == 0:
                break
            better = better[np.argsort(-reduced[better], kind="stable")]
            found.append(take(tried, np.sort(better[: MOST_CANDIDATES // STEPS])))
            seeds = tried.members[better[:SEEDS]]
        return found

    def without_helpers(self, worth: FloatArray) -> list[Pool]:
        """The tasks that each of the chosen networks [k, T] serves, as groups."""
        serving = np.arange(len(worth))[:, None] == worth.argmax(axis=0)
        groups = legal(serving[serving.any(axis=1)], self.constraints, self.valuer.tasks)
        return [self.valuer.value(in_order(groups))] if len(groups) else []


def _rows_of(some: Pool, pool: Pool) -> NDArray[np.intp]:
    """Where each of some candidates stands in a pool that holds them."""
    same = (pool.members == some.members[:, None]).all(axis=2) & (pool.cost == some.cost[:, None])
    return np.asarray((same & (pool.labels == some.labels[:, None])).argmax(axis=1))
