"""Which samples to record when not all of them fit: rare classes first."""

from collections.abc import Iterable

import torch
from torch import Tensor

from cotrain.kernels import labelled_samples, missing_labels
from cotrain.task import Targets, Task, as_tasks

__all__ = ["stratified_samples"]


def stratified_samples(tasks: Iterable[Task], targets: Targets, n: int, *, seed: int = 0) -> Tensor:
    """Choose samples so that every class of every task is among them, as often as possible.

    Every class of a binary or multiclass task and every quarter of a regression target gets the same number of
    samples, or all that it has; that number is the largest for which n samples are enough, because one sample counts
    for all tasks. Places that are left over go to any samples. Rare classes are over-represented on purpose: maps
    of rare positives are what a plain subset lacks. Means over the chosen samples are therefore not those of the data.

    Args:
        tasks: Custom tasks, and regression tasks of several dimensions, have no classes and do not count.
        targets: [N, T] of the training split, NaN = no label, or by task name.
        n: How many samples to choose.
        seed: Of the order in which samples are preferred; the same for all classes, so that they share samples.

    Returns:
        [n] positions in ascending order, for `DataMap(samples=)`.

    Raises:
        ValueError: If there are fewer than n samples, or n is below 1.
    """
    task_set = as_tasks(tasks)
    n_samples = len(targets) if isinstance(targets, Tensor) else len(task_set.target_of(task_set.names[0], targets))
    if not 1 <= n <= n_samples:
        raise ValueError(f"n must be between 1 and the number of samples, {n_samples}. Got {n}.")
    order = torch.randperm(n_samples, generator=torch.Generator().manual_seed(seed))
    # A sample's smallest place in a class that it belongs to: it is needed by every quota above it.
    first = torch.full((n_samples,), n_samples)
    for task in task_set:
        target = task_set.target_of(task.name, targets).cpu()
        if task.kind != "custom" and target.dim() == 1:
            first = first.minimum(_places(task, target[order]))
    # The largest quota that needs at most n is the place of the sample that would be one too many.
    quota = n_samples if n == n_samples else int(first.sort().values[n])
    return order[_chosen(first < quota, n)].sort().values


def _places(task: Task, target: Tensor) -> Tensor:
    """[N] how many samples of the same class come before each; N, which no quota reaches, for those without one."""
    known = labelled_samples(missing_labels(task, target))
    classes = torch.where(known, target, 0).double()
    if task.kind == "regression" and bool(known.any()):
        values = classes[known].sort().values
        classes = torch.bucketize(classes, values[[len(values) * quarter // 4 for quarter in (1, 2, 3)]], right=True)
    number = torch.where(known, classes.long(), -1)
    # Sorted by class, in the order of preference within each.
    by_class = number.argsort(stable=True)
    ordered = number[by_class]
    place = torch.empty_like(number)
    place[by_class] = torch.arange(len(number)) - torch.searchsorted(ordered, ordered)
    return torch.where(known, place, len(number))


def _chosen(needed: Tensor, n: int) -> Tensor:
    """The needed ones and as many of the first others as there are places left."""
    others = ~needed
    return needed | (others & (others.long().cumsum(0) <= n - needed.sum()))
