"""What a training shows to the instruments that are hooked into it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from cotrain.task import Batch

__all__ = ["Instrument", "Step"]


@dataclass(frozen=True)
class Step:
    """One step of a training, after the forward pass and before the update.

    Args:
        batch: The batch that is trained on.
        outputs: [B, sum of n_outputs], detached.
        model: The module in training, whose parameters gave the outputs.
        optimizer: Its optimizer, with the state before this step.
        epoch: From 0.
        number: Step within the epoch, from 0.
    """

    batch: Batch
    outputs: Tensor
    model: nn.Module
    optimizer: Optimizer
    epoch: int
    number: int


class Instrument(Protocol):
    """Watches a training and never changes it: parameters, buffers, gradients, optimizer and random state."""

    def on_step(self, step: Step) -> None:
        """Called at every step, after the forward pass and before the update."""
        ...

    def on_epoch_end(self, epoch: int) -> None:
        """Called after the last step of every epoch."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What was recorded so far: nested dicts of tensors and JSON values, for the checkpoint."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a recorded state, exactly as if there had been no interruption."""
        ...
