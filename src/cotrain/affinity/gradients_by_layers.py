"""Every task's gradient from backward passes that stop at the layers, and products that serve many tasks at once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from cotrain.affinity.layer_calls import watched_layers
from cotrain.affinity.layer_stacks import StackedLayer, stacked_layers
from cotrain.affinity.sign_directions import random_signs
from cotrain.affinity.task_gradients import TaskGradients, without_autocast
from cotrain.lookahead import loss_slopes, seeded
from cotrain.model import pure_forward
from cotrain.task import Batch, TaskSet

__all__ = ["gradients_by_layers"]

ROUNDING, MOST = 1000, 0.05
"""A difference from an ordinary backward pass that is no error, in units of the dtype's precision, but at most this."""


def gradients_by_layers(
    model: nn.Module, tasks: TaskSet, batch: Batch, parameters: Mapping[str, nn.Parameter], *, seed: int
) -> tuple[Tensor, Tensor, TaskGradients]:
    """As `task_gradients`: one forward pass, and one shorter backward pass per task. `.grad` stays as it is.

    The pass of a task takes no gradient by the weights of linear layers with fewer rows than inputs and of convolutions
    over small images, but derivatives by their outputs. A convolution's gradients for several tasks are then one
    product of these with its input's patches; a linear layer's are left as factors (`FactoredGradients`). Any other
    parameter is differentiated by in the ordinary way, in the same pass.

    Whether a layer's one call is all that its parameters do is seen by comparison with an ordinary backward pass of all
    tasks together with random signs. A layer that differs is not taken: nor is one whose inner products would lose
    digits, because its inputs are nearly the same in all rows.

    Args:
        model: Any module, in whatever mode it is in.
        tasks: The tasks, in the order of the model's packed outputs.
        batch: The samples.
        parameters: What to differentiate by, by name; the module's own.
        seed: Of everything random in the forward pass.

    Returns:
        Losses [T] and labels [T] as from `losses_at`, and the gradients in float32 or better: 0 for a task without
        labels or with a loss that is not finite.
    """
    with torch.enable_grad(), seeded(seed), watched_layers(model, parameters) as calls:
        outputs = tasks.pack(pure_forward(model, parameters, batch.inputs))
    losses, labelled, by_outputs = loss_slopes(tasks, outputs, batch)
    owner = torch.empty(outputs.shape[1], dtype=torch.int64, device=outputs.device)
    for number, name in enumerate(tasks.names):
        owner[tasks.slices[name]] = number
    wanted = labelled & torch.isfinite(losses)
    by_outputs = torch.where(wanted[owner], by_outputs, 0)  # a loss that is not finite leaves NaN
    numbers = _Numbers(outputs, by_outputs, owner)
    with without_autocast(outputs):
        return losses, labelled, _by_layers(stacked_layers(calls), numbers, wanted, parameters)


def _by_layers(
    layers: Sequence[StackedLayer], numbers: "_Numbers", wanted: Tensor, parameters: Mapping[str, nn.Parameter]
) -> TaskGradients:
    n = len(wanted)
    layers = _sound(layers, numbers, random_signs(numbers.by_outputs.new_empty(n)), parameters)
    left = {name: value for name, value in parameters.items() if all(name not in layer.names for layer in layers)}
    whole = {
        name: value.new_zeros(n, *value.shape, dtype=torch.promote_types(value.dtype, torch.float32))
        for name, value in left.items()
    }
    stacks = [layer.stack(n) for layer in layers]
    targets = [*(layer.edge for layer in layers), *(get_gradient_edge(value) for value in left.values())]
    takers: list[Callable[[int, Tensor], None]] = [stack.put for stack in stacks]
    takers += [partial(_put, stack) for stack in whole.values()]
    for row in wanted.nonzero().flatten().tolist():
        for take, found in zip(takers, numbers.backward_of(row, targets), strict=True):
            if found is not None:
                take(row, found)
    parts = [TaskGradients(whole), *(stack.gradients() for stack in stacks)]
    return TaskGradients(
        {name: value for part in parts for name, value in part.whole.items()},
        [layer for part in parts for layer in part.factored],
    )


@dataclass(frozen=True, eq=False)
class _Numbers:
    """The tasks' losses as functions of the parameters, and their derivatives by the outputs."""

    outputs: Tensor
    by_outputs: Tensor
    owner: Tensor

    def backward_of(self, number: int, targets: Sequence[GradientEdge]) -> tuple[Tensor | None, ...]:
        """Derivatives of one loss by the targets."""
        # A product with 0 would keep what is not finite in another one.
        return self._backward(torch.where(self.owner == number, self.by_outputs, 0), targets)

    def backward_with(self, signs: Tensor, targets: Sequence[GradientEdge]) -> tuple[Tensor | None, ...]:
        """Derivatives of the sum of all losses with signs [T]."""
        return self._backward(self.by_outputs * signs[self.owner], targets)

    def _backward(self, sent: Tensor, targets: Sequence[GradientEdge]) -> tuple[Tensor | None, ...]:
        return torch.autograd.grad(self.outputs, targets, sent, retain_graph=True, allow_unused=True)


def _put(stack: Tensor, row: int, gradient: Tensor) -> None:
    stack[row] = gradient.to_dense()


def _sound(
    layers: Sequence[StackedLayer], numbers: _Numbers, signs: Tensor, parameters: Mapping[str, nn.Parameter]
) -> list[StackedLayer]:
    """The layers whose gradients, and their inner products, are those of an ordinary backward pass."""
    if not layers:
        return []
    names = [name for layer in layers for name in layer.names]
    ordinary = numbers.backward_with(signs, [get_gradient_edge(parameters[name]) for name in names])
    expected = dict(zip(names, ordinary, strict=True))
    by_outputs = numbers.backward_with(signs, [layer.edge for layer in layers])
    return [
        layer
        for layer, by_output in zip(layers, by_outputs, strict=True)
        if by_output is not None and _agrees(layer, by_output, [expected[name] for name in layer.names])
    ]


def _agrees(layer: StackedLayer, by_output: Tensor, expected: Sequence[Tensor | None]) -> bool:
    stack = layer.stack(1)
    stack.put(0, by_output)
    found = stack.gradients()
    own = found.of([0])
    wide = [value.double() for value in expected if value is not None]
    if len(wide) < len(expected):
        return False
    scale = torch.stack([value.square().sum() for value in wide]).sum()
    difference = torch.stack(
        [(own[name][0] - value).square().sum() for name, value in zip(layer.names, wide, strict=True)]
    ).sum()
    eps = max(torch.finfo(value.dtype).eps for value in (by_output, *own.values()))
    most = min(ROUNDING * eps, MOST)
    square = found.products()[0, 0]
    # A comparison that is not finite shows nothing.
    return bool((difference <= most**2 * scale) & ((square - scale).abs() <= most * scale))
