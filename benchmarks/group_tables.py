"""Choosing, predicting and searching on published tables of really trained groups.

Three Standley tables (31 groups of 5 tasks, losses) and ettm1 (127 groups of 7 tasks, gains), see docs. Every choice is
made on validation columns and valued on test columns; which of the chosen networks serves a task is a validation choice
too. Printed are means with their 95 % intervals over seeds, where anything is random.
Use: python benchmarks/group_tables.py [--seeds 50] [--search-seeds 50] [--json FILE [--minutes M]]
With --json a figure that is in the file is not computed again; with --minutes none is begun after that time, and the
same command goes on where it stopped.
The tables are looked for in $COTRAIN_DATA/group-tables, else in ../shared/data/group-tables beside the repository.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from cotrain.grouping import (
    GainTable,
    HammingProcess,
    Judgement,
    MeasuredPairMean,
    MembershipRidge,
    PairMean,
    Shortened,
    StackedGains,
    TaskMean,
    judge,
    random_regret,
    regret,
    search_groups,
    select_groups,
)
from cotrain.grouping.backends import Backend
from cotrain.grouping.gains import FloatArray, Groups
from cotrain.grouping.next_trainings import Acquisition

STANDLEY = ("standley_setting1", "standley_large", "standley_small_data")
BUDGETS = range(1, 6)
COVERS = 10_000
GROUPS = (10, 20, 40, 80)
STANDLEY_TRAININGS, STANDLEY_BUDGETS = 12, (2, 3, 4)
ETT_TRAININGS, ETT_BUDGETS = 20, (2, 3)
FEW_SEARCHES = 5
"""Of the searches that begin with the tasks alone: nearly all find the same."""
EARLY_PRICE = 0.2
"""The early losses of the tables are those after about a fifth of the training."""
BACKENDS: dict[str, Backend] = {
    "StackedGains": StackedGains,
    "task mean": TaskMean,
    "ridge": MembershipRidge,
    "similar groups": HammingProcess,
    "HOA, of the drawn pairs": MeasuredPairMean,
}
CORRELATIONS = {"over all entries": "pearson", "of ranks": "spearman", "within tasks": "within_task"}
AFFINITY_TASKS = ("segmentation", "depth", "normals", "keypoints", "edges")
AFFINITY = np.array(
    [
        [0.0, 0.414, 0.140, 0.021, 0.057],
        [0.115, 0.0, 0.221, 0.013, 0.037],
        [0.049, 0.291, 0.0, 0.011, 0.036],
        [0.005, 0.014, 0.010, 0.0, 0.304],
        [0.009, 0.074, 0.076, 0.690, 0.0],
    ]
)
"""The affinity between Taskonomy tasks that was released with TAG (arXiv:2109.04617), row = source."""

Interval = tuple[float, float]
Lost = Callable[[int], Iterable[float]]
"""By budget, the regret; several where chance takes part."""


class OutOfTimeError(Exception):
    """No figure may be begun any more."""


class Figures:
    """What is computed, by name: kept in a file, and computed once."""

    def __init__(self, path: Path | None, minutes: float, record: dict[str, Any]) -> None:
        self._path, self._end = path, time.monotonic() + 60 * minutes
        self._record: dict[str, Any] = {**record, "figures": {}}
        if path is not None and path.exists():
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept["seeds"] != record["seeds"] or kept["versions"] != record["versions"]:
                sys.exit(f"{path} is of other seeds or versions. Delete it, or name another file.")
            self._record = kept

    def get(self, name: str, compute: Callable[[], list[Interval]]) -> list[Interval]:
        """The figures of one row of a table."""
        kept = self._record["figures"]
        if name not in kept:
            if time.monotonic() > self._end:
                raise OutOfTimeError
            kept[name] = compute()
            if self._path is not None:
                self._path.write_text(json.dumps(self._record, indent=1) + "\n", encoding="utf-8")
        return [(mean, half) for mean, half in kept[name]]


def main() -> None:
    """Print the tables of all three questions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=50, help="draws of groups, random searches (default: 50)")
    parser.add_argument("--search-seeds", type=int, default=50, help="searches by the model (default: 50)")
    parser.add_argument("--json", type=Path, default=None, help="keep the figures in this file")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no figure after so many minutes")
    chosen = parser.parse_args()
    root = os.environ.get("COTRAIN_DATA", Path(__file__).parents[2] / "shared" / "data")
    folder = Path(root) / "group-tables"
    record = {
        "machine": {"processor": platform.processor() or platform.machine(), "system": platform.platform()},
        "versions": {name: version(name) for name in ("cotrain", "numpy", "scipy")},
        "seeds": {"draws": chosen.seeds, "searches by the model": chosen.search_seeds, "random covers": COVERS},
    }
    figures = Figures(chosen.json, chosen.minutes, record)
    try:
        for name in (*STANDLEY, "ettm1"):
            _choices(figures, folder, name)
        for name in (*STANDLEY, "ettm1"):
            _searches(figures, folder, name, chosen.seeds, chosen.search_seeds)
        _all_correlations(figures, folder, chosen.seeds)
    except OutOfTimeError:
        sys.exit("Out of time: the same command goes on here.")


