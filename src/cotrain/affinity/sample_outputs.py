"""One number per sample and task from a model's outputs: what linearised models of a training are made of."""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from cotrain.task import Targets, Task, TaskSet

__all__ = ["SampleOutputs"]

SUREST = 0.999
"""A true label's probability counts up to here: the margin of a sample that is known for sure has no end."""


class SampleOutputs:
    """From packed outputs [B, O] to f [B, T]: one number for every sample and task.

    The logit of a binary task; log(q / (1 - q)) of a multiclass task, where q, the probability of the true class, is
    at most 0.999 (above, the number is constant and has no gradient); the output of a regression task with one
    dimension, as the model gives it. A regression task with several dimensions, a custom task and any task with a
    loss of its own have no such number: theirs is the sample's loss.

    Args:
        tasks: The tasks, in the order of the packed outputs.
        targets: [B, T], or {task name: tensor}.

    Raises:
        ValueError: If the targets do not fit the tasks.
    """

    def __init__(self, tasks: TaskSet, targets: Targets) -> None:
        self._tasks = tasks
        self._targets = targets
        some = next(iter(targets.values())) if isinstance(targets, Mapping) else targets
        self._device = some.device
        plain = [number for number, task in enumerate(tasks) if _is_plain(task)]
        classes = [number for number, task in enumerate(tasks) if task.kind == "multiclass" and task.loss is None]
        chosen = {*plain, *classes}
        losses = [number for number in range(len(tasks)) if number not in chosen]
        starts = [tasks.slices[name].start for name in tasks.names]
        self._plain = self._numbers([starts[number] for number in plain])
        self._losses = self._numbers(losses)
        self._order = self._numbers([*plain, *classes, *losses]).argsort()
        self.labelled: Tensor = tasks.sample_losses(self._no_outputs(len(some)), targets)[1]
        """[B, T], where there is a label."""
        self.owner: Tensor = self._numbers([n for n, task in enumerate(tasks) for _ in range(task.n_outputs)])
        """[O], the number of each output's task."""
        self._set_classes(classes, starts)

    def __call__(self, outputs: Tensor) -> Tensor:
        """The numbers [B, T], float32 or better; something arbitrary where there is no label."""
        if outputs.dtype in (torch.float16, torch.bfloat16):
            outputs = outputs.float()
        parts = [outputs[:, self._plain]]
        if len(self._classes):
            parts.append(self._margins(outputs[:, self._classes]))
        if len(self._losses):
            parts.append(self._tasks.sample_losses(outputs, self._targets)[0][:, self._losses].to(outputs.dtype))
        return torch.cat(parts, dim=1)[:, self._order]

    def _margins(self, logits: Tensor) -> Tensor:
        """From logits [B, tasks, most classes]: the true class's, less the logarithm of all others' exponentials."""
        own = logits.gather(-1, self._known.unsqueeze(-1)).squeeze(-1)
        others = logits.masked_fill(self._not_others, -torch.inf).logsumexp(-1)
        return (own - others).clamp(max=math.log(SUREST / (1 - SUREST)))

    def _set_classes(self, classes: list[int], starts: list[int]) -> None:
        counts = self._numbers([self._tasks[number].n_outputs for number in classes])
        most = int(counts.max()) if classes else 0
        columns = torch.arange(most, device=self._device)
        padding = columns >= counts[:, None]
        first = self._numbers([starts[number] for number in classes])
        self._classes = (first[:, None] + columns).masked_fill(padding, 0)
        if classes:
            targets = torch.stack([self._target(number) for number in classes], dim=1)
            self._known = torch.where(self.labelled[:, classes], targets, 0).long()
            self._not_others = F.one_hot(self._known, most).bool() | padding

    def _target(self, number: int) -> Tensor:
        if isinstance(self._targets, Mapping):
            return self._targets[self._tasks.names[number]].flatten()
        return self._targets[:, number]

    def _no_outputs(self, n_samples: int) -> Tensor:
        return torch.zeros(n_samples, self._tasks.n_outputs, device=self._device)

    def _numbers(self, values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=self._device)


def _is_plain(task: Task) -> bool:
    """Whether the task's one output is its number."""
    return task.loss is None and task.n_outputs == 1 and task.kind in ("binary", "regression")
