"""Directional derivatives of many numbers along many directions, by the fastest way that a module allows."""

import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TypeAlias

import torch
from torch import Tensor
from torch.func import jvp, vmap

from cotrain.affinity.sign_directions import SignDirections, random_signs
from cotrain.forward_mode import backward_disagreement, forward_mode_kernels, load_forward_rules

__all__ = ["directional_derivatives"]

Numbers: TypeAlias = Callable[[Mapping[str, Tensor]], Tensor]
"""From parameters by name to numbers [B, T]."""

TOLERANCE = 0.05
"""A derivative that goes missing is a gross error, the rounding of half precision is not."""

FEWEST, MOST = 4, 16
"""Directions that go through the module together. A single one takes twice as long as each of four."""

CHUNK_BYTES = 12 * 2**20
"""Of the largest intermediate result for all directions of a chunk. Larger ones the C library gives back to the system
and maps anew every time: 64 directions through a CNN whose largest layer takes 1.6 MB took 0.17 s by 8 and 0.32 s by
16, of which half in page faults; one with 4.7 MB took 0.67 s by 4, 1.2 s by 8 and 0.85 s by 2."""

ROWS = 64
"""Gradients that are held at a time, where they are taken one by one."""


def directional_derivatives(
    numbers: Numbers, parameters: Mapping[str, Tensor], directions: SignDirections, wanted: Tensor
) -> Tensor:
    """The derivative of every number along every direction.

    Forward mode, one pass per direction for all numbers. Where it does not work, it is tried with the kernels of
    `forward_mode_kernels`; then in reverse mode, twice (a backward pass is linear in what is sent backwards, so the
    derivative of J^T u by u along r is J r), also a pass per direction, about three times as long; then as one
    backward pass per number. The last two warn.

    The first directions of every way but the last are held against one ordinary backward pass, because forward mode
    goes through `torch.no_grad` and a custom backward pass may drop its derivative: both without an error.

    Args:
        numbers: A function without side effects that gives the same for the same parameters.
        parameters: By name, where to take the derivatives.
        directions: Over these parameters.
        wanted: [B, T], which numbers are needed. The others' derivatives are arbitrary.

    Returns:
        [number of directions, B, T] in the dtype of the numbers.
    """
    values = {name: value.detach() for name, value in parameters.items()}
    try:
        return _checked(numbers, values, directions, _forward, nullcontext())
    except RuntimeError:
        pass
    try:
        return _checked(numbers, values, directions, _forward, forward_mode_kernels())
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
    try:
        found = _checked(numbers, values, directions, _reverse_twice, forward_mode_kernels())
        way = "two reverse passes per direction, a few times as long"
    except RuntimeError:
        found = _one_by_one(numbers, values, directions, wanted)
        way = "one backward pass per sample and task, many times as long"
    warnings.warn(
        f"Forward-mode differentiation does not work for this model: {reason} Its projected gradients are taken by"
        f" {way}. The values are the same.",
        stacklevel=3,
    )
    return found


Derivatives: TypeAlias = Callable[[Numbers, dict[str, Tensor]], Callable[[dict[str, Tensor]], Tensor]]


def _checked(
    numbers: Numbers,
    values: dict[str, Tensor],
    directions: SignDirections,
    way: Derivatives,
    kernels: AbstractContextManager[None],
) -> Tensor:
    with kernels:
        sent, gradients, chunk = _backward_pass(numbers, values)
        along = way(numbers, values)
        found = []
        for part, signs in directions.chunks(chunk):
            found.append(along(signs))
            if part.start == 0:
                _check(found[0], signs, sent, gradients)
    return torch.cat(found)


def _backward_pass(numbers: Numbers, values: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor], int]:
    """Random signs u [B, T], J^T u by parameter (those it depends on), and how many directions suit the module."""
    largest = 1

    def look(saved: Tensor) -> Tensor:
        nonlocal largest
        largest = max(largest, saved.nbytes)
        return saved

    with torch.autograd.graph.saved_tensors_hooks(look, lambda saved: saved):
        leaves, outputs = _with_graph(numbers, values)
    sent = random_signs(outputs)
    found = torch.autograd.grad(outputs, leaves, sent, allow_unused=True)
    gradients = {name: value for name, value in zip(values, found, strict=True) if value is not None}
    return sent, gradients, min(max(CHUNK_BYTES // largest, FEWEST), MOST)


def _check(found: Tensor, signs: dict[str, Tensor], sent: Tensor, gradients: dict[str, Tensor]) -> None:
    # In a product that is not finite nothing is seen.
    if backward_disagreement(found, signs, sent, gradients) > TOLERANCE:
        raise RuntimeError("It gives other derivatives than a backward pass (a part of it runs under no_grad?).")


def _forward(numbers: Numbers, values: dict[str, Tensor]) -> Callable[[dict[str, Tensor]], Tensor]:
    """Not `torch.func.linearize`: its passes take 3/4 of the time, but its tracing as long as 30 of them."""
    load_forward_rules()

    def derivative(direction: dict[str, Tensor]) -> Tensor:
        found: Tensor = jvp(numbers, (values,), (direction,))[1]
        return found

    def along(signs: dict[str, Tensor]) -> Tensor:
        with torch.no_grad():
            found: Tensor = vmap(derivative, randomness="same")(signs)
        return found

    return along


def _reverse_twice(numbers: Numbers, values: dict[str, Tensor]) -> Callable[[dict[str, Tensor]], Tensor]:
    leaves, outputs = _with_graph(numbers, values)
    sent = torch.zeros_like(outputs, requires_grad=True)
    found = torch.autograd.grad(outputs, leaves, sent, create_graph=True, allow_unused=True)
    gradients = {name: value for name, value in zip(values, found, strict=True) if value is not None}

    def along(signs: dict[str, Tensor]) -> Tensor:
        rows = zip(*(signs[name] for name in gradients), strict=True)
        return torch.stack(
            [torch.autograd.grad(list(gradients.values()), sent, row, retain_graph=True)[0] for row in rows]
        )

    return along


def _one_by_one(numbers: Numbers, values: dict[str, Tensor], directions: SignDirections, wanted: Tensor) -> Tensor:
    leaves, outputs = _with_graph(numbers, values)
    flat = outputs.flatten()
    found = torch.zeros(directions.number, flat.numel(), dtype=flat.dtype, device=flat.device)
    for rows in wanted.flatten().nonzero().flatten().split(ROWS):
        gradients = [torch.autograd.grad(flat[row], leaves, retain_graph=True, allow_unused=True) for row in rows]
        for part, signs in directions.chunks(MOST):
            for number, sign in enumerate(signs.values()):
                for row, gradient in zip(rows, gradients, strict=True):
                    if gradient[number] is not None:
                        found[part, row] += (sign.flatten(1) @ gradient[number].to_dense().flatten()).to(found)
    return found.view(directions.number, *outputs.shape)


def _with_graph(numbers: Numbers, values: dict[str, Tensor]) -> tuple[list[Tensor], Tensor]:
    leaves = {name: value.detach().requires_grad_() for name, value in values.items()}
    with torch.enable_grad():
        return list(leaves.values()), numbers(leaves)
