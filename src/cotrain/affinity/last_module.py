"""Every task's gradient by the last shared module alone: backward passes that end there."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from cotrain.affinity.loss_derivatives import LossDerivatives

__all__ = ["last_module_gradients"]

CHUNK_ELEMENTS = 2**22
"""Of what is sent backwards together, tasks x samples x outputs: 16 MB in float32."""


def last_module_gradients(derivatives: LossDerivatives, names: Sequence[str]) -> list[Tensor]:
    """Gradients [T, *shape] of every parameter, in float32 or better; 0 for a task without a label or a finite loss.

    Many tasks are sent backwards together, which for a linear layer takes half the time of one after another, but
    through convolutions several times as long; so those, and what cannot be batched, go one by one.

    Args:
        derivatives: With a graph. The part of the network before these parameters is not passed.
        names: Of the parameters.
    """
    outputs, parameters = derivatives.outputs, [derivatives.place.parameters[name] for name in names]
    n_tasks = len(derivatives.losses)
    together = max(1, CHUNK_ELEMENTS // outputs.numel()) if all(value.dim() <= 2 for value in parameters) else 1
    if together > 1:
        try:
            return _stacked(derivatives, parameters, torch.arange(n_tasks).split(together), batched=True)
        except RuntimeError:  # an operation without a rule for batches
            pass
    return _stacked(derivatives, parameters, torch.arange(n_tasks).split(1), batched=False)


def _stacked(
    derivatives: LossDerivatives, parameters: Sequence[Tensor], parts: Sequence[Tensor], *, batched: bool
) -> list[Tensor]:
    found = [
        torch.zeros(
            len(derivatives.losses),
            *value.shape,
            dtype=torch.promote_types(value.dtype, torch.float32),
            device=value.device,
        )
        for value in parameters
    ]
    for rows, sent in _sent(derivatives, parts):
        gradients = torch.autograd.grad(
            derivatives.outputs,
            parameters,
            sent if batched else sent[0],
            retain_graph=True,
            allow_unused=True,
            is_grads_batched=batched,
        )
        for stack, gradient in zip(found, gradients, strict=True):
            if gradient is not None:
                stack[rows] = (gradient if batched else gradient[None]).to_dense().to(stack.dtype)
    return found


def _sent(derivatives: LossDerivatives, parts: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Positions of tasks, and for each its loss's derivatives by its own outputs [n, B, O]."""
    for rows in parts:
        own = derivatives.owner == rows.to(derivatives.owner.device)[:, None]
        sent = torch.where(own[:, None], derivatives.by_outputs, 0)
        yield rows, sent.to(derivatives.outputs.dtype)
