"""Task correlations of thousands of tasks: the training dynamics without a number per sample."""

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from cotrain.affinity.confidence import Confidence
from cotrain.affinity.gram_sums import CompleteSums, OverlapSums
from cotrain.affinity.task_correlation import TaskCorrelation
from cotrain.batches import map_tensors
from cotrain.errors import StudyError
from cotrain.instrument import Step
from cotrain.task import Outputs, Targets, Task, as_tasks

__all__ = ["TaskGram"]


class TaskGram:
    """Record how alike tasks are learned, for any number of samples.

    Of the confidences c [B, T] of every batch (as in `DataMap`), sums of c^T c and of c are kept. At the end,
    A = sum over epochs of (S - s s^T / n), and R_ts = A_ts / sqrt(A_tt A_ss): exactly the correlations of the
    per-epoch confidences, had all of them been stored and centred in every epoch. (Not of the mean and spread over
    epochs, which are what a data map holds.) Sums are float64 and of c - 1, so that tasks which are known almost
    for sure are not drowned in rounding: float32 sums of c would have errors of 5 % in a variance of 1e-6.

    Recording changes nothing of the training, and does not wait for the device. Give the object to `fit` as an
    instrument, or call `record` in your own loop at every training step and `end_epoch` after every epoch. Each
    sample is expected once per epoch; one that comes twice counts twice.

    Memory: 4.4 T^2 bytes and 8 T per epoch for any number of samples, and a few copies of a batch's confidences; for
    T = 10,000 and B = 256 in all 0.6 GiB. `result` adds a [T, T] float64, `state_dict` a copy of the sums. With
    `partial_labels`, 30 T^2 bytes.
    Time: 1.1 B T^2 float64 operations per batch of B, 5.6 times as many with `partial_labels`. On one processor core
    with B = 256: 0.3 s for T = 10,000 (8 plain training steps of an MLP 128-256-256 with so many heads), 8 ms for
    T = 1,000 (1.3 such steps). `samples` cuts it: with every 12th sample it takes a sixth.
    Source: Sherif et al., arXiv 2307.03374, for tasks as points; the streaming form is ours.

    Args:
        tasks: Binary and multiclass tasks, in the order of the packed outputs.
        samples: [n] integers, positions in the training split to which the sums are restricted; None for all.
            Draw them at random, several thousand: a few hundred give clearly worse groups.
        partial_labels: Whether samples may lack labels of some tasks. Then every pair is compared over the samples
            that have both labels: correlations are multiplied by n / (n + 50), where n is the mean number of
            such samples in an epoch, and are NaN below 30.

    Raises:
        ValueError: If a task is neither binary nor multiclass, or samples holds no valid positions.
    """

    def __init__(self, tasks: Iterable[Task], *, samples: Tensor | None = None, partial_labels: bool = False) -> None:
        self._tasks = as_tasks(tasks)
        ranked = [task.name for task in self._tasks if task.kind not in ("binary", "multiclass")]
        if ranked:
            raise ValueError(
                f"TaskGram compares binary and multiclass tasks; {_some(ranked)} are regression or custom tasks,"
                " which are rated by ranks among all samples of an epoch. Record them with DataMap, or leave them out."
            )
        self._confidence = Confidence(self._tasks)
        # Confidences come by kind. Where that is the order of the tasks, rearranging them would cost a tenth of a step.
        order = torch.tensor(self._confidence.columns).argsort()
        self._order = None if torch.equal(order, torch.arange(len(order))) else order
        self._samples = None if samples is None else samples.cpu().clone()
        self._chosen = None if self._samples is None else _membership(self._samples)
        kind = OverlapSums if partial_labels else CompleteSums
        self._sums: CompleteSums | OverlapSums = kind(len(self._tasks))
        self._missing = torch.zeros(len(self._tasks), dtype=torch.int64)
        self._visits = 0
        self._visits_in_epoch = 0
        self._epochs = 0

    def record(self, index: Tensor, outputs: Outputs, targets: Targets) -> None:
        """Take in one batch.

        Args:
            index: [B] integers, the samples' positions in the training split. With `samples`, one that is not on
                the CPU is waited for.
            outputs: What the model gave in the forward pass that is trained on, packed [B, O] or by task name.
            targets: [B, T] or by task name.

        Raises:
            ValueError: If the index does not fit the batch, or is negative (checked on the CPU).
        """
        packed = self._tasks.pack(outputs).detach()
        _check_index(index, len(packed))
        if self._chosen is not None:
            # The last entry stands for all positions beyond the chosen ones.
            here = self._chosen[index.cpu().clamp(max=len(self._chosen) - 1)]
            rows = here.nonzero().squeeze(1).to(packed.device, non_blocking=True)
            packed, targets = packed[rows], map_tensors(targets, lambda target: target[rows])
        self._move_to(packed.device)
        values, _, seen = self._confidence(packed, targets)
        if self._order is not None:
            self._order = self._order.to(packed.device)
            values, seen = values[:, self._order], seen[:, self._order]
        self._sums.add(torch.where(seen, values.double() - 1, 0), seen)
        self._missing += (~seen).sum(0)
        self._visits += len(values)
        self._visits_in_epoch += len(values)

    def end_epoch(self) -> None:
        """Close an epoch: its confidences are centred by their own means.

        Raises:
            ValueError: If a task lacked labels of some samples, and partial labels were not asked for.
        """
        self._check_complete()
        self._sums.end_epoch()
        self._visits_in_epoch = 0
        self._epochs += 1

    def merge(self, other: "TaskGram") -> None:
        """Add what another recorder of the same tasks saw of other samples, such as another rank; it is not changed.

        The other one has recorded the same epochs, or nothing but the epoch that is open here: then every rank
        starts a new recorder for each epoch, and one of them merges the others before it ends the epoch.

        Raises:
            ValueError: If the tasks or epochs are others, or, with partial labels, the other one has ended an epoch.
        """
        if other._tasks.names != self._tasks.names:
            raise ValueError(
                f"Only recorders of the same tasks can be merged. Got {_some(other._tasks.names)}"
                f" and {_some(self._tasks.names)}."
            )
        if other._epochs not in (0, self._epochs):
            raise ValueError(
                f"Only recorders of the same epochs can be merged. Got one of {other._epochs} finished epochs and one"
                f" of {self._epochs}."
            )
        match self._sums, other._sums:
            case CompleteSums() as ours, CompleteSums() as theirs:
                ours.merge(theirs)
            case OverlapSums(), OverlapSums() if other._epochs > 0:
                raise ValueError(
                    f"With partial labels only an open epoch can be merged. Got a recorder of {other._epochs} finished"
                    " epochs. Start a new one on the other rank for each epoch, and merge it before end_epoch."
                )
            case OverlapSums() as ours, OverlapSums() as theirs:
                ours.merge(theirs)
            case _:
                raise ValueError("One of the recorders is for partial labels. Give both the same partial_labels.")
        self._missing += other._missing.to(self._missing.device)
        self._visits += other._visits
        self._visits_in_epoch += other._visits_in_epoch

    def result(self) -> TaskCorrelation:
        """The correlations over all finished epochs, on the CPU.

        Warns:
            UserWarning: If tasks have no labels; they are named, and NaN in the matrix.

        Raises:
            ValueError: If no epoch was ended, or one is open, or labels are missing that partial labels would allow.
        """
        if self._epochs == 0 or self._visits_in_epoch > 0:
            raise ValueError(
                f"Confidences are centred when their epoch ends. Got {self._epochs} finished epochs and"
                f" {self._visits_in_epoch} samples after them. Call end_epoch() first."
            )
        self._check_complete()
        visits = self._visits - self._missing
        if not bool(visits.all()):
            warnings.warn(
                f"Tasks {_some(self._names(visits == 0))} have no labelled sample in the Gram matrix; they are NaN.",
                stacklevel=2,
            )
        correlation = self._sums.correlation(visits).cpu()
        return TaskCorrelation(
            correlation=correlation,
            n=visits.cpu(),
            tasks=self._tasks.names,
            flat=self._names(correlation.diagonal() == 0),
            epochs=self._epochs,
        )

    def on_step(self, step: Step) -> None:
        """Record a step of `fit`."""
        self.record(step.batch.index, step.outputs, step.batch.targets)

    def on_epoch_end(self, epoch: int) -> None:  # noqa: ARG002 - the number does not matter, its end does
        """End the epoch."""
        self.end_epoch()

    def state_dict(self) -> dict[str, Any]:
        """Everything recorded so far."""
        return {
            "tasks": list(self._tasks.names),
            "partial_labels": isinstance(self._sums, OverlapSums),
            "samples": self._samples,
            "sums": self._sums.state_dict(),
            "missing": self._missing.clone(),
            "visits": self._visits,
            "visits_in_epoch": self._visits_in_epoch,
            "epochs": self._epochs,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a recorded state, exactly as if there had been no interruption.

        Raises:
            StudyError: If the state is of other tasks, of other samples, or of another form.
        """
        if state["tasks"] != list(self._tasks.names):
            raise StudyError(
                f"The saved Gram matrix is of tasks {_some(state['tasks'])}, not of {_some(self._tasks.names)}."
                " Start without it."
            )
        if state["partial_labels"] != isinstance(self._sums, OverlapSums):
            raise StudyError(
                f"The saved Gram matrix has partial_labels={state['partial_labels']}, and this one the opposite."
                " Start without it."
            )
        if not _same(state["samples"], self._samples):
            raise StudyError("The saved Gram matrix is of other samples than these. Start without it.")
        self._sums.load_state_dict(state["sums"])
        self._missing = state["missing"].clone()
        self._visits, self._visits_in_epoch = state["visits"], state["visits_in_epoch"]
        self._epochs = state["epochs"]

    def _check_complete(self) -> None:
        # Counted on the device at every step, looked at once per epoch. A task without any label disturbs nobody.
        incomplete = (self._missing > 0) & (self._missing < self._visits)
        if isinstance(self._sums, CompleteSums) and bool(incomplete.any()):
            raise ValueError(
                f"Tasks {_some(self._names(incomplete))} have labels for some samples only."
                " Make the TaskGram with partial_labels=True, or leave these tasks out."
            )

    def _names(self, chosen: Tensor) -> tuple[str, ...]:
        return tuple(self._tasks.names[n] for n in chosen.nonzero().flatten().tolist())

    def _move_to(self, device: torch.device) -> None:
        self._confidence.to(device)
        self._sums.to(device)
        self._missing = self._missing.to(device)


def _membership(samples: Tensor) -> Tensor:
    """[largest position + 2] whether a position is among the samples; the last entry is False."""
    whole = not samples.is_floating_point() and samples.dtype != torch.bool
    if samples.dim() != 1 or not whole or len(samples) == 0 or int(samples.min()) < 0:
        raise ValueError(
            "samples must hold positions in the training split, integers from 0, in one dimension, at least one."
            f" Got {samples.dtype} {list(samples.shape)}{f' from {samples.min()}' if samples.numel() else ''}."
        )
    chosen = torch.zeros(int(samples.max()) + 2, dtype=torch.bool)
    chosen[samples] = True
    return chosen


def _check_index(index: Tensor, n: int) -> None:
    if index.shape != (n,) or index.is_floating_point() or index.dtype == torch.bool:
        raise ValueError(
            f"index must hold one integer per sample of the batch, [{n}]: its position in the training split."
            f" Got {index.dtype} {list(index.shape)}."
        )
    if index.device.type == "cpu" and n and int(index.min()) < 0:
        raise ValueError(f"index must hold positions in the training split, from 0. Got {int(index.min())}.")


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return torch.equal(one, other)


def _some(names: Iterable[str], most: int = 10) -> str:
    """Names for a message, not thousands of them."""
    names = list(names)
    return f"{names[:most]}" if len(names) <= most else f"{names[:most]} and {len(names) - most} more"
