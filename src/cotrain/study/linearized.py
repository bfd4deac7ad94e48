"""The measuring network, linearised on a part of its samples: what predicts gains without any further training."""

from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from cotrain.affinity import LinearizedOutputs, LinearizedTask, linearized_outputs
from cotrain.data import Split
from cotrain.files import read_state, write_state
from cotrain.grouping import LinearizedGains
from cotrain.study.setting import Setting

__all__ = ["LINEARIZED_FILE", "read_linearized", "write_linearized"]

LINEARIZED_FILE = "linearized.safetensors"

DIRECTIONS = 128
"""As in the comparison with real trainings (docs/gains.md)."""

MOST_ROWS, MOST_NUMBERS = 2_000, 2**24
"""Rows of each split, and gradients of all tasks together: a file of at most some 130 MB, however many tasks."""


def write_linearized(path: Path, model: nn.Module, setting: Setting) -> None:
    """Write what `read_linearized` reads, from the network that was measured and both splits that it has seen."""
    data = setting.data
    most_rows = min(MOST_ROWS, MOST_NUMBERS // (len(data.tasks) * DIRECTIONS))

    def part(split: Split) -> list[Mapping[str, Any]]:
        found = linearized_outputs(
            model, data.tasks, split.pair, directions=DIRECTIONS, seed=setting.config.seed, most_rows=most_rows
        )
        return [asdict(of_task) for of_task in found.parts]

    write_state(path, {"train": part(data.train), "valid": part(data.valid)})


def read_linearized(path: Path, tasks: Collection[str]) -> LinearizedGains:
    """The gain model of some of the tasks; unverified, as no group was trained for it."""
    stored = read_state(path)
    train, valid = (
        LinearizedOutputs(tuple(LinearizedTask(**part) for part in stored[split] if part["name"] in tasks))
        for split in ("train", "valid")
    )
    return LinearizedGains(train, valid)
