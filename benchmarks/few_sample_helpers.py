"""Helpers for a task with few labels: what `select_auxiliaries` chooses, against no, all and random helpers.

On the digits, each of some tasks in turn has labels on a few training and validation samples only; the other tasks keep
all of theirs. The task alone and with every single helper are trained as one fleet; the helpers are chosen by the
validation gains of these pairs, kept where above one standard error. Then the chosen helpers, as many random ones and
all are trained with other seeds and valued by the main task's test loss over that of training it alone.
Use: python benchmarks/few_sample_helpers.py [--seeds 5] [--labels 40] [--json FILE]
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cotrain import SharedTrunk, fit_fleet
from cotrain.data import MultiTaskData, load_digits
from cotrain.grouping import PairMean, select_auxiliaries

MAINS = ("is_3", "is_8", "closed_loop", "odd", "upside_down")
EPOCHS, TRAININGS = 60, 3
"""The pairs are trained with so many seeds; their spread is the standard error that a helper must exceed."""

WAYS = ("chosen", "chosen, by their weights", "as many random ones", "all others", "best single one, by validation")


def main() -> None:
    """Train, choose, train again and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--labels", type=int, default=40, help="of the main task, in training")
    parser.add_argument("--json", type=Path, default=None)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    record: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for task in MAINS:
        for seed in range(chosen.seeds):
            record[task].append(_compared(task, chosen.labels, seed))
            print(f"{task}, seed {seed}: {record[task][-1]}", flush=True)
    print(
        f"\n| {chosen.labels} labels of | helpers kept | " + " | ".join(WAYS) + " |\n" + "|---" * (len(WAYS) + 2) + "|"
    )
    for task, rows in [*record.items(), ("mean", [row for found in record.values() for row in found])]:
        kept = np.mean([row["kept"] for row in rows])
        cells = [_interval([row[way] for row in rows]) for way in WAYS]
        print(f"| {task} | {kept:.1f} | " + " | ".join(cells) + " |")
    if chosen.json:
        chosen.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _compared(main: str, labels: int, seed: int) -> dict[str, Any]:
    data = load_digits(seed=seed)
    names = [name for name in data.tasks.names if name not in ("coin_flip", "not_closed_loop")]
    others = [name for name in names if name != main]
    rng = np.random.default_rng(seed)
    splits = _scarce(data, main, labels, rng)
    pairs = [{main: 1.0}, *({main: 1.0, other: 1.0} for other in others)]
    valid = np.array([_losses(data, main, pairs, splits, 100 * seed + run)[0] for run in range(TRAININGS)])
    gains = 1 - valid[:, 1:] / valid[:, :1]
    effects, errors = np.zeros((2, len(names), len(names)))
    sources = [names.index(other) for other in others]
    effects[sources, names.index(main)] = gains.mean(0)
    errors[sources, names.index(main)] = gains.std(0, ddof=1) / TRAININGS**0.5
    found = select_auxiliaries(main, PairMean(effects, names, stderr=errors))
    drawn = rng.permutation(others)[: len(found.helpers)].tolist()
    best = others[int(gains.mean(0).argmax())]
    ways: dict[str, Mapping[str, float]] = {
        "chosen": dict.fromkeys(found.helpers, 1.0),
        "chosen, by their weights": found.weights,
        "as many random ones": dict.fromkeys(drawn, 1.0),
        "all others": dict.fromkeys(others, 1.0),
        "best single one, by validation": {best: 1.0},
    }
    rows = [{main: 1.0, **helpers} for helpers in ({}, *ways.values())]
    test = np.mean([_losses(data, main, rows, splits, 10_000 + 100 * seed + run)[1] for run in range(TRAININGS)], 0)
    return {"kept": len(found.helpers)} | {
        way: float(1 - loss / test[0]) for way, loss in zip(ways, test[1:], strict=True)
    }


def _scarce(data: MultiTaskData, main: str, labels: int, rng: np.random.Generator) -> list[tuple[Tensor, Tensor]]:
    """Training and validation samples with few labels of the main task, half as many in validation."""
    column = data.tasks.names.index(main)
    splits = []
    for part, count in ((data.train, labels), (data.valid, labels // 2)):
        inputs, targets = part.pair
        targets = targets.clone()
        hidden = rng.permutation(len(targets))[count:]
        targets[torch.from_numpy(hidden), column] = torch.nan
        splits.append((inputs, targets))
    return splits


def _losses(
    data: MultiTaskData, main: str, rows: Sequence[Mapping[str, float]], splits: list[tuple[Tensor, Tensor]], seed: int
) -> tuple[list[float], list[float]]:
    """Validation and test losses of the main task with every row of weights, at the best epoch of all its tasks."""
    names = data.tasks.names
    weights = torch.tensor([[row.get(name, 0.0) for name in names] for row in rows])

    def network() -> nn.Module:
        trunk = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU())
        return SharedTrunk(trunk, data.tasks, 32)

    fleet = fit_fleet(network, data.tasks, weights, *splits, epochs=EPOCHS, patience=None, seed=seed)
    column = names.index(main)
    return fleet.valid_losses[:, column].tolist(), [found.loss_of(main) for found in fleet.evaluate(data.test.pair)]


def _interval(values: Sequence[float]) -> str:
    half = 1.96 * np.std(values, ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.nan
    return f"{np.mean(values):+.3f} ± {half:.3f}"


if __name__ == "__main__":
    main()
