"""Fronts of many methods and seeds: trained into a folder, resumed from it, and turned into a table."""

import argparse
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from pareto_methods import AGGREGATION, METHODS, Problem, trained
from scipy import stats
from torch import Tensor

__all__ = ["add_arguments", "run"]

Samples = tuple[Tensor, Tensor]


def add_arguments(parser: argparse.ArgumentParser, methods: list[str]) -> argparse.ArgumentParser:
    """The options of a Pareto benchmark, beside those that `parser` has already."""
    parser.add_argument("--folder", type=Path, required=True, help="where the fronts are kept")
    parser.add_argument(
        "--methods", nargs="+", default=methods, help=f"of {', '.join(METHODS)}, or '{AGGREGATION}NAME'"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--minutes", type=float, default=None, help="begin no training after so many minutes")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--table", action="store_true", help="print the table instead of training")
    return parser


def run(chosen: argparse.Namespace, load: Callable[[int, int], tuple[Problem, Samples]]) -> None:
    """Train what is missing, or print the table.

    Args:
        chosen: From the parser of `add_arguments`.
        load: From seed and epochs to the problem and the test samples.
    """
    if chosen.table:
        _print_table(chosen.folder, chosen.methods, chosen.seeds)
        return
    torch.set_num_threads(1)
    stop = time.monotonic() + 60 * chosen.minutes if chosen.minutes else float("inf")
    for seed in chosen.seeds:
        for method in chosen.methods:
            file = chosen.folder / f"{method.replace(' ', '-').replace(',', '').replace(':', '')}-{seed}.json"
            if file.exists() or time.monotonic() > stop:
                continue
            problem, test = load(seed, chosen.epochs)
            started = time.process_time()
            model = trained(problem, method, seed)
            seconds = time.process_time() - started
            points = model.preferences if hasattr(model, "preferences") else 11
            front = model.front(test, points)
            chosen.folder.mkdir(parents=True, exist_ok=True)
            file.write_text(
                json.dumps(
                    {
                        "method": method,
                        "seed": seed,
                        "seconds": round(seconds, 1),
                        "epochs": chosen.epochs,
                        "preferences": front.preferences.tolist(),
                        "accuracies": front.metrics.tolist(),
                        "losses": front.losses.tolist(),
                        "hypervolume": front.hypervolume(0.0),
                    }
                )
                + "\n"
            )
            print(f"{method}, seed {seed}: hypervolume {front.hypervolume(0.0):.5f}, {seconds:.0f} s", flush=True)


def _print_table(folder: Path, methods: list[str], seeds: list[int]) -> None:
    results: dict[str, list[Mapping]] = {method: [] for method in methods}
    for file in sorted(folder.glob("*.json")):
        result = json.loads(file.read_text())
        if result["method"] in results and result["seed"] in seeds:
            results[result["method"]].append(result)
    control = {one["seed"]: one["hypervolume"] for one in results.get("equal weights", [])}
    print(
        "| method | seeds | hypervolume (95 %) | less equal weights' | processor time | points | wrong way | corner |"
    )
    print("|---|---|---|---|---|---|---|---|")
    base = np.mean([one["seconds"] for one in results.get("equal weights", [])] or [np.nan])
    for method, found in sorted(
        results.items(), key=lambda item: -np.mean([one["hypervolume"] for one in item[1]] or [0])
    ):
        if not found:
            continue
        values = np.array([one["hypervolume"] for one in found])
        paired = np.array([one["hypervolume"] - control[one["seed"]] for one in found if one["seed"] in control])
        orders = [_order(one) for one in found]
        several = len(found[0]["preferences"]) > 1
        print(
            f"| {method} | {len(found)} | {_interval(values)} | {_interval(paired, '+')} |"
            f" {np.mean([one['seconds'] for one in found]) / base:.1f} | {len(found[0]['preferences'])} |"
            + (f" {sum(o[0] for o in orders)} | {sum(o[1] for o in orders)} |" if several else " - | - |")
        )


def _order(result: Mapping) -> tuple[bool, bool]:
    """Whether a task's loss at its own corner is above that at the other; whether it is lowest there of all points."""
    losses, preferences = np.array(result["losses"]), np.array(result["preferences"])
    own = preferences.argmax(0)
    wrong = [losses[own[task], task] > losses[own[1 - task], task] for task in range(losses.shape[1])]
    best = [losses[own[task], task] <= losses[:, task].min() for task in range(losses.shape[1])]
    return any(wrong), all(best)


def _interval(values: np.ndarray, sign: str = "") -> str:
    if len(values) < 2:
        return f"{values.mean():{sign}.4f}" if len(values) else "-"
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return f"{values.mean():{sign}.4f} ± {half:.4f}"
