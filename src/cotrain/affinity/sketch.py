"""Every task's loss differentiated along random directions: transference at a price that does not grow with T."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call, jvp, vmap

from cotrain.affinity.directions import by_depth
from cotrain.affinity.estimators import Place
from cotrain.affinity.sign_directions import SignDirections
from cotrain.forward_mode import forward_mode_kernels, load_forward_rules
from cotrain.lookahead import loss_slopes, seeded
from cotrain.model import pure_forward

__all__ = ["LATE_PER_EARLY", "Sketch", "sketch"]

LATE_PER_EARLY = 4
"""Directions of the last shared module for each direction of the parameters before it.

A direction of the last module costs one pass through what follows it, which is next to nothing, and the last module
holds much of the gradient (two thirds of it in a small CNN): on Fashion-MNIST with 100 tasks 16 and 4 directions come
as close to the exact matrix as 16 directions of everything, at less than half the price.
"""


@dataclass(frozen=True, eq=False)
class Sketch:
    """All tasks' losses and their slopes along random directions.

    Args:
        losses: [T] float64 at the present parameters.
        labelled: [T] whether the task has a label in the batch.
        usable: [T] labelled, with a finite loss and finite slopes.
        slopes: [T, n] float64, scaled such that slopes[i] . slopes[j] estimates without bias the fall of loss j by a
            step for task i, to first order; NaN for a task that is not usable.
        passes: Price, in forward passes through the network.
    """

    losses: Tensor
    labelled: Tensor
    usable: Tensor
    slopes: Tensor
    passes: float


def sketch(place: Place, response: Mapping[str, Tensor], *, directions: int) -> Sketch:
    """One plain forward pass, and forward-mode passes along random signs v: E[(g_i . v)(g_j . v)] = g_i . g_j.

    With a step of response D the directions are sqrt(D) v, so that the products estimate G D G^T. The last shared
    module is sketched apart from the parameters before it: terms between the two, which are 0 on average, add no
    noise, and each part gets as many directions as its price allows. Outputs are differentiated and then contracted
    with the losses' derivatives by the outputs: forward mode through 1,000 losses took three times as long.

    Args:
        place: Where the training stands; its seed is that of the directions as well.
        response: By the names of the parameters, from `step_response.responses`.
        directions: Of the last shared module; the parameters before it get a quarter, rounded up.

    Raises:
        NotImplementedError: If forward mode does not work for the model.
    """
    tasks, parameters = place.tasks, place.parameters
    with torch.no_grad(), seeded(place.seed):
        outputs = tasks.pack(pure_forward(place.model, parameters, place.batch.inputs))
    losses, labelled, by_outputs = loss_slopes(tasks, outputs.detach().requires_grad_(), place.batch)
    by_outputs = by_outputs.float() if by_outputs.dtype != torch.float64 else by_outputs
    owner = torch.repeat_interleave(torch.tensor([task.n_outputs for task in tasks])).to(by_outputs.device)
    early, late = by_depth(parameters)
    parts, passes = [], 1.0
    for names, n in ((early, -(-directions // LATE_PER_EARLY)), (late, directions)):
        if not names:
            continue
        moving = {name: parameters[name].detach() for name in names}
        _, signs = next(SignDirections(place.seed, n, moving).chunks(n))
        along = {name: value * (response[name] / n).sqrt() for name, value in signs.items()}
        tangents = _tangents(place, moving, along).to(by_outputs.dtype)
        of_outputs = (tangents * by_outputs).sum(1).T  # einsum takes ten times as long
        parts.append(of_outputs.new_zeros(len(tasks), n).index_add_(0, owner, of_outputs))
        passes += 2 * n if names is early else 0
    slopes = torch.cat(parts, dim=1).double()
    usable = labelled & torch.isfinite(losses) & torch.isfinite(slopes).all(1)
    return Sketch(losses, labelled, usable, torch.where(usable[:, None], slopes, torch.nan), passes)


def _tangents(place: Place, moving: Mapping[str, Tensor], along: Mapping[str, Tensor]) -> Tensor:
    """[n, B, O], the derivative of the outputs along every direction, in one batched pass."""
    try:
        return _batched_pass(place, moving, along)
    except (NotImplementedError, RuntimeError):
        # Slower kernels, so only where the usual ones have no forward rule.
        try:
            with forward_mode_kernels():
                return _batched_pass(place, moving, along)
        except RuntimeError as error:  # NotImplementedError is one
            reason = str(error).strip().split("\n")[0]
            raise NotImplementedError(f"forward mode does not work for this model: {reason}") from error


def _batched_pass(place: Place, moving: Mapping[str, Tensor], along: Mapping[str, Tensor]) -> Tensor:
    n = len(next(iter(along.values())))
    # In training mode BatchNorm updates its running statistics in place, which forward mode and vmap allow only for
    # values that are themselves among the inputs; so every direction gets its own copy, thrown away with it. In eval
    # mode they must not be among the inputs: they have no forward rule.
    buffers = dict(place.model.named_buffers())
    updated = {f"{prefix}." if prefix else "" for prefix, module in place.model.named_modules() if module.training}
    copies = {
        name: value.expand(n, *value.shape).clone()
        for name, value in buffers.items()
        if value.is_floating_point() and name[: name.rfind(".") + 1] in updated
    }
    others = {name: value for name, value in buffers.items() if name not in copies}

    def outputs(values: dict[str, Tensor], own: dict[str, Tensor]) -> Tensor:
        kept = {name: value.clone() for name, value in others.items()}
        return place.tasks.pack(functional_call(place.model, {**kept, **own, **values}, (place.batch.inputs,)))

    def derivative(direction: dict[str, Tensor], own: dict[str, Tensor]) -> Tensor:
        still = {name: torch.zeros_like(value) for name, value in own.items()}
        found: Tensor = jvp(outputs, (dict(moving), own), (direction, still))[1]
        return found

    load_forward_rules()
    with torch.no_grad(), seeded(place.seed):
        tangents: Tensor = vmap(derivative, randomness="same")(dict(along), copies)
    return tangents
