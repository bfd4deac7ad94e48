"""What a training has come to: its best epoch so far, and a file from which it goes on as if never interrupted."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cotrain.aggregation import Aggregation
from cotrain.errors import StudyError
from cotrain.files import read_state, write_state
from cotrain.instrument import Instrument
from cotrain.task import TaskSet

__all__ = ["BestSoFar", "TrainingState", "describe", "describe_tasks", "weighted_sum"]

LONGEST = 300
"""Letters of a setting that an error shows."""


@dataclass(frozen=True)
class BestSoFar:
    """The weights of the epoch with the lowest weighted validation loss, and how it went."""

    epoch: int
    score: float
    losses: Tensor
    weights: dict[str, Tensor]
    history: list[Tensor]

    @classmethod
    def start(cls, model: nn.Module, n_tasks: int) -> "BestSoFar":
        """Before the first epoch: the initial weights, with no score."""
        return cls(-1, math.inf, torch.full((n_tasks,), torch.nan), _copy(model), [])

    def after(self, epoch: int, model: nn.Module, losses: Tensor, row: Tensor) -> "BestSoFar":
        """With one more epoch, whose weights are kept if they are the best."""
        losses = losses.cpu()
        history = [*self.history, losses]
        score = float(weighted_sum(losses, row.cpu().double()))
        if score < self.score:
            return BestSoFar(epoch, score, losses, _copy(model), history)
        return BestSoFar(self.epoch, self.score, self.losses, self.weights, history)


@dataclass
class TrainingState:
    """Everything that a resumed training needs, and its file."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    best: BestSoFar
    instruments: Sequence[Instrument]
    aggregation: Aggregation | None

    def save(self, path: Path, settings: dict[str, Any], epoch: int) -> None:
        """Write everything after an epoch, whole or not at all; `settings` tell this training from others."""
        write_state(
            path,
            {
                "settings": settings,
                "epoch": epoch,
                "model": dict(self.model.state_dict()),
                "optimizer": self.optimizer.state_dict(),
                "best": vars(self.best),
                "random": torch.get_rng_state(),
                "instruments": [instrument.state_dict() for instrument in self.instruments],
                "aggregation": None if self.aggregation is None else self.aggregation.state_dict(),
            },
        )

    def load(self, path: Path, settings: dict[str, Any]) -> int:
        """Put everything back; returns the next epoch.

        Raises:
            StudyError: If the file is of a training with other settings.
        """
        saved = read_state(path)
        known = saved.get("settings") or {}
        if known != settings:
            raise StudyError(
                f"{path} belongs to a training with other settings. Give another checkpoint file, or delete this one."
                f" {_difference(known, settings)}"
            )
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.best = BestSoFar(**saved["best"])
        torch.set_rng_state(saved["random"])
        for instrument, state in zip(self.instruments, saved["instruments"], strict=True):
            instrument.load_state_dict(state)
        if self.aggregation is not None:
            self.aggregation.load_state_dict(saved["aggregation"])
        return int(saved["epoch"]) + 1


def _difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    names = [name for name in {**there, **here} if there.get(name) != here.get(name)]
    return "They differ in " + "; ".join(
        f"{name}: {_short(there.get(name))} there, {_short(here.get(name))} here" for name in names
    )


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def weighted_sum(losses: Tensor, rows: Tensor) -> Tensor:
    """Sum over tasks of [..., T] losses times weights; what a task of weight 0 has become does not matter."""
    return (torch.where(rows > 0, losses, 0) * rows).sum(-1)


def describe(optimizer: torch.optim.Optimizer) -> list[Any]:
    """An optimizer's name and numbers, by which a checkpoint is told from another one."""
    numbers = {name: value for name, value in optimizer.defaults.items() if isinstance(value, int | float | tuple)}
    return [type(optimizer).__name__, numbers]


def describe_tasks(tasks: TaskSet) -> list[Any]:
    """What a checkpoint's tasks must agree in."""
    return [[task.name, task.kind, task.n_outputs, task.location, task.scale] for task in tasks]


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
