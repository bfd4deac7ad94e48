"""Many trainings at once: networks of one architecture, stacked, each with its own row of loss weights."""

import math
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from cotrain.batches import Samples, batches
from cotrain.checks import check_scored
from cotrain.errors import TrainingDivergedError
from cotrain.evaluation import Evaluation, evaluate
from cotrain.model import random_state_kept
from cotrain.optimizers import OptimizerFactory, adam, is_elementwise
from cotrain.progress import Listener, share_of, silent
from cotrain.stack_training import FleetPart, FleetSettings, StackTraining
from cotrain.stacking import activation_bytes, why_not_stackable
from cotrain.task import Task, TaskSet
from cotrain.training import check_settings, checked_tasks, checked_weights, fit

__all__ = ["Fleet", "fit_fleet"]

STACK_BYTES = 16 * 2**20
"""Activations of the networks in one stack. Beyond the processor's cache a stack is slower than its parts: with 30
small CNNs at batch 128 (profiled, torch 2.13), one stack was 1.2x faster than one after another, stacks of 5 to 10
were 1.6x."""


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
        DataError: If an input is NaN or infinite, a target is none that its task's kind allows, or no task of a row
            has a validation label.
        TrainingDivergedError: If a loss is NaN or infinite, with network, task, epoch and step.
        StudyError: If the checkpoint belongs to a training with other settings.
        ValueError: If the weights are not [G, T], or a row is negative or all 0.
    """
    check_settings(epochs=epochs, batch_size=batch_size, patience=patience)
    tasks = checked_tasks(tasks, train, valid)
    rows = torch.as_tensor(weights, dtype=torch.float32)
    if rows.dim() != 2 or len(rows) == 0:
        raise ValueError(
            f"weights must be [networks, {len(tasks)}], a row of loss weights per network. Got {list(rows.shape)}."
        )
    rows = torch.stack([checked_weights(row, len(tasks)) for row in rows])
    check_scored(tasks, valid, rows)
    settings = FleetSettings(epochs, batch_size, patience, seed, optimizer or adam())
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


def _why_one_by_one(network: nn.Module, tasks: TaskSet, settings: FleetSettings, train: Samples) -> str | None:
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
    settings: FleetSettings, checkpoint: Path | None, progress: Listener,
) -> list[FleetPart]:  # fmt: skip
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
                progress=share_of(progress, number, 1, len(rows), "networks"),
                **vars(settings),
            )
        except TrainingDivergedError as error:
            raise TrainingDivergedError(f"{error} This was the network of row {number}.") from error
        parts.append(FleetPart([result.model], result.valid_losses.unsqueeze(0), [result.best_epoch]))
    return parts


def _stacked(
    network: nn.Module, tasks: TaskSet, rows: Tensor, train: Samples, valid: Samples,
    settings: FleetSettings, checkpoint: Path | None, progress: Listener,
) -> list[FleetPart]:  # fmt: skip
    per_network = activation_bytes(network, next(batches(train, settings.batch_size)))
    n_stacks = math.ceil(len(rows) / max(1, STACK_BYTES // max(1, per_network)))
    parts, done = [], 0
    for number, part_rows in enumerate(rows.tensor_split(n_stacks)):
        training = StackTraining(network, tasks, part_rows, settings, first_row=done)
        file = checkpoint / f"stack-{number}.safetensors" if checkpoint else None
        parts.append(training.run(train, valid, file, share_of(progress, done, len(part_rows), len(rows), "networks")))
        done += len(part_rows)
    return parts
