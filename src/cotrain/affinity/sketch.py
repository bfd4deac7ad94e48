"""Every task's loss differentiated along random directions: transference at a price that does not grow with T."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from cotrain.affinity.directions import by_depth
from cotrain.affinity.estimators import Place
from cotrain.affinity.last_module import last_module_gradients
from cotrain.affinity.loss_derivatives import LossDerivatives
from cotrain.affinity.sign_directions import SignDirections
from cotrain.affinity.task_signs import TaskSigns

__all__ = ["LATE_PER_EARLY", "LastModule", "Sketch", "sketch"]

LATE_PER_EARLY = 4
"""Directions of the last shared module for each direction of the parameters before it.

A direction of the last module costs one pass through what follows it, which is next to nothing, and the last module
holds much of the gradient (two thirds of it in a small CNN): on Fashion-MNIST with 100 tasks 16 and 4 directions come
as close to the exact matrix as 16 directions of everything, at less than half the price.
"""

LastModule = Literal["sketched", "exact"]


@dataclass(frozen=True, eq=False)
class Sketch:
    """All tasks' losses, and an estimate of how a step for each moves each, as a product of two matrices.

    Args:
        losses: [T] float64 at the present parameters.
        labelled: [T] whether the task has a label in the batch.
        usable: [T] labelled, with a finite loss and finite slopes.
        moved: [T] whether the task's loss changes along any of the directions.
        sources: [T, k] float64; NaN for a task that is not usable.
        targets: [T, k], likewise, scaled such that sources[i] . targets[j] estimates without bias the fall of loss j
            by a step for task i, to first order.
        passes: Price, in forward passes through the network.
        squares: [T], with signs of tasks: what this observation says of the squares of their scales.
    """

    losses: Tensor
    labelled: Tensor
    usable: Tensor
    moved: Tensor
    sources: Tensor
    targets: Tensor
    passes: float
    squares: Tensor | None = None


def sketch(
    place: Place,
    response: Mapping[str, Tensor],
    *,
    directions: int,
    signs: TaskSigns | None = None,
    last_module: LastModule = "sketched",
    check: bool = False,
) -> Sketch:
    """One plain forward pass, and forward-mode passes along random signs v: E[(g_i . v)(g_j . v)] = g_i . g_j.

    With a step of response D the directions are sqrt(D) v, so that the products estimate G D G^T. The last shared
    module is sketched apart from the parameters before it: terms between the two, which are 0 on average, add no
    noise, and each part gets as many directions as its price allows.

    With signs of tasks the directions are D u instead, u the gradient of sum_i r_i L_i / s_i for random signs r and
    scales s: E[s_i r_i (g_j . D u)] = g_i . D g_j. G D G^T is symmetric, and so the estimate is made symmetric. A
    gradient that is not finite although its loss is, inside the network, then spoils the batch for all tasks.

    Args:
        place: Where the training stands; its seed is that of the directions as well.
        response: By the names of the parameters, from `step_response.responses`.
        directions: Of the last shared module; the parameters before it get a quarter, rounded up.
        signs: Draw signs of tasks, with these scales; None: signs of parameters.
        last_module: "exact": take every task's gradient by the last shared module, and sketch what is before it.
        check: Hold forward mode against one ordinary backward pass.

    Raises:
        NotImplementedError: If forward mode does not work for the model.
    """
    derivatives = LossDerivatives.at(place, graph=signs is not None or last_module == "exact")
    scales = None if signs is None else signs.scales(derivatives)
    early, late = by_depth(place.parameters)
    sizes = {"early": -(-directions // LATE_PER_EARLY), "late": directions}
    names = {"early": early, "late": [] if last_module == "exact" else late}
    parts, passes, squares = [], 1.0, torch.zeros_like(derivatives.losses)
    for which in [which for which in names if names[which]]:
        moving = {name: response[name] for name in names[which]}
        if scales is None:
            part = _by_parameters(derivatives, moving, sizes[which], check)
        else:
            part = _by_tasks(derivatives, moving, which, sizes[which], scales, check)
            squares += scales.to(squares) * part.slopes.square().mean(1).sqrt()
        parts.append(part)
        passes += (2 if scales is None else 4) * sizes[which] * (which == "early")
    if last_module == "exact":
        parts.append(_exact(derivatives, {name: response[name] for name in late}))
    sources, targets, slopes = (torch.cat(columns, dim=1) for columns in zip(*parts, strict=True))
    usable = derivatives.sound & slopes.isfinite().all(1)
    seen = usable[:, None]
    return Sketch(
        losses=derivatives.losses,
        labelled=derivatives.labelled,
        usable=usable,
        moved=(slopes != 0).any(1),
        sources=torch.where(seen, sources, torch.nan),
        targets=torch.where(seen, targets, torch.nan),
        passes=passes,
        squares=None if scales is None or not early + names["late"] else torch.where(usable, squares, torch.nan),
    )


class _Part(NamedTuple):
    """[T, k] each: the two matrices of the product, and the losses' slopes along what they rest on."""

    sources: Tensor
    targets: Tensor
    slopes: Tensor


