"""All tasks' losses differentiated along given directions of the parameters, by batched forward-mode passes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call, jvp, vmap

from cotrain.affinity.estimators import Place
from cotrain.affinity.sign_directions import random_signs
from cotrain.forward_mode import backward_disagreement, forward_mode_kernels, load_forward_rules
from cotrain.lookahead import loss_slopes, seeded
from cotrain.model import pure_forward

__all__ = ["LossDerivatives"]

TOLERANCE = 0.05
"""A derivative that goes missing is a gross error, the rounding of half precision is not."""


@dataclass(frozen=True, eq=False)
class LossDerivatives:
    """Where the losses are differentiated: one forward pass.

    Args:
        place: Where the training stands.
        outputs: [B, O], with a graph if `at` was asked for one.
        losses: [T] float64 at the present parameters.
        labelled: [T] whether the task has a label in the batch.
        by_outputs: [B, O], of every loss by its own outputs; 0 for a task without labels or a finite loss.
        owner: [O] the position of the task of every output.
    """

    place: Place
    outputs: Tensor
    losses: Tensor
    labelled: Tensor
    by_outputs: Tensor
    owner: Tensor

    @classmethod
    def at(cls, place: Place, *, graph: bool = False) -> "LossDerivatives":
        """One forward pass; with a graph, backward passes through `outputs` can follow."""
        with torch.set_grad_enabled(graph), seeded(place.seed):
            outputs = place.tasks.pack(pure_forward(place.model, place.parameters, place.batch.inputs))
        losses, labelled, by_outputs = loss_slopes(place.tasks, outputs.detach().requires_grad_(), place.batch)
        by_outputs = by_outputs.to(torch.promote_types(by_outputs.dtype, torch.float32))
        owner = torch.repeat_interleave(torch.tensor([task.n_outputs for task in place.tasks]))
        return cls(place, outputs, losses, labelled, by_outputs, owner.to(by_outputs.device))

    @property
    def sound(self) -> Tensor:
        """[T] whether the task has a label, a finite loss and finite derivatives by its outputs."""
        spoilt = torch.zeros_like(self.losses).index_add_(0, self.owner, (~self.by_outputs.isfinite()).sum(0).double())
        return self.labelled & self.losses.isfinite() & (spoilt == 0)

    def along(self, directions: Mapping[str, Tensor], *, check: bool = False) -> Tensor:
        """[T, n] float64, the derivative of every loss along every direction: n forward-mode passes at once.

        The outputs are differentiated and then contracted with the losses' derivatives by the outputs: forward mode
        through 1,000 losses took three times as long.

        Args:
            directions: By the names of parameters, [n, *shape]; parameters without a name stay.
            check: Hold the outputs' derivatives against one ordinary backward pass. Forward mode goes through
                `torch.no_grad`, and a custom function may have two rules that differ: both without an error.

        Raises:
            NotImplementedError: If forward mode does not work for the model.
        """
        tangents = self._tangents(directions, check).to(self.by_outputs.dtype)
        of_outputs = (tangents * self.by_outputs).sum(1).T  # einsum takes ten times as long
        slopes = of_outputs.new_zeros(len(self.losses), of_outputs.shape[1])
        return slopes.index_add_(0, self.owner, of_outputs).double()

    def _tangents(self, directions: Mapping[str, Tensor], check: bool) -> Tensor:
        """[n, B, O], the derivatives of the outputs; slower kernels only where the usual ones do not serve."""
        for kernels in (nullcontext(), forward_mode_kernels(), self._full_precision()):
            try:
                with kernels:
                    tangents = _batched_pass(self.place, directions)
                    if check:
                        self._check(directions, tangents)
                    return tangents
            except RuntimeError as error:  # NotImplementedError is one
                reason = str(error).strip().partition("\n")[0]
        raise NotImplementedError(f"forward mode does not work for this model: {reason}")

    @contextmanager
    def _full_precision(self) -> Iterator[None]:
        """BatchNorm has no forward rule for half-precision values under float32 weights, as autocast has them."""
        with forward_mode_kernels(), torch.autocast(self.outputs.device.type, enabled=False):
            yield

    def _check(self, directions: Mapping[str, Tensor], tangents: Tensor) -> None:
        """Whether <u, J r> = <J^T u, r> for all r and random signs u; in a product that is not finite nothing is seen.

        Outputs of tasks that are spoilt are left out.
        """
        place, wanted = self.place, self.sound[self.owner]
        with torch.enable_grad(), seeded(place.seed):
            outputs = place.tasks.pack(pure_forward(place.model, place.parameters, place.batch.inputs))
        sent = torch.where(wanted, random_signs(outputs), 0)
        found = torch.autograd.grad(outputs, [place.parameters[name] for name in directions], sent, allow_unused=True)
        gradients = {name: value for name, value in zip(directions, found, strict=True) if value is not None}
        if backward_disagreement(torch.where(wanted, tangents, 0), directions, sent, gradients) > TOLERANCE:
            raise RuntimeError("it gives other derivatives than a backward pass (a part of it runs under no_grad?)")


def _batched_pass(place: Place, directions: Mapping[str, Tensor]) -> Tensor:
    n = len(next(iter(directions.values())))
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
    moving = {name: place.parameters[name].detach() for name in directions}

    def outputs(values: dict[str, Tensor], own: dict[str, Tensor]) -> Tensor:
        kept = {name: value.clone() for name, value in others.items()}
        return place.tasks.pack(functional_call(place.model, {**kept, **own, **values}, (place.batch.inputs,)))

    def derivative(direction: dict[str, Tensor], own: dict[str, Tensor]) -> Tensor:
        still = {name: torch.zeros_like(value) for name, value in own.items()}
        found: Tensor = jvp(outputs, (moving, own), (direction, still))[1]
        return found

    load_forward_rules()
    with torch.no_grad(), seeded(place.seed):
        tangents: Tensor = vmap(derivative, randomness="same")(dict(directions), copies)
    return tangents
