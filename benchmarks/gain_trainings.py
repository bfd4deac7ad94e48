"""Really trained groups of tasks, as the truth that predicted gains are judged by: data sets, networks, trainings.

One fleet per data set, network, number of rows and seed: every task alone, every pair, 100 random groups of 3 to 7
members and all tasks together, each stopped early on validation. The seed draws the rows, the initial weights and the
order of the samples; the groups are the same for all seeds. Results are kept in a folder, so that they train once.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from cotrain import SharedTrunk, Task, TaskSet, fit_fleet
from cotrain.data import load_census_income, load_digits, load_fashion_mnist
from cotrain.grouping import GainTable
from cotrain.optimizers import adam

__all__ = [
    "BATCH",
    "DATA",
    "EPOCHS",
    "NETWORKS",
    "PATIENCE",
    "RATE",
    "Setting",
    "Truth",
    "cell",
    "summary",
    "truth_of",
]

VALID_ROWS, TEST_ROWS = 2000, 10_000
EPOCHS = {"fashion": 40, "census": 40, "digits": 150}
"""The digits are few: within 40 epochs hardly a network stops early, and a task alone is far ahead of all groups."""
BATCH, RATE, PATIENCE = 128, 1e-3, 5
RANDOM_GROUPS, SIZES = 100, (3, 7)
RARE_SHARE = 0.1
"""Of the training labels of a rare task that are kept."""

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Setting:
    """One case of the benchmark.

    Args:
        data: Name of the data set, one of `DATA`.
        network: Name of the network, one of `NETWORKS`.
        rows: Training rows; a data set with fewer gives all it has.
        seed: Of the rows, the initial weights and the order of the samples.
        epochs: The most epochs to train.
    """

    data: str
    network: str
    rows: int
    seed: int
    epochs: int

    def __str__(self) -> str:
        return f"{self.data}-{self.network}-{self.rows}-{self.epochs}-{self.seed}"

    def load(self) -> tuple[TaskSet, Pair, Pair, Pair]:
        """The tasks with their units, and training, validation and test samples."""
        tasks, train, valid, test = DATA[self.data]()
        generator = np.random.default_rng(self.seed)
        train, valid, test = (
            _drawn(part, size, generator) for part, size in ((train, self.rows), (valid, VALID_ROWS), (test, TEST_ROWS))
        )
        return tasks.with_units(train[1]), train, valid, test

    def model(self, tasks: TaskSet, inputs: Tensor) -> Callable[[], nn.Module]:
        """Makes an untrained network from the global random state."""
        return lambda: NETWORKS[self.network](tasks, inputs)


@dataclass(frozen=True)
class Truth:
    """What the real trainings gave.

    Args:
        tasks: The names.
        groups: The n groups.
        losses: [3, n, T] losses at the best epoch on the training, validation and test samples; NaN off members.
        seconds: Wall clock of the fleet.
        best_epochs: [n], from 0.
    """

    tasks: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]
    losses: NDArray[np.float64]
    seconds: float
    best_epochs: tuple[int, ...]

    def table(self, split: str) -> GainTable:
        """Gains on "train", "valid" or "test"."""
        losses = self.losses[("train", "valid", "test").index(split)]
        singles = np.array([losses[self.groups.index((task,)), j] for j, task in enumerate(self.tasks)])
        return GainTable(self.tasks, self.groups, 1 - losses / singles, single_losses=singles)


def truth_of(setting: Setting, folder: Path) -> Truth:
    """The truth from the folder, or trained and put there."""
    path = folder / f"{setting}.json"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".part")
        draft.write_text(json.dumps(_trained(setting)), encoding="utf-8")
        draft.replace(path)
    record = json.loads(path.read_text(encoding="utf-8"))
    return Truth(
        tuple(record["tasks"]),
        tuple(tuple(group) for group in record["groups"]),
        np.array(record["losses"], dtype=np.float64),
        record["seconds"],
        tuple(record["best_epochs"]),
    )


def summary(n_seeds: int) -> str:
    """What the cells of a table are."""
    return "one seed" if n_seeds == 1 else f"mean over {n_seeds} seeds (range)"


def cell(values: Sequence[float]) -> str:
    """The mean of the seeds' values, and their range if there are several."""
    mean = f"{np.mean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.2f} to {max(values):.2f})"


