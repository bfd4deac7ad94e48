"""Where the statistics of a data map are kept: one part that grows with every visit, one with every epoch."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from cotrain.affinity.codes import Codes
from cotrain.affinity.history import History
from cotrain.affinity.moments import Moments, Statistics
from cotrain.affinity.running_moments import RunningMoments
from cotrain.affinity.windows import StreamedWindows, Streaming, Windows
from cotrain.task import TaskSet

__all__ = ["Recording", "Storage"]

Storage = Literal["float32", "bfloat16", "disk"]


class Recording:
    """Statistics of the rows of a data map, in the chosen storage.

    Args:
        tasks: The tasks.
        by_visit: The tasks that are rated at every visit, in the order in which their values come.
        by_epoch: The others, which are rated once per epoch.
        n_rows: How many samples are recorded.
        n_with_spare: With one row more, if there is one for what is not recorded.
        windows: Which visits the statistics are of.
        decay: What the weight of a visit is multiplied with at every later one; 1 if the window is not exponential.
        storage: Of the statistics.
        folder: For "disk" only.

    Raises:
        ValueError: If there is no such storage, or a folder is missing or too much.
    """

    def __init__(
        self,
        tasks: TaskSet,
        by_visit: list[int],
        by_epoch: list[int],
        n_rows: int,
        n_with_spare: int,
        windows: Windows,
        decay: float,
        storage: Storage,
        folder: Path | None,
    ) -> None:
        if storage not in ("float32", "bfloat16", "disk"):
            raise ValueError(f"storage must be 'float32', 'bfloat16' or 'disk'. Got {storage!r}.")
        if (storage == "disk") != (folder is not None):
            raise ValueError(f"storage='disk' needs a folder, and no other has one. Got {storage!r} and {folder}.")
        self._n_rows = n_rows
        self._order = torch.tensor([*by_visit, *by_epoch]).argsort()
        self._parts: dict[str, StreamedWindows[Streaming] | History] = {}
        for name, columns in (("by_visit", by_visit), ("by_epoch", by_epoch)):
            if folder is not None and columns:
                codes = Codes(tasks[n] for n in columns)
                make = _kind(len(columns), decay, torch.float32)
                self._parts[name] = History(folder, name, (n_rows, len(columns)), codes, windows, make)
            elif columns:
                dtype = torch.bfloat16 if storage == "bfloat16" else torch.float32
                self._parts[name] = StreamedWindows(partial(_kind(len(columns), decay, dtype), n_with_spare), windows)

    def add(self, name: str, rows: Tensor, values: Tensor, right: Tensor, seen: Tensor | None) -> None:
        """Take in values [B, t] of rows [B] for the part "by_visit" or "by_epoch"; `seen` None: all."""
        self._parts[name].add(rows, values, right, seen)

    def end_epoch(self, epoch: int) -> None:
        """Close an epoch."""
        for part in self._parts.values():
            part.end_epoch(epoch)

    def statistics(self, snapshot: int | None, ddof: int) -> Statistics:
        """[n_rows, T] of the window that ended with a snapshot, or of the open one, in the order of the tasks."""
        return self._together([part.statistics(snapshot, ddof) for part in self._parts.values()])

    def statistics_of(self, epochs: tuple[int, int], ddof: int) -> Statistics:
        """[n_rows, T] of epochs from the first to before the second."""
        return self._together([part.statistics_of(*epochs, ddof) for part in self._histories(epochs)])

    def visits_of(self, rows: Tensor, epochs: tuple[int, int] | None) -> Tensor:
        """[most visits, n, T] of some rows in epochs from the first to before the second, None: in all."""
        parts = [part.visits_of(rows.numpy(), *(epochs or (0, None))) for part in self._histories(epochs)]
        most = max(len(part) for part in parts)
        padded = [torch.cat([part, part.new_full((most - len(part), *part.shape[1:]), torch.nan)]) for part in parts]
        return torch.cat(padded, dim=2)[:, :, self._order]

    def merge(self, other: "Recording") -> None:
        """Take in another recording with the same arguments."""
        for name, part in self._parts.items():
            part.merge(other._parts[name])  # type: ignore[arg-type] # the same arguments give the same type

    def to(self, device: torch.device) -> None:
        """Move what is in memory to a device."""
        for part in self._parts.values():
            part.to(device)

    def state_dict(self) -> dict[str, Any]:
        """Everything recorded so far."""
        return {name: part.state_dict() for name, part in self._parts.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a recorded state."""
        for name, part in self._parts.items():
            part.load_state_dict(state[name])

    def _histories(self, epochs: tuple[int, int] | None) -> list[History]:
        histories = [part for part in self._parts.values() if isinstance(part, History)]
        if not histories:
            raise ValueError("Single visits and chosen epochs are known with storage='disk' only.")
        finished = histories[0].epochs
        if epochs is not None and not 0 <= epochs[0] < epochs[1] <= finished:
            raise ValueError(
                f"epochs must be the first one and the one after the last, of {finished} that have ended. Got {epochs}."
            )
        return histories

    def _together(self, parts: list[Statistics]) -> Statistics:
        def joined(pieces: tuple[Tensor, ...]) -> Tensor:
            pieces = tuple(piece[: self._n_rows].cpu() for piece in pieces)
            # A copy of the maps of a hundred thousand samples counts.
            return pieces[0] if len(pieces) == 1 and self._in_order else torch.cat(pieces, dim=1)[:, self._order]

        return Statistics(*(joined(pieces) for pieces in zip(*parts, strict=True)))

    @property
    def _in_order(self) -> bool:
        return torch.equal(self._order, torch.arange(len(self._order)))


def _kind(n_columns: int, decay: float, dtype: torch.dtype) -> Callable[[int], Streaming]:
    """Makes statistics for a number of rows."""
    if decay == 1 and dtype == torch.float32:
        return partial(Moments, n_columns=n_columns)
    return partial(RunningMoments, n_columns=n_columns, decay=decay, dtype=dtype)
