"""What a fall of a loss is relative to, and which tasks had a loss that this cannot be asked of."""

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from cotrain.affinity.statistics import RunningMean

__all__ = ["RelativeLosses"]

LOSS_FLOOR = 0.01
"""Of a loss's running mean: as a loss goes to 0, its relative change explodes."""


class RelativeLosses:
    """The losses of all tasks over the measured batches, and a count of every trouble with them.

    Args:
        names: The tasks' names.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names
        self._losses = RunningMean(len(names))
        self._counts = {name: torch.zeros(len(names), dtype=torch.int64) for name in _COUNTS}

    @property
    def floored(self) -> Tensor:
        """[T] how often a loss was below the floor."""
        return self._counts["floored"].clone()

    def denominators(self, losses: Tensor, labelled: Tensor, usable: Tensor, moved: Tensor) -> Tensor:
        """What the changes of one batch are relative to, on the CPU.

        Args:
            losses: [T] on this batch.
            labelled: [T] whether the task has a label in it.
            usable: [T] labelled, with a finite loss and gradient.
            moved: [T] whether the task's gradient by the shared parameters is not 0.

        Returns:
            [T] losses, no smaller than 1 % of their running mean; NaN for a target that has no ratio here.
        """
        losses, labelled, usable = losses.cpu(), labelled.cpu(), usable.cpu()
        refused = usable & (losses < 0)
        counted = usable & ~refused
        self._losses.add(torch.where(counted, losses, torch.nan))
        floor = LOSS_FLOOR * self._losses.mean()
        found = {
            "broken": labelled & ~usable,
            "refused": refused,
            "floored": counted & (losses < floor),
            "seen": usable,
            "moved": usable & moved.cpu(),
        }
        for name, tasks in found.items():
            self._counts[name] += tasks
        relative_to = torch.maximum(losses, floor)
        return torch.where(counted & (relative_to > 0), relative_to, torch.nan)

    def warn(self, stacklevel: int) -> None:
        """Name the tasks that had trouble.

        Args:
            stacklevel: Of the caller that is to be blamed.
        """
        counts = self._counts
        troubles = {
            "a loss or a gradient that was not finite; they were left out there": counts["broken"],
            "a loss below 0, of which no relative change exists; as targets they were left out there": counts[
                "refused"
            ],
            "a loss below 1 % of its running mean; their columns rest on that floor there": counts["floored"],
            "no gradient by any shared parameter; they neither give nor take, and their rows and columns are 0": (
                torch.where(counts["moved"] == 0, counts["seen"], 0)
            ),
        }
        for trouble, tasks in troubles.items():
            found = [f"{name} ({n})" for name, n in zip(self._names, tasks.tolist(), strict=True) if n]
            if found:
                warnings.warn(f"Tasks (number of batches) with {trouble}: {', '.join(found)}.", stacklevel=stacklevel)

    def merge(self, state: Mapping[str, Any]) -> None:
        """Add what another process saw, from its `state_dict`."""
        self._losses.merge(state["losses"])
        for name in _COUNTS:
            self._counts[name] += state[name]

    def state_dict(self) -> dict[str, Any]:
        """Everything seen so far."""
        return {"losses": self._losses.state_dict(), **{name: self._counts[name].clone() for name in _COUNTS}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a recorded state."""
        self._losses.load_state_dict(state["losses"])
        self._counts = {name: state[name].clone() for name in _COUNTS}


_COUNTS = ("broken", "refused", "floored", "seen", "moved")
