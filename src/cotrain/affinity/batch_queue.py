"""Batches that wait for each other, because many small ones cost as much as one large one each."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from cotrain.task import Targets, TaskSet

__all__ = ["BatchQueue"]

_ENOUGH = 2**16
"""Outputs that are taken in together: where the work of some 20 operations outweighs their starts."""


class BatchQueue:
    """Copies of batches, given out as one.

    Args:
        tasks: In the order of the packed outputs.
    """

    def __init__(self, tasks: TaskSet) -> None:
        self._tasks = tasks
        self._batches: list[tuple[Tensor, Tensor, Targets]] = []
        self._size = 0

    def put(self, index: Tensor, packed: Tensor, targets: Targets) -> bool:
        """Add a batch; tells whether enough is waiting, and must then be taken before the caller goes on.

        Raises:
            ValueError: If the targets are not those of the tasks, or of another number of samples.
        """
        if isinstance(targets, Mapping):
            own = {name: self._tasks.target_of(name, targets) for name in self._tasks.names}
            wrong = {name: list(target.shape) for name, target in own.items() if len(target) != len(packed)}
        else:
            wrong = {} if targets.shape == (len(packed), len(self._tasks)) else {"all": list(targets.shape)}
        if wrong:
            raise ValueError(
                f"Targets must have a row for each of the {len(packed)} samples and, as one tensor, a column for each"
                f" of the {len(self._tasks)} tasks. Got {wrong}."
            )
        self._size += packed.numel()
        if self._size < _ENOUGH:  # the caller may write into the batch before it is used
            index, packed = index.clone(), packed.clone()
            targets = {name: own[name].clone() for name in own} if isinstance(targets, Mapping) else targets.clone()
        self._batches.append((index, packed, targets))
        return self._size >= _ENOUGH

    def take(self) -> tuple[Tensor, Tensor, Targets] | None:
        """Everything that waits as one batch, in its order; None if nothing does."""
        if not self._batches:
            return None
        batches, self._batches, self._size = self._batches, [], 0
        if len(batches) == 1:
            return batches[0]
        index, packed, targets = zip(*batches, strict=True)
        return torch.cat(index), torch.cat(packed), _together(targets)

    def state_dict(self) -> list[Any]:
        """The batches that wait. Taking them in instead would round sums in another order than without a checkpoint."""
        return [list(batch) for batch in self._batches]

    def load_state_dict(self, state: Sequence[Any]) -> None:
        """Go on with what waited."""
        self._batches = [(index, packed, targets) for index, packed, targets in state]
        self._size = sum(packed.numel() for _, packed, _ in self._batches)


def _together(parts: tuple[Targets, ...]) -> Targets:
    if isinstance(parts[0], Mapping):
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}  # type: ignore[index]
    return torch.cat(parts)  # type: ignore[arg-type]
