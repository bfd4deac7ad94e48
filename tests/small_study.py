"""A study that takes a second: a small table on disk, or data in memory, and how to run it."""

from contextlib import nullcontext
from pathlib import Path

import numpy as np

from cotrain.data import MultiTaskData
from cotrain.progress import silent
from cotrain.study import StudyConfig, run_study, setting

TARGETS = ("positive", "larger", "level", "amount")
DESIGNED_FILES = (
    "study.yaml", "affinity.csv", "gains.csv", "grouping.json", "metrics.json", "front.csv", "events.jsonl",
)  # fmt: skip
RESULTS = ("metrics.json", "gains.csv", "grouping.json", "front.csv")


def write_table(path: Path, n: int = 240) -> Path:
    """Four inputs; two binary targets that are kin, one of three classes, one regression target."""
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((n, 4)).round(3)
    columns = [
        *inputs.T,
        (inputs[:, 0] > 0).astype(int),
        (inputs[:, 0] + 0.5 * inputs[:, 1] > 0).astype(int),
        np.digitize(inputs[:, 2], [-0.5, 0.5]),
        (100 + 20 * inputs[:, 3]).round(2),
    ]
    lines = [",".join(("w", "x", "y", "z", *TARGETS)), *(",".join(map(str, row)) for row in zip(*columns, strict=True))]
    path.write_text("\n".join(lines) + "\n")
    return path


def small_config(data: Path | str, **changes) -> StudyConfig:
    """Two seeds of three epochs, enough to tell most targets from chance; no group is trained to learn from."""
    options = {
        "method": "transference",
        "targets": TARGETS,
        "epochs": 3,
        "seeds": 2,
        "batch_size": 16,
        "learning_rate": 1e-2,
        "width": 16,
        **changes,
    }
    return StudyConfig(str(data), **options)


def run_silently(config: StudyConfig, out: Path, **options) -> Path:
    """`run_study` without a bar; the folder."""
    run_study(config, out, bar=lambda words: nullcontext(silent), **options)
    return out


def give_data(monkeypatch, data: MultiTaskData) -> None:
    """Let studies load these data, whatever they name."""
    monkeypatch.setattr(setting, "load", lambda *_, **__: data)


def results_of(folder: Path) -> dict[str, bytes]:
    """What must not depend on interruptions."""
    return {name: (folder / name).read_bytes() for name in RESULTS}
