"""What was chosen over time: how often each task was in, by stretches of steps, and which candidates won."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["ChoiceRecord", "Choices", "LeftOut"]

RECENT = 100
"""Steps over which a task's share is looked at."""

STRETCH = 10
"""Steps that are counted together at first; twice as many whenever there are too many stretches."""

MOST_STRETCHES = 200
"""Stretches up to which none are merged, so that memory does not grow with the training."""


@dataclass(frozen=True, eq=False)
class ChoiceRecord:
    """What `TransferenceAggregation` chose, by stretches of steps.

    Args:
        tasks: Their names.
        start: [W] the first step of every stretch, from 0.
        share: [W, T] of the steps at which the task had a label, in how many it was in; NaN if it had none.
        picked: {candidate: [W] number of steps at which it won}.
    """

    tasks: tuple[str, ...]
    start: Tensor
    share: Tensor
    picked: Mapping[str, Tensor]

    def as_dict(self) -> dict[str, Any]:
        """JSON values: "start", and by name "share" (None for NaN) and "picked", one number per stretch each."""
        shares = {
            task: [None if value != value else round(value, 4) for value in column]
            for task, column in zip(self.tasks, self.share.T.tolist(), strict=True)
        }
        picked = {name: counts.tolist() for name, counts in self.picked.items()}
        return {"start": self.start.tolist(), "share": shares, "picked": picked}

    def plot(self) -> Any:
        """A `plotly.graph_objects.Figure`; see `plot_choices`."""
        from cotrain.aggregation.transference_plot import plot_choices

        return plot_choices(self)


class Choices:
    """Counts what is chosen, in stretches that double when there are too many.

    Args:
        n_tasks: Number of tasks.
    """

    def __init__(self, n_tasks: int) -> None:
        self._steps = 0
        self._length = STRETCH
        self._taken = torch.zeros(0, n_tasks, dtype=torch.int64)
        self._present = torch.zeros(0, n_tasks, dtype=torch.int64)
        self._picked: list[dict[str, int]] = []

    def add(self, name: str, taken: Tensor, present: Tensor) -> None:
        """Count a step: the candidate that won, [T] which tasks it takes and [T] which have a label."""
        if self._steps % self._length == 0:
            if len(self._picked) == MOST_STRETCHES:
                self._merge()
            nothing = torch.zeros(1, self._taken.shape[1], dtype=torch.int64)
            self._taken, self._present = torch.cat([self._taken, nothing]), torch.cat([self._present, nothing])
            self._picked.append({})
        self._steps += 1
        self._taken[-1] += taken & present
        self._present[-1] += present
        self._picked[-1][name] = self._picked[-1].get(name, 0) + 1

    def record(self, tasks: Sequence[str]) -> ChoiceRecord:
        """What was counted so far."""
        names = sorted({name for counts in self._picked for name in counts})
        return ChoiceRecord(
            tasks=tuple(tasks),
            start=torch.arange(len(self._picked)) * self._length,
            share=self._taken.double() / self._present,  # 0 / 0 is NaN
            picked={name: torch.tensor([counts.get(name, 0) for counts in self._picked]) for name in names},
        )

    def state_dict(self) -> dict[str, Any]:
        """All counts."""
        return {
            "steps": self._steps,
            "length": self._length,
            "taken": self._taken.clone(),
            "present": self._present.clone(),
            "picked": [dict(counts) for counts in self._picked],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on counting."""
        self._steps, self._length = state["steps"], state["length"]
        self._taken, self._present = state["taken"].clone(), state["present"].clone()
        self._picked = [dict(counts) for counts in state["picked"]]

    def _merge(self) -> None:
        self._length *= 2
        self._taken, self._present = (counts.unflatten(0, (-1, 2)).sum(1) for counts in (self._taken, self._present))
        self._picked = [
            {name: first.get(name, 0) + second.get(name, 0) for name in {**first, **second}}
            for first, second in zip(self._picked[::2], self._picked[1::2], strict=True)
        ]


class LeftOut:
    """In how many of its last 100 steps with a label a task was left out.

    Args:
        n_tasks: Number of tasks.
    """

    def __init__(self, n_tasks: int) -> None:
        self._recent = torch.zeros(RECENT, n_tasks, dtype=torch.bool)
        self._next = torch.zeros(n_tasks, dtype=torch.int64)

    def starved(self, min_rate: float) -> Tensor:
        """[T] whether the task was in fewer than this share of its last steps."""
        return self._recent.sum(0) > (1 - min_rate) * RECENT

    def add(self, taken: Tensor, present: Tensor) -> None:
        """A step: [T] which tasks were in, [T] which had a label."""
        rows = present.nonzero().flatten()
        self._recent[self._next[rows], rows] = ~taken[rows]
        self._next[rows] = (self._next[rows] + 1) % RECENT

    def state_dict(self) -> dict[str, Any]:
        """All of it."""
        return {"recent": self._recent.clone(), "next": self._next.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on."""
        self._recent, self._next = state["recent"].clone(), state["next"].clone()
