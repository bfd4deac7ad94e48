"""Affinities made of affinities: pooled, compared, symmetrised, put on one scale.

What each does to values and errors is said at the methods of `Affinity` of the same names.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from cotrain.affinity.affinity import Affinity

__all__ = ["difference", "normalised", "pooled", "symmetrised"]

Pair = tuple[Tensor, Tensor]


def pooled(first: "Affinity", second: "Affinity") -> "Affinity":
    """What both rest on together; see `Affinity.__add__`."""
    _require_same(first, second, ("tasks", "estimator", "rule", "calibrated"), "pooled")
    form = first.form or second.form
    if form:
        raise ValueError(f"Only affinities as measured can be pooled. Got one that is {form}: pool before that.")
    seen = first.observations.double(), second.observations.double()
    batches = _scalars(first.n_observations, second.n_observations)
    cosine, floored = _known(first.cosine, second.cosine), _known(first.floored, second.floored)
    effective = _known(first.effective, second.effective)
    fit = _known(first.calibration_r2, second.calibration_r2)
    return replace(
        first,
        matrix=_mean((first.matrix, second.matrix), seen),
        stderr=_total((first.stderr * seen[0], second.stderr * seen[1]), seen, power=2).sqrt() / (seen[0] + seen[1]),
        n_observations=first.n_observations + second.n_observations,
        observations=first.observations + second.observations,
        joint_descent=float(_mean(_scalars(first.joint_descent, second.joint_descent), batches)),
        cosine=None if cosine is None else _mean(cosine, seen),
        floored=None if floored is None else floored[0] + floored[1],
        cost=float(_mean(_scalars(first.cost, second.cost), batches)),
        effective=None if effective is None else torch.where(seen[0] + seen[1] > 0, _total(effective, seen), torch.nan),
        calibration_r2=None if fit is None else _mean(fit, batches),
        choice=first.choice if first.choice == second.choice else "",
    )


def difference(first: "Affinity", second: "Affinity") -> "Affinity":
    """The first minus the second; see `Affinity.__sub__`."""
    _require_same(first, second, ("tasks", "form"), "subtracted")
    effective = _known(first.effective, second.effective)
    return replace(
        first,
        matrix=first.matrix - second.matrix,
        stderr=(first.stderr**2 + second.stderr**2).sqrt(),
        estimator=_either(first.estimator, second.estimator),
        n_observations=min(first.n_observations, second.n_observations),
        observations=torch.minimum(first.observations, second.observations),
        rule=_either(first.rule, second.rule),
        joint_descent=torch.nan,
        cosine=None,
        floored=None,
        cost=torch.nan,
        effective=None if effective is None else torch.minimum(*effective),
        calibrated=first.calibrated and second.calibrated,
        calibration_r2=None,
        choice="",
        form=_with(first.form, "difference"),
    )


def symmetrised(affinity: "Affinity") -> "Affinity":
    """The mean of both directions of every pair; see `Affinity.symmetrised`."""
    if _last(affinity.form) == "symmetrised":
        return affinity
    effective, error = affinity.effective, (affinity.stderr**2 + affinity.stderr.T**2).sqrt() / 2
    diagonal = torch.eye(len(affinity.tasks), dtype=torch.bool)
    return replace(
        affinity,
        matrix=(affinity.matrix + affinity.matrix.T) / 2,
        stderr=torch.where(diagonal, affinity.stderr, error),
        observations=torch.minimum(affinity.observations, affinity.observations.T),
        effective=None if effective is None else torch.minimum(effective, effective.T),
        form=_with(affinity.form, "symmetrised"),
    )


def normalised(affinity: "Affinity") -> "Affinity":
    """Every target's column on one scale; see `Affinity.normalised`."""
    if _last(affinity.form) == "normalised":
        return affinity
    form = _with(affinity.form, "normalised")
    if not affinity.tasks:
        return replace(affinity, form=form)
    pairs = affinity.matrix.clone().fill_diagonal_(torch.nan)
    finite = pairs.isfinite()
    count = finite.sum(0)
    mean = torch.where(finite, pairs, 0).sum(0) / count
    spread = (torch.where(finite, pairs - mean, 0) ** 2).sum(0).div(count).sqrt()
    # The mean of equal numbers may be off by rounding, so a spread above 0 does not say that they differ.
    differ = torch.where(finite, pairs, -torch.inf).amax(0) > torch.where(finite, pairs, torch.inf).amin(0)
    scale = torch.where(differ & (spread > 0), spread, torch.nan)
    return replace(affinity, matrix=(affinity.matrix - mean) / scale, stderr=affinity.stderr / scale, form=form)


def _require_same(first: "Affinity", second: "Affinity", names: Sequence[str], done: str) -> None:
    for name in names:
        one, other, what = getattr(first, name), getattr(second, name), f"{name!r}"
        if one == other:
            continue
        if name == "tasks" and len(one) != len(other):
            one, other, what = len(one), len(other), "the number of tasks"
        elif name == "tasks":
            place = next(place for place, task in enumerate(one) if task != other[place])
            one, other, what = one[place], other[place], f"task {place} (order counts)"
        raise ValueError(f"Affinities can be {done} only where {what} is the same. Got {one!r} and {other!r}.")


def _known(first: Tensor | None, second: Tensor | None) -> Pair | None:
    return None if first is None or second is None else (first, second)


def _scalars(first: float, second: float) -> Pair:
    return torch.tensor(first, dtype=torch.float64), torch.tensor(second, dtype=torch.float64)


def _total(values: Pair, seen: Pair, power: int = 1) -> Tensor:
    """The sum of powers over the parts that were observed: what was not is NaN, and counts nothing."""
    first, second = (torch.where(n > 0, value, 0) ** power for value, n in zip(values, seen, strict=True))
    return first + second


def _mean(values: Pair, seen: Pair) -> Tensor:
    """The mean weighted by the numbers of observations; NaN where there is none."""
    return _total((values[0] * seen[0], values[1] * seen[1]), seen) / (seen[0] + seen[1])


def _either(first: str, second: str) -> str:
    return first if first == second else f"{first} - {second}"


def _with(form: str, step: str) -> str:
    return f"{form}, {step}" if form else step


def _last(form: str) -> str:
    return form.rpartition(", ")[2]
