"""A front's folder with known numbers, written the way a front is."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cotrain.study.front_words import front_verdict


def write_front(
    folder: Path, names: Sequence[str] = ("age", "income"), tasks: Sequence[str] | None = None, n: int = 11
) -> Path:
    """Preferences over `names`; every task improves with the share of its knob, the last one is an error."""
    tasks = list(names if tasks is None else tasks)
    rng = np.random.default_rng(0)
    shares = rng.dirichlet([1.0] * len(names), size=n)
    if len(names) == 2:
        shares = np.stack([np.linspace(1, 0, n), np.linspace(0, 1, n)], axis=1)
    points = [
        {
            "preference": dict(zip(names, [float(share) for share in row], strict=True)),
            "dominated": k % 3 == 1,
            "valid": {task: _entry(t, row[t % len(names)], len(tasks)) for t, task in enumerate(tasks)},
            "test": {task: _entry(t, row[t % len(names)] - 0.1, len(tasks)) for t, task in enumerate(tasks)},
        }
        for k, row in enumerate(shares)
    ]
    control = {
        what: {part: {task: _entry(t, level, len(tasks)) for t, task in enumerate(tasks)} for part in ("valid", "test")}
        for what, level in (("equal", 0.4), ("single", 1.1))
    }
    interval = {"value": 0.7, "low": 0.65, "high": 0.75}
    volumes = dict.fromkeys(("front", "equal", "single", "over_equal", "over_single"), interval)
    found: dict[str, Any] = {
        "data": "census-income",
        "samples": {"training": 1000, "validation": 300, "test": 400},
        "names": list(names),
        "members": {name: [name] for name in names},
        "tasks": [
            {"name": task, "metric": "mae" if last else "accuracy", "better": "lower" if last else "higher"}
            for task, last in zip(tasks, [False] * (len(tasks) - 1) + [True], strict=True)
        ],
        "left_out": [],
        "training": {
            "form": "full", "rays": 4, "epochs": 9, "best_epoch": 4, "history": [1.0], "parameters": 190,
            "parameters_of_one_network": 100,
        },
        "points": points,
        "controls": control,
        "hypervolume": {"valid": volumes, "test": volumes},
        "reference": dict.fromkeys(tasks, 0.0),
        "order": {
            part: {"count": 2, "total": 20, "corners": dict.fromkeys(names, True)} for part in ("valid", "test")
        },
        "against_equal": {
            "point": 2,
            "least_gain": 0.01,
            "test": {task: {"difference": 0.02, "low": 0.01, "high": 0.03} for task in tasks[:-1]}
            | {tasks[-1]: {"difference": 0.0, "low": -0.1, "high": 0.1}},
        },
        "draws": 1000,
        "level": 0.95,
    }  # fmt: skip
    (folder / "pareto").mkdir(parents=True, exist_ok=True)
    (folder / "pareto" / "front.json").write_text(json.dumps({**found, "verdict": front_verdict(found)}))
    (folder / "pareto" / "front.yaml").write_text(yaml.safe_dump({"data": "census-income", "form": "full"}))
    return folder


def write_choice(folder: Path, preference: dict[str, float], tasks: Sequence[str]) -> None:
    """A choice that is written beside the front."""
    entry = {"metric": 0.8, "low": 0.75, "high": 0.85, "loss": 0.3}
    on_test = {**entry, "metric": 0.7654}
    choice = {
        "preference": preference, "feasible": True, "violation": {}, "sentence": "Chosen as wished.",
        "valid": dict.fromkeys(tasks, entry), "test": dict.fromkeys(tasks, on_test),
    }  # fmt: skip
    (folder / "pareto" / "choice.json").write_text(json.dumps(choice))


def _entry(t: int, share: float, n_tasks: int) -> dict[str, float]:
    value = 5.0 - share if t == n_tasks - 1 else 0.7 + 0.1 * share
    return {"metric": value, "low": value - 0.02, "high": value + 0.02, "loss": 0.5 - 0.1 * share}
