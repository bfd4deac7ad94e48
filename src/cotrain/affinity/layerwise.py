"""Directional derivatives of every sample's numbers, layer by layer: a few backward passes serve all directions."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from cotrain.affinity.layer_calls import LayerCall, watched_layers
from cotrain.affinity.layer_derivatives import CalledLayer, called_layer
from cotrain.affinity.sign_directions import SignDirections, random_signs
from cotrain.forward_mode import backward_disagreement

__all__ = ["layerwise_derivatives"]

KEPT_BYTES = 2**29
"""Of what is kept of all backward passes. Forward mode keeps nothing."""

SIGNS_BYTES = 2**25
"""Of directions that are in memory at a time."""

ROUNDING, MOST = 1000, 0.05
"""A difference from an ordinary backward pass that is no error, in units of the dtype's precision, but at most this."""


def layerwise_derivatives(
    model: nn.Module,
    outputs: Callable[[Mapping[str, Tensor]], Tensor],
    numbers: Callable[[Tensor], Tensor],
    owner: Tensor,
    parameters: Mapping[str, Tensor],
    directions: SignDirections,
) -> Tensor:
    """The derivative of every number along every direction, from the derivatives by the outputs of the layers.

    Where no sample's outputs depend on another sample, one backward pass from the sum over the samples of a task's
    numbers gives the derivatives of each of them by the outputs of all layers. What a direction adds in a layer is
    then a product (`called_layer`). So T passes serve all directions, and they are shorter than ordinary ones, for
    they take no gradient by a parameter. If all that the outputs owe to the parameters goes through F < T features,
    it is F passes from these, and the features' derivatives are pushed forward to the outputs.

    That samples do not touch each other, and that the calls of layers are all uses of the parameters, is seen by
    comparison with an ordinary backward pass from random signs.

    Args:
        model: Its layers are watched.
        outputs: From parameters by name to packed outputs [B, O], by one call of the model.
        numbers: From packed outputs to numbers [B, T]; each depends on its sample's outputs for its task alone.
        owner: [O], the number of each output's task.
        parameters: By name, the model's own, where to take the derivatives.
        directions: Over these parameters.

    Returns:
        [number of directions, B, T] in the dtype of the numbers.

    Raises:
        RuntimeError: If it does not work, or forward mode takes less. It works if parameters are used by layers
            without sublayers, called with one tensor and giving one tensor that have a row per sample, alone.
    """
    leaves = {name: value.detach().requires_grad_() for name, value in parameters.items()}
    with torch.enable_grad():
        with watched_layers(model, parameters) as calls:
            packed = outputs(leaves)
        point = packed.detach().requires_grad_()
        values = numbers(point)
        (slopes,) = torch.autograd.grad(values.sum(), point)
    ends = _ends(_Head(packed, slopes, owner, values.shape[1]), calls, leaves)
    # A backward pass that stops at the layers, and its products, take about as long as a direction by forward mode.
    if ends.number > directions.number:
        raise RuntimeError(f"{ends.number} backward passes take longer than {directions.number} directions.")
    sent = random_signs(values)
    found = torch.autograd.grad(
        packed, list(leaves.values()), slopes * sent[:, owner], retain_graph=True, allow_unused=True
    )
    gradients = {name: value for name, value in zip(leaves, found, strict=True) if value is not None}
    layers = _layers(calls, gradients, len(packed))
    kept = _kept(layers, ends, len(packed))

    parts = []
    for part, signs in directions.chunks(max(SIGNS_BYTES // sum(value.nbytes for value in leaves.values()), 1)):
        added = [
            layer.along(rows, {own: signs[name] for own, name in call.names.items()})
            for (call, layer), rows in zip(layers, kept, strict=True)
        ]
        parts.append(ends.numbers(torch.stack(added).sum(0)).to(values.dtype))
        if part.start == 0:
            precision = ROUNDING * max(torch.finfo(value.dtype).eps for value in (packed, *leaves.values()))
            # A comparison that is not finite shows nothing.
            if not backward_disagreement(parts[0], signs, sent, gradients) <= min(precision, MOST):
                raise RuntimeError("The derivatives differ from those of a backward pass.")
    return torch.cat(parts)


_Layers: TypeAlias = Sequence[tuple[LayerCall, CalledLayer]]


def _layers(calls: list[LayerCall], gradients: Mapping[str, Tensor], n_samples: int) -> _Layers:
    used = [call for call in calls if call.names]
    unseen = gradients.keys() - {name for call in used for name in call.names.values()}
    if unseen:
        raise RuntimeError(f"No layer was called that holds {sorted(unseen)}.")
    if any(len(call.shape) < 2 or {len(call.inputs), call.shape[0]} != {n_samples} for call in used):
        raise RuntimeError("A layer was called with something that has not a row per sample.")
    return [(call, called_layer(call.module, list(call.names), call.inputs, call.shape)) for call in used]


@dataclass(frozen=True, eq=False)
class _Head:
    """How T numbers come from packed outputs."""

    packed: Tensor
    slopes: Tensor
    """[B, O], the derivative of the one number that depends on an output."""
    owner: Tensor
    number: int

    def backward(self, number: int, edges: list[GradientEdge]) -> tuple[Tensor | None, ...]:
        """Derivatives of one task's numbers, summed over the samples, by what is at the edges."""
        sent = self.slopes * (self.owner == number)
        return torch.autograd.grad(self.packed, edges, sent, retain_graph=True, allow_unused=True)

    def numbers(self, along: Tensor) -> Tensor:
        """From the derivatives along directions of what passes begin at, [B, number, n], to [n, B, T]."""
        return along.permute(2, 0, 1)


@dataclass(frozen=True, eq=False)
class _Features:
    """A narrow place: features [B, F] that the outputs depend on, and on nothing else with parameters before it."""

    head: _Head
    features: Tensor
    edge: GradientEdge

    @property
    def number(self) -> int:
        return self.features.shape[1]

    def backward(self, number: int, edges: list[GradientEdge]) -> tuple[Tensor | None, ...]:
        """Derivatives of one feature, summed over the samples, by what is at the edges."""
        sent = torch.zeros_like(self.features)
        sent[:, number] = 1
        return torch.autograd.grad([self.edge], edges, [sent], retain_graph=True, allow_unused=True)

    def numbers(self, along: Tensor) -> Tensor:
        """As `_Head.numbers`. What a backward pass does is linear in what is sent, so its transpose goes forward."""
        packed, slopes = self.head.packed, self.head.slopes
        sent = torch.zeros_like(packed, requires_grad=True)
        (by_features,) = torch.autograd.grad(packed, [self.edge], sent, create_graph=True)
        rows = along.permute(2, 0, 1).to(by_features.dtype).contiguous()
        outputs = torch.stack([torch.autograd.grad(by_features, sent, row, retain_graph=True)[0] for row in rows])
        found = outputs.new_zeros(*outputs.shape[:2], self.head.number)
        return found.index_add_(2, self.head.owner, outputs * slopes)


def _ends(head: _Head, calls: list[LayerCall], leaves: Mapping[str, Tensor]) -> _Head | _Features:
    """Where the fewest backward passes begin: at the tasks, or at the narrowest input that everything goes through."""
    for call in sorted(calls, key=lambda call: call.inputs.shape[-1]):
        if call.before is None or call.inputs.dim() != 2 or call.inputs.shape[1] >= head.number:
            continue
        if not _reached(head.packed, leaves, call.before):
            return _Features(head, call.inputs, call.before)
    return head


def _reached(packed: Tensor, leaves: Mapping[str, Tensor], barrier: GradientEdge) -> bool:
    """Whether a way through the graph leads from the outputs to a leaf past the barrier."""
    targets = {id(leaf) for leaf in leaves.values()}
    edges, seen = [(packed.grad_fn, packed.output_nr)], set()
    while edges:
        node, number = edges.pop()
        if node is None or node in seen or (node is barrier.node and number == barrier.output_nr):
            continue
        seen.add(node)
        if id(getattr(node, "variable", None)) in targets:
            return True
        edges.extend(node.next_functions)
    return False


def _kept(layers: _Layers, ends: _Head | _Features, n_samples: int) -> list[Tensor]:
    """[B, passes, width] for every layer.

    One pass at a time: several under vmap took up to three times as long each through convolutions, because what
    they hold leaves the processor's caches.
    """
    own = [next(call.module.parameters()) for call, _ in layers]  # inputs may be integers
    shapes = [(n_samples, ends.number, layer.width()) for _, layer in layers]
    n_bytes = sum(value.element_size() * math.prod(shape) for value, shape in zip(own, shapes, strict=True))
    if n_bytes > KEPT_BYTES:
        raise RuntimeError(f"{n_bytes} bytes would have to be kept.")
    edges = [call.after for call, _ in layers]
    kept = [value.new_empty(shape) for value, shape in zip(own, shapes, strict=True)]
    for number in range(ends.number):
        for rows, (_, layer), gradient in zip(kept, layers, ends.backward(number, edges), strict=True):
            rows[:, number] = 0 if gradient is None else layer.keep(gradient)
    return kept