def _choices(figures: Figures, folder: Path, name: str) -> None:
    """What each way to choose gives at every budget: the sum of test losses, or the mean test gain."""
    validation, test = _tables(folder, name)
    models: dict[str, GainTable | PairMean] = {
        "optimum on validation": validation,
        "HOA": PairMean.from_pairs(validation),
    }
    if name != "ettm1":
        models["ESA"] = GainTable.from_csv(folder / f"{name}.csv", "early_loss")
        models["TAG"] = PairMean(AFFINITY, AFFINITY_TASKS)
    ways: dict[str, Lost] = {"optimum on test": lambda _: [0.0]}
    ways |= {way: _choosing(model, validation, test) for way, model in models.items()}
    ways["random covers"] = lambda k: random_regret(test, k, draws=COVERS, serve_by=validation)
    what = "mean test gain (larger is better)" if name == "ettm1" else "sum of test losses"
    _tabulate(figures, f"{name}, {what}", BUDGETS, ways, partial(_value, test), digits=5)


def _searches(figures: Figures, folder: Path, name: str, seeds: int, search_seeds: int) -> None:
    """Regret in percent of a search by the model, of one at random, of random covers and of HOA."""
    validation, test = _tables(folder, name)
    budgets, trainings = (ETT_BUDGETS, ETT_TRAININGS) if name == "ettm1" else (STANDLEY_BUDGETS, STANDLEY_TRAININGS)
    searched = partial(_searched, validation, test, trainings)
    early = None if name == "ettm1" else GainTable.from_csv(folder / f"{name}.csv", "early_loss")
    ways: dict[str, Lost] = {
        "search_groups": lambda k: (searched(k, seed) for seed in range(search_seeds)),
        'acquisition="random"': lambda k: (searched(k, seed, "random") for seed in range(seeds)),
        "HOA": _choosing(PairMean.from_pairs(validation), validation, test),
        "random covers": lambda k: random_regret(test, k, draws=COVERS, serve_by=validation),
    }
    if early is not None:
        few = range(FEW_SEARCHES)
        ways["search_groups, tasks alone first"] = lambda k: (searched(k, seed, singles=True) for seed in few)
        ways["the same, shortened trainings too"] = lambda k: (
            searched(k, seed, singles=True, early=early) for seed in few
        )
    what = "100 x mean gain lost" if name == "ettm1" else "% of the optimal test loss"
    title = f"{name}, {trainings} trainings, regret ({what})"
    _tabulate(figures, title, budgets, ways, lambda lost, _: 100 * lost, digits=2)


def _tabulate(
    figures: Figures,
    title: str,
    budgets: Iterable[int],
    ways: dict[str, Lost],
    shown: Callable[[float, int], float],
    digits: int,
) -> None:
    """Prints for every way and budget what is shown of its regrets."""

    def cell(lost: Lost, budget: int) -> list[Interval]:
        return [_interval(shown(one, budget) for one in lost(budget))]

    rows = {
        way: [figures.get(f"{title}: {way}, k = {k}", partial(cell, lost, k))[0] for k in budgets]
        for way, lost in ways.items()
    }
    _print(title, [f"k = {k}" for k in budgets], rows, digits)


