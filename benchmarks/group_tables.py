"""Choosing, predicting and searching on published tables of really trained groups.

Three Standley tables (31 groups of 5 tasks, losses) and ettm1 (127 groups of 7 tasks, gains), see docs. Every choice is
made on validation columns and valued on test columns; which of the chosen networks serves a task is a validation choice
too. Printed are means with their 95 % intervals over seeds, where anything is random.
Use: python benchmarks/group_tables.py [--seeds 50] [--search-seeds 25] [--json FILE]
The tables are looked for in $COTRAIN_DATA/group-tables, else in ../shared/data/group-tables beside the repository.
"""

import argparse
import json
import os
import platform
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cotrain.grouping import (
    GainTable,
    HammingProcess,
    MeasuredPairMean,
    MembershipRidge,
    PairMean,
    StackedGains,
    TaskMean,
    search_groups,
    select_groups,
)
from cotrain.grouping.backends import Backend
from cotrain.grouping.judgement import Judgement, judge, random_regret, regret

STANDLEY = ("standley_setting1", "standley_large", "standley_small_data")
BUDGETS = range(1, 6)
COVERS = 10_000
GROUPS = (10, 20, 40, 80)
STANDLEY_TRAININGS, STANDLEY_BUDGETS = 12, (2, 3, 4)
ETT_TRAININGS, ETT_BUDGETS = 20, (2, 3)
BACKENDS: dict[str, Backend] = {
    "StackedGains": StackedGains,
    "task mean": TaskMean,
    "ridge": MembershipRidge,
    "similar groups": HammingProcess,
    "HOA, of the drawn pairs": MeasuredPairMean,
}
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
Lost = TypeVar("Lost", float, NDArray[np.float64])


