"""The weights along the rays of a step, and the way back from a loss to the members' gradients."""

from collections.abc import Sequence
from typing import TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor, nn

from cotrain.own_memory import with_own_memory
from cotrain.pareto.manifold import ParetoManifold

__all__ = ["Gradients", "Mixture", "added", "write_gradients"]

Gradients: TypeAlias = list[Tensor | None]
"""One for every trained parameter, with memory of its own; None where a loss does not depend on it."""


class Mixture:
    """Weights along W rays that are differentiated together.

    Its graph leads from the members to the weights, unless it is cut there: then the loss is differentiated by the
    weights that each ray ran with, and these gradients are led back to the members, by one matrix product per
    parameter. Without the cut a small network's step is a tenth faster.

    Args:
        manifold: Where the members are.
        parameters: Its trained parameters, by which gradients are taken.
        preferences: [W, K].
        cut: Needed for `gradient_norms`, and where the module's gradients are sparse, which no mixture's is.
    """

    def __init__(
        self, manifold: ParetoManifold, parameters: Sequence[nn.Parameter], preferences: Tensor, *, cut: bool
    ) -> None:
        self._parameters = parameters
        self._stacks: dict[str, Tensor] = {}
        self._leaves: list[list[Tensor]] = [[] for _ in preferences]
        with torch.enable_grad():
            if not cut:
                self.weights = manifold.weights_at(preferences)
                return
            self._stacks = manifold.members.mixed(preferences)
        rows = zip(*(stack.detach().unbind(0) for stack in self._stacks.values()), strict=True)
        self._leaves = [[value.requires_grad_() for value in row] for row in rows] or self._leaves
        self.weights = [
            manifold.complete(dict(zip(self._stacks, row, strict=True)), preference)
            for row, preference in zip(self._leaves, preferences, strict=True)
        ]

    def gradients(self, total: Tensor) -> Gradients:
        """Of a scalar that all rays lead to, by every trained parameter; its graph is freed."""
        if not total.requires_grad or not self._parameters:  # no task has a label, or all is frozen
            return [None] * len(self._parameters)
        leaves = [leaf for ray in self._leaves for leaf in ray]
        with torch.autocast(total.device.type, enabled=False):
            found = torch.autograd.grad(total, [*leaves, *self._parameters], allow_unused=True)
        by_leaf, direct = found[: len(leaves)], found[len(leaves) :]
        return added(with_own_memory(self._led_back(by_leaf)), with_own_memory(direct))

    def gradient_norms(self, losses: Tensor) -> Tensor:
        """[W, T] norms of the gradients of losses [W, T] at each ray's mixed weights, 1 for none.

        One backward pass per ray and task.
        """
        norms = torch.stack(
            [
                torch.stack([self._norm(loss, [*leaves, *self._parameters]) for loss in row])
                for row, leaves in zip(losses, self._leaves, strict=True)
            ]
        )
        return torch.where(norms > 0, norms, 1.0)

    def _norm(self, loss: Tensor, inputs: Sequence[Tensor]) -> Tensor:
        found = torch.autograd.grad(loss, inputs, retain_graph=True, allow_unused=True)
        norm: Tensor = torch.stack([part.norm() for part in found if part is not None]).norm()
        return norm

    def _led_back(self, by_leaf: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
        """Gradients by the members, from those by the weights of each ray."""
        stacks, sent = [], []
        for number, stack in enumerate(self._stacks.values()):
            column = by_leaf[number :: len(self._stacks)]
            if stack.requires_grad and any(gradient is not None for gradient in column):
                stacks.append(stack)
                sent.append(torch.stack([_dense(gradient, stack[0]) for gradient in column]))
        if not stacks:
            return [None] * len(self._parameters)
        return torch.autograd.grad(stacks, self._parameters, sent, allow_unused=True)


def added(first: Gradients, second: Gradients) -> Gradients:
    """The sum of two, in the memory of the first."""
    return [_sum(*pair) for pair in zip(first, second, strict=True)]


def write_gradients(
    parameters: Sequence[nn.Parameter], gradients: Gradients, group: dist.ProcessGroup | None = None
) -> None:
    """Add gradients to `.grad` of their parameters, averaged over the processes of a group."""
    if group is not None:
        # Every process takes part with every parameter, whatever its own samples reach.
        whole = [
            torch.zeros_like(parameter) if gradient is None else gradient.to_dense()
            for parameter, gradient in zip(parameters, gradients, strict=True)
        ]
        flat = torch.cat([gradient.flatten() for gradient in whole])
        dist.all_reduce(flat, group=group)
        flat /= dist.get_world_size(group)
        parts = flat.split([parameter.numel() for parameter in parameters])
        gradients = [part.view_as(value) for part, value in zip(parts, parameters, strict=True)]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None and parameter.grad is not None:
            parameter.grad.add_(gradient)
        elif gradient is not None:
            parameter.grad = gradient


def _dense(gradient: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if gradient is None else gradient.to_dense()


def _sum(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    if first is None or second is None:
        return second if first is None else first
    return first.add_(second)
