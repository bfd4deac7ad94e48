"""Which visits a statistic is of: all of them, those since the last snapshot, or the later the more."""

import itertools
import operator
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

import torch
from torch import Tensor

from cotrain.affinity.moments import Statistics

__all__ = ["StreamedWindows", "Streaming", "Window", "Windows"]

Window = Literal["cumulative", "epochs", "exponential"]


@dataclass(frozen=True)
class Windows:
    """The windows of a recorder, checked before anything is trained.

    Args:
        kind: "cumulative", "epochs" (from one snapshot to the next) or "exponential".
        snapshots: Epochs from 0 at whose ends the statistics are kept, in order.

    Raises:
        ValueError: If a window is too short for a spread, or not within the training.
    """

    kind: Window
    snapshots: tuple[int, ...]

    @classmethod
    def checked(cls, kind: Window, snapshots: Iterable[int], epochs: int | None) -> "Windows":
        """From the arguments of `DataMap`."""
        if kind not in ("cumulative", "epochs", "exponential"):
            raise ValueError(f"window must be 'cumulative', 'epochs' or 'exponential'. Got {kind!r}.")
        chosen = tuple(sorted({operator.index(epoch) for epoch in snapshots}))
        if chosen and epochs is None:
            raise ValueError("snapshots need epochs, the number of epochs to be trained, so that they can be checked.")
        outside = [epoch for epoch in chosen if epochs is not None and not 1 <= epoch < epochs]
        if outside:
            raise ValueError(
                f"snapshots must be epochs between 1 (a spread needs two) and {(epochs or 0) - 1}, the last of"
                f" {epochs}, counted from 0. Got {outside}."
            )
        if kind == "epochs":
            short = [stop for start, stop in itertools.pairwise((-1, *chosen)) if stop - start < 2]
            if not chosen or short:
                raise ValueError(
                    "window='epochs' needs snapshots, at which its windows end, two or more epochs apart, because a"
                    f" spread needs two. Got snapshots {list(chosen)}{f': {short} too early' if short else ''}."
                )
        return cls(kind, chosen)

    @property
    def restart(self) -> bool:
        """Whether a window begins where the one before ended."""
        return self.kind == "epochs"

    def epochs_of(self, snapshot: int | None, finished: int, open_too: bool) -> tuple[int, int | None]:
        """First epoch of a window and the one after its last.

        Args:
            snapshot: The window that was kept there, or None for the one that is open.
            finished: How many epochs are finished.
            open_too: Whether there were visits since then; if not, the open window is the one that closed last.
        """
        stop = None if snapshot is None else snapshot + 1
        if not self.restart:
            return 0, stop
        end = stop if stop is not None else finished + open_too
        return max((epoch + 1 for epoch in self.snapshots if epoch + 1 < end), default=0), stop


class Streaming(Protocol):
    """Statistics that take in batches, such as `Moments`."""

    def add(self, index: Tensor, values: Tensor, correct: Tensor, seen: Tensor | None) -> None:
        """Take in values [B, T] of rows [B]."""
        ...

    def merge(self, other: Any) -> None:
        """Take in everything that another one of the same kind saw."""
        ...

    def statistics(self, ddof: int) -> Statistics:
        """What was seen so far."""
        ...

    def to(self, device: torch.device) -> Any:
        """Move to a device, and return itself."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything recorded so far."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a recorded state."""
        ...


S = TypeVar("S", bound=Streaming)


class StreamedWindows(Generic[S]):
    """The statistics of every window, without the history.

    Args:
        make: Gives statistics that have seen nothing.
        windows: Which windows.
    """

    def __init__(self, make: Callable[[], S], windows: Windows) -> None:
        self._make = make
        self._windows = windows
        self._device = torch.device("cpu")
        self._open: S | None = None
        self._kept: dict[int, S] = {}

    def add(self, index: Tensor, values: Tensor, correct: Tensor, seen: Tensor | None) -> None:
        """Take in a batch."""
        if self._open is None:
            self._open = self._make().to(self._device)
        self._open.add(index, values, correct, seen)

    def end_epoch(self, epoch: int) -> None:
        """Keep the window that ends with the epoch, if one does, in the memory of the CPU."""
        if epoch in self._windows.snapshots:
            kept = self._make() if self._open is None else self._open
            self._kept[epoch] = (kept if self._windows.restart else deepcopy(kept)).to(torch.device("cpu"))
            self._open = None if self._windows.restart else self._open

    def statistics(self, snapshot: int | None, ddof: int) -> Statistics:
        """Of the window that was kept at a snapshot, or of the open one; the last one kept until a new one opens."""
        if snapshot is not None:
            return self._kept[snapshot].statistics(ddof)
        now = self._open or (self._kept[max(self._kept)] if self._kept else self._make())
        return now.statistics(ddof)

    def merge(self, other: "StreamedWindows[S]") -> None:
        """Take in what another recorder of the same epochs saw."""
        for epoch, kept in self._kept.items():
            kept.merge(other._kept[epoch])
        if other._open is not None:
            self._open = self._open or self._make().to(self._device)
            self._open.merge(deepcopy(other._open).to(self._device))

    def to(self, device: torch.device) -> None:
        """Move the open window to a device."""
        self._device = device
        if self._open is not None:
            self._open.to(device)

    def state_dict(self) -> dict[str, Any]:
        """Everything recorded so far, with the snapshots."""
        return {
            "open": None if self._open is None else self._open.state_dict(),
            "kept": {epoch: kept.state_dict() for epoch, kept in self._kept.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a recorded state."""
        self._open = None if state["open"] is None else self._loaded(state["open"])
        self._kept = {epoch: self._loaded(kept) for epoch, kept in state["kept"].items()}

    def _loaded(self, state: Mapping[str, Any]) -> S:
        made = self._make()
        made.load_state_dict(state)
        return made
