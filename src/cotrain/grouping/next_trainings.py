"""Which groups to train next, and which of the trained ones to choose."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import compress
from typing import Literal, TypeAlias

import numpy as np

from cotrain.grouping.acquisition import expected_improvement
from cotrain.grouping.candidates import Valuer, in_order, listed_groups
from cotrain.grouping.constraints import Constraints
from cotrain.grouping.costs import Costs, CostTable
from cotrain.grouping.gains import BoolArray, FloatArray, GainModel, Groups, membership
from cotrain.grouping.grouping import Grouping
from cotrain.grouping.legal_groups import legal
from cotrain.grouping.measured_losses import MeasuredLosses, Names
from cotrain.grouping.neighbours import one_task_apart
from cotrain.grouping.objective import ObjectiveName, Weights, make_objective
from cotrain.grouping.selection import select_groups
from cotrain.grouping.table import GainTable

__all__ = ["Acquisition", "OpenSingles", "Picks", "Wishes"]

Acquisition: TypeAlias = Literal["improvement", "uncertainty", "random"]

SOLVER_SECONDS = 5.0
"""For a choice within the search: it need not be proven, a good one is enough to know what to train."""

RANDOM_CANDIDATES = 20_000
"""Groups that are looked at where not all can be listed."""

MOST_OPTIMISM = 4.0
"""Standard deviations in an expected improvement count as the square root of the trainings left, up to so many times.

