"""Predicted gains against the gains of real trainings: Pearson over groups of 3 and more, overall and within tasks.

The truth are test losses of 221 groups of 15 tasks (156 of ten), trained as one fleet per seed. Every choice is made on
validation data: the stages of the base are a third, a half and two thirds of its best epoch, the penalties follow from
the validation losses of the tasks alone, and groups that a predictor is given come with their validation gains. They
are drawn at random from the groups of 3 to 7, and only groups that it was not given are judged; mean over 20 draws.
Use: python benchmarks/predicted_gains.py --folder FOLDER [--data fashion digits census] [--network mlp cnn]
     [--rows 1000 4000] [--seeds 0 1 2 3 4] [--json FILE]
The trainings are kept in the folder; with it full the predictors take seconds per seed and stage.
"""

import argparse
import json
import warnings
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch
from gain_trainings import BATCH, DATA, EPOCHS, NETWORKS, PATIENCE, RATE, Setting, Truth, truth_of
from numpy.typing import NDArray

from cotrain import fit
from cotrain.affinity import LinearizedOutputs, Transference, label_correlation, linearized_outputs
from cotrain.grouping import (
    CalibratedGains,
    GainModel,
    GainTable,
    LinearizedGains,
    MembershipRidge,
    PairMean,
    RememberedGains,
)
from cotrain.optimizers import adam

DIRECTIONS, STAGES, RUNS, DRAWS = 256, (1 / 3, 1 / 2, 2 / 3), 2, 20
SEED_OF_BASES = 10_000
"""The bases start from other weights than the truth."""

Scores = dict[str, tuple[float, float]]


