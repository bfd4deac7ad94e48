"""Losses of many tasks in one kernel per kind, missing labels masked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from cotrain.task import Targets, Task

__all__ = ["NO_CLASS", "Kernels", "labelled_samples", "missing_labels"]

NO_CLASS = -100
"""Stands for "no label" among class numbers, as in `torch.nn.functional.cross_entropy`."""


class Kernels:
    """The losses of a fixed list of tasks, computed kind by kind.

    Args:
        tasks: The tasks in order.
        slices: The columns of the packed outputs that belong to each task.
    """

    def __init__(self, tasks: "Sequence[Task]", slices: Mapping[str, slice]) -> None:
        self._tasks = tasks
        self._slices = slices
        usual = [(number, task) for number, task in enumerate(tasks) if task.loss is None]
        self._binary = [(number, task) for number, task in usual if task.kind == "binary"]
        self._classes = [(number, task) for number, task in usual if task.kind == "multiclass"]
        self._regression = [(number, task) for number, task in usual if task.kind == "regression"]
        self._wide = [task.name for _, task in self._regression if task.n_outputs > 1]
        self._own_loss = [(number, task) for number, task in enumerate(tasks) if task.loss is not None]
        self._layouts: dict[torch.device, _Layout] = {}

    def sample_losses(self, outputs: Tensor, targets: "Targets") -> tuple[Tensor, Tensor]:
        """Losses [B, T] (0 without a label) and mask [B, T] from packed outputs [B, O]."""
        if outputs.dtype in (torch.float16, torch.bfloat16):
            outputs = outputs.float()  # autocast: a mean over a batch needs more than 8 bits of mantissa
        if isinstance(targets, Tensor) and targets.shape != (len(outputs), len(self._tasks)):
            raise ValueError(
                f"Targets must have the shape [{len(outputs)}, {len(self._tasks)}], a row per sample and a column per"
                f" task. Got {list(targets.shape)}."
            )
        layout = self._layout(outputs.device)
        parts: list[tuple[Tensor, Tensor]] = []
        if self._binary:
            parts.append(
                _binary_losses(outputs[:, layout.binary], self._columns(self._binary, layout.binary_tasks, targets))
            )
        if self._classes:
            classes = self._columns(self._classes, layout.class_tasks, targets)
            parts.append(_class_losses(outputs[:, layout.classes], layout.no_class, classes))
        if self._regression:
            parts.append(self._regression_losses(outputs[:, layout.regression], layout, targets))
        parts.extend(self._own_losses(task, number, outputs, targets) for number, task in self._own_loss)
        losses = torch.cat([part[0] for part in parts], dim=1)
        labelled = torch.cat([part[1] for part in parts], dim=1)
        if len(parts) == 1 and not self._own_loss:
            return losses, labelled
        return losses[:, layout.order], labelled[:, layout.order]

    def _columns(self, tasks: "list[tuple[int, Task]]", numbers: Tensor, targets: "Targets") -> Tensor:
        """Targets [B, t] of tasks with one target column each."""
        if isinstance(targets, Mapping):
            return torch.stack([_own_target(task, targets).flatten() for _, task in tasks], dim=1)
        return targets if len(tasks) == len(self._tasks) else targets[:, numbers]

    def _regression_losses(self, outputs: Tensor, layout: "_Layout", targets: "Targets") -> tuple[Tensor, Tensor]:
        """Mean over a target's dimensions of the squared error in units of the training standard deviation."""
        if not self._wide:
            columns = self._columns(self._regression, layout.regression_tasks, targets)
        elif isinstance(targets, Mapping):
            own = [_own_target(task, targets).reshape(outputs.shape[0], task.n_outputs) for _, task in self._regression]
            columns = torch.cat(own, dim=1)
        else:
            raise ValueError(f"Tasks {self._wide} have several dimensions: give targets as {{task name: tensor}}.")
        labelled = ~torch.isnan(columns)
        standardised = (torch.where(labelled, columns, 0) - layout.location) / layout.scale
        errors = torch.where(labelled, (outputs - standardised.to(outputs.dtype)) ** 2, 0)
        if not self._wide:
            return errors, labelled
        # errors [B, columns] -> [B, tasks]; a sample counts as labelled when every dimension is.
        mean = layout.regression_mean.to(errors.dtype)
        with torch.autocast(errors.device.type, enabled=False):  # which would take the mean in 8 bits of mantissa
            complete = (~labelled).to(errors.dtype) @ mean == 0
            return torch.where(complete, errors @ mean, 0), complete

    def _own_losses(self, task: "Task", number: int, outputs: Tensor, targets: "Targets") -> tuple[Tensor, Tensor]:
        target = _own_target(task, targets) if isinstance(targets, Mapping) else targets[:, number]
        missing = missing_labels(task, target)
        labelled = labelled_samples(missing)
        assert task.loss is not None
        own = outputs[:, self._slices[task.name]]
        # Where the made-up target 0 gives an infinite slope, 0 times it would be NaN: the slope must not get through.
        own = torch.where(labelled.unsqueeze(1), own, own.detach())
        values = task.loss(own, torch.where(missing, 0, target))
        if values.shape != labelled.shape:
            raise ValueError(
                f"The loss of task {task.name!r} must return one value per sample, [{labelled.shape[0]}]."
                f" Got {list(values.shape)}. Most losses do so with reduction='none'."
            )
        return torch.where(labelled, values, 0).unsqueeze(1), labelled.unsqueeze(1)

    def _layout(self, device: torch.device) -> "_Layout":
        if device not in self._layouts:
            with torch.inference_mode(False):  # it is kept, and autograd takes no tensor made in inference mode
                self._layouts[device] = self._make_layout().to(device)
        return self._layouts[device]

    def _make_layout(self) -> "_Layout":
        def starts(tasks: "list[tuple[int, Task]]") -> list[int]:
            return [self._slices[task.name].start for _, task in tasks]

        def numbers(tasks: "list[tuple[int, Task]]") -> Tensor:
            return torch.tensor([number for number, _ in tasks], dtype=torch.long)

        most = max((task.n_outputs for _, task in self._classes), default=1)
        counts = torch.tensor([task.n_outputs for _, task in self._classes], dtype=torch.long)
        no_class = torch.arange(most) >= counts[:, None]
        classes = torch.tensor(starts(self._classes), dtype=torch.long)[:, None] + torch.arange(most)
        widths = torch.tensor([task.n_outputs for _, task in self._regression], dtype=torch.long)
        owner = torch.repeat_interleave(torch.arange(len(self._regression)), widths)
        computed = [*self._binary, *self._classes, *self._regression, *self._own_loss]

        def per_column(values: list[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float64)[owner]

        return _Layout(
            binary=torch.tensor(starts(self._binary), dtype=torch.long),
            binary_tasks=numbers(self._binary),
            classes=classes.masked_fill(no_class, 0),
            class_tasks=numbers(self._classes),
            no_class=no_class,
            regression=torch.tensor(
                [column for _, task in self._regression for column in range(*self._slices[task.name].indices(10**9))],
                dtype=torch.long,
            ),
            regression_tasks=numbers(self._regression),
            regression_mean=F.one_hot(owner, max(len(self._regression), 1)) / widths.clamp(min=1)
            if len(self._regression)
            else torch.zeros(0, 1),
            location=per_column([task.location or 0.0 for _, task in self._regression]),
            scale=per_column([1.0 if task.scale is None else task.scale for _, task in self._regression]),
            order=numbers(computed).argsort(),
        )


@dataclass(frozen=True)
class _Layout:
    """Which columns belong to which kind, on one device."""

    binary: Tensor
    binary_tasks: Tensor
    classes: Tensor
    class_tasks: Tensor
    no_class: Tensor
    regression: Tensor
    regression_tasks: Tensor
    regression_mean: Tensor
    location: Tensor
    scale: Tensor
    order: Tensor

    def to(self, device: torch.device) -> "_Layout":
        return _Layout(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


def _own_target(task: "Task", targets: "Targets") -> Tensor:
    assert isinstance(targets, Mapping)
    if task.name not in targets:
        raise ValueError(f"There are no targets for task {task.name!r}. Got targets for {list(targets)}.")
    return targets[task.name]


def missing_labels(task: "Task", target: Tensor) -> Tensor:
    """Where one task's target, [B] or of its own shape, is no label: NaN, and for classes also -100."""
    missing = torch.isnan(target) if target.is_floating_point() else torch.zeros_like(target, dtype=torch.bool)
    return missing | (target == NO_CLASS) if task.kind in ("binary", "multiclass") else missing


def labelled_samples(missing: Tensor) -> Tensor:
    """[B], the samples of whose target nothing is missing."""
    return ~missing.flatten(1).any(1) if missing.dim() > 1 else ~missing


def _binary_losses(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    labelled = ~torch.isnan(targets) & (targets != NO_CLASS)
    known = torch.where(labelled, targets, 0).to(logits.dtype)
    losses = F.binary_cross_entropy_with_logits(logits, known, reduction="none")
    return torch.where(labelled, losses, 0), labelled


def _class_losses(logits: Tensor, no_class: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of logits [B, tasks, most classes], where tasks with fewer classes are padded."""
    labelled = ~torch.isnan(targets) & (targets != NO_CLASS)
    known = torch.where(labelled, targets, 0).long()
    log_probabilities = torch.log_softmax(logits.masked_fill(no_class, -torch.inf), dim=-1)
    losses = -log_probabilities.gather(-1, known.unsqueeze(-1)).squeeze(-1)
    return torch.where(labelled, losses, 0), labelled