The gains of one network go up and down together, which a sum over its tasks does not know, and a model that few
groups have taught is too sure; with the last trainings there is nothing to explore for. On ettm1 the choice of 2 or 3
networks after 20 trainings had a validation gain of .115 without, .134 like this, .138 with 4 throughout; on planted
tasks the loss to the best choice fell by a quarter from 1 to 3. On the tables of Standley et al. 4 throughout wasted
the last two trainings on groups of nearly all tasks."""

GROWTH_STEPS = 3
"""Times per round that the neighbours of the best choice become candidates. Each costs a choice, and a later round goes
on where the last one stopped."""

OUT_OF_REACH = 2.0
"""Times the budget: what a task alone costs that was not trained alone, where only trained groups may be chosen."""


@dataclass(frozen=True)
class Picks:
    """What to train next.

    Attributes:
        groups: Untrained groups, the most wanted first.
        why: "chosen", "improvement", "uncertainty" or "random".
        expected: The largest expected improvement of the choice, in units of the objective; infinite where the
            trained groups do not cover all tasks, NaN if it was not computed.
    """

    groups: tuple[Names, ...]
    why: str
    expected: float = np.nan


class OpenSingles:
    """A gain model in which tasks that were not trained alone are uncertain.

    Their gain alone is 0 by definition, but over a loss that is an estimate; it may be as far from the truth as pairs
    are from it.
    """

    def __init__(self, model: GainModel, alone: frozenset[str]) -> None:
        self.tasks, self._model = model.tasks, model
        self.single_losses: FloatArray | None = getattr(model, "single_losses", None)
        self._open = np.array([task not in alone for task in model.tasks])
        self._std = np.zeros(len(model.tasks))
        if self._open.any():
            pairs = [(a, b) for i, a in enumerate(model.tasks) for b in model.tasks[i + 1 :]]
            mean, std = model.predict(pairs)
            self._std = np.sqrt(np.nanmean(mean**2 + std**2, axis=0))

    def predict(self, groups: Groups) -> tuple[FloatArray, FloatArray]:
        """As the model, with a standard deviation for the untrained tasks alone."""
        mean, std = self._model.predict(groups)
        return mean, np.where(self._open_single(groups), self._std, std)

    def measured(self, groups: Groups) -> BoolArray:
        """As the model, without the untrained tasks alone."""
        return np.asarray(self._model.measured(groups) & ~self._open_single(groups).any(axis=1))

    def _open_single(self, groups: Groups) -> BoolArray:
        members = membership(groups, self.tasks)
        return np.asarray(members & self._open & (members.sum(axis=1, keepdims=True) == 1))


@dataclass(frozen=True)
class Wishes:
    """What is to be chosen; see `select_groups`."""

    budget: float
    costs: Costs | None
    max_size: int | None
    objective: ObjectiveName
    weights: Weights | None
    constraints: Constraints | None = None
    candidates: tuple[Names, ...] | None = None

    def by_mean(self, model: GainModel) -> Grouping:
        """The best choice if every prediction were true."""
        return self._select(self._of_candidates(model), self.costs)

    def grown(self, model: GainModel) -> tuple[Wishes, Grouping]:
        """With more candidates: the neighbours of the best choice, of the better one among them, and so on.

        And the best choice of all these, as `by_mean` gives it.
        """
        wishes, choice = self, self.by_mean(model)
        if self.candidates is None:
            return wishes, choice
        for _ in range(GROWTH_STEPS):
            known = wishes.candidates or ()
            chosen = [group.trains for group in choice.groups]
            near = set(one_task_apart(chosen, model.tasks, self.max_size)).difference(known)
            if not near:
                break
            wishes = replace(wishes, candidates=(*known, *sorted(near)))
            choice = wishes.by_mean(model)
        return wishes, choice

    def among_trained(self, losses: MeasuredLosses) -> Grouping | None:
        """The best choice of trained groups; None if they do not cover all tasks within the budget."""
        table = losses.table()
        costs = CostTable(self.costs, table.tasks)

        def cost(group: Names) -> float:
            return costs(group) if len(group) > 1 or group in losses else OUT_OF_REACH * self.budget

        try:
            return self._select(table, self.costs if len(losses.alone) == len(losses.tasks) else cost)
        except ValueError:
            return None

    def next(
        self,
        model: GainModel,
        losses: MeasuredLosses,
        choice: Grouping | None,
        acquisition: Acquisition,
        *,
        batch: int,
        left: int,
        rng: np.random.Generator,
    ) -> Picks:
        """The groups to train in the next round: those of the choice by the mean first, then by the acquisition.

        The choice is computed if it is None and needed.
        """
        untrained = self._untrained(model, losses, rng)
        if acquisition == "random":
            drawn = rng.permutation(len(untrained))[:batch]
            return Picks(_names(untrained[drawn], model), "random")
        choice = choice or self.by_mean(model)
        picks = tuple(group.trains for group in choice.groups if group.trains not in losses)
        if len(picks) >= batch:
            return Picks(picks[:batch], "chosen", np.inf)
        scores = self._scores(untrained, model, losses, acquisition, left)
        best = np.argsort(-scores, kind="stable")
        more = [
            group for group in _names(untrained[best[:batch]], model) if frozenset(group) not in map(frozenset, picks)
        ]
        expected = np.inf if picks else float(scores.max(initial=0.0))
        return Picks((*picks, *more)[:batch], "chosen" if picks else acquisition, expected)

    def scale(self, model: GainModel) -> float:
        """What a gain of 1 of all tasks would be worth."""
        return float(make_objective(model, self.objective, self.weights, 0.0).unit.sum())

    def _scores(
        self, untrained: BoolArray, model: GainModel, losses: MeasuredLosses, acquisition: Acquisition, left: int
    ) -> FloatArray:
        goal = make_objective(model, self.objective, self.weights, 0.0)
        unit = goal.unit[np.argsort(np.array(model.tasks))]
        valuer = Valuer(model, self.costs, 0.0, self.max_size)
        pool = valuer.value(untrained)
        if acquisition == "uncertainty":
            return np.asarray(np.nansum(pool.std * unit, axis=1))
        optimism = min(left**0.5, MOST_OPTIMISM)
        chosen = self.among_trained(losses) or self.by_mean(model)
        now = valuer.value(in_order(membership([group.trains for group in chosen.groups], pool.tasks)))
        worth = np.where(now.members, now.mean * unit, -np.inf)
        return expected_improvement(
            pool.mean * unit, optimism * pool.std * unit, pool.cost, worth, now.cost, self.budget
        )

    def _select(self, model: GainModel, costs: Costs | None) -> Grouping:
        return select_groups(
            model,
            budget=self.budget,
            costs=costs,
            max_size=self.max_size,
            time_limit=SOLVER_SECONDS,
            objective=self.objective,
            weights=self.weights,
            kappa=0.0,
            constraints=self.constraints,
        )

    def _of_candidates(self, model: GainModel) -> GainModel:
        """The model, as a table of the groups that may be trained: a selection chooses among a table's groups."""
        if self.candidates is None:
            return model
        listed = tuple(dict.fromkeys([*((task,) for task in model.tasks), *self.candidates]))
        single_losses = getattr(model, "single_losses", None)
        return GainTable(model.tasks, listed, *model.predict(listed), single_losses=single_losses)

    def _untrained(self, model: GainModel, losses: MeasuredLosses, rng: np.random.Generator) -> BoolArray:
        """[n, T], columns in alphabetical order: all groups that may be trained and chosen, or random ones."""
        tasks = sorted(model.tasks)
        members = listed_groups(self._of_candidates(model), self.max_size)
        if members is None:
            sizes = rng.integers(2, min(self.max_size or len(tasks), len(tasks)) + 1, RANDOM_CANDIDATES)
            ranks = rng.random((RANDOM_CANDIDATES, len(tasks))).argsort(axis=1).argsort(axis=1)
            members = in_order(ranks < sizes[:, None])
        members = legal(members, self.constraints or Constraints(), tasks)
        trained = {row.tobytes() for row in membership(losses.groups, tasks)}
        return members[[row.tobytes() not in trained for row in members]]


def _names(members: BoolArray, model: GainModel) -> tuple[Names, ...]:
    """The groups of rows whose columns stand in alphabetical order."""
    tasks = sorted(model.tasks)
    return tuple(tuple(compress(tasks, row)) for row in members.tolist())
