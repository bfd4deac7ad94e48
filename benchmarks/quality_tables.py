"""Turns the results of aggregation_quality.py into tables: paired differences to equal weights, and how sure they are.

Differences are paired by seed; intervals are Student's at 95 %, each by itself. Among 30 methods that differ from
equal weights in nothing, one or two such intervals leave 0 out. The p-values are therefore Holm's, over all methods of
a table and column: "surely" better or worse means below .05 after that.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

__all__ = ["SINGLE_TASKS", "print_tables"]

SINGLE_TASKS = "single-tasks"
EQUAL_WEIGHTS = "sum"
LEVEL = 0.05
COLUMNS = {"epochs": "equal epochs", "time": "equal time"}

Results = dict[str, dict[int, dict[str, Any]]]


def print_tables(folder: Path, titles: Mapping[str, str]) -> None:
    """Print a table per data set, and one that counts over all.

    Args:
        folder: Of the results, a folder per data set with a file per method and seed.
        titles: By data set.
    """
    counts = []
    for name, title in titles.items():
        results = _read(folder / name)
        seeds = sorted(set.intersection(*(set(runs) for runs in results.values())))
        columns = {column: _against_equal_weights(results, seeds, column) for column in COLUMNS}
        control = [results[EQUAL_WEIGHTS][seed] for seed in seeds]
        print(f"### {title}\n")
        print(
            f"Seeds: {len(seeds)}. Equal weights: {_percent(_mean(control, 'epochs'))} mean accuracy,"
            f" {_percent(_worst(control))} of the worst task. Gradients of a pair of tasks conflicted in"
            f" {_percent(float(np.mean([run['conflict'] for run in control])), 0)} of the looks at them while these"
            " trained.\n"
        )
        print("| method | cost | accuracy | worst task | equal epochs | p | equal time | p |")
        print("|---|---|---|---|---|---|---|---|")
        for method in sorted(results, key=lambda method: -_mean([results[method][s] for s in seeds], "epochs")):
            runs = [results[method][seed] for seed in seeds]
            cells = [f"{runs[0]['cost']:.1f}", _percent(_mean(runs, "epochs")), _percent(_worst(runs))]
            for column in COLUMNS:
                cells += columns[column].get(method, ["0", ""])
            print(f"| {_shown(method)} | {' | '.join(cells)} |")
        print()
        for column, words in COLUMNS.items():
            counts.append(_counted(name, words, _tested(results, seeds, column)))
        counts.append(_counted(name, "equal epochs, the seed's worst task", _tested(results, seeds, "epochs", np.min)))
    print("| data | compared at | methods | surely better | surely worse | p < .05 before correction: better, worse |")
    print("|---|---|---|---|---|---|")
    print("\n".join(counts))


def _against_equal_weights(results: Results, seeds: list[int], column: str) -> dict[str, list[str]]:
    """By method: the difference with its interval in percentage points, and Holm's p."""
    found = {}
    for method, (differences, adjusted) in _tested(results, seeds, column).items():
        mean, half = _interval(differences)
        bounds = f" ({100 * (mean - half):+.2f} to {100 * (mean + half):+.2f})" if len(seeds) > 1 else ""
        found[method] = [f"{100 * mean:+.2f}{bounds}", _p(adjusted) if len(seeds) > 1 else ""]
    return found


def _tested(
    results: Results, seeds: list[int], column: str, figure: Callable[[list[float]], Any] = np.mean
) -> dict[str, tuple[NDArray[np.float64], float]]:
    """By method: the paired differences to equal weights, and Holm's p; single tasks are no method and not counted."""
    control = np.array([figure(results[EQUAL_WEIGHTS][seed]["epochs"]["accuracy"]) for seed in seeds])
    differences = {
        method: np.array([figure(runs[seed][column]["accuracy"]) for seed in seeds]) - control
        for method, runs in results.items()
        if method != EQUAL_WEIGHTS
    }
    raw = {method: _raw_p(values) for method, values in differences.items()}
    methods = sorted((method for method in raw if method != SINGLE_TASKS), key=raw.__getitem__)
    adjusted, highest = dict(raw), 0.0
    for place, method in enumerate(methods):
        highest = max(highest, min(1.0, raw[method] * (len(methods) - place)))
        adjusted[method] = highest
    return {method: (values, adjusted[method]) for method, values in differences.items()}


def _counted(data: str, words: str, tested: dict[str, tuple[NDArray[np.float64], float]]) -> str:
    tested.pop(SINGLE_TASKS, None)
    sure = [values.mean() for values, adjusted in tested.values() if adjusted < LEVEL]
    loose = [values.mean() for values, _ in tested.values() if _raw_p(values) < LEVEL]
    better, worse = (sum(bool(sign * mean > 0) for mean in sure) for sign in (1, -1))
    more, less = (sum(bool(sign * mean > 0) for mean in loose) for sign in (1, -1))
    return f"| {data} | {words} | {len(tested)} | {better} | {worse} | {more}, {less} |"


def _raw_p(values: NDArray[np.float64]) -> float:
    """Student's paired test; 1 where no seed differs at all."""
    if not values.any() or len(values) < 2:
        return 1.0
    return float(stats.ttest_1samp(values, 0).pvalue) if values.std() > 0 else 0.0


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    half = stats.t.ppf(1 - LEVEL / 2, len(values) - 1) * stats.sem(values) if len(values) > 1 else np.nan
    return float(values.mean()), float(half)


def _read(folder: Path) -> Results:
    found: Results = {}
    for path in sorted(folder.glob("*.json")):
        match = re.fullmatch(r"(.+)-(\d+)", path.stem)
        if match is not None:
            found.setdefault(match[1], {})[int(match[2])] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _mean(runs: list[dict[str, Any]], column: str) -> float:
    return float(np.mean([run[column]["accuracy"] for run in runs]))


def _worst(runs: list[dict[str, Any]]) -> float:
    """Accuracy of the task that is worst on average over the seeds."""
    return float(np.mean([run["epochs"]["accuracy"] for run in runs], axis=0).min())


def _percent(share: float, digits: int = 2) -> str:
    return f"{100 * share:.{digits}f} %"


def _p(value: float) -> str:
    return "< .001" if value < 0.001 else f"{value:.3f}".lstrip("0") if value < 1 else "1"


def _shown(method: str) -> str:
    return {EQUAL_WEIGHTS: "**sum** (equal weights)", SINGLE_TASKS: "*single tasks*"}.get(method, method)
