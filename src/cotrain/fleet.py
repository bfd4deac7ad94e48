"""Many trainings at once: networks of one architecture, stacked, each with its own row of loss weights."""

import math
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from cotrain.batches import Samples, batches, count, epoch_order, map_tensors
from cotrain.errors import StudyError, TrainingDivergedError
from cotrain.evaluation import EVALUATION_BATCH, Evaluation, evaluate
from cotrain.files import read_state, write_state
from cotrain.model import random_state_kept
from cotrain.optimizers import OptimizerFactory, adam, is_elementwise, keep_members
from cotrain.progress import Listener, silent
from cotrain.stacking import Stack, activation_bytes, why_not_stackable
from cotrain.task import Targets, Task, TaskSet
from cotrain.training import (
    check_finite,
    check_settings,
    checked_weights,
    describe,
    describe_tasks,
    fit,
    tasks_with_units,
    to_device,
    weighted_sum,
)

__all__ = ["Fleet", "fit_fleet"]

STACK_BYTES = 16 * 2**20
"""Activations of the networks in one stack. Beyond the processor's cache a stack is slower than its parts: 30 small
CNNs at batch 128 in one stack are 1.2x faster than one after another, in stacks of 5 to 10 1.6x (benchmarks)."""


@dataclass(frozen=True)
class Fleet:
    """Finished trainings, one per row of weights.

    Args:
        models: G modules with the weights of their best epochs, in eval mode.
        tasks: The tasks, with the units of regression targets: use these to evaluate.
        weights: [G, T] loss weights.
        valid_losses: [G, T] validation losses at each network's best epoch.
        best_epochs: G numbers, from 0.
        one_by_one: Why the networks were trained one after another; None if they were trained at once.
    """

    models: tuple[nn.Module, ...]
    tasks: TaskSet
    weights: Tensor
    valid_losses: Tensor
    best_epochs: tuple[int, ...]
    one_by_one: str | None

    def evaluate(self, samples: Samples) -> list[Evaluation]:
        """Every network's evaluation on a split, as `evaluate` gives it for one."""
        return [evaluate(model, self.tasks, samples) for model in self.models]


def fit_fleet(
    make_model: Callable[[], nn.Module],
    tasks: Iterable[Task],
    weights: Sequence[Sequence[float]] | Tensor,
    train: Samples,
    valid: Samples,
    *,
    epochs: int,
    batch_size: int = 128,
    optimizer: OptimizerFactory | None = None,
    patience: int | None = 5,
    seed: int = 0,
    checkpoint: Path | None = None,
    progress: Listener = silent,
) -> Fleet:
    """Train one network per row of weights, all at once as one stacked model.

    Single tasks (a row with one 1), all tasks together (a row of ones), hard groups (zeros and ones) and soft
    memberships are all rows. Every network starts from the same weights and sees the same batches (both follow
    from `seed`), so that rows are compared without the noise of either; for an interval, train a fleet per seed.
    The result of each network is that of `fit` with its row and this seed, up to float rounding; with dropout
    the masks differ. Networks whose early stopping has come leave the stack. A stack holds as many networks as
    keep their activations in the processor's cache; the others follow in further stacks.

    Stacking takes `torch.func`; modules that update buffers in the forward pass (BatchNorm), modules that `vmap`
    cannot run and optimizers that mix weights are trained one after another instead, and `one_by_one` of the
    result says why.

    Args:
        make_model: Makes an untrained network, from the global random state.
        tasks: The tasks, in the order of the model's packed outputs.
        weights: [G, T], non-negative; no row all 0.
        train: A Dataset of (inputs, targets), or a pair of tensors.
        valid: The same, for early stopping.
        epochs: The most epochs to train.
        batch_size: Samples per step.
        optimizer: From parameters to an optimizer; None for fused Adam at rate 0.001.
        patience: A network stops after so many epochs without a lower weighted validation loss.
        seed: Of the initial weights, the samples' order and of dropout.
        checkpoint: A folder for the state after every epoch, from which an interrupted call goes on.
        progress: Called with the steps done and in all.

    Raises:
        TrainingDivergedError: If a loss is NaN or infinite, with network, task, epoch and step.
        StudyError: If the checkpoint belongs to a training with other settings.
        ValueError: If the weights are not [G, T], or a row is negative or all 0.
    """
    check_settings(epochs=epochs, batch_size=batch_size, patience=patience)
    tasks = tasks_with_units(tasks, train)
    rows = torch.as_tensor(weights, dtype=torch.float32)
    if rows.dim() != 2 or len(rows) == 0:
        raise ValueError(
            f"weights must be [networks, {len(tasks)}], a row of loss weights per network. Got {list(rows.shape)}."
        )
    rows = torch.stack([checked_weights(row, len(tasks)) for row in rows])
    settings = _Settings(epochs, batch_size, patience, seed, optimizer or adam())
    with random_state_kept():
        torch.manual_seed(seed)
        network = make_model()
    reason = _why_one_by_one(network, tasks, settings, train)
    train_rows = _one_by_one if reason else _stacked
    parts = train_rows(network, tasks, rows, train, valid, settings, checkpoint, progress)
    return Fleet(
        tuple(model for part in parts for model in part.models),
        tasks,
        rows,
        torch.cat([part.valid_losses for part in parts]),
        tuple(epoch for part in parts for epoch in part.best_epochs),
        reason,
    )


