"""The losses after one real step on the losses of some tasks together: gradients add, so one backward pass per task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cotrain.affinity.estimators import Place
from cotrain.lookahead import loss_slopes, seeded, update
from cotrain.model import pure_forward

__all__ = ["JointSteps"]


@dataclass(frozen=True, eq=False)
class JointSteps(Place):
    """A place whose parameters are all trainable ones, with every task's gradient by them.

    Args:
        losses: [T] float64 before any step.
        labelled: [T] whether the task has a label in the batch.
        usable: [T] labelled, with a finite loss and gradient.
        rows: The positions of the usable tasks.
        gradients: Of each usable task's loss by the parameters where it is not 0: heads of other tasks take no memory.
        rest: Every parameter that a backward pass reaches, after a step with gradient 0: momentum, weight decay and
            Adam move it even so. Parameters out of reach have no gradient, and an optimizer leaves them alone.
    """

    losses: Tensor
    labelled: Tensor
    usable: Tensor
    rows: Sequence[int]
    gradients: Mapping[int, Mapping[str, Tensor]]
    rest: Mapping[str, Tensor]

    @classmethod
    def at(cls, place: Place) -> "JointSteps":
        """One forward pass, and a backward pass for every task with a label."""
        losses, labelled, gradients, reached = _gradients(place)
        usable = torch.zeros_like(labelled)
        usable[list(gradients)] = True
        rest: Mapping[str, Tensor] = {}
        if place.drifts:
            parameters = {name: place.parameters[name] for name in place.parameters if name in reached}
            with torch.no_grad():
                rest = update(parameters, {n: torch.zeros_like(value) for n, value in parameters.items()}, place.rule)
        return cls(
            **vars(place),
            losses=losses,
            labelled=labelled,
            usable=usable,
            rows=list(gradients),
            gradients=gradients,
            rest=rest,
        )

    def products(self, names: Sequence[str]) -> Tensor:
        """[T, T] float64 inner products of the gradients by the named parameters; 0 for a task that is not usable."""
        found = torch.zeros((len(self.usable),) * 2, dtype=torch.float64, device=self.losses.device)
        for name in names:
            rows = [row for row in self.rows if name in self.gradients[row]]
            if rows:
                stack = torch.stack([self.gradients[row][name].flatten() for row in rows])
                at = torch.tensor(rows, device=found.device)
                found[at[:, None], at] += (stack @ stack.T).double()
        return found

    def after(self, *rows: int) -> Tensor:
        """[T] losses after one step on the sum of the losses of these tasks: one update and one forward pass."""
        total: dict[str, Tensor] = {}
        for row in rows:
            for name, gradient in self.gradients[row].items():
                total[name] = total[name] + gradient if name in total else gradient
        moved = update({name: self.parameters[name] for name in total}, total, self.rule)
        return self.losses_with({**self.rest, **moved})

    def after_own(self) -> Tensor:
        """[T] every task's loss after a step on it alone; NaN for a task that is not usable."""
        found = torch.full_like(self.losses, torch.nan)
        for row in self.rows:
            found[row] = self.after(row)[row]
        return found

    def after_pairs(self, own: Tensor) -> Tensor:
        """[T, T] in row i and column j, the loss of j after a step on those of i and j; `own` on the diagonal.

        One step serves both directions of a pair, T (T - 1) / 2 in all.
        """
        found = torch.full((len(own), len(own)), torch.nan, dtype=own.dtype, device=own.device)
        found.diagonal().copy_(own)
        for at, source in enumerate(self.rows):
            for target in self.rows[at + 1 :]:
                after = self.after(source, target)
                found[source, target], found[target, source] = after[target], after[source]
        return found


def _gradients(place: Place) -> tuple[Tensor, Tensor, dict[int, dict[str, Tensor]], set[str]]:
    """Losses, labels, the gradients that are not 0 of tasks with finite losses and gradients, and what is reached."""
    tasks, parameters = place.tasks, place.parameters
    with torch.enable_grad(), seeded(place.seed):
        outputs = tasks.pack(pure_forward(place.model, parameters, place.batch.inputs))
    losses, labelled, by_outputs = loss_slopes(tasks, outputs, place.batch)
    gradients: dict[int, dict[str, Tensor]] = {}
    reached: set[str] = set()
    for row in (labelled & torch.isfinite(losses)).nonzero().flatten().tolist():
        own = torch.zeros_like(outputs)
        columns = tasks.slices[tasks.names[row]]
        own[:, columns] = by_outputs[:, columns]
        slopes = torch.autograd.grad(outputs, list(parameters.values()), own, retain_graph=True, allow_unused=True)
        found = {n: slope.to_dense() for n, slope in zip(parameters, slopes, strict=True) if slope is not None}
        sizes = torch.stack([torch.linalg.vector_norm(slope).to(losses.device) for slope in found.values()]).tolist()
        reached.update(found)
        if all(size < torch.inf for size in sizes):  # neither infinite nor NaN
            gradients[row] = {name: found[name] for name, size in zip(found, sizes, strict=True) if size}
    return losses, labelled, gradients, reached
