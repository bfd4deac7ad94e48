"""How much a network gives the true label of every sample, for all binary and multiclass tasks at once."""

from collections.abc import Mapping

import torch
from torch import Tensor

from cotrain.kernels import NO_CLASS
from cotrain.task import Targets, TaskSet

__all__ = ["RIGHT", "Confidence"]

RIGHT = 0.5
"""A confidence above it counts as right, where it is not a matter of the largest of several."""


class Confidence:
    """Confidence in the true label from packed outputs.

    Args:
        tasks: The tasks; those that are neither binary nor multiclass are left out.
    """

    def __init__(self, tasks: TaskSet) -> None:
        self._tasks = tasks
        binary = [n for n, task in enumerate(tasks) if task.kind == "binary"]
        classes = [n for n, task in enumerate(tasks) if task.kind == "multiclass"]
        self._n_binary = len(binary)
        self.columns: list[int] = [*binary, *classes]
        """The positions of the tasks that the results' columns belong to."""
        most = max((tasks[n].n_outputs for n in classes), default=1)
        starts = torch.tensor([tasks.slices[tasks.names[n]].start for n in self.columns], dtype=torch.long)
        self._n_classes = torch.tensor([tasks[n].n_outputs for n in classes], dtype=torch.long)
        self._no_class = torch.arange(most) >= self._n_classes[:, None]
        self._logits = starts[: len(binary)]
        self._class_logits = (starts[len(binary) :, None] + torch.arange(most)).masked_fill(self._no_class, 0)
        self._targets = torch.tensor(self.columns, dtype=torch.long)

    def __call__(self, outputs: Tensor, targets: Targets) -> tuple[Tensor, Tensor, Tensor]:
        """Rate a batch.

        Args:
            outputs: Packed [B, O].
            targets: [B, T] or by task name.

        Returns:
            Confidence [B, t] float32, whether the sample is right [B, t] and whether it has a label [B, t].
        """
        known = self._columns(targets)
        seen = ~torch.isnan(known) & (known != NO_CLASS)
        known = torch.where(seen, known, 0)
        signs = 2 * known[:, : self._n_binary] - 1
        # As one sigmoid a task and its complement (other labels, other sign) get the same number to the bit.
        binary = torch.sigmoid(signs.float() * outputs[:, self._logits].float())
        if not len(self._n_classes):
            return binary, binary > RIGHT, seen
        logits = outputs[:, self._class_logits].float().masked_fill(self._no_class, -torch.inf)
        truth = known[:, self._n_binary :].long().unsqueeze(2)
        chance = 1 / self._n_classes
        classes = (logits.softmax(2).gather(2, truth).squeeze(2) - chance) / (1 - chance)
        right = logits.argmax(2) == truth.squeeze(2)
        return torch.cat([binary, classes], dim=1), torch.cat([binary > RIGHT, right], dim=1), seen

    def to(self, device: torch.device) -> None:
        """Move to a device; nothing happens if it is there."""
        if self._targets.device != device:
            for name in ("_n_classes", "_no_class", "_logits", "_class_logits", "_targets"):
                setattr(self, name, getattr(self, name).to(device))

    def _columns(self, targets: Targets) -> Tensor:
        """[B, t] targets as floats."""
        if isinstance(targets, Mapping):
            names = [self._tasks.names[n] for n in self.columns]
            return torch.stack([self._tasks.target_of(name, targets).flatten().float() for name in names], dim=1)
        return targets[:, self._targets]