def _trained(setting: Setting) -> dict[str, object]:
    tasks, train, valid, test = setting.load()
    groups = _groups(tasks.names)
    weights = torch.tensor([[float(name in group) for name in tasks.names] for group in groups])
    started = time.perf_counter()
    fleet = fit_fleet(
        setting.model(tasks, train[0]), tasks, weights, train, valid,
        epochs=setting.epochs, batch_size=BATCH, optimizer=adam(RATE), patience=PATIENCE, seed=setting.seed,
    )  # fmt: skip
    seconds = time.perf_counter() - started
    losses = torch.stack([torch.stack([one.losses for one in fleet.evaluate(part)]) for part in (train, valid, test)])
    return {
        "tasks": tasks.names,
        "groups": groups,
        "losses": losses.double().masked_fill(weights == 0, torch.nan).tolist(),
        "seconds": seconds,
        "best_epochs": fleet.best_epochs,
    }


def _groups(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Singles, pairs, random groups and all tasks together."""
    generator = np.random.default_rng(0)
    drawn: dict[tuple[str, ...], None] = {}
    while len(drawn) < RANDOM_GROUPS:
        size = generator.integers(SIZES[0], SIZES[1] + 1)
        chosen = np.sort(generator.choice(len(names), size, replace=False))
        drawn.setdefault(tuple(names[j] for j in chosen))
    return [*((name,) for name in names), *combinations(names, 2), *drawn, tuple(names)]


def _drawn(part: Pair, size: int, generator: np.random.Generator) -> Pair:
    chosen = torch.from_numpy(generator.permutation(len(part[0]))[:size])
    return part[0][chosen], part[1][chosen]


@cache
def _fashion() -> tuple[TaskSet, Pair, Pair, Pair]:
    """Ten classes, footwear, its complement, odd, coin flip and tops, on images of 14 x 14."""
    data = load_fashion_mnist(flips=False)
    tasks = TaskSet([*data.tasks, Task("tops", "binary")])
    splits = []
    for split in (data.train, data.valid, data.test):
        tops = split.targets[:, [data.tasks.names.index(name) for name in ("t_shirt", "pullover", "coat", "shirt")]]
        splits.append((F.avg_pool2d(split.inputs, 2), torch.cat([split.targets, tops.sum(1, keepdim=True)], dim=1)))
    return tasks, *splits


@cache
def _digits() -> tuple[TaskSet, Pair, Pair, Pair]:
    data = load_digits()
    return data.tasks, _rare(data.train.pair, data.tasks, ("is_3", "is_8", "odd")), data.valid.pair, data.test.pair


@cache
def _census() -> tuple[TaskSet, Pair, Pair, Pair]:
    data = load_census_income(task_set="ten")
    rare = ("higher_education", "never_married", "class_of_worker")
    return data.tasks, _rare(data.train.pair, data.tasks, rare), data.valid.pair, data.test.pair


def _rare(train: Pair, tasks: TaskSet, names: Sequence[str]) -> Pair:
    """Keeps a tenth of the training labels of some tasks, each task's own tenth."""
    targets = train[1].clone()
    generator = torch.Generator().manual_seed(0)
    for name in names:
        dropped = torch.rand(len(targets), generator=generator) >= RARE_SHARE
        targets[dropped, tasks.names.index(name)] = torch.nan
    return train[0], targets


def _mlp(tasks: TaskSet, inputs: Tensor) -> nn.Module:
    trunk = nn.Sequential(
        nn.Flatten(), nn.Linear(inputs[0].numel(), 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU()
    )  # fmt: skip
    return SharedTrunk(trunk, tasks, 32)


def _cnn(tasks: TaskSet, inputs: Tensor) -> nn.Module:
    trunk = nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.LazyLinear(32), nn.ReLU(),
    )  # fmt: skip
    with torch.no_grad():
        trunk(inputs[:1])
    return SharedTrunk(trunk, tasks, 32)


DATA = {"fashion": _fashion, "digits": _digits, "census": _census}
NETWORKS = {"mlp": _mlp, "cnn": _cnn}
