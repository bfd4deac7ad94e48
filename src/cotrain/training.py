"""The one training loop: one network, its tasks weighted, instruments hooked in, resumable."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from cotrain.aggregation import Aggregation, TransferenceAggregation, Weighting, as_aggregation
from cotrain.aggregation.described import described
from cotrain.aggregation.forward_again import outputs_again
from cotrain.batches import Samples, batches, count, epoch_order, map_tensors
from cotrain.checks import check_samples, check_scored
from cotrain.errors import TrainingDivergedError
from cotrain.evaluation import EVALUATION_BATCH, all_targets
from cotrain.instrument import Instrument, Step
from cotrain.model import random_state_kept
from cotrain.optimizers import OptimizerFactory, adam
from cotrain.progress import Listener, silent
from cotrain.task import Batch, Task, TaskSet, as_tasks
from cotrain.training_state import BestSoFar, TrainingState, describe, describe_tasks, weighted_sum

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["Fit", "fit"]


@dataclass(frozen=True)
class Fit:
    """A finished training.

    Args:
        model: The module that was given, with the weights of its best epoch, in eval mode.
        tasks: The tasks, with the units of regression targets: use these to evaluate.
        valid_losses: [T] validation losses at the best epoch.
        best_epoch: From 0.
        history: [epochs, T] validation losses after each epoch.
    """

    model: nn.Module
    tasks: TaskSet
    valid_losses: Tensor
    best_epoch: int
    history: Tensor


def fit(
    model: nn.Module,
    tasks: Iterable[Task],
    train: Samples,
    valid: Samples,
    *,
    epochs: int,
    batch_size: int = 128,
    weights: Sequence[float] | Tensor | None = None,
    aggregation: Aggregation | Weighting | str | None = None,
    optimizer: OptimizerFactory | None = None,
    patience: int | None = 5,
    instruments: Sequence[Instrument] = (),
    stop_when: Callable[[], bool] | None = None,
    seed: int = 0,
    checkpoint: Path | None = None,
    progress: Listener = silent,
    fabric: "Fabric | None" = None,
) -> Fit:
    """Train one network on the weighted sum of its tasks' losses, or on another combination of their gradients.

    Args:
        model: Any module; it is trained in place and ends with the weights of its best epoch.
        tasks: The tasks, in the order of the model's packed outputs.
        train: A Dataset of (inputs, targets), or a pair of tensors.
        valid: The same, for early stopping.
        epochs: The most epochs to train.
        batch_size: Samples per step.
        weights: [T] non-negative loss weights, not all 0; None for equal weights. A task of weight 0 is not
            trained.
        aggregation: How the tasks' gradients are combined on the parameters that they share: an object, its name, or a
            weighting such as `UPGrad()`; None for the weighted sum. A new one for every training: its options and what
            it remembers are part of the checkpoint. A step with a NaN gradient is skipped, with a warning. Instruments
            then cost one forward pass more. A `TransferenceAggregation` tries the steps of this training's optimizer,
            unless it was given another rule.
        optimizer: From parameters to an optimizer; None for fused Adam at rate 0.001.
        patience: Stop after so many epochs without a lower weighted validation loss; None to train all epochs.
        instruments: What watches the training, such as `DataMap` and `Transference`.
        stop_when: Asked after every epoch whether to stop, such as `MapsSettled` once the instruments have seen
            enough; it must follow from their state, so that a resumed training stops where it would have.
        seed: Of the samples' order and of dropout. The caller's random state is not touched.
        checkpoint: A file for the state after every epoch. If it is there, the training goes on from it and
            ends exactly as it would have without an interruption.
        progress: Called with the steps done and in all.
        fabric: Device and precision; None for one device that Lightning Fabric finds, in float32.

    Returns:
        The trained model, and the tasks with the units of regression targets.

    Raises:
        DataError: If an input is NaN or infinite, a target is none that its task's kind allows, or no trained task
            has a validation label.
        TrainingDivergedError: If a loss is NaN or infinite, with task, epoch and step.
        StudyError: If the checkpoint belongs to a training with other settings.
        ValueError: If weights are negative, all 0, of another number than the tasks, or given with an aggregation; or
            if an aggregation is none.
    """
    check_settings(epochs=epochs, batch_size=batch_size, patience=patience)
    from lightning_fabric import Fabric  # seconds to load, and only trainings need it

    fabric = fabric or Fabric(devices=1)
    fabric.launch()
    n_samples = count(train)
    tasks = checked_tasks(tasks, train, valid)
    aggregation = None if aggregation is None else as_aggregation(aggregation)
    if weights is not None and aggregation is not None:
        raise ValueError(
            f"{type(aggregation).__name__} chooses the weights by itself. Give weights or an aggregation, not both;"
            " for a weighted sum with plain heads give aggregation=Sum(weights)."
        )
    row = checked_weights(weights, len(tasks)).to(fabric.device)
    check_scored(tasks, valid, row.unsqueeze(0))
    make_optimizer = optimizer or adam()
    wrapped, stepper = fabric.setup(model, make_optimizer([p for p in model.parameters() if p.requires_grad]))
    if isinstance(aggregation, TransferenceAggregation):
        aggregation.follow(stepper.optimizer)
    state = TrainingState(model, stepper.optimizer, BestSoFar.start(model, len(tasks)), instruments, aggregation)
    settings = {
        "epochs": epochs, "batch_size": batch_size, "seed": seed, "patience": patience, "n_samples": n_samples,
        "tasks": describe_tasks(tasks), "weights": row.tolist(), "optimizer": describe(stepper.optimizer),
        "model": {name: list(value.shape) for name, value in model.state_dict().items()},
        "instruments": [type(instrument).__name__ for instrument in instruments],
    }  # fmt: skip
    if aggregation is not None:
        settings["aggregation"] = described(aggregation)
    steps = math.ceil(n_samples / batch_size)
    with random_state_kept():
        torch.manual_seed(seed)
        start = state.load(checkpoint, settings) if checkpoint and checkpoint.exists() else 0
        for epoch in range(start, epochs):
            if patience is not None and epoch - state.best.epoch > patience:
                break
            if stop_when is not None and epoch > 0 and stop_when():
                break
            model.train()
            for number, cpu_batch in enumerate(batches(train, batch_size, epoch_order(n_samples, seed, epoch))):
                batch = to_device(cpu_batch, fabric.device)
                if aggregation is None:
                    outputs = tasks.pack(wrapped(batch.inputs))
                    losses = tasks.losses(outputs, batch.targets)
                    check_finite(losses, row, tasks, f"epoch {epoch}, step {number}", checkpoint)
                elif instruments:
                    with random_state_kept():  # what the aggregation's forward pass will give
                        outputs = outputs_again(wrapped, tasks, batch)
                for instrument in instruments:
                    instrument.on_step(Step(batch, outputs.detach(), model, stepper.optimizer, epoch, number))
                stepper.zero_grad()
                if aggregation is None:
                    fabric.backward(weighted_sum(losses, row))
                else:
                    aggregation.backward(wrapped, tasks, batch)
                stepper.step()
                progress(epoch * steps + number + 1, epochs * steps, f"epoch {epoch + 1}/{epochs}")
            for instrument in instruments:
                instrument.on_epoch_end(epoch)
            valid_losses = validation_losses(wrapped, tasks, valid)
            check_finite(valid_losses, row, tasks, f"epoch {epoch}, on the validation split", checkpoint)
            state.best = state.best.after(epoch, model, valid_losses, row)
            if checkpoint:
                state.save(checkpoint, settings, epoch)
    progress(epochs * steps, epochs * steps, f"best epoch {state.best.epoch + 1}")
    model.load_state_dict(state.best.weights)
    model.eval()
    return Fit(model, tasks, state.best.losses, state.best.epoch, torch.stack(state.best.history))


def check_settings(**settings: int | None) -> None:
    """Refuse a number of epochs, samples or the like below 1; None stands for "without"."""
    for name, value in settings.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1. Got {value}.")


def checked_tasks(tasks: Iterable[Task], train: Samples, valid: Samples) -> TaskSet:
    """The tasks with units from the training targets, after a check of all that is held as tensors.

    A dataset's targets are only gone through if a task needs units.
    """
    tasks = as_tasks(tasks)
    check_samples(tasks, train, part="training")
    check_samples(tasks, valid, part="validation")
    needed = any(task.kind == "regression" and task.scale is None for task in tasks)
    return tasks.with_units(all_targets(train)) if needed else tasks


def checked_weights(weights: Sequence[float] | Tensor | None, n_tasks: int) -> Tensor:
    """[T] float32 loss weights, or the reason why they cannot be used."""
    row = torch.ones(n_tasks) if weights is None else torch.as_tensor(weights, dtype=torch.float32)
    if row.shape != (n_tasks,) or not bool(torch.isfinite(row).all()) or bool((row < 0).any()) or not bool(row.any()):
        raise ValueError(
            f"weights must hold {n_tasks} non-negative numbers, one per task, not all 0. Got {row.tolist()}."
        )
    return row


def check_finite(losses: Tensor, row: Tensor, tasks: TaskSet, when: str, checkpoint: Path | None) -> None:
    """Stop at the first loss of a trained task that is NaN or infinite.

    Args:
        losses: [T].
        row: [T] weights; tasks of weight 0 are not looked at.
        tasks: For their names.
        when: Where in the training, for the message.
        checkpoint: What was saved, for the message.
    """
    bad = ~torch.isfinite(losses) & (row > 0)
    if not bool(bad.any()):
        return
    names = [name for name, is_bad in zip(tasks.names, bad.tolist(), strict=True) if is_bad]
    kept = f" What was saved before is in {checkpoint}." if checkpoint and checkpoint.exists() else ""
    raise TrainingDivergedError(
        f"The loss of {names} became NaN or infinite at {when}. Try a lower learning rate, and look for extreme"
        f" values among the inputs and targets.{kept}"
    )


def validation_losses(model: nn.Module, tasks: TaskSet, samples: Samples) -> Tensor:
    """[T] float64 mean losses over a split, in eval mode without autograd; 0 for a task without labels there."""
    device = next(model.parameters()).device
    model.eval()
    total = torch.zeros(len(tasks), dtype=torch.float64, device=device)
    number = torch.zeros_like(total)
    with torch.no_grad():
        for cpu_batch in batches(samples, EVALUATION_BATCH):
            batch = to_device(cpu_batch, device)
            values, labelled = tasks.sample_losses(model(batch.inputs), batch.targets)
            total += values.double().sum(0)
            number += labelled.sum(0)
    return total / number.clamp(min=1)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The same batch on a device; nothing is copied if it is there."""
    if device.type == "cpu":
        return batch
    return Batch(batch.index, *(map_tensors(part, lambda t: t.to(device)) for part in (batch.inputs, batch.targets)))
