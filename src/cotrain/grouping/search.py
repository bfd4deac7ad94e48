"""Spend a budget of real trainings where they decide which groups are chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from cotrain.grouping.backends import Backend
from cotrain.grouping.constraints import Constraints
from cotrain.grouping.costs import Costs
from cotrain.grouping.first_trainings import first_trainings
from cotrain.grouping.gains import GainModel, Groups, ListedGroups, membership
from cotrain.grouping.grouping import Grouping
from cotrain.grouping.measured_losses import MeasuredLosses, Names, TrainGroups
from cotrain.grouping.next_trainings import Acquisition, OpenSingles, Wishes
from cotrain.grouping.objective import ObjectiveName, Weights
from cotrain.grouping.stacked_gains import StackedGains
from cotrain.grouping.table import GainTable

__all__ = ["Round", "Search", "search_groups"]


@dataclass(frozen=True)
class Round:
    """One call of `train_groups`.

    Attributes:
        trained: The groups.
        why: "first" (before anything was known), "chosen" (they are in the best choice by the model),
            "improvement", "uncertainty" or "random".
        expected: The largest expected improvement before the round, in units of the objective; NaN if not asked for.
        value: Of the best choice among trained groups after the round; NaN if they do not cover all tasks.
    """

    trained: tuple[Names, ...]
    why: str
    expected: float
    value: float


@dataclass(frozen=True, eq=False)
class Search:
    """What a search found.

    Attributes:
        grouping: The best choice among the trained groups, proven; or, where these do not cover all tasks, the best
            by the model, with unmeasured groups in it.
        table: All measurements.
        model: The gain model, fitted to all of them.
        rounds: What was trained, when and why.
        trainings: How many groups were trained.
        settled: Whether it stopped because no group promised to change the choice by more than the tolerance.
    """

    grouping: Grouping
    table: GainTable
    model: GainModel
    rounds: tuple[Round, ...]
    trainings: int
    settled: bool


def search_groups(
    train_groups: TrainGroups,
    backend: Backend = StackedGains,
    *,
    tasks: Iterable[str],
    budget: float,
    trainings: int,
    known: GainTable | None = None,
    singles: bool = True,
    batch: int = 1,
    acquisition: Acquisition = "improvement",
    tolerance: float = 1e-3,
    costs: Costs | None = None,
    max_size: int | None = None,
    objective: ObjectiveName = "auto",
    weights: Weights | None = None,
    constraints: Constraints | None = None,
    candidates: Groups | None = None,
    grow: bool = False,
    log: Path | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Search:
    """Find groups by training some of them: the model says which to train, the trainings make the model better.

    First the tasks alone (what a gain is measured against), then all pairs if they can be afforded, else all tasks
    together and random groups of the size to deploy. Then, round by round: fit the model to all trained groups;
    choose the best grouping by its mean prediction; train what is untrained in it. Where nothing is, train the
    group with the largest `expected_improvement` of the choice. At the end only trained groups are chosen, so that
    none is taken because its prediction happened to be too high.

    Args:
        train_groups: Trains one network per group and gives held-out losses; called once per round.
        backend: From the trained groups to a gain model.
        tasks: T names.
        budget: Of the networks to deploy, as in `select_groups`.
        trainings: The most groups to train, tasks alone and all together included.
        known: Groups whose losses are known already, at no cost: a table with `single_losses` and every task alone
            in it or known by these.
        singles: Train the tasks alone first. Without, a loss alone is estimated until a task alone is chosen: saves
            T trainings where losses are all that matters.
        batch: Groups per round, for trainers that are faster with many at a time; with 1 every training profits
            from all before it.
        acquisition: How to spend trainings where the model's choice is trained already: "improvement",
            "uncertainty" (the largest sum of standard deviations) or "random" (the control; it spends all that way).
        tolerance: Stop when no group is expected to improve the choice by more than this share of its own scale
            (the sum of losses alone, or a mean gain of 1).
        costs: As in `select_groups`.
        max_size: As in `select_groups`.
        objective: As in `select_groups`.
        weights: As in `select_groups`.
        constraints: As in `select_groups`; what is trained to learn may break them.
        candidates: The only groups of two or more tasks that may be trained, such as those of a published table.
            None: all groups.
        grow: Only begin with the candidates: before every round the groups one task apart from the best choice
            (`one_task_apart`) become candidates too. For more groups than can be predicted.
        log: A file to which every training is added; an interrupted search that is started again with it takes the
            same way without training anything twice.
        seed: Decides the random groups.
        progress: Called with the number of trainings spent and their limit after every round.

    Raises:
        ValueError: If an argument is out of range, losses are not finite and above 0, the log is of other tasks, or
            no choice of groups can cover all tasks within the budget.
    """
    if trainings < 1 or batch < 1:
        raise ValueError(f"trainings and batch must be at least 1. Got trainings={trainings}, batch={batch}.")
    if acquisition not in get_args(Acquisition):
        raise ValueError(f"acquisition must be one of {', '.join(get_args(Acquisition))}. Got {acquisition!r}.")
    names = tuple(tasks)
    losses = MeasuredLosses(names, train_groups, known, log)
    allowed = None if candidates is None else _in_order(candidates, names)
    wishes = Wishes(budget, costs, max_size, objective, weights, constraints, allowed)
    rng = np.random.default_rng(seed)
    rounds: list[Round] = []

    def spend(groups: Iterable[Names], why: str, expected: float = np.nan) -> None:
        affordable = [group for group in groups if group not in losses][: trainings - losses.spent]
        if affordable:
            trained = losses.train(affordable)
            chosen = wishes.among_trained(losses)
            rounds.append(Round(tuple(trained), why, expected, np.nan if chosen is None else chosen.value))
        if progress is not None:
            progress(losses.spent, trainings)

    if singles:
        spend([(task,) for task in names], "first")
    if acquisition != "random" or not losses.groups:
        n_networks = max(1, int(budget)) if costs is None else len(names)
        left = trainings - losses.spent if acquisition != "random" else 1
        spend(first_trainings(names, left, n_networks, max_size or len(names), rng, allowed), "first")
    settled = False
    while losses.spent < trainings and not settled:
        model = OpenSingles(backend(losses.table()), losses.alone)
        choice = None
        if grow:
            wishes, choice = wishes.grown(model)
        left = trainings - losses.spent
        picks = wishes.next(model, losses, choice, acquisition, batch=min(batch, left), left=left, rng=rng)
        settled = not picks.groups or picks.expected < tolerance * wishes.scale(model)
        if not settled:
            spend(picks.groups, picks.why, picks.expected)
    model = OpenSingles(backend(losses.table()), losses.alone)
    grouping = wishes.among_trained(losses) or wishes.by_mean(model)
    return Search(grouping, losses.table(), model, tuple(rounds), losses.spent, settled)


def _in_order(groups: Groups, tasks: Names) -> tuple[Names, ...]:
    """Groups with their names in the order of the tasks."""
    return tuple(ListedGroups.of(membership(groups, tasks), tasks))