@dataclass(frozen=True)
class _Settings:
    """What all networks of a fleet share."""

    epochs: int
    batch_size: int
    patience: int | None
    seed: int
    optimizer: OptimizerFactory


@dataclass(frozen=True)
class _Part:
    """Some finished networks of a fleet."""

    models: list[nn.Module]
    valid_losses: Tensor
    best_epochs: list[int]


def _why_one_by_one(network: nn.Module, tasks: TaskSet, settings: _Settings, train: Samples) -> str | None:
    trainable = [parameter for parameter in deepcopy(network).parameters() if parameter.requires_grad]
    if trainable:
        optimizer = settings.optimizer(trainable)
        if not is_elementwise(optimizer):
            return "the optimizer does not update every weight on its own"
        if [id(value) for group in optimizer.param_groups for value in group["params"]] != [*map(id, trainable)] or (
            len(optimizer.param_groups) > 1  # told apart by their shapes, it may be, which stacking changes
        ):
            return "the optimizer does not treat all parameters alike"
    return why_not_stackable(network, tasks, next(batches(train, 2)))


def _one_by_one(
    network: nn.Module, tasks: TaskSet, rows: Tensor, train: Samples, valid: Samples,
    settings: _Settings, checkpoint: Path | None, progress: Listener,
) -> list[_Part]:  # fmt: skip
    parts = []
    for number, row in enumerate(rows):
        try:
            result = fit(
                deepcopy(network),
                tasks,
                train,
                valid,
                weights=row,
                checkpoint=checkpoint / f"network-{number}.safetensors" if checkpoint else None,
                progress=_share(progress, number, 1, len(rows)),
                **vars(settings),
            )
        except TrainingDivergedError as error:
            raise TrainingDivergedError(f"{error} This was the network of row {number}.") from error
        parts.append(_Part([result.model], result.valid_losses.unsqueeze(0), [result.best_epoch]))
    return parts


def _stacked(
    network: nn.Module, tasks: TaskSet, rows: Tensor, train: Samples, valid: Samples,
    settings: _Settings, checkpoint: Path | None, progress: Listener,
) -> list[_Part]:  # fmt: skip
    per_network = activation_bytes(network, next(batches(train, settings.batch_size)))
    n_stacks = math.ceil(len(rows) / max(1, STACK_BYTES // max(1, per_network)))
    parts, done = [], 0
    for number, part_rows in enumerate(rows.tensor_split(n_stacks)):
        training = _StackTraining(network, tasks, part_rows, settings, first_row=done)
        file = checkpoint / f"stack-{number}.safetensors" if checkpoint else None
        parts.append(training.run(train, valid, file, _share(progress, done, len(part_rows), len(rows))))
        done += len(part_rows)
    return parts


def _share(progress: Listener, before: int, here: int, of: int) -> Listener:
    """The progress of `here` of the fleet's networks, `before` others being done, as progress of the whole."""

    def listen(done: int, total: int, note: str) -> None:
        progress(before * total + here * done, of * total, f"{note}, networks {before + 1}-{before + here} of {of}")

    return listen


class _StackTraining:
    """The training of one stack, whose networks share the steps and leave when their early stopping has come."""

    def __init__(
        self, network: nn.Module, tasks: TaskSet, rows: Tensor, settings: _Settings, *, first_row: int
    ) -> None:
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

    def run(self, train: Samples, valid: Samples, checkpoint: Path | None, progress: Listener) -> _Part:
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
        return _Part(self._models(), self._best_losses.cpu(), self._best_epoch.tolist())

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
