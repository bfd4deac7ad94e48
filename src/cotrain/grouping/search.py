"""Spend a budget of real trainings where they decide which groups are chosen."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from cotrain.grouping.backends import Backend
from cotrain.grouping.constraints import Constraints
from cotrain.grouping.costs import Costs
from cotrain.grouping.first_trainings import first_trainings, only_pairs_afforded
from cotrain.grouping.gains import GainModel, Groups, ListedGroups, check_tasks, membership
from cotrain.grouping.grouping import Grouping
from cotrain.grouping.measured_losses import Names, TrainGroups
from cotrain.grouping.next_trainings import Acquisition, OpenSingles, Picks, Wishes
from cotrain.grouping.objective import ObjectiveName, Weights
from cotrain.grouping.search_arguments import check_called, check_covered, check_search
from cotrain.grouping.shortened import SearchTrainings, Shortened
from cotrain.grouping.stacked_gains import StackedGains
from cotrain.grouping.table import GainTable

__all__ = ["Round", "Search", "search_groups"]


@dataclass(frozen=True)
class Round:
    """One call of `train_groups`.

    Attributes:
        trained: The groups.
        why: "first" (before anything was known), "chosen" (they are in the best choice by the model),
            "improvement", "uncertainty" or "random"; "shortened" if they were only tried shortly.
        expected: The largest expected improvement before the round, in units of the objective; infinite where the
            best choice by the model held what is untrained, NaN if not asked for.
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
            by the model, with unmeasured groups in it. Its value is over losses alone, some of which may be
            `estimated`.
        table: All measurements.
        model: The gain model, fitted to all of them.
        rounds: What was trained, when and why.
        trainings: How many groups were trained in full.
        shortened: The groups that were only tried shortly.
        settled: Whether it stopped because no group promised to change the choice by more than the tolerance.
        estimated: The tasks that were not trained alone, so that their loss alone is an estimate: the geometric mean
            of their losses in the smallest groups that hold them. Which groups are chosen by the total loss does not
            depend on it.
    """

    grouping: Grouping
    table: GainTable
    model: GainModel
    rounds: tuple[Round, ...]
    trainings: int
    shortened: tuple[Names, ...]
    settled: bool
    estimated: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The choice, and what it stands on."""
        shortly = f", {len(self.shortened)} more only shortly" if self.shortened else ""
        why = "no other promised to change the choice" if self.settled else "no more were allowed"
        lines = [str(self.grouping), f"{self.trainings} groups trained{shortly}; {why}."]
        if self.estimated:
            lines.append(
                f"{', '.join(self.estimated)} not trained alone: their losses alone are estimated from the smallest"
                " groups that hold them, and so is what is saved over these."
            )
        return "\n".join(lines)


