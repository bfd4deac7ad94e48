"""Every visit of every sample on disk, one byte per task, and the statistics of any epochs from it."""

import json
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numpy.lib.format import open_memmap
from torch import Tensor

from cotrain.affinity.codes import Codes
from cotrain.affinity.moments import Statistics
from cotrain.affinity.windows import Streaming, Windows
from cotrain.errors import StudyError
from cotrain.files import write_json

__all__ = ["History"]

_Bytes = npt.NDArray[np.uint8]
_CHUNK = 2**20
"""Entries whose statistics are computed at once: 16 MiB of sums, whatever the number of samples."""


class History:
    """Confidences in layers [N, T] of bytes, one .npy file for the samples' first visits, one for their second, ...

    The layer of a visit is the number of visits that its sample had before, so that a sample may come twice in a
    batch or an epoch, or not at all. Layers are mapped into memory while an epoch writes to them and let go at its
    end; kept are the samples' visits at the end of every epoch, 4 bytes each.

    Args:
        folder: Where the files are. What an earlier history of that name left there is written over, unless
            `load_state_dict` goes on with it.
        name: Of the files.
        shape: N and T.
        codes: How confidences are written in bytes.
        windows: Which epochs the statistics are of.
        make: Gives the statistics that have seen nothing, for a number of rows.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        shape: tuple[int, int],
        codes: Codes,
        windows: Windows,
        make: Callable[[int], Streaming],
    ) -> None:
        self._folder, self._name = folder, name
        self._shape = shape
        self._codes, self._windows, self._make = codes, windows, make
        self._identity: str | None = None
        self._visits = np.zeros(shape[0], dtype=np.int32)
        self._ends: list[npt.NDArray[np.int32]] = []
        self._mapped: dict[int, _Bytes] = {}

    def add(self, index: Tensor, values: Tensor, correct: Tensor, seen: Tensor | None) -> None:
        """Write a batch, values [B, T] of rows [B]; rows beyond the last are left out. Waits for the device."""
        codes = self._codes.encode(values.cpu(), correct.cpu(), None if seen is None else seen.cpu())
        rows = index.cpu().numpy()
        # By a stable sort: what repeats in the batch goes into one layer after the other, in the batch's order.
        order = np.argsort(rows, kind="stable")
        order = order[: np.searchsorted(rows, self._shape[0], sorter=order)]
        rows, bytes_ = rows[order], codes.numpy()[order]
        slots = self._visits[rows] + np.arange(len(rows)) - np.searchsorted(rows, rows)
        for slot in np.unique(slots):
            here = slots == slot
            self._layer(int(slot))[rows[here]] = bytes_[here]
        np.add.at(self._visits, rows, 1)

    @property
    def epochs(self) -> int:
        """How many have ended."""
        return len(self._ends)

    def end_epoch(self, epoch: int) -> None:  # noqa: ARG002 - which one follows from how many came before
        """Remember where the epoch ends, and let go of the memory of its layers."""
        self._ends.append(self._visits.copy())
        self._flush()

    def statistics(self, snapshot: int | None, ddof: int) -> Statistics:
        """Of the window that ended with a snapshot, or of the open one."""
        open_too = not self._ends or bool((self._visits != self._ends[-1]).any())
        return self.statistics_of(*self._windows.epochs_of(snapshot, len(self._ends), open_too), ddof)

    def statistics_of(self, start: int, stop: int | None, ddof: int) -> Statistics:
        """Of the epochs from `start` to before `stop`; None is now.

        In chunks of rows, each with all of its visits, so that memory is that of the result and one chunk.
        """
        first, last = self._visits_before(start), self._visits_before(stop)
        mean, std, share = (torch.empty(self._shape) for _ in range(3))
        found = Statistics(mean, std, share, torch.empty(self._shape, dtype=torch.int32))
        n_rows = max(1, _CHUNK // self._shape[1])
        for begin in range(0, self._shape[0], n_rows):
            part = slice(begin, begin + n_rows)
            from_, to = first[part], last[part]
            chunk = self._make(len(to))
            rows = torch.arange(len(to))
            for slot in range(int(from_.min()), int(to.max())):
                values, right, seen = self._codes.decode(torch.from_numpy(self._read(slot, part)))
                within = torch.from_numpy((from_ <= slot) & (slot < to)).unsqueeze(1)
                chunk.add(rows, values, right, seen & within)
            for whole, piece in zip(found, chunk.statistics(ddof), strict=True):
                whole[part] = piece
        return found

    def visits_of(self, rows: npt.NDArray[np.int64], start: int, stop: int | None) -> Tensor:
        """[most visits, n, T] confidence at every visit of some rows in the epochs from `start` to before `stop`.

        A row's visits start at the first place; NaN where there was no label or no further visit.
        """
        first, last = self._visits_before(start)[rows], self._visits_before(stop)[rows]
        counts = last - first
        found = torch.full((int(counts.max(initial=0)), len(rows), self._shape[1]), torch.nan)
        for slot in range(int(first.min(initial=0)), int(last.max(initial=0))):
            here = np.flatnonzero((first <= slot) & (slot < last))
            values, _, seen = self._codes.decode(torch.from_numpy(self._read(slot, rows[here])))
            found[slot - first[here], here] = torch.where(seen, values, torch.nan)
        return found

    def merge(self, other: "History") -> None:
        """Not possible.

        Raises:
            ValueError: Always.
        """
        del other
        raise ValueError("Recorders with storage='disk' cannot be merged: record with storage='float32' on every rank.")

    def to(self, device: torch.device) -> None:
        """Stay where it is."""

    def state_dict(self) -> dict[str, Any]:
        """The visits so far, after everything has been written to the files."""
        self._flush()
        return {
            "identity": self._identity,
            "visits": torch.from_numpy(self._visits.copy()),
            "ends": [torch.from_numpy(end.copy()) for end in self._ends],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a recorded state; what the files hold beyond it is written over.

        Raises:
            StudyError: If the folder does not hold the files of that recording.
        """
        layers = int(state["visits"].max())
        if layers:
            self._require(state["identity"], layers)
        self._identity = state["identity"]
        self._visits = state["visits"].numpy().copy()
        self._ends = [end.numpy().copy() for end in state["ends"]]
        self._mapped = {}

    def _visits_before(self, epoch: int | None) -> npt.NDArray[np.int32]:
        if epoch is None:
            return self._visits
        return self._ends[epoch - 1] if epoch else np.zeros_like(self._visits)

    def _layer(self, slot: int) -> _Bytes:
        """A layer to write to."""
        if self._identity is None:
            self._identity = secrets.token_hex(8)  # tells the files from those of another run of the same tasks
            write_json(self._folder / f"{self._name}.json", {"identity": self._identity})
        if slot not in self._mapped:
            path = self._path(slot)
            mode = "r+" if self._fits(path) else "w+"
            self._mapped[slot] = open_memmap(path, mode=mode, dtype=np.uint8, shape=self._shape)
        return self._mapped[slot]

    def _read(self, slot: int, rows: slice | npt.NDArray[np.int64]) -> _Bytes:
        """A copy, so that the mapping and its pages are given back at once."""
        mapped: _Bytes = np.load(self._path(slot), mmap_mode="r", allow_pickle=False)
        return np.array(mapped[rows])

    def _flush(self) -> None:
        for layer in self._mapped.values():
            assert isinstance(layer, np.memmap)
            layer.flush()
        self._mapped = {}

    def _path(self, slot: int) -> Path:
        return self._folder / f"{self._name}-{slot:05d}.npy"

    def _fits(self, path: Path) -> bool:
        try:
            layer = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError):
            return False
        return bool(layer.shape == self._shape and layer.dtype == np.uint8)

    def _require(self, identity: str | None, layers: int) -> None:
        try:
            found = json.loads((self._folder / f"{self._name}.json").read_text(encoding="utf-8")).get("identity")
        except (OSError, ValueError):
            found = None
        missing = [slot for slot in range(layers) if not self._fits(self._path(slot))]
        if found != identity or missing:
            what = f"lacks the layers {missing}" if found == identity else "is not that of the saved data map"
            raise StudyError(
                f"The history in {self._folder} {what}. Give the folder that was recorded to, or start without the"
                " saved state."
            )