def main() -> None:
    """Train what is not in the folder, predict, judge and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where the trainings are kept")
    parser.add_argument("--data", nargs="+", choices=DATA, default=["fashion"])
    parser.add_argument("--network", nargs="+", choices=NETWORKS, default=["mlp"])
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 4000])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--epochs", type=int, default=None, help="of every training (default: as the data set needs)")
    parser.add_argument("--directions", type=int, default=DIRECTIONS)
    parser.add_argument("--runs", type=int, default=RUNS, help="bases of the row of several")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, default=None)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    warnings.simplefilter("ignore")
    found: dict[str, dict[str, Scores]] = {}
    for data, network, rows in product(chosen.data, chosen.network, chosen.rows):
        epochs = chosen.epochs or EPOCHS[data]
        case = f"{data}, {network}, {rows} rows, {epochs} epochs"
        found[case] = {}
        for seed in chosen.seeds:
            setting = Setting(data, network, rows, seed, epochs)
            scores = _judged(setting, truth_of(setting, chosen.folder), chosen.directions, chosen.runs)
            found[case][str(seed)] = scores
            print(
                f"{setting}: " + "; ".join(f"{name} {a:.2f} ({w:.2f})" for name, (a, w) in scores.items()), flush=True
            )
            if chosen.json:
                chosen.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        _print_table(case, list(found[case].values()))


def _judged(setting: Setting, truth: Truth, directions: int, runs: int) -> Scores:
    tasks, train, *_ = setting.load()
    names, groups = truth.tasks, truth.groups
    table, test = truth.table("valid"), truth.table("test").gains
    sizes = np.array([len(group) for group in groups])
    large = sizes >= 3
    candidates = np.flatnonzero(large & (sizes < len(names)))
    bases = [_base(setting, run, directions) for run in range(runs)]
    splits = [[stage for _, stages in bases for stage in stages[split]] for split in (0, 1)]
    middle = STAGES.index(1 / 2)
    affinity = bases[0][0]
    linearized = RememberedGains(LinearizedGains(*(part[: len(STAGES)] for part in splits)))

    def fixed(model: GainModel) -> tuple[float, float]:
        return _correlations(model.predict(groups)[0], test, large)

    def given(number: int, backend: Callable[[GainTable], GainModel]) -> tuple[float, float]:
        return _over_draws(table, test, large, candidates, number, backend)

    correlation = label_correlation(tasks, train[1]).double().nan_to_num(0.0).numpy()
    scores = {
        "validation gains (ceiling)": _correlations(table.gains, test, large),
        "TAG mean": fixed(PairMean(affinity.matrix.nan_to_num(0.0), names)),
        "mean cosine": fixed(PairMean(affinity.cosine.nan_to_num(0.0), names)),
        "mean label correlation": fixed(PairMean(correlation, names)),
        "LinearizedGains, one stage": fixed(LinearizedGains(splits[0][middle], splits[1][middle])),
        "the same, not shrunk": fixed(LinearizedGains(splits[0][middle], splits[1][middle], shrink=False)),
        f"LinearizedGains, {len(STAGES)} stages of one run": fixed(linearized),
        "the same stages, not shrunk": fixed(LinearizedGains(*(part[: len(STAGES)] for part in splits), shrink=False)),
        f"LinearizedGains, {len(STAGES)} stages of each of {runs} runs": fixed(LinearizedGains(*splits)),
        f"HOA, {len(names) * (len(names) + 1) // 2} trainings": fixed(PairMean.from_pairs(table)),
    }
    for number in (15, 30, 60):
        scores[f"ridge, {number} groups"] = given(number, MembershipRidge)
    tag = PairMean(affinity.matrix.nan_to_num(0.0), names)
    scores["TAG calibrated, 8 groups"] = given(8, partial(CalibratedGains, score=tag))
    for number in (8, 15, 30):
        scores[f"calibrated, {number} groups"] = given(number, partial(CalibratedGains, score=linearized))
    return scores


def _base(setting: Setting, run: int, directions: int):
    """One training of all tasks: its transference, and its stages linearised on both splits."""
    tasks, train, valid, _ = setting.load()
    seed = SEED_OF_BASES + 100 * setting.seed + run

    def trained(epochs: int, patience: int | None, watch: bool):
        torch.manual_seed(seed)
        model = setting.model(tasks, train[0])()
        watching = [Transference(model, tasks, estimator="gram", every=4)] if watch else []
        result = fit(
            model, tasks, train, valid, epochs=epochs, batch_size=BATCH, optimizer=adam(RATE),
            patience=patience, seed=seed, instruments=watching,
        )  # fmt: skip
        return result, watching

    whole, watching = trained(setting.epochs, PATIENCE, run == 0)
    best = whole.best_epoch + 1
    stages: tuple[list[LinearizedOutputs], list[LinearizedOutputs]] = ([], [])
    for number, stage in enumerate(STAGES):
        model = trained(max(1, round(stage * best)), None, False)[0].model
        for found, split in zip(stages, (train, valid), strict=True):
            found.append(linearized_outputs(model, tasks, split, directions=directions, seed=100 * run + number))
    return watching[0].result() if watching else None, stages


def _over_draws(
    table: GainTable, test: NDArray[np.float64], large: NDArray[np.bool_], candidates: NDArray[np.intp],
    number: int, backend: Callable[[GainTable], GainModel],
) -> tuple[float, float]:  # fmt: skip
    """Mean correlations over draws of the groups at hand; the other groups are judged."""
    found = []
    for draw in range(DRAWS):
        rows = np.random.default_rng([draw, number]).choice(candidates, number, replace=False)
        at_hand = GainTable(table.tasks, [table.groups[row] for row in rows], table.gains[rows])
        judged = large.copy()
        judged[rows] = False
        found.append(_correlations(backend(at_hand).predict(table.groups)[0], test, judged))
    overall, within = np.mean(found, axis=0)
    return float(overall), float(within)


def _correlations(
    predicted: NDArray[np.float64], truth: NDArray[np.float64], judged: NDArray[np.bool_]
) -> tuple[float, float]:
    """Pearson over all entries of the judged groups, and its mean over tasks; 0 where a prediction is constant."""
    entries = ~np.isnan(truth) & judged[:, None]
    within = [_pearson(predicted[rows, j], truth[rows, j]) for j, rows in enumerate(entries.T)]
    return _pearson(predicted[entries], truth[entries]), float(np.mean(within))


def _pearson(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    return 0.0 if np.ptp(first) < 1e-12 or np.ptp(second) < 1e-12 else float(np.corrcoef(first, second)[0, 1])


def _print_table(case: str, seeds: list[Scores]) -> None:
    print(f"\n{case}: mean over {len(seeds)} seeds (range)\n")
    print("| predictor | overall | within task |\n|---|---|---|")
    for name in seeds[0]:
        cells = [
            f"{np.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})"
            for values in zip(*(scores[name] for scores in seeds), strict=True)
        ]
        print(f"| {name} | {cells[0]} | {cells[1]} |")
    print(flush=True)


if __name__ == "__main__":
    main()
