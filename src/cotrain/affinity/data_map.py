"""Data maps: how confidently, how variably and how often correctly each sample is learned, for every task."""

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from cotrain.affinity.confidence import RIGHT, Confidence
from cotrain.affinity.hooks import require_units
from cotrain.affinity.moments import Moments
from cotrain.affinity.ranks import average_ranks
from cotrain.errors import StudyError
from cotrain.instrument import Step
from cotrain.task import Outputs, Targets, Task, as_tasks

__all__ = ["DataMap", "DataMaps"]


@dataclass(frozen=True, eq=False)
class DataMaps:
    """What a `DataMap` recorded.

    Attributes:
        confidence: [N, T] float32 mean over the visits of what the network gave the true label; NaN where the
            sample has no label or was not visited.
        variability: [N, T] float32 standard deviation over the visits; 0 after one visit, NaN without any.
        correctness: [N, T] float32 share of visits at which the sample was right; NaN without any.
        visits: [N, T] int32.
        tasks: The tasks' names, in the order of the columns.
        epochs: Finished epochs.
    """

    confidence: Tensor
    variability: Tensor
    correctness: Tensor
    visits: Tensor
    tasks: tuple[str, ...]
    epochs: int


class DataMap:
    """Record the training dynamics of every sample and task from the outputs that are trained on.

    Confidence of one visit, by the task's kind:
        binary: sigmoid((2 y - 1) z), the probability of the true label.
        multiclass: (p_true - 1/C) / (1 - 1/C), 0 for a guess and 1 for certainty; right if p_true is the largest.
        regression and custom: 1 - (rank - 1/2) / n, where rank is that of the sample's loss among the n samples of
            the epoch. It needs no scale, comes once per epoch (a sample that was visited twice counts with its
            last loss), is right if it is above 1/2, and cannot show whether the task is learned at all.

    Recording changes nothing of the training, and does not wait for the device. Give the object to `fit` as an
    instrument, or call `record` in your own loop at every training step and `end_epoch` after every epoch.
    Memory: 20 bytes per sample and task.
    Sources: Swayamdipta et al., arXiv 2009.10795; Sherif et al., arXiv 2307.03374 (tasks instead of samples).

    Args:
        n_samples: N, the size of the training split.
        tasks: In the order of the packed outputs. Regression tasks must have the units they are trained in
            (`TaskSet.with_units`).

    Raises:
        ValueError: If there is no sample.
    """

    def __init__(self, n_samples: int, tasks: Iterable[Task]) -> None:
        if n_samples < 1:
            raise ValueError(f"n_samples must be the number of training samples, at least 1. Got {n_samples}.")
        self._n_samples = n_samples
        self._tasks = as_tasks(tasks)
        self._confidence = Confidence(self._tasks)
        self._ranked = [n for n, task in enumerate(self._tasks) if task.kind in ("regression", "custom")]
        self._by_visit = Moments(n_samples, len(self._confidence.columns))
        self._by_epoch = Moments(n_samples, len(self._ranked))
        self._epoch_losses = torch.full((n_samples, len(self._ranked)), torch.nan)
        self._epochs = 0

    def record(self, index: Tensor, outputs: Outputs, targets: Targets) -> None:
        """Take in one batch.

        Args:
            index: [B] integers, the samples' positions in the training split. A position that occurs twice counts
                twice.
            outputs: What the model gave in the forward pass that is trained on, packed [B, O] or by task name.
            targets: [B, T] or by task name; an entry without a label is left as it was.

        Raises:
            ValueError: If the index does not fit the batch, or is out of range (checked on the CPU, where it is
                cheap; another device reports it by itself, later).
        """
        packed = self._tasks.pack(outputs).detach()
        self._check(index, len(packed))
        index = index.to(packed.device, non_blocking=True)
        self._move_to(packed.device)
        if self._confidence.columns:
            self._by_visit.add(index, *self._confidence(packed, targets))
        if self._ranked:
            losses, labelled = self._tasks.sample_losses(packed, targets)
            known = torch.where(labelled, losses, torch.nan)[:, self._ranked]
            self._epoch_losses.index_copy_(0, index, known.to(self._epoch_losses.dtype))

    def end_epoch(self) -> None:
        """Close an epoch: regression and custom tasks are rated by the ranks of its losses."""
        seen = ~torch.isnan(self._epoch_losses)
        values = 1 - (average_ranks(self._epoch_losses) - 0.5) / seen.sum(0)
        rows = torch.arange(self._n_samples, device=seen.device)
        self._by_epoch.add(rows, values.nan_to_num().float(), values > RIGHT, seen)
        self._epoch_losses.fill_(torch.nan)
        self._epochs += 1

    def merge(self, other: "DataMap") -> None:
        """Take in what another recorder of the same samples and tasks saw in the same epochs, such as another rank.

        Each recorder ranks the losses of its own samples. Call it between epochs.

        Raises:
            ValueError: If the samples or tasks are others.
        """
        if other._n_samples != self._n_samples or other._tasks.names != self._tasks.names:
            raise ValueError(
                f"Only recorders of the same samples and tasks can be merged. Got {other._n_samples} samples of"
                f" {list(other._tasks.names)} and {self._n_samples} of {list(self._tasks.names)}."
            )
        self._by_visit.merge(other._by_visit)
        self._by_epoch.merge(other._by_epoch)
        self._epochs = max(self._epochs, other._epochs)

    def result(self, *, ddof: Literal[0, 1] = 1) -> DataMaps:
        """The maps as they are now, on the CPU.

        Args:
            ddof: Variability divides by visits - ddof: 1 as in STG-MTL, 0 as in Dataset Cartography.

        Warns:
            UserWarning: If tasks have no labelled visit; they are named, and NaN in the maps.

        Raises:
            ValueError: If ddof is neither 0 nor 1.
        """
        if ddof not in (0, 1):
            raise ValueError(f"ddof must be 0 or 1. Got {ddof}.")
        order = torch.tensor([*self._confidence.columns, *self._ranked]).argsort()
        parts = (self._by_visit, self._by_epoch)

        def together(of: Callable[[Moments], Tensor]) -> Tensor:
            return torch.cat([of(part).cpu() for part in parts], dim=1)[:, order]

        visits = together(Moments.visits)
        unseen = [name for name, seen in zip(self._tasks.names, visits.any(0).tolist(), strict=True) if not seen]
        if unseen:
            warnings.warn(f"Tasks {unseen} have no labelled sample in the data maps; they are NaN.", stacklevel=2)
        return DataMaps(
            confidence=together(Moments.mean),
            variability=together(lambda part: part.std(ddof)),
            correctness=together(Moments.share_correct),
            visits=visits,
            tasks=self._tasks.names,
            epochs=self._epochs,
        )

    def on_step(self, step: Step) -> None:
        """Record a step of `fit`.

        Raises:
            ValueError: If a regression task has no units, in which `fit` trains it.
        """
        require_units(self._tasks, "DataMap")
        self.record(step.batch.index, step.outputs, step.batch.targets)

    def on_epoch_end(self, epoch: int) -> None:  # noqa: ARG002 - the number does not matter, its end does
        """End the epoch."""
        self.end_epoch()

    def state_dict(self) -> dict[str, Any]:
        """Everything recorded so far."""
        return {
            "tasks": list(self._tasks.names),
            "by_visit": self._by_visit.state_dict(),
            "by_epoch": self._by_epoch.state_dict(),
            "epoch_losses": self._epoch_losses.clone(),
            "epochs": self._epochs,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a recorded state, exactly as if there had been no interruption.

        Raises:
            StudyError: If the state is of other tasks or of another number of samples.
        """
        n_samples = len(state["epoch_losses"])
        if state["tasks"] != list(self._tasks.names) or n_samples != self._n_samples:
            raise StudyError(
                f"The saved data map is of {n_samples} samples and tasks {state['tasks']}, not of {self._n_samples}"
                f" and {list(self._tasks.names)}. Start without it."
            )
        self._by_visit.load_state_dict(state["by_visit"])
        self._by_epoch.load_state_dict(state["by_epoch"])
        self._epoch_losses = state["epoch_losses"].clone()
        self._epochs = state["epochs"]

    def _check(self, index: Tensor, n: int) -> None:
        if index.shape != (n,) or index.is_floating_point() or index.dtype == torch.bool:
            raise ValueError(
                f"index must hold one integer per sample of the batch, [{n}]: its position in the training split."
                f" Got {index.dtype} {list(index.shape)}."
            )
        if index.device.type == "cpu" and n and not 0 <= int(index.min()) <= int(index.max()) < self._n_samples:
            raise ValueError(
                f"index must be between 0 and {self._n_samples - 1}, the positions in the training split."
                f" Got {int(index.min())} to {int(index.max())}. Was n_samples another split's size?"
            )

    def _move_to(self, device: torch.device) -> None:
        self._confidence.to(device)
        self._by_visit.to(device)
        self._by_epoch.to(device)
        self._epoch_losses = self._epoch_losses.to(device)
