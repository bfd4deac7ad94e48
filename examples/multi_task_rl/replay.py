"""What was experienced, by task: a ring of transitions from which every task gets its own share of a batch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["Replay", "Transitions"]


@dataclass(frozen=True, eq=False)
class Transitions:
    """What happened at single steps.

    Args:
        observations: [B, n_observations] before the action.
        actions: [B, n_actions].
        rewards: [B].
        following: [B, n_observations] after the action. No episode ends by itself, so there is always a next step.
        task: [B] the number of each row's task.
    """

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    following: Tensor
    task: Tensor


class Replay:
    """The latest transitions of every task.

    Args:
        n_tasks: T.
        copies: Rows per task that arrive at a time.
        n_observations: Numbers in an observation.
        n_actions: Numbers in an action.
        capacity: Transitions per task that are kept, a multiple of `copies`.
    """

    def __init__(self, n_tasks: int, copies: int, n_observations: int, n_actions: int, capacity: int) -> None:
        self._n_tasks, self._copies, self._capacity = n_tasks, copies, max(capacity // copies, 1) * copies
        self._parts = [n_observations, n_actions, 1, n_observations]
        self._rows = torch.zeros(n_tasks, self._capacity, sum(self._parts))
        self._added = 0

    def add(self, observations: Tensor, actions: Tensor, rewards: Tensor, following: Tensor) -> None:
        """Keep one step of all rows [T * copies], in place of the oldest one where it is full."""
        fresh = torch.cat([observations, actions, rewards[:, None], following], dim=1)
        start = self._added % self._capacity
        self._rows[:, start : start + self._copies] = fresh.view(self._n_tasks, self._copies, -1)
        self._added += self._copies

    def sample(self, per_task: int, generator: torch.Generator) -> Transitions:
        """So many transitions of every task, drawn with replacement: rows of the first task, then of the next."""
        held = min(self._added, self._capacity)
        drawn = torch.randint(held, (self._n_tasks, per_task), generator=generator)
        task = torch.arange(self._n_tasks)[:, None].expand(-1, per_task)
        observations, actions, rewards, following = self._rows[task, drawn].flatten(0, 1).split(self._parts, dim=1)
        return Transitions(observations, actions, rewards[:, 0], following, task.flatten())

    def state_dict(self) -> dict[str, Any]:
        """What is held, and where it goes on."""
        return {"rows": self._rows[:, : min(self._added, self._capacity)].clone(), "added": self._added}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self._added = state["added"]
        self._rows[:, : state["rows"].shape[1]] = state["rows"]