def _all_correlations(figures: Figures, folder: Path, seeds: int) -> None:
    """Of gains predicted from some validation gains with the test gains of the other groups of ettm1."""
    validation, test = _tables(folder, "ettm1")
    together = np.array([i for i, group in enumerate(validation.groups) if len(group) > 1])

    def drawn(name: str, number: int) -> list[Interval]:
        judged = []
        for seed in range(seeds):
            rows = np.random.default_rng([seed, number]).choice(together, number, replace=False)
            judged.append(judge(BACKENDS[name](validation.rows(rows)), test))
        return _correlations(judged)

    cells = {
        name: [figures.get(f"ettm1, {number} groups: {name}", partial(drawn, name, number)) for number in GROUPS]
        for name in BACKENDS
    }
    pairs = figures.get("ettm1, all pairs: HOA", lambda: _correlations([judge(PairMean.from_pairs(validation), test)]))
    cells["HOA, of all 21 pairs"] = [pairs for _ in GROUPS]
    for place, what in enumerate(CORRELATIONS):
        rows = {name: [cell[place] for cell in row] for name, row in cells.items()}
        _print(f"ettm1, correlation {what}", [f"{number} groups" for number in GROUPS], rows, digits=3)


def _correlations(judged: Sequence[Judgement]) -> list[Interval]:
    """As `CORRELATIONS`; a prediction that is the same for all groups of a task says nothing about them: 0."""
    return [_interval(getattr(one, of) or 0.0 for one in judged) for of in CORRELATIONS.values()]


def _searched(
    validation: GainTable,
    test: GainTable,
    trainings: int,
    budget: int,
    seed: int,
    acquisition: Acquisition = "improvement",
    singles: bool = False,
    early: GainTable | None = None,
) -> float:
    """The regret of one search; what is trained is looked up. The seed also decides the order of the tasks."""
    tasks = tuple(np.random.default_rng(1000 + seed).permutation(validation.tasks).tolist())
    columns = [validation.tasks.index(task) for task in tasks]
    losses, known = validation.single_losses, None
    if losses is None:
        alone = np.where(np.eye(len(tasks), dtype=bool), 0.0, np.nan)
        known = GainTable(tasks, [(task,) for task in tasks], alone, single_losses=np.ones(len(tasks)))
    found = search_groups(
        lambda groups: _losses(validation, groups)[:, columns],
        # At random the model is not asked, and the choice is among the trained groups: the cheapest one will do.
        TaskMean if acquisition == "random" else StackedGains,
        tasks=tasks,
        budget=budget,
        trainings=trainings,
        known=known,
        singles=singles,
        batch=trainings if acquisition == "random" else 1,
        acquisition=acquisition,
        tolerance=0.0,
        shortened=None if early is None else Shortened(lambda groups: _losses(early, groups)[:, columns], EARLY_PRICE),
        objective="auto" if known is None else "mean_gain",
        seed=seed,
    )
    return regret(found.grouping, test, budget=budget, serve_by=validation)


def _losses(table: GainTable, groups: Groups) -> FloatArray:
    """[n, T], what the groups' losses are in a table; of gains alone, over losses of 1."""
    alone = np.ones(len(table.tasks)) if table.single_losses is None else table.single_losses
    return np.asarray(alone * (1 - table.predict(groups)[0]))


def _tables(folder: Path, name: str) -> tuple[GainTable, GainTable]:
    kind = "gain" if name == "ettm1" else "loss"
    validation, test = (
        GainTable.from_csv(folder / f"{name}.csv", f"{split}_{kind}") for split in ("validation", "test")
    )
    return validation, test


def _choosing(model: GainTable | PairMean, validation: GainTable, test: GainTable) -> Lost:
    """By budget, the regret of what the model chooses by its mean."""

    def lost(budget: int) -> list[float]:
        chosen = select_groups(model, budget=budget, kappa=0.0)
        return [regret(chosen, test, budget=budget, serve_by=validation)]

    return lost


def _value(test: GainTable, lost: float, budget: int) -> float:
    """The sum of losses or the mean gain of a choice with this regret."""
    best = _best_value(test, budget)
    return best - lost if test.single_losses is None else float((test.single_losses.sum() - best) * (1 + lost))


@cache
def _best_value(test: GainTable, budget: int) -> float:
    return select_groups(test, budget=budget, kappa=0.0).value


def _interval(values: Iterable[float]) -> Interval:
    """Mean and half the width of its 95 % interval."""
    array = np.array(list(values))
    return float(array.mean()), float(1.96 * array.std(ddof=1) / len(array) ** 0.5) if len(array) > 1 else 0.0


def _print(title: str, columns: Sequence[str], rows: dict[str, list[Interval]], digits: int) -> None:
    print(f"\n{title}\n\n| | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    for name, cells in rows.items():
        words = [f"{mean:.{digits}f}" + (f" ± {half:.{digits}f}" if half else "") for mean, half in cells]
        print(f"| {name} | {' | '.join(words)} |", flush=True)


if __name__ == "__main__":
    main()
