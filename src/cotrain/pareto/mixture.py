"""The weights along the rays of a step, and the way back from their gradients to the members'."""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from cotrain.pareto.manifold import ParetoManifold

__all__ = ["Mixture"]


class Mixture:
    """Weights along W rays.

    Cut off from the members, each ray is differentiated by the weights that it ran with, and all rays together are led
    back to the members by one matrix product per parameter: the members' gradient is theirs times the preference. So
    rays can be differentiated one after the other, and no graph outlives its ray. Rays that are differentiated
    together anyway need no cut, and are a tenth of a small network's step faster without.

    Args:
        manifold: Where the members are.
        preferences: [W, K].
        cut: Whether rays are differentiated one by one, or their `gradient_norms` are asked for.
    """

    def __init__(self, manifold: ParetoManifold, preferences: Tensor, *, cut: bool) -> None:
        self._parameters = [value for value in manifold.parameters() if value.requires_grad]
        self._direct: list[Tensor | None] = [None] * len(self._parameters)
        self._stacks: dict[str, Tensor] = {}
        self._leaves: list[list[Tensor]] = [[] for _ in preferences]
        self._of_leaves: list[list[Tensor | None]] = [[] for _ in preferences]
        with torch.enable_grad():
            if not cut:
                self.weights = manifold.weights_at(preferences)
                return
            self._stacks = manifold.members.mixed(preferences)
        rows = zip(*(stack.detach().unbind(0) for stack in self._stacks.values()), strict=True)
        self._leaves = [[value.requires_grad_() for value in row] for row in rows] or self._leaves
        self._of_leaves = [[None] * len(self._stacks) for _ in preferences]
        self.weights = [
            manifold.complete(dict(zip(self._stacks, row, strict=True)), preference)
            for row, preference in zip(self._leaves, preferences, strict=True)
        ]

    def differentiate(self, total: Tensor, rays: Sequence[int]) -> None:
        """Take in the gradient of a scalar that these rays lead to; its graph is freed."""
        if not total.requires_grad:  # no task has a label
            return
        inputs = [leaf for ray in rays for leaf in self._leaves[ray]]
        with torch.autocast(total.device.type, enabled=False):
            found = torch.autograd.grad(total, [*inputs, *self._parameters], allow_unused=True)
        width = len(self._stacks)
        for number, ray in enumerate(rays):
            self._of_leaves[ray] = list(found[number * width : (number + 1) * width])
        self._direct = [_sum(*pair) for pair in zip(self._direct, found[len(inputs) :], strict=True)]

    def gradient_norms(self, losses: Tensor, ray: int) -> Tensor:
        """[T] norms of every task's gradient at the mixed weights of a ray, 1 for none; one backward pass per task."""
        inputs = [*self._leaves[ray], *self._parameters]
        norms = []
        for loss in losses:
            found = torch.autograd.grad(loss, inputs, retain_graph=True, allow_unused=True)
            norms.append(torch.stack([part.norm() for part in found if part is not None]).norm())
        found_norms = torch.stack(norms)
        return torch.where(found_norms > 0, found_norms, 1.0)

    def write(self, group: dist.ProcessGroup | None) -> None:
        """Add the gradients of all parameters to `.grad`, averaged over the processes of a group."""
        gradients = self._gradients()
        if group is not None:
            # Every process takes part with every parameter, whatever its own samples reach.
            gradients = [
                torch.zeros_like(parameter) if gradient is None else gradient
                for parameter, gradient in zip(self._parameters, gradients, strict=True)
            ]
            flat = torch.cat([gradient.to_dense().flatten() for gradient in gradients if gradient is not None])
            dist.all_reduce(flat, group=group)
            flat /= dist.get_world_size(group)
            parts = flat.split([parameter.numel() for parameter in self._parameters])
            gradients = [part.view_as(value) for part, value in zip(parts, self._parameters, strict=True)]
        given: set[int] = set()
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            if gradient is None:
                continue
            if parameter.grad is not None:
                parameter.grad.add_(gradient)
            else:  # autograd may give two parameters one tensor, and gradients are written to in place
                parameter.grad = gradient.clone() if id(gradient) in given else gradient
                given.add(id(gradient))

    def _gradients(self) -> list[Tensor | None]:
        stacks, sent = [], []
        for stack, column in zip(self._stacks.values(), zip(*self._of_leaves, strict=True), strict=True):
            if any(gradient is not None for gradient in column):
                stacks.append(stack)
                sent.append(torch.stack([_dense(gradient, stack[0]) for gradient in column]))
        if not stacks:
            return self._direct
        found = torch.autograd.grad(stacks, self._parameters, sent, allow_unused=True)
        return [_sum(*pair) for pair in zip(self._direct, found, strict=True)]


def _dense(gradient: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if gradient is None else gradient.to_dense()


def _sum(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    if first is None or second is None:
        return second if first is None else first
    return first + second
