"""Which tasks can be learned at all: do held-out predictions carry any information about the labels?"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from cotrain.affinity.ranks import average_ranks
from cotrain.kernels import NO_CLASS
from cotrain.task import Outputs, Targets, Task, as_tasks

__all__ = ["Learnability", "learnability"]

LEVEL = 0.05
"""Probability of calling any task of pure noise learnable, over all tasks together."""

ROUNDING = 1e-10
"""Deviations of ranks or probabilities below it are rounding errors of constant predictions, in float64."""

STATISTICS = {"binary": "AUC", "multiclass": "kappa", "regression": "rank correlation", "custom": "none"}


@dataclass(frozen=True, eq=False)
class Learnability:
    """Evidence, per task, that held-out predictions are better than chance.

    Attributes:
        tasks: The tasks' names.
        statistics: What was computed for each: "AUC", "kappa", "rank correlation" or "none".
        value: [T] float64, its value; chance is 1/2 for AUC, else 0. NaN if it could not be computed.
        p_value: [T] float64, one-sided, not corrected for T; NaN if there was no test.
        learnable: [T] booleans; false means no evidence that the task can be learned. A task without a test
            (custom, no labels, one class only) is given the benefit of the doubt.
    """

    tasks: tuple[str, ...]
    statistics: tuple[str, ...]
    value: Tensor
    p_value: Tensor
    learnable: Tensor

    @property
    def noise(self) -> tuple[str, ...]:
        """The tasks that cannot be told from noise."""
        return tuple(name for name, yes in zip(self.tasks, self.learnable.tolist(), strict=True) if not yes)


def learnability(tasks: Iterable[Task], outputs: Outputs, targets: Targets) -> Learnability:
    """Test every task for information in predictions of samples that were NOT trained on.

    The null hypothesis is that labels are assigned to predictions at random; means and variances under it are
    those over all permutations, and each test is one-sided by the normal approximation:
        binary: the area under the ROC curve (Mann-Whitney), ties counted as halves.
        multiclass: the mean probability p of the true label beyond chance, (p - e) / (1 - e) with e its mean
            over permutations. It is Cohen's kappa with probabilities in place of decisions, which sees
            information also where the largest class always wins.
        regression: Spearman's rank correlation, the mean of them over several dimensions.
    Holm's correction over the tested tasks keeps the probability of calling any noise task learnable at 5 %.

    Args:
        tasks: The tasks.
        outputs: Of held-out samples, packed [N, O] or {task name: tensor}.
        targets: [N, T] or {task name: tensor}; missing labels as in training.
    """
    tasks = as_tasks(tasks)
    packed = tasks.pack(outputs).detach().cpu().double()
    tested = [_test(task, packed[:, tasks.slices[task.name]], tasks.target_of(task.name, targets)) for task in tasks]
    value, z = torch.tensor(tested, dtype=torch.float64).unbind(1)
    p_value = torch.special.ndtr(-z)
    return Learnability(
        tasks=tasks.names,
        statistics=tuple(STATISTICS[task.kind] for task in tasks),
        value=value,
        p_value=p_value,
        learnable=_rejected(p_value) | torch.isnan(p_value),
    )


def _test(task: Task, outputs: Tensor, target: Tensor) -> tuple[float, float]:
    """Statistic and its z-value; NaN without a test."""
    if task.kind == "custom":
        return math.nan, math.nan
    target = target.detach().cpu().double().reshape(len(outputs), -1)
    labelled = ~torch.isnan(target).any(1)
    if task.kind != "regression":
        labelled &= target[:, 0] != NO_CLASS
    outputs, target = outputs[labelled], target[labelled]
    if len(target) < 2 or bool((target == target[0]).all()):
        return math.nan, math.nan
    if task.kind == "binary":
        return _area_under_curve(outputs, target)
    return _soft_kappa(outputs, target[:, 0].long()) if task.kind == "multiclass" else _correlation(outputs, target)


def _area_under_curve(outputs: Tensor, target: Tensor) -> tuple[float, float]:
    _, z = _correlation(outputs, target)
    ranks, positive = average_ranks(outputs)[:, 0], target[:, 0] == 1
    n_positive = int(positive.sum())
    pairs = n_positive * (len(target) - n_positive)
    return float(ranks[positive].sum() - n_positive * (n_positive + 1) / 2) / pairs, z


def _correlation(outputs: Tensor, target: Tensor) -> tuple[float, float]:
    """Mean rank correlation over the columns.

    With one column the variance over all permutations is 1 / (n - 1), ties or not; for a binary target this is
    the Mann-Whitney test with its correction for ties. Correlated columns add up by the product of their
    correlation matrices.
    """
    mine, theirs = _standardised(average_ranks(outputs)), _standardised(average_ranks(target))
    value = float((mine * theirs).sum(0).mean())
    variance = float(((mine.T @ mine) * (theirs.T @ theirs)).mean()) / (len(target) - 1)
    return value, _z(value, variance)


def _soft_kappa(logits: Tensor, target: Tensor) -> tuple[float, float]:
    """Cohen's kappa with probabilities, and its z-value by Hoeffding's combinatorial central limit theorem."""
    probabilities = logits.softmax(1)
    n, n_classes = probabilities.shape
    shares = torch.bincount(target, minlength=n_classes).double() / n
    agreement = float(probabilities.gather(1, target[:, None]).mean())
    chance = float(probabilities.mean(0) @ shares)
    by_sample = (probabilities * shares).sum(1, keepdim=True)
    deviation = probabilities - by_sample - probabilities.mean(0) + chance
    variance = float((deviation**2 * shares).sum()) / (n * (n - 1))
    value = (agreement - chance) / (1 - chance) if chance < 1 else 0.0
    return value, _z(agreement - chance, variance)


def _standardised(values: Tensor) -> Tensor:
    """Columns with mean 0 and length 1; a constant one is 0."""
    centred = values - values.mean(0)
    length = centred.norm(dim=0)
    return torch.where(length > ROUNDING, centred / length, 0)


def _z(value: float, variance: float) -> float:
    """How many standard deviations above chance; minus infinity if the predictions cannot differ from chance."""
    return value / math.sqrt(variance) if variance > ROUNDING**2 else -math.inf


def _rejected(p_values: Tensor) -> Tensor:
    """Holm's step-down procedure over the p-values that are there: [T] booleans."""
    ordered, order = p_values.nan_to_num(math.inf).sort()
    left = (~torch.isnan(p_values)).sum() - torch.arange(len(p_values))
    passed = (ordered * left.clamp(min=1) <= LEVEL).long().cummin(0).values.bool()
    rejected: Tensor = torch.zeros_like(passed).index_put((order,), passed)
    return rejected
