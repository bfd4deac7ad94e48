"""The cases that predicted gains are judged on, one after the other: what is in the file is not computed again."""

import argparse
import json
import time
import warnings
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import torch
from gain_trainings import DATA, EPOCHS, NETWORKS, Setting, Truth, truth_of

__all__ = ["run_cases"]

Figures = Any
"""Of one seed, as JSON takes them."""


def run_cases(
    doc: str | None, figures_of: Callable[[Setting, Truth, Path], Figures], show: Callable[[str, list[Figures]], None]
) -> None:
    """Read the command line, compute what is missing, and show every case.

    Args:
        doc: What the script does.
        figures_of: From a setting, its truth and the folder of trainings to what is kept.
        show: Takes the name of a case and what is kept of its seeds.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where the trainings are kept")
    parser.add_argument("--json", type=Path, required=True, help="where the figures are kept")
    parser.add_argument("--data", nargs="+", choices=DATA, default=["fashion"])
    parser.add_argument("--network", nargs="+", choices=NETWORKS, default=["mlp"])
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 4000])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no seed after so many minutes")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    end = time.monotonic() + 60 * chosen.minutes
    found = json.loads(chosen.json.read_text(encoding="utf-8")) if chosen.json.exists() else {}
    for data, network, rows in product(chosen.data, chosen.network, chosen.rows):
        case = found.setdefault(f"{data}, {network}, {rows} rows, {EPOCHS[data]} epochs", {})
        for seed in chosen.seeds:
            if str(seed) in case or time.monotonic() > end:
                continue
            setting = Setting(data, network, rows, seed, EPOCHS[data])
            case[str(seed)] = figures_of(setting, truth_of(setting, chosen.folder), chosen.folder)
            chosen.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    for name, seeds in found.items():
        if seeds:
            show(name, list(seeds.values()))