def main() -> None:
    """Print the tables of all three questions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=50, help="draws of groups, random searches (default: 50)")
    parser.add_argument("--search-seeds", type=int, default=25, help="searches by the model (default: 25)")
    parser.add_argument("--json", type=Path, default=None, help="also write the figures to this file")
    chosen = parser.parse_args()
    root = os.environ.get("COTRAIN_DATA", Path(__file__).parents[2] / "shared" / "data")
    folder = Path(root) / "group-tables"
    record = {
        "machine": {"processor": platform.processor() or platform.machine(), "system": platform.platform()},
        "versions": {name: version(name) for name in ("cotrain", "numpy", "scipy")},
        "seeds": {"draws": chosen.seeds, "searches by the model": chosen.search_seeds, "random covers": COVERS},
    }
    parts: tuple[tuple[str, Callable[[], object]], ...] = (
        ("choices", lambda: _choices(folder)),
        ("correlations", lambda: _all_correlations(folder, chosen.seeds)),
        ("searches", lambda: _searches(folder, chosen.seeds, chosen.search_seeds)),
    )
    for name, part in parts:
        record[name] = part()
        if chosen.json is not None:
            chosen.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _choices(folder: Path) -> dict[str, dict[str, list[Interval]]]:
    """What each way to choose gives at every budget: the sum of test losses, or the mean test gain."""
    found = {}
    for name in (*STANDLEY, "ettm1"):
        validation, test = _tables(folder, name)
        ways: dict[str, Callable[[int], float]] = {
            "optimum on validation": _choosing(validation, validation, test),
            "HOA": _choosing(PairMean.from_pairs(validation), validation, test),
        }
        if name != "ettm1":
            early = GainTable.from_csv(folder / f"{name}.csv", "early_loss")
            ways["ESA"] = _choosing(early, validation, test)
            ways["TAG"] = _choosing(PairMean(AFFINITY, AFFINITY_TASKS), validation, test)
        found[name] = {"optimum on test": [(_value(test, 0.0, k), 0.0) for k in BUDGETS]}
        found[name] |= {way: [(_value(test, lost(k), k), 0.0) for k in BUDGETS] for way, lost in ways.items()}
        covers = [random_regret(test, k, draws=COVERS, serve_by=validation) for k in BUDGETS]
        found[name]["random covers"] = [
            _interval(_value(test, losts, k)) for k, losts in zip(BUDGETS, covers, strict=True)
        ]
        what = "mean test gain (larger is better)" if name == "ettm1" else "sum of test losses"
        _print(f"{name}, {what}", [f"k = {k}" for k in BUDGETS], found[name], digits=5)
    return found


def _all_correlations(folder: Path, seeds: int) -> dict[str, dict[str, list[Interval]]]:
    """Of gains predicted from some validation gains with the test gains of the other groups of ettm1."""
    validation, test = _tables(folder, "ettm1")
    together = np.array([i for i, group in enumerate(validation.groups) if len(group) > 1])
    judged: dict[str, list[list[Judgement]]] = {name: [[] for _ in GROUPS] for name in BACKENDS}
    for column, number in enumerate(GROUPS):
        for seed in range(seeds):
            rows = np.random.default_rng([seed, number]).choice(together, number, replace=False)
            at_hand = validation.rows(rows)
            for name, backend in BACKENDS.items():
                judged[name][column].append(judge(backend(at_hand), test))
    pairs = judge(PairMean.from_pairs(validation), test)
    judged["HOA, of all 21 pairs"] = [[pairs] for _ in GROUPS]
    found = {}
    for title, of in (("over all entries", "pearson"), ("of ranks", "spearman"), ("within tasks", "within_task")):
        # A prediction that is the same for all groups of a task says nothing about them: 0.
        found[title] = {
            name: [_interval(getattr(one, of) or 0.0 for one in cell) for cell in cells]
            for name, cells in judged.items()
        }
        _print(f"ettm1, correlation {title}", [f"{number} groups" for number in GROUPS], found[title], digits=3)
    return found


def _searches(folder: Path, seeds: int, search_seeds: int) -> dict[str, dict[str, list[Interval]]]:
    """Regret in percent of a search by the model, of one at random, of random covers and of HOA."""
    found = {}
    for name in (*STANDLEY, "ettm1"):
        validation, test = _tables(folder, name)
        hoa = PairMean.from_pairs(validation)
        budgets, trainings = STANDLEY_BUDGETS, STANDLEY_TRAININGS
        if name == "ettm1":
            budgets, trainings = ETT_BUDGETS, ETT_TRAININGS
        rows = {
            "search_groups": [
                _interval(100 * _searched(validation, test, k, trainings, seed) for seed in range(search_seeds))
                for k in budgets
            ],
            'acquisition="random"': [
                _interval(100 * _searched(validation, test, k, trainings, seed, "random") for seed in range(seeds))
                for k in budgets
            ],
            "HOA": [(100 * _choosing(hoa, validation, test)(k), 0.0) for k in budgets],
            "random covers": [
                _interval(100 * random_regret(test, k, draws=COVERS, serve_by=validation)) for k in budgets
            ],
        }
        found[f"{name}, {trainings} trainings"] = rows
        what = "100 x mean gain lost" if name == "ettm1" else "% of the optimal test loss"
        _print(f"{name}, {trainings} trainings, regret ({what})", [f"k = {k}" for k in budgets], rows, digits=2)
    return found


def _searched(
    validation: GainTable, test: GainTable, budget: int, trainings: int, seed: int, acquisition: str = "improvement"
) -> float:
    """The regret of one search; what is trained is looked up. The seed also decides the order of the tasks."""
    tasks = tuple(np.random.default_rng(1000 + seed).permutation(validation.tasks).tolist())
    columns = [validation.tasks.index(task) for task in tasks]
    losses, known = validation.single_losses, None
    if losses is None:
        losses = np.ones(len(tasks))
        alone = np.where(np.eye(len(tasks), dtype=bool), 0.0, np.nan)
        known = GainTable(tasks, [(task,) for task in tasks], alone, single_losses=losses)
    found = search_groups(
        lambda groups: (losses * (1 - validation.predict(groups)[0]))[:, columns],
        # At random the model is not asked, and the choice is among the trained groups: the cheapest one will do.
        TaskMean if acquisition == "random" else StackedGains,
        tasks=tasks,
        budget=budget,
        trainings=trainings,
        known=known,
        singles=False,
        acquisition=acquisition,
        tolerance=0.0,
        objective="auto" if known is None else "mean_gain",
        seed=seed,
    )
    return regret(found.grouping, test, budget=budget, serve_by=validation)


def _tables(folder: Path, name: str) -> tuple[GainTable, GainTable]:
    kind = "gain" if name == "ettm1" else "loss"
    validation, test = (
        GainTable.from_csv(folder / f"{name}.csv", f"{split}_{kind}") for split in ("validation", "test")
    )
    return validation, test


def _choosing(model: GainTable | PairMean, validation: GainTable, test: GainTable) -> Callable[[int], float]:
    """By budget, the regret of what the model chooses by its mean."""

    def lost(budget: int) -> float:
        chosen = select_groups(model, budget=budget, kappa=0.0)
        return regret(chosen, test, budget=budget, serve_by=validation)

    return lost


def _value(test: GainTable, lost: Lost, budget: int) -> Lost:
    """The sum of losses or the mean gain of choices with this regret."""
    best = select_groups(test, budget=budget, kappa=0.0).value
    return best - lost if test.single_losses is None else (test.single_losses.sum() - best) * (1 + lost)


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
