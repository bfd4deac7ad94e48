"""How much a network gives the true label of every sample, for all binary and multiclass tasks at once."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from cotrain.affinity import waiting
from cotrain.kernels import NO_CLASS
from cotrain.task import Targets, TaskSet

__all__ = ["RIGHT", "Confidence"]

RIGHT = 0.5
"""A confidence above it counts as right, where it is not a matter of the largest of several."""

VECTOR = 64
"""Numbers: a multiple of what any processor takes at once."""


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
        # Then columns and outputs are the tasks in order: picking them one by one would cost more than all the rest.
        self._all_binary = len(binary) == len(tasks)
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
        values, right, seen = self.rate(outputs, targets)
        return values, right.bool(), torch.ones_like(right, dtype=torch.bool) if seen is None else seen

    def rate(self, outputs: Tensor, targets: Targets) -> tuple[Tensor, Tensor, Tensor | None]:
        """As `__call__`, for adding up: right is 0 or 1 in float32, and seen None if it is known that none is missing.

        In float32 because comparisons and conversions of truth values are the slowest passes over a batch of a
        thousand tasks on the CPU (75 us each where a rounding takes 15).
        """
        known = self._columns(targets)
        seen = None
        # One pass tells NaN and NO_CLASS from labels. It is worth a look only where that does not mean waiting.
        if not waiting.is_at_hand(known) or not bool((known.amin() if known.numel() else known.sum()) >= 0):
            seen = ~torch.isnan(known) & (known != NO_CLASS)
            known = torch.where(seen, known, 0)
        logits = outputs if self._all_binary else outputs[:, self._logits]
        # As one sigmoid a task and its complement (other labels, other sign) get the same number to the bit.
        binary = _sigmoid((2 * known[:, : self._n_binary].float()).sub_(1).mul_(logits))
        right = binary.round()  # 1 above RIGHT; a half is rounded to the even 0
        if not len(self._n_classes):
            return binary, right, seen
        class_logits = outputs[:, self._class_logits].float().masked_fill(self._no_class, -torch.inf)
        truth = known[:, self._n_binary :].long().unsqueeze(2)
        chance = 1 / self._n_classes
        classes = (class_logits.softmax(2).gather(2, truth).squeeze(2) - chance) / (1 - chance)
        largest = (class_logits.argmax(2) == truth.squeeze(2)).float()
        return torch.cat([binary, classes], dim=1), torch.cat([right, largest], dim=1), seen

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
        return targets if self._all_binary else targets[:, self._targets]


def _sigmoid(values: Tensor) -> Tensor:
    """The same for equal numbers, wherever they stand.

    On the CPU torch takes numbers by the vector, and the few that are left over at the end of a tensor, or of a
    thread's part of it, by code that rounds otherwise. So none are left over.
    """
    size = values.numel()
    missing = -size % (VECTOR * torch.get_num_threads())
    if missing == 0 or values.device.type != "cpu":
        return values.sigmoid_()
    return F.pad(values.flatten(), (0, missing)).sigmoid_()[:size].view_as(values)
