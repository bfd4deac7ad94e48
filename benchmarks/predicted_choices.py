"""What a choice of three networks costs by each way to predict gains: its regret against the best of all real groups.

The groups are those of `gain_trainings`, really trained. All are chosen on validation losses and valued on test losses;
the regret is what their sum is above the smallest possible, in percent. Which of the chosen networks serves a task is a
validation choice too. Random trainings are drawn 5 times. A search looks up what it trains, among the real groups.
Use: python benchmarks/predicted_choices.py --folder FOLDER --json FILE [--data fashion digits census]
     [--network mlp cnn] [--rows 1000 4000] [--seeds 0 1 2 3 4] [--minutes M]
Trainings are kept in the folder, figures in the file: what is there is not computed again, and with --minutes nothing
is begun after that time. Then the same command goes on where it stopped.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from gain_bases import base_of
from gain_cases import run_cases
from gain_trainings import Setting, Truth, cell, summary

from cotrain.grouping import (
    DEFAULT_BACKENDS,
    Backend,
    CalibratedGains,
    GainModel,
    GainTable,
    Grouping,
    PairMean,
    StackedGains,
    TaskMean,
    search_groups,
    select_groups,
)

CHOSEN, TRAININGS, DRAWS, COVERS = 3, 15, 5, 1_000


def main() -> None:
    """Compute what is not in the file, and print a table per case."""
    run_cases(__doc__, _regrets, _print_table)


def _regrets(setting: Setting, truth: Truth, folder: Path) -> dict[str, float]:
    """By way of choosing, the regret in percent."""
    linearized = base_of(setting, truth.groups, folder).gains["stages"]
    valid, test = truth.table("valid"), truth.table("test")
    singles = len(truth.tasks)
    optimum = _sum_of_losses(select_groups(test, budget=CHOSEN, kappa=0.0), test, test)
    calibrated = partial(CalibratedGains, score=linearized)
    stack = partial(StackedGains, backends=DEFAULT_BACKENDS | {"linearized": calibrated})

    def lost(grouping: Grouping) -> float:
        return 100 * (_sum_of_losses(grouping, valid, test) / optimum - 1)

    def by(model: GainModel) -> float:
        """Of the real groups, those that are best by the model's mean."""
        table = GainTable(valid.tasks, valid.groups, model.predict(valid.groups)[0], None, valid.single_losses)
        return lost(select_groups(table, budget=CHOSEN, kappa=0.0))

    def over_draws(one: Callable[[int], float]) -> float:
        return float(np.mean([one(seed) for seed in range(DRAWS)]))

    def fitted(seed: int) -> float:
        together = np.flatnonzero([len(group) > 1 for group in valid.groups])
        drawn = np.random.default_rng([seed, TRAININGS]).choice(together, TRAININGS, replace=False)
        alone = [valid.groups.index((task,)) for task in valid.tasks]
        return by(stack(valid.rows([*alone, *drawn])))

    def searched(backend: Backend, *, alone: bool) -> float:
        return lost(_searched(valid, backend, alone, seed=0))

    def drawn(seed: int) -> float:
        return lost(_searched(valid, TaskMean, True, seed, acquisition="random", batch=TRAININGS))

    return {
        "best on validation, all groups trained": by(valid),
        "random covers": float(np.mean(_random_covers(valid, test)) / optimum - 1) * 100,
        f"HOA, {singles * (singles + 1) // 2} trainings": by(PairMean.from_pairs(valid)),
        "LinearizedGains, 1 training": by(linearized),
        f"StackedGains, 1 + {singles} alone + {TRAININGS} random trainings": over_draws(fitted),
        f"random search, {singles} alone + {TRAININGS} trainings": over_draws(drawn),
        f"search_groups, {singles} alone + {TRAININGS} trainings, no linearised network": searched(
            StackedGains, alone=True
        ),
        f"search_groups, 1 + {singles} alone + {TRAININGS} trainings": searched(stack, alone=True),
        f"search_groups, 1 + {TRAININGS} trainings in all": searched(stack, alone=False),
    }


def _searched(valid: GainTable, backend: Backend, alone: bool, seed: int, **options: object) -> Grouping:
    losses = valid.single_losses
    return search_groups(
        lambda groups: losses * (1 - valid.predict(groups)[0]),
        backend,
        tasks=valid.tasks,
        budget=CHOSEN,
        trainings=TRAININGS + alone * len(valid.tasks),
        singles=alone,
        tolerance=0.0,
        candidates=[group for group in valid.groups if len(group) > 1],
        seed=seed,
        **options,
    ).grouping


def _random_covers(valid: GainTable, test: GainTable) -> list[float]:
    """Sums of losses of random sets of three of the groups that cover all tasks, all equally likely."""
    members = ~np.isnan(valid.gains)
    generator, found = np.random.default_rng(0), []
    while len(found) < COVERS:
        rows = generator.choice(len(members), CHOSEN, replace=False)
        if members[rows].any(axis=0).all():
            found.append(_served(rows, valid, test))
    return found


def _sum_of_losses(grouping: Grouping, valid: GainTable, test: GainTable) -> float:
    of_group = {frozenset(group): row for row, group in enumerate(valid.groups)}
    return _served(np.array([of_group[frozenset(group.trains)] for group in grouping.groups]), valid, test)


def _served(rows: np.ndarray, valid: GainTable, test: GainTable) -> float:
    """The sum of the tasks' test losses, each in the network of the rows that has its highest validation gain."""
    server = np.nan_to_num(valid.gains[rows], nan=-np.inf).argmax(axis=0)
    return float((test.single_losses * (1 - test.gains[rows][server, np.arange(len(test.tasks))])).sum())


def _print_table(case: str, seeds: list[dict[str, float]]) -> None:
    print(f"\n{case}, regret in percent, {summary(len(seeds))}\n")
    print("| three networks by | regret |\n|---|---|")
    for name in seeds[0]:
        print(f"| {name} | {cell([figures[name] for figures in seeds])} |")
    print(flush=True)


if __name__ == "__main__":
    main()