def _by_parameters(derivatives: LossDerivatives, response: Mapping[str, Tensor], n: int, check: bool) -> _Part:
    place = derivatives.place
    _, signs = next(SignDirections(place.seed, n, {name: place.parameters[name] for name in response}).chunks(n))
    along = {name: value * (response[name] / n).sqrt() for name, value in signs.items()}
    slopes = derivatives.along(along, check=check)
    return _Part(slopes, slopes, slopes)


def _by_tasks(
    derivatives: LossDerivatives, response: Mapping[str, Tensor], which: str, n: int, scales: Tensor, check: bool
) -> _Part:
    place, owner = derivatives.place, derivatives.owner
    _, drawn = next(SignDirections(place.seed, n, {f"tasks, {which}": scales}).chunks(n))
    signs = drawn[f"tasks, {which}"].to(derivatives.losses)
    by_outputs = torch.where(derivatives.sound[owner], derivatives.by_outputs, 0)
    parameters = [place.parameters[name] for name in response]
    sums = [
        torch.autograd.grad(
            derivatives.outputs,
            parameters,
            (by_outputs * share[owner]).to(derivatives.outputs.dtype),
            retain_graph=True,
            materialize_grads=True,
        )
        for share in (signs / scales.to(signs)).to(by_outputs.dtype)
    ]
    along = {
        name: torch.stack(gradients) * response[name]
        for name, gradients in zip(response, zip(*sums, strict=True), strict=True)
    }
    slopes = derivatives.along(along, check=check)
    back = (signs * scales.to(signs)).T
    return _Part(torch.cat([back, slopes], 1) / (2 * n), torch.cat([slopes, back], 1), slopes)


def _exact(derivatives: LossDerivatives, response: Mapping[str, Tensor]) -> _Part:
    """Every task's gradient; where that has more columns than there are tasks, its products and the unit matrix."""
    gradients = last_module_gradients(derivatives, list(response))
    for gradient, factor in zip(gradients, response.values(), strict=True):
        gradient *= factor.sqrt()
    rows = [gradient.flatten(1) for gradient in gradients]
    squares = torch.stack([row.square().sum(1) for row in rows]).sum(0)
    finite = squares.isfinite()
    slopes = torch.where(finite, squares.sqrt(), torch.nan)[:, None].double()
    for row in rows:
        row[~finite] = 0  # one task's NaN must not reach the others' products
    n_tasks = len(squares)
    if sum(row.shape[1] for row in rows) <= n_tasks:
        whole = torch.cat(rows, dim=1).double()
        return _Part(whole, whole, slopes)
    products = torch.stack([(row @ row.T).double() for row in rows]).sum(0)
    return _Part(products, torch.eye(n_tasks).to(products), slopes)
