"""What any affinity between tasks must be compared with: how their labels go together."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from cotrain.affinity.overlap import CHUNK, known_variance, overlap_correlation
from cotrain.kernels import NO_CLASS
from cotrain.task import Targets, Task, TaskSet, as_tasks

__all__ = ["label_correlation"]


def label_correlation(tasks: Iterable[Task], targets: Targets) -> Tensor:
    """How the labels of every pair of tasks go together, over the samples that have both.

    Binary and one-dimensional regression targets: Pearson's correlation (phi for two binary ones), with its sign.
    A multiclass target has no direction: with a number it gives the correlation ratio (the square root of the
    share of the number's variance between the classes), with another multiclass target Cramer's V; both are 0 to
    1, and equal |Pearson| for two classes.

    Args:
        tasks: The tasks.
        targets: [N, T] or {task name: tensor}; missing labels as in training.

    Returns:
        [T, T] float64, symmetric, diagonal 1. NaN for a pair without common labels, for a label that does not
        vary over them, and for custom tasks and targets of several dimensions.
    """
    tasks = as_tasks(tasks)
    numbers = [n for n, task in enumerate(tasks) if task.kind in ("binary", "regression") and task.n_outputs == 1]
    classes = [n for n, task in enumerate(tasks) if task.kind == "multiclass"]
    owner = torch.tensor([k for k, n in enumerate(classes) for _ in range(tasks[n].n_outputs)], dtype=torch.long)
    of_task = (owner[:, None] == torch.arange(len(classes))).double()
    columns_of_numbers = _number_columns(tasks, numbers, targets)
    sums = _Sums.over(columns_of_numbers, _class_columns(tasks, classes, targets))

    found = torch.full((len(tasks), len(tasks)), torch.nan, dtype=torch.float64)
    ratio = _correlation_ratio(sums, of_task)
    rows, columns = torch.tensor(numbers, dtype=torch.long), torch.tensor(classes, dtype=torch.long)
    found[rows[:, None], rows] = overlap_correlation(columns_of_numbers)[0]
    found[columns[:, None], columns] = _cramer(sums, of_task)
    found[columns[:, None], rows] = ratio
    found[rows[:, None], columns] = ratio.T
    return found


@dataclass(frozen=True, eq=False)
class _Sums:
    """Sums over samples: of numbers x (0 where missing), their masks m, and class indicators o.

    Args:
        xo: [t, C].
        qo: [t, C], squares of x.
        mo: [t, C].
        oo: [C, C].
    """

    xo: Tensor
    qo: Tensor
    mo: Tensor
    oo: Tensor

    @classmethod
    def over(cls, numbers: Tensor, indicators: Tensor) -> "_Sums":
        """From numbers [N, t] with NaN where missing, and class indicators [N, C]."""
        t, n_classes = numbers.shape[1], indicators.shape[1]
        centre = torch.nanmean(numbers, dim=0)  # squares of large numbers would cancel
        total = torch.zeros(3 * t + n_classes, n_classes, dtype=torch.float64)
        for part, o in zip(numbers.split(CHUNK), indicators.split(CHUNK), strict=True):
            m = (~torch.isnan(part)).double()
            x = (part - centre).nan_to_num()
            o = o.double()
            total += torch.cat([x, x**2, m, o], dim=1).T @ o
        return cls(*total.split([t, t, t, n_classes]))


def _correlation_ratio(sums: _Sums, of_task: Tensor) -> Tensor:
    """[multiclass tasks, numbers]."""
    total, square, n = ((part @ of_task).T for part in (sums.xo, sums.qo, sums.mo))
    between = (torch.where(sums.mo > 0, sums.xo**2 / sums.mo, 0) @ of_task).T - total**2 / n
    within_reach = known_variance(square - total**2 / n, square)
    several = ((sums.mo > 0).double() @ of_task).T > 1
    return torch.where(several, (between / within_reach).clamp(0, 1).sqrt(), torch.nan)


def _cramer(sums: _Sums, of_task: Tensor) -> Tensor:
    """[multiclass tasks, multiclass tasks] from all contingency tables at once."""
    margins = sums.oo @ of_task  # [C, tasks]: samples of a class that the other task has a label for
    expected = (margins @ of_task.T) * (margins @ of_task.T).T
    squares = torch.where(expected > 0, sums.oo**2 / expected, 0)
    phi_squared = (of_task.T @ squares @ of_task - 1).clamp(min=0)
    present = of_task.T @ (margins > 0).double()
    degrees = torch.minimum(present, present.T) - 1
    return torch.where(degrees > 0, (phi_squared / degrees).clamp(max=1).sqrt(), torch.nan)


def _number_columns(tasks: TaskSet, numbers: list[int], targets: Targets) -> Tensor:
    """[N, t] float64, NaN where missing."""
    columns = [tasks.target_of(tasks.names[n], targets).flatten().double() for n in numbers]
    if not columns:
        return torch.zeros(_length(targets), 0, dtype=torch.float64)
    binary = torch.tensor([tasks[n].kind == "binary" for n in numbers])
    values = torch.stack(columns, dim=1).cpu()
    return values.masked_fill(binary & (values == NO_CLASS), torch.nan)


def _class_columns(tasks: TaskSet, classes: list[int], targets: Targets) -> Tensor:
    """[N, C] booleans, one column per class of every multiclass task; all false where missing."""
    indicators = [
        tasks.target_of(tasks.names[n], targets).flatten().cpu()[:, None] == torch.arange(tasks[n].n_outputs)
        for n in classes
    ]
    return torch.cat(indicators, dim=1) if indicators else torch.zeros(_length(targets), 0, dtype=torch.bool)


def _length(targets: Targets) -> int:
    return len(next(iter(targets.values())) if isinstance(targets, Mapping) else targets)
