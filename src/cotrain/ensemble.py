"""Predictions of several networks put together, each task weighing them by its memberships."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from cotrain.task import Task, TaskSet, as_tasks

__all__ = ["Combination", "Ensemble", "combine", "served_tasks"]

Combination = Literal["logits", "probabilities", "best"]
Memberships: TypeAlias = Tensor | NDArray[np.floating[Any]] | Sequence[Sequence[float]]

ROW_SUM_TOLERANCE = 1e-4
"""Rounding of float32 rows over 1,000 networks stays well below; a table rounded to two decimals does not."""


class Ensemble(nn.Module):
    """Networks that predict the same tasks, as one module: it is evaluated, saved and called as any network is.

    Networks in which no task has a share are kept but not run. Those that run do so one after another: memory is
    that of one network and a few packed outputs, time that of all networks. The networks are not copied.

    Args:
        models: K modules, such as a fleet's, each for all the tasks: packed outputs or {task name: tensor}.
        tasks: The T tasks of the models, in the order of their packed outputs.
        memberships: [T, K], non-negative: the share of each network in a task's prediction. Rows sum to 1; a row
            of zeros leaves the task out.
        by: How outputs are put together, see `combine`.

    Attributes:
        tasks: The T' tasks that the ensemble predicts, those not left out: use these, and targets of these, to
            evaluate.
        models: The K modules.
        memberships: [T', K] float32 buffer, part of the state dict.

    Shape:
        inputs of the models -> packed outputs [B, O'] of the predicted tasks.

    Raises:
        ValueError: As `combine`.
    """

    memberships: Tensor
    _columns: Tensor

    def __init__(
        self, models: Iterable[nn.Module], tasks: Iterable[Task], memberships: Memberships, by: Combination = "logits"
    ) -> None:
        super().__init__()
        self.by = by
        self.models = nn.ModuleList(models)
        self._tasks_of_models = as_tasks(tasks)
        rows = _checked(memberships, self._tasks_of_models, len(self.models))
        self.tasks = served_tasks(self._tasks_of_models, rows)
        self.register_buffer("memberships", rows[rows.any(1)])
        self.register_buffer("_columns", _served_columns(self._tasks_of_models, rows), persistent=False)
        self._mixture = _Mixture(self.tasks, by)

    def forward(self, inputs: Any) -> Tensor:
        """Packed outputs [B, O'] of the ensemble."""
        shares = _shares(self.memberships, self.by)
        used: list[int] = shares.any(0).nonzero().flatten().tolist()
        outputs = (self._tasks_of_models.pack(self.models[number](inputs))[:, self._columns] for number in used)
        mixed: Tensor = self._mixture(outputs, shares[:, used])
        return mixed


def combine(outputs: Tensor, tasks: Iterable[Task], memberships: Memberships, by: Combination = "logits") -> Tensor:
    """Put the outputs of several networks together, into outputs that losses and metrics take as one network's.

    What a network gives for a task in which it has no share does not matter, even if it is NaN. Source of "logits":
    Sherif et al., arXiv 2307.03374.

    Args:
        outputs: [K, N, O], the packed outputs of every network.
        tasks: The T tasks, in the order of the packed outputs.
        memberships: [T, K], non-negative. Rows sum to 1 (all 1/K for a plain mean); a row of zeros leaves the task
            out.
        by: "logits" (default, the method as published): the weighted sum of the outputs. "probabilities": the
            weighted mean of what `TaskSet.predictions` gives, as outputs again: log-odds of the mean probability
            (binary), log of the mean probabilities (multiclass), and for regression and custom tasks, whose
            predictions are linear in the outputs, the weighted sum of the outputs. "best": the outputs of the
            network with the largest share, the first of several; use it for custom tasks whose outputs cannot be
            averaged.

    Returns:
        [N, O'] packed outputs of `served_tasks(tasks, memberships)`, at least float32. A task that is left out has
        no columns: NaN there would spoil the metrics of the other tasks, 0 would be a prediction.

    Raises:
        ValueError: If the shapes do not fit, a share is negative or not finite, a row sums to neither 1 nor 0,
            every row is 0, or `by` is unknown.
    """
    tasks = as_tasks(tasks)
    if outputs.dim() != 3 or outputs.shape[2] != tasks.n_outputs:
        raise ValueError(
            f"outputs must be [networks, samples, {tasks.n_outputs}], the packed outputs of every network."
            f" Got {list(outputs.shape)}."
        )
    rows = _checked(memberships, tasks, len(outputs)).to(outputs.device)
    mixture = _Mixture(served_tasks(tasks, rows), by).to(outputs.device)
    columns = _served_columns(tasks, rows)
    mixed: Tensor = mixture((own[:, columns] for own in outputs), _shares(rows[rows.any(1)], by))
    return mixed


def served_tasks(tasks: Iterable[Task], memberships: Memberships) -> TaskSet:
    """The tasks that have a network, in their order: those whose row of memberships is not all 0.

    Args:
        tasks: T tasks.
        memberships: [T, K].

    Raises:
        ValueError: If there is not a row per task, or every row is 0.
    """
    tasks = as_tasks(tasks)
    rows = _as_rows(memberships)
    if rows.dim() != 2 or len(rows) != len(tasks):
        raise ValueError(f"memberships must be [{len(tasks)}, networks], a row per task. Got {list(rows.shape)}.")
    has_network = rows.any(1).tolist()
    if not any(has_network):
        raise ValueError("No task has a network: all memberships are 0. Give at least one task a network.")
    return TaskSet(task for task, is_served in zip(tasks, has_network, strict=True) if is_served)


class _Mixture(nn.Module):
    """The weighing itself, one network at a time; a module because its indices must follow the outputs' device."""

    owner: Tensor
    binary: Tensor
    classes: Tensor
    class_task: Tensor

    def __init__(self, tasks: TaskSet, by: Combination) -> None:
        super().__init__()
        if by not in get_args(Combination):
            raise ValueError(f"by must be one of {list(get_args(Combination))}. Got {by!r}.")
        kinds = [task.kind if by == "probabilities" else None for task in tasks]
        owner = torch.repeat_interleave(torch.tensor([task.n_outputs for task in tasks]))
        is_classes = torch.tensor([kind == "multiclass" for kind in kinds])
        classes = is_classes[owner].nonzero().flatten()
        indices = {
            "owner": owner,  # [O], the task of every column
            "binary": torch.tensor([kind == "binary" for kind in kinds])[owner].nonzero().flatten(),
            "classes": classes,
            "class_task": (is_classes.cumsum(0) - 1)[owner[classes]],  # numbered among the multiclass tasks
        }
        for name, index in indices.items():
            self.register_buffer(name, index, persistent=False)

    def forward(self, outputs: Iterable[Tensor], shares: Tensor) -> Tensor:
        """[N, O] from the outputs [N, O] of K networks and shares [T, K].

        Probabilities are averaged as logarithms, so that none is rounded to 0 or 1 on the way.
        """
        sums = shares.new_zeros(())
        log_yes = log_no = log_class = shares.new_full((), -torch.inf)
        for own, row in zip(outputs, shares.T[:, self.owner], strict=True):
            values = own.float() if own.dtype in (torch.float16, torch.bfloat16) else own
            values = torch.where(row > 0, values, 0)  # 0 times NaN would be NaN
            share = row.to(values.dtype)
            sums = sums + share * values
            if len(self.binary):
                logits, log_share = values[:, self.binary], share[self.binary].log()
                log_yes = torch.logaddexp(log_yes, log_share + F.logsigmoid(logits))
                log_no = torch.logaddexp(log_no, log_share + F.logsigmoid(-logits))
            if len(self.classes):
                log_probabilities = _log_softmax(values[:, self.classes], self.class_task)
                log_class = torch.logaddexp(log_class, share[self.classes].log() + log_probabilities)
        if len(self.binary):
            sums[:, self.binary] = log_yes - log_no
        if len(self.classes):
            sums[:, self.classes] = log_class
        return sums


def _log_softmax(logits: Tensor, task: Tensor) -> Tensor:
    """Log-softmax of logits [N, C] over the columns of each task; `task` [C] numbers them.

    By scattering, because tasks padded to the most classes of any would take memory for classes that do not exist
    (and 1.4x the time where all have five; profiled, torch 2.13).
    """
    most = logits.detach().new_full((len(logits), int(task[-1]) + 1), -torch.inf)
    most = most.scatter_reduce(1, task.expand_as(logits), logits.detach(), "amax")
    shifted = logits - most[:, task]
    return shifted - torch.zeros_like(most).index_add(1, task, shifted.exp()).log()[:, task]


def _shares(memberships: Tensor, by: Combination) -> Tensor:
    """[T, K] the weights by which outputs are summed."""
    if by != "best":
        return memberships
    return F.one_hot(memberships.argmax(1), memberships.shape[1]).to(memberships.dtype)


def _checked(memberships: Memberships, tasks: TaskSet, n_networks: int) -> Tensor:
    """[T, K] float32 memberships, or the reason why they cannot be used."""
    rows = _as_rows(memberships)
    if rows.shape != (len(tasks), n_networks):
        raise ValueError(
            f"memberships must be [{len(tasks)}, {n_networks}], a row per task and a column per network."
            f" Got {list(rows.shape)}."
        )
    if not bool(torch.isfinite(rows).all()) or bool((rows < 0).any()):
        raise ValueError(f"memberships must be finite and not negative. Got {rows.tolist()}.")
    uneven = rows.any(1) & ((rows.sum(1) - 1).abs() > ROW_SUM_TOLERANCE)
    if bool(uneven.any()):
        names = [name for name, is_uneven in zip(tasks.names, uneven.tolist(), strict=True) if is_uneven]
        raise ValueError(
            f"The memberships of a task must sum to 1, or all be 0. Those of {names} do not: divide by their sum."
        )
    return rows.float()


def _as_rows(memberships: Memberships) -> Tensor:
    if not isinstance(memberships, Tensor):
        memberships = torch.tensor(np.asarray(memberships))  # a copy, because torch warns of arrays that are read-only
    return memberships.double()


def _served_columns(tasks: TaskSet, rows: Tensor) -> Tensor:
    """[O'] the columns of the packed outputs that belong to tasks with a network."""
    widths = torch.tensor([task.n_outputs for task in tasks], device=rows.device)
    return rows.any(1).repeat_interleave(widths).nonzero().flatten()
