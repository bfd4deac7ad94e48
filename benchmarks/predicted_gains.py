"""Predicted gains against gains of real trainings: correlations over groups of 3 and more, overall and within tasks.

The truth are test losses of 221 groups of 15 tasks (156 of ten), trained as one fleet per seed. Every choice is made on
validation data: the stages of the base are a third, a half and two thirds of its best epoch, the penalties follow from
the validation losses of the tasks alone, and groups that a predictor is given come with their validation gains. They
are drawn at random from the groups of 3 to 7, or spread over the tasks by `spread_groups`, and only groups that it was
not given are judged; mean over 20 draws.
Use: python benchmarks/predicted_gains.py --folder FOLDER --json FILE [--data fashion digits census]
     [--network mlp cnn] [--rows 1000 4000] [--seeds 0 1 2 3 4] [--minutes M]
Trainings are kept in the folder, scores in the file: what is there is not computed again, and with --minutes nothing is
begun after that time. Then the same command goes on where it stopped.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from gain_bases import STAGES, base_of
from gain_cases import run_cases
from gain_trainings import Setting, Truth, cell, summary
from numpy.typing import NDArray
from scipy.stats import rankdata

from cotrain.grouping import CalibratedGains, GainModel, GainTable, MembershipRidge, PairMean, spread_groups

DRAWS = 20
COLUMNS = ("Pearson", "Pearson within task", "Spearman", "Spearman within task")

Scores = tuple[float, ...]
"""As `COLUMNS`."""


def main() -> None:
    """Compute what is not in the file, and print a table per case."""
    run_cases(__doc__, _judged, _print_table)


def _judged(setting: Setting, truth: Truth, folder: Path) -> dict[str, Scores]:
    names, groups = truth.tasks, truth.groups
    table, test = truth.table("valid"), truth.table("test").gains
    sizes = np.array([len(group) for group in groups])
    large = sizes >= 3
    candidates = np.flatnonzero(large & (sizes < len(names)))
    base = base_of(setting, groups, folder)
    pair_means = {name: PairMean(matrix, names) for name, matrix in base.affinities.items()}
    stages = base.gains["stages"]

    def fixed(model: GainModel) -> Scores:
        return _correlations(model.predict(groups)[0], test, large)

    def given(number: int, backend: Callable[[GainTable], GainModel], *, spread: bool = False) -> Scores:
        return _over_draws(table, test, large, candidates, number, backend, spread)

    scores = {
        "validation gains (ceiling)": _correlations(table.gains, test, large),
        "TAG mean": fixed(pair_means["transference"]),
        "PTG mean": fixed(pair_means["joint probes"]),
        "mean cosine": fixed(pair_means["cosine"]),
        "mean label correlation": fixed(pair_means["labels"]),
        "LinearizedGains, one stage": fixed(base.gains["one stage"]),
        "the same, not shrunk": fixed(base.gains["one stage, not shrunk"]),
        f"LinearizedGains, {len(STAGES)} stages of one run": fixed(stages),
        "the same stages, not shrunk": fixed(base.gains["stages, not shrunk"]),
        f"HOA, {len(names) * (len(names) + 1) // 2} trainings": fixed(PairMean.from_pairs(table)),
    }
    for number in (15, 30, 60):
        scores[f"ridge, {number} groups"] = given(number, MembershipRidge)
    scores["TAG calibrated, 8 groups"] = given(8, partial(CalibratedGains, score=pair_means["transference"]))
    scores["PTG calibrated, 8 groups"] = given(8, partial(CalibratedGains, score=pair_means["joint probes"]))
    calibrated = partial(CalibratedGains, score=stages)
    for number in (8, 15, 30):
        scores[f"calibrated, {number} groups"] = given(number, calibrated)
    for number in (8, 15):
        scores[f"calibrated, {number} spread groups"] = given(number, calibrated, spread=True)
    return scores


def _over_draws(
    table: GainTable, test: NDArray[np.float64], large: NDArray[np.bool_], candidates: NDArray[np.intp],
    number: int, backend: Callable[[GainTable], GainModel], spread: bool,
) -> Scores:  # fmt: skip
    """Mean correlations over draws of the groups at hand; the other groups are judged."""
    found = []
    for draw in range(DRAWS):
        generator = np.random.default_rng([draw, number])
        if spread:
            chosen = spread_groups([table.groups[row] for row in candidates], number, tasks=table.tasks, seed=generator)
            rows = np.array([table.groups.index(group) for group in chosen])
        else:
            rows = generator.choice(candidates, number, replace=False)
        at_hand = GainTable(table.tasks, [table.groups[row] for row in rows], table.gains[rows])
        judged = large.copy()
        judged[rows] = False
        found.append(_correlations(backend(at_hand).predict(table.groups)[0], test, judged))
    return tuple(np.mean(found, axis=0).tolist())


def _correlations(predicted: NDArray[np.float64], truth: NDArray[np.float64], judged: NDArray[np.bool_]) -> Scores:
    """Over all entries of the judged groups, and means over tasks; 0 where a prediction is constant."""
    entries = ~np.isnan(truth) & judged[:, None]
    of_tasks = [(predicted[rows, j], truth[rows, j]) for j, rows in enumerate(entries.T)]
    everything = (predicted[entries], truth[entries])
    ranks, ranks_of_tasks = tuple(map(rankdata, everything)), [tuple(map(rankdata, values)) for values in of_tasks]
    return (
        _pearson(*everything),
        float(np.mean([_pearson(*values) for values in of_tasks])),
        _pearson(*ranks),
        float(np.mean([_pearson(*values) for values in ranks_of_tasks])),
    )


def _pearson(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    return 0.0 if np.ptp(first) < 1e-12 or np.ptp(second) < 1e-12 else float(np.corrcoef(first, second)[0, 1])


def _print_table(case: str, seeds: list[dict[str, Scores]]) -> None:
    print(f"\n{case}, {summary(len(seeds))}\n")
    print(f"| predictor | {' | '.join(COLUMNS)} |\n|{'---|' * (1 + len(COLUMNS))}")
    for name in seeds[0]:
        columns = zip(*(scores[name] for scores in seeds), strict=True)
        print(f"| {name} | {' | '.join(map(cell, columns))} |")
    print(flush=True)


if __name__ == "__main__":
    main()