def search_groups(
    train_groups: TrainGroups,
    backend: Backend = StackedGains,
    *,
    tasks: Iterable[str],
    budget: float,
    trainings: int,
    known: GainTable | None = None,
    singles: bool | None = None,
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
    shortened: Shortened | None = None,
    log: str | os.PathLike[str] | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Search:
    """Find groups by training some of them: the model says which to train, the trainings make the model better.

    First the tasks alone (what a gain is measured against; but see `singles`), then all pairs if they can be
    afforded, else all tasks together and random groups of the size to deploy. Then, round by round: fit the model to
    all trained groups; choose the best grouping by its mean prediction; train what is untrained in it. Where nothing
    is, train the
    group with the largest `expected_improvement` of the choice. At the end only trained groups are chosen, so that
    none is taken because its prediction happened to be too high. With `shortened` trainings the groups that would be
    next are tried for a part of the training, and what they show decides which of them is trained in full.

    Args:
        train_groups: Trains one network per group and gives held-out losses; called once per round.
        backend: From the trained groups to a gain model.
        tasks: T names.
        budget: Of the networks to deploy, as in `select_groups`.
        trainings: The most groups to train, tasks alone and all together included; shortened ones count their price.
        known: Groups whose losses are known already, at no cost: a table with `single_losses` and every task alone
            in it or known by these.
        singles: Train the tasks alone first. Without, a loss alone is estimated until a task alone is chosen: saves
            T trainings where losses are all that matters. None: unless only so all pairs can be afforded, which
            teach more (published tables, 12 trainings, 5 tasks: regret up to .7 % with the pairs, 10 to 15 % without).
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
        constraints: As in `select_groups`. The first pairs, trained to learn from, may break them.
        candidates: The only groups of two or more tasks that may be trained, such as those of a published table.
            None: all groups.
        grow: Only begin with the candidates: before every round the groups one task apart from the best choice
            (`one_task_apart`) become candidates too. For more groups than can be predicted.
        shortened: Trainings that stop early, to try several groups for the price of one. None: all are full ones. On
            published tables early losses say little (see docs/gains.md), so this is for trainings that rank early.
        log: A file to which the groups of every call of `train_groups` are added when it ends; an interrupted search
            that is started again with it takes the same way without training these twice. The first call has many
            groups, whatever `batch` is: let `train_groups` keep what it trained where losing that call would hurt.
            Shortened ones are in a second file, `NAME-shortened.SUFFIX`.
        seed: Decides the random groups.
        progress: Called with the number of full trainings and their limit after every round.

    Raises:
        ValueError: If an argument is out of range, constraints contradict each other, or the trainings are too few to
            hold every task, all before anything is trained; if losses are not finite and above 0, the log is of other
            tasks, or no choice of groups can cover all tasks within the budget.
    """
    names = check_tasks(tasks)
    allowed = None if candidates is None else _in_order(candidates, names)
    wishes = Wishes(budget, costs, max_size, objective, weights, constraints, allowed)
    check_called(train_groups, backend, shortened)
    check_search(names, wishes, trainings=trainings, batch=batch, acquisition=acquisition, tolerance=tolerance)
    trainings, batch = int(trainings), int(batch)
    run = SearchTrainings(names, train_groups, known, log, shortened)
    losses = run.full
    rng = np.random.default_rng(seed)
    rounds: list[Round] = []

    def spend(groups: Iterable[Names], why: str, expected: float = np.nan) -> None:
        affordable = [group for group in groups if group not in losses][: run.left(trainings)]
        if affordable:
            trained = run.train(affordable)
            chosen = wishes.among_trained(losses)
            rounds.append(Round(tuple(trained), why, expected, np.nan if chosen is None else chosen.value))
        if progress is not None:
            progress(losses.spent, trainings)

    def try_shortly(groups: Iterable[Names], expected: float) -> None:
        tried = run.try_shortly(groups)
        if tried:
            rounds.append(Round(tuple(tried), "shortened", expected, np.nan))

    first = [(task,) for task in names if (task,) not in losses]
    if singles is False or (singles is None and only_pairs_afforded(names, trainings, len(first), allowed)):
        first = []
    known_first = bool(losses.groups or first)
    together: list[Names] = []
    if acquisition != "random" or not known_first:
        n_networks = max(1, int(budget)) if costs is None else len(names)
        left = run.first_groups(max(trainings - len(first), 0), shortly=known_first) if acquisition != "random" else 1
        together = first_trainings(names, left, n_networks, max_size or len(names), rng, allowed)
    in_full = [*first, *([] if shortened is not None and known_first else together)]
    check_covered(names, [*losses.groups, *in_full[:trainings]], trainings)
    spend(first, "first")
    if shortened is not None and known_first:
        try_shortly(together, np.nan)
    else:
        spend(together, "first")

    def look(count: int) -> Picks | None:
        """What to train next by all that is known; None if nothing promises to change the choice."""
        nonlocal wishes
        model = OpenSingles(run.model(backend), losses.alone)
        choice = None
        if grow:
            wishes, choice = wishes.grown(model)
        left = run.left(trainings)
        picks = wishes.next(model, losses, choice, acquisition, batch=count, left=left, rng=rng)
        return picks if picks.groups and not picks.expected < tolerance * wishes.scale(model) else None

    settled = False
    while run.left(trainings) > 0 and not settled:
        to_try = run.to_try(trainings)
        promising = look(to_try) if to_try else None
        if promising is not None:
            try_shortly(promising.groups, promising.expected)
        picks = look(min(batch, run.left(trainings)))
        settled = picks is None
        if picks is not None:
            spend(picks.groups, picks.why, picks.expected)
    model = OpenSingles(run.model(backend), losses.alone)
    grouping = wishes.among_trained(losses) or wishes.by_mean(model)
    estimated = tuple(task for task in names if task not in losses.alone)
    return Search(grouping, losses.table(), model, tuple(rounds), losses.spent, run.only_shortened, settled, estimated)


def _in_order(groups: Groups, tasks: Names) -> tuple[Names, ...]:
    """Groups with their names in the order of the tasks."""
    return tuple(ListedGroups.of(membership(groups, tasks), tasks))
