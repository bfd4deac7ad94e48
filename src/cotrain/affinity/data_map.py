"""Data maps: how confidently, how variably and how often correctly each sample is learned, for every task."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from cotrain.affinity.batch_queue import BatchQueue
from cotrain.affinity.confidence import RIGHT, Confidence
from cotrain.affinity.data_maps import DataMaps
from cotrain.affinity.hooks import require_units
from cotrain.affinity.moments import Statistics
from cotrain.affinity.ranks import average_ranks
from cotrain.affinity.recorded_rows import RecordedRows
from cotrain.affinity.recording import Recording, Storage
from cotrain.affinity.windows import Window, Windows
from cotrain.errors import StudyError
from cotrain.instrument import Step
from cotrain.task import Outputs, Targets, Task, as_tasks

__all__ = ["DataMap", "DataMaps"]


class DataMap:
    """Record the training dynamics of every sample and task from the outputs that are trained on.

    Confidence of one visit, by the task's kind:
        binary: sigmoid((2 y - 1) z), the probability of the true label.
        multiclass: (p_true - 1/C) / (1 - 1/C), 0 for a guess and 1 for certainty; right if p_true is the largest.
        regression and custom: 1 - (rank - 1/2) / n, where rank is that of the sample's loss among the n recorded
            samples of the epoch. It needs no scale, comes once per epoch (a sample that was visited twice counts
            with its last loss), is right if it is above 1/2, and cannot show whether the task is learned at all.

    Recording changes nothing of the training, and does not wait for the device. Give the object to `fit` as an
    instrument, or call `record` in your own loop at every training step and `end_epoch` after every epoch.
    Sources: Swayamdipta et al., arXiv 2009.10795; Sherif et al., arXiv 2307.03374 (tasks instead of samples).

    Args:
        n_samples: N, the size of the training split.
        tasks: In the order of the packed outputs. Regression tasks must have the units they are trained in
            (`TaskSet.with_units`).
        window: Which visits the statistics are of: "cumulative" all so far (as in STG-MTL), "epochs" those since
            the last snapshot (disjoint windows), "exponential" all, the v-th last with the weight decay^(v-1).
        decay: For the exponential window only; at 0.7 the last three visits have two thirds of the weight.
        snapshots: Epochs, counted from 0, at whose ends the maps are kept as well.
        epochs: How many epochs will be trained; required with snapshots, which are checked against it.
        storage: Memory per sample and task is 16 bytes with "float32" (20 if labels are missing) and 8 (12) with
            "bfloat16", where after n visits a confidence is off by at most (n + 1) / 2^10 and a variability by
            about as much, visits and correctness are exact, and recording takes several times as long. "disk" keeps
            one byte per visit in `folder` and almost nothing in memory, see `history`; it waits for the device.
            Its confidences are off by at most 0.002 (0.004 for multiclass tasks).
        folder: For "disk" only; an earlier recording there is written over, unless it is gone on with.
        samples: Positions of the samples to record, see `stratified_samples`; None records all.

    Raises:
        ValueError: If the arguments do not fit each other, or a snapshot is not within the training.
    """

    def __init__(
        self,
        n_samples: int,
        tasks: Iterable[Task],
        *,
        window: Window = "cumulative",
        decay: float = 0.7,
        snapshots: Sequence[int] = (),
        epochs: int | None = None,
        storage: Storage = "float32",
        folder: Path | None = None,
        samples: Tensor | None = None,
    ) -> None:
        self._tasks = as_tasks(tasks)
        self._rows = RecordedRows(n_samples, samples)
        self._windows = Windows.checked(window, snapshots, epochs)
        if not 0 < decay < 1:
            raise ValueError(f"decay must be between 0 and 1, both excluded. Got {decay}.")
        self._settings = {"tasks": list(self._tasks.names), "n_samples": n_samples, "window": window, "decay": decay}
        self._settings |= {"snapshots": list(self._windows.snapshots), "storage": storage}
        self._confidence = Confidence(self._tasks)
        self._ranked = [n for n, task in enumerate(self._tasks) if task.kind in ("regression", "custom")]
        self._recording = Recording(
            self._tasks,
            self._confidence.columns,
            self._ranked,
            self._rows.n,
            self._rows.n_with_spare,
            self._windows,
            decay if window == "exponential" else 1.0,
            storage,
            folder,
        )
        self._epoch_losses = torch.full((self._rows.n_with_spare, len(self._ranked)), torch.nan)
        self._epochs = 0
        self._queue = BatchQueue(self._tasks)

    @property
    def window(self) -> Window:
        """Which visits the statistics are of."""
        return self._windows.kind

    @property
    def snapshots(self) -> tuple[int, ...]:
        """Epochs, counted from 0, at whose ends the maps are kept."""
        return self._windows.snapshots

    @property
    def epochs(self) -> int:
        """How many have ended."""
        return self._epochs

    def record(self, index: Tensor, outputs: Outputs, targets: Targets) -> None:
        """Take in one batch.

        Args:
            index: [B] integers, the samples' positions in the training split. A position that occurs twice counts
                twice.
            outputs: What the model gave in the forward pass that is trained on, packed [B, O] or by task name.
            targets: [B, T] or by task name; an entry without a label is left as it was.

        Raises:
            ValueError: If the index, the outputs or the targets do not fit, or the index is out of range (checked
                on the CPU, where it is cheap; another device reports it by itself, later).
        """
        packed = self._tasks.pack(outputs).detach()
        self._rows.check(index, len(packed))
        if self._queue.put(index, packed, targets):
            self._take_in()

    def end_epoch(self) -> None:
        """Close an epoch: regression and custom tasks are rated by the ranks of its losses."""
        self._take_in()
        if self._ranked:
            losses = self._epoch_losses[: self._rows.n]
            seen = ~torch.isnan(losses)
            values = (1 - (average_ranks(losses) - 0.5) / seen.sum(0)).nan_to_num().float()
            rows = torch.arange(self._rows.n, device=losses.device)
            self._recording.add("by_epoch", rows, values, (values > RIGHT).float(), seen)
            self._epoch_losses.fill_(torch.nan)
        self._recording.end_epoch(self._epochs)
        self._epochs += 1

    def merge(self, other: "DataMap") -> None:
        """Take in what another recorder of the same samples and tasks saw in the same epochs, such as another rank.

        Each recorder ranks the losses of its own samples. Call it between epochs.

        Raises:
            ValueError: If the other one recorded something else, other epochs or in another way, if the window is
                exponential (the order of the visits is not known), or the storage is on disk.
        """
        mine, theirs = ({**recorder._settings, "epochs": recorder._epochs} for recorder in (self, other))
        differing = {key: (theirs[key], mine[key]) for key in mine if theirs[key] != mine[key]}
        if differing or not self._rows.same(other._rows.samples):
            raise ValueError(
                "Only recorders of the same samples and tasks, in the same epochs and with the same arguments, can be"
                f" merged. Got {differing or 'other samples'}."
            )
        self._take_in()
        other._take_in()
        self._recording.merge(other._recording)

    def result(self, *, ddof: Literal[0, 1] = 1, epochs: tuple[int, int] | None = None) -> DataMaps:
        """The maps as they are now, on the CPU, with those of the snapshots that were reached.

        With the window "epochs" they are of the visits since the last snapshot; right after it they are its own.

        Args:
            ddof: Variability divides by visits - ddof: 1 as in STG-MTL, 0 as in Dataset Cartography.
            epochs: First epoch and the one after the last, to get the maps of these alone (window as in "cumulative"
                or "exponential"), without snapshots; with storage="disk" only, which remembers every visit.

        Warns:
            UserWarning: If tasks have no labelled visit, which are NaN in the maps, or the training has not reached
                snapshots; they are named.

        Raises:
            ValueError: If ddof is neither 0 nor 1, or the maps of these epochs cannot be computed.
        """
        if ddof not in (0, 1):
            raise ValueError(f"ddof must be 0 or 1. Got {ddof}.")
        self._take_in()
        if epochs is not None:
            return self._maps(self._recording.statistics_of(epochs, ddof), epochs[1] - epochs[0])
        missed = [epoch for epoch in self._windows.snapshots if epoch >= self._epochs]
        if missed:
            warnings.warn(
                f"The training ended after {self._epochs} epochs, before the snapshots {missed}; they are left out.",
                stacklevel=2,
            )
        snapshots = tuple(
            self._maps(self._recording.statistics(epoch, ddof), epoch + 1)
            for epoch in self._windows.snapshots
            if epoch < self._epochs
        )
        maps = self._maps(self._recording.statistics(None, ddof), self._epochs, snapshots)
        seen = maps.visits.any(0).tolist()
        unseen = [name for name, any_ in zip(self._tasks.names, seen, strict=True) if not any_]
        if unseen:
            warnings.warn(f"Tasks {unseen} have no labelled sample in the data maps; they are NaN.", stacklevel=2)
        return maps

    def history(self, samples: Tensor | None = None, *, epochs: tuple[int, int] | None = None) -> Tensor:
        """Confidence at every visit; with storage="disk" only.

        Args:
            samples: [n] positions in the training split, in any order; None is all that are recorded.
            epochs: First epoch and the one after the last; None is all, with the epoch that has not ended.

        Returns:
            [most visits, n, T] float32 on the CPU: a sample's visits in their order, NaN where there was no label or
            no further visit. For regression and custom tasks there is one per epoch.

        Raises:
            ValueError: If the storage is another, a sample is not recorded or the epochs have not ended.
        """
        self._take_in()
        return self._recording.visits_of(self._rows.of(samples), epochs)

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
        """Everything recorded so far; with storage="disk" the visits are in the folder's files."""
        return {
            "settings": self._settings,
            "samples": self._rows.samples,
            "recording": self._recording.state_dict(),
            "epoch_losses": self._epoch_losses.clone(),
            "epochs": self._epochs,
            "waiting": self._queue.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a recorded state, exactly as if there had been no interruption.

        Raises:
            StudyError: If the state is of other tasks, samples or arguments, or the folder's files are not its own.
        """
        saved = state.get("settings", {})
        differing = [key for key, value in self._settings.items() if saved.get(key) != value]
        if differing or not self._rows.same(state["samples"]):
            got = {key: saved.get(key) for key in differing} or "other samples"
            raise StudyError(f"The saved data map differs from this one: it has {got}. Start without it.")
        self._recording.load_state_dict(state["recording"])
        self._epoch_losses = state["epoch_losses"].clone()
        self._epochs = state["epochs"]
        self._queue.load_state_dict(state["waiting"])

    def _take_in(self) -> None:
        batch = self._queue.take()
        if batch is None:
            return
        index, packed, targets = batch
        self._move_to(packed.device)
        rows, kept = self._rows.of_batch(index.to(packed.device, non_blocking=True))
        if kept is not None:
            packed = packed[kept]
            targets = {name: t[kept] for name, t in targets.items()} if isinstance(targets, Mapping) else targets[kept]
        if self._confidence.columns:
            self._recording.add("by_visit", rows, *self._confidence.rate(packed, targets))
        if self._ranked:
            losses, labelled = self._tasks.sample_losses(packed, targets)
            known = torch.where(labelled, losses, torch.nan)[:, self._ranked]
            order = rows.argsort(stable=True)
            last = order[torch.searchsorted(rows[order], rows, right=True) - 1]  # visit of the same sample
            self._epoch_losses.index_copy_(0, rows, known[last].to(self._epoch_losses.dtype))

    def _maps(self, found: Statistics, epochs: int, snapshots: tuple[DataMaps, ...] = ()) -> DataMaps:
        return DataMaps(*found, self._tasks.names, epochs, snapshots, self._rows.samples)

    def _move_to(self, device: torch.device) -> None:
        self._confidence.to(device)
        self._recording.to(device)
        self._epoch_losses = self._epoch_losses.to(device)
