"""The training of one stack of a fleet: shared steps, early stopping and checkpoint of each network."""

import math
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cotrain.batches import Samples, batches, count, epoch_order, map_tensors
from cotrain.errors import StudyError
from cotrain.evaluation import EVALUATION_BATCH
from cotrain.files import read_state, write_state
from cotrain.model import random_state_kept
from cotrain.optimizers import OptimizerFactory, keep_members
from cotrain.progress import Listener
from cotrain.stacking import Stack
from cotrain.task import Targets, TaskSet
from cotrain.training import check_finite, to_device
from cotrain.training_state import describe, describe_tasks, weighted_sum

__all__ = ["FleetPart", "FleetSettings", "StackTraining"]


@dataclass(frozen=True)
class FleetSettings:
    """What all networks of a fleet share."""

    epochs: int
    batch_size: int
    patience: int | None
    seed: int
    optimizer: OptimizerFactory


@dataclass(frozen=True)
class FleetPart:
    """Some finished networks of a fleet."""

    models: list[nn.Module]
    valid_losses: Tensor
    best_epochs: list[int]


class StackTraining:
    """The training of one stack, whose networks share the steps and leave when their early stopping has come."""

    def __init__(
        self, network: nn.Module, tasks: TaskSet, rows: Tensor, settings: FleetSettings, *, first_row: int
    ) -> None:
        from lightning_fabric import Fabric  # seconds to load, and only trainings need it

        self._device = Fabric(devices=1).device
        self._network = network
        self._tasks = tasks
        self._rows = rows.to(self._device)
        self._settings = settings
        self._first_row = first_row
        self._stack = Stack([deepcopy(network).to(self._device)] * len(rows), tasks)
        self._optimizer = settings.optimizer(self._stack.parameters.values())
        self._active = torch.arange(len(rows), device=self._device)
        self._best = {name: value.detach().clone() for name, value in self._stack.parameters.items()}
        self._best_epoch = torch.full((len(rows),), -1, device=self._device)
        self._best_score = torch.full((len(rows),), math.inf, dtype=torch.float64, device=self._device)
        self._best_losses = torch.full((len(rows), len(tasks)), torch.nan, dtype=torch.float64, device=self._device)

    def run(self, train: Samples, valid: Samples, checkpoint: Path | None, progress: Listener) -> FleetPart:
        """Train until every network has stopped, or to the last epoch."""
        settings, n_samples = self._settings, count(train)
        steps = math.ceil(n_samples / settings.batch_size)
        with random_state_kept():
            torch.manual_seed(settings.seed)
            start = self._load(checkpoint, n_samples) if checkpoint and checkpoint.exists() else 0
            for epoch in range(start, settings.epochs):
                if len(self._active) == 0:
                    break
                order = epoch_order(n_samples, settings.seed, epoch)
                for number, cpu_batch in enumerate(batches(train, settings.batch_size, order)):
                    batch = to_device(cpu_batch, self._device)
                    losses = self._stack.map(batch.inputs, partial(self._losses, batch.targets), train=True)
                    self._check(losses, f"epoch {epoch}, step {number}", checkpoint)
                    self._optimizer.zero_grad()
                    weighted_sum(losses, self._rows[self._active]).sum().backward()
                    self._optimizer.step()
                    note = f"epoch {epoch + 1}/{settings.epochs}, {len(self._active)} in training"
                    progress(epoch * steps + number + 1, settings.epochs * steps, note)
                self._end_epoch(epoch, self._validation_losses(valid), checkpoint)
                if checkpoint:
                    self._save(checkpoint, n_samples, epoch)
        progress(settings.epochs * steps, settings.epochs * steps, "done")
        return FleetPart(self._models(), self._best_losses.cpu(), self._best_epoch.tolist())

    def _validation_losses(self, valid: Samples) -> Tensor:
        """[G', T] of the networks still in training."""
        total = torch.zeros(len(self._active), len(self._tasks), dtype=torch.float64, device=self._device)
        number = torch.zeros_like(total)
        with torch.no_grad():
            for cpu_batch in batches(valid, EVALUATION_BATCH):
                batch = to_device(cpu_batch, self._device)
                losses, labels = self._stack.map(batch.inputs, partial(self._sums, batch.targets), train=False)
                total += losses
                number += labels
        return total / number.clamp(min=1)

    def _losses(self, targets: Targets, outputs: Tensor) -> Tensor:
        return self._tasks.losses(outputs, targets)

    def _sums(self, targets: Targets, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Per task the sum of the losses and the number of labels."""
        values, labelled = self._tasks.sample_losses(outputs, targets)
        return values.double().sum(0), labelled.sum(0)

    def _end_epoch(self, epoch: int, losses: Tensor, checkpoint: Path | None) -> None:
        """Keep the weights of the networks that have improved, and let those go whose patience is over."""
        self._check(losses, f"epoch {epoch}, on the validation split", checkpoint)
        scores = weighted_sum(losses, self._rows[self._active].double())
        better = scores < self._best_score[self._active]
        members = self._active[better]
        self._best_epoch[members] = epoch
        self._best_score[members] = scores[better]
        self._best_losses[members] = losses[better]
        for name, value in self._stack.parameters.items():
            self._best[name][members] = value.detach()[better]
        if self._settings.patience is not None:
            going_on = epoch - self._best_epoch[self._active] < self._settings.patience
            if not bool(going_on.all()):
                self._keep(going_on.nonzero().squeeze(1))

    def _keep(self, positions: Tensor) -> None:
        self._active = self._active[positions]
        self._stack.keep(positions, keep_members(self._optimizer, positions))

    def _check(self, losses: Tensor, when: str, checkpoint: Path | None) -> None:
        rows = self._rows[self._active]
        if bool(torch.isfinite(losses).all()):
            return
        for number, member_losses, row in zip(self._active.tolist(), losses, rows, strict=True):
            where = f"{when}, in the network of row {self._first_row + number}"
            check_finite(member_losses, row, self._tasks, where, checkpoint)

    def _models(self) -> list[nn.Module]:
        models = []
        for number in range(len(self._rows)):
            model = deepcopy(self._network)
            model.load_state_dict({name: value[number] for name, value in self._best.items()}, strict=False)
            models.append(model.eval())
        return models

    def _identity(self, n_samples: int) -> dict[str, Any]:
        """What a checkpoint must agree in."""
        settings = {name: value for name, value in vars(self._settings).items() if name != "optimizer"}
        rows = self._rows.tolist()
        return {
            **settings,
            "n_samples": n_samples,
            "tasks": describe_tasks(self._tasks),
            "model": {name: list(value.shape) for name, value in self._best.items()},
            "rows": rows,
            "optimizer": describe(self._optimizer),
        }

    def _save(self, path: Path, n_samples: int, epoch: int) -> None:
        state = {
            "identity": self._identity(n_samples),
            "epoch": epoch,
            "active": self._active,
            "parameters": self._stack.parameters,
            "optimizer": self._optimizer.state_dict(),
            "best": [self._best, self._best_epoch, self._best_score, self._best_losses],
            "random": torch.get_rng_state(),
        }
        write_state(path, state)

    def _load(self, path: Path, n_samples: int) -> int:
        """Put everything back; returns the next epoch."""
        saved = read_state(path)
        if saved.get("identity") != self._identity(n_samples):
            raise StudyError(
                f"{path} belongs to a fleet with other settings. Give another checkpoint folder, or delete this one."
            )
        self._keep(saved["active"].to(self._device))
        with torch.no_grad():
            for name, value in self._stack.parameters.items():
                value.copy_(saved["parameters"][name])
        self._optimizer.load_state_dict(saved["optimizer"])
        self._best, self._best_epoch, self._best_score, self._best_losses = map_tensors(
            saved["best"], lambda value: value.to(self._device)
        )
        torch.set_rng_state(saved["random"])
        return int(saved["epoch"]) + 1
