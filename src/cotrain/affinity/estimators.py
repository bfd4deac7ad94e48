"""The change of every task's loss by a step for every other task, exact or to first order."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cotrain.affinity.gradients_by_layers import gradients_by_layers
from cotrain.affinity.task_gradients import TaskGradients
from cotrain.lookahead import Rule, displacements, losses_at, task_gradients, update
from cotrain.task import Batch, TaskSet

__all__ = ["Place", "Point", "by_gram", "by_lookahead", "joint_step_descends"]

FEW_TASKS = 16
"""Below, what the two backward passes of the comparison cost is more than what going by layers saves."""

CHUNK_ELEMENTS = 2**22
"""Parameters of hypothetical networks held at once: 16 MB in float32, so that memory does not grow with T."""


@dataclass(frozen=True, eq=False)
class Place:
    """Where a training stands.

    Args:
        model: The module.
        tasks: The tasks.
        batch: The samples.
        parameters: The shared parameters by name, the only ones that hypothetical steps move.
        rule: How a gradient becomes a step.
        seed: Of everything random in the forward passes.
    """

    model: nn.Module
    tasks: TaskSet
    batch: Batch
    parameters: Mapping[str, nn.Parameter]
    rule: Rule
    seed: int

    @property
    def drifts(self) -> bool:
        """Whether even a zero gradient may move the parameters, by momentum, weight decay or Adam."""
        return isinstance(self.rule, Optimizer)

    def losses_with(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """[T] losses with other shared parameters, heads as they are, the same dropout masks."""
        return losses_at(self.model, self.tasks, self.batch, parameters, seed=self.seed)[0]


@dataclass(frozen=True, eq=False)
class Point(Place):
    """The same, with every task's gradient.

    Args:
        losses: [T] float64 at the present parameters.
        labelled: [T] whether the task has a label in the batch.
        gradients: Of every task's loss by the parameters; 0 if not usable.
        products: K = G G^T, [T, T] float64.
        usable: [T] labelled, with a finite loss and gradient.
        rows: The positions of the usable tasks.
    """

    losses: Tensor
    labelled: Tensor
    gradients: TaskGradients
    products: Tensor
    usable: Tensor
    rows: Sequence[int]

    @classmethod
    def at(cls, place: Place) -> "Point":
        """One forward pass, and a backward pass for every task with a label."""
        losses, labelled, gradients = _gradients(place)
        products = gradients.products()
        usable = labelled & torch.isfinite(losses) & torch.isfinite(products.diagonal())
        gradients.clear(~usable)  # one task's NaN must not reach the step for all tasks together
        rows = usable.nonzero().flatten().tolist()
        return cls(
            **vars(place),
            losses=losses,
            labelled=labelled,
            gradients=gradients,
            products=products,
            usable=usable,
            rows=rows,
        )

    def with_absent(self, rows: Tensor) -> Tensor:
        """[T, T] from the rows of the usable tasks; NaN in those of the others."""
        found = torch.full_like(self.products, torch.nan)
        found[self.rows] = rows
        return found

    def stepped_heads(self) -> dict[str, Tensor]:
        """The parameters that are not shared, after their own step: one forward and one backward pass."""
        heads = {
            name: value
            for name, value in self.model.named_parameters()
            if value.requires_grad and name not in self.parameters
        }
        if not heads:
            return {}
        with torch.enable_grad():
            losses = losses_at(self.model, self.tasks, self.batch, heads, seed=self.seed)[0]
            total = torch.where(self.usable, losses, 0).sum()
            found = torch.autograd.grad(total, list(heads.values()), allow_unused=True)
        used = {name: gradient for name, gradient in zip(heads, found, strict=True) if gradient is not None}
        return update({name: heads[name] for name in used}, used, self.rule)


def by_lookahead(point: Point, *, stepped_heads: bool = False) -> Tensor:
    """L_j(theta_0) - L_j(theta_i), exact: one forward pass per source (and one for the drift).

    theta_i is where a step for i leads, theta_0 where one for nobody does (arXiv 2109.04617, made drift-free). With
    stepped heads the second loss is that of heads after a step of their own, the first of heads as they are
    (arXiv 2010.15413): that adds to every column what the target's own head gains.

    Returns:
        [len(rows), T] float64.
    """
    start = point.losses
    if point.drifts:
        start = point.losses_with(update(point.parameters, _nothing(point), point.rule))
    heads = point.stepped_heads() if stepped_heads else {}
    after = [
        point.losses_with({**heads, **{name: value[k] for name, value in moved.items()}})
        for rows in _chunks(point)
        for moved in [update(point.parameters, point.gradients.of(rows), point.rule)]
        for k in range(len(rows))
    ]
    return start - torch.stack(after)


def by_gram(point: Point) -> Tensor:
    """<theta_0 - theta_i, g_j>: the same to first order in the loss, without another forward pass.

    The step itself is the rule's own and not linearised. A plain step gives eta G G^T; Adam gives G D G^T
    with D = 1 / (sqrt(v) + eps), where v has already seen the source's gradient.

    Returns:
        [len(rows), T] float64.
    """
    if not isinstance(point.rule, Optimizer):
        return point.products[point.rows] * point.rule  # a third of the time for an MLP and 100 tasks
    drift = displacements(point.parameters, _nothing(point), point.rule)
    targets = point.gradients.of(range(len(point.losses)))
    changes = []
    for rows in _chunks(point):
        moves = displacements(point.parameters, point.gradients.of(rows), point.rule)
        changes.append(_products({name: drift[name] - move for name, move in moves.items()}, targets))
    return torch.cat(changes)


def joint_step_descends(place: Place) -> bool:
    """Whether one step along the sum of all usable tasks' gradients lowers the sum of their losses.

    Takes one forward pass at a `Point`, where gradients are known, else two and one backward pass.
    """
    if isinstance(place, Point):
        joint = place.gradients.weighted(place.usable)
        losses, usable = place.losses, place.usable
    else:
        with torch.enable_grad():
            losses, labelled = losses_at(place.model, place.tasks, place.batch, place.parameters, seed=place.seed)
            usable = labelled & torch.isfinite(losses)
            total = torch.where(usable, losses, 0).sum()
            found = torch.autograd.grad(total, list(place.parameters.values()), materialize_grads=True)
        joint = dict(zip(place.parameters, found, strict=True))
    with torch.no_grad():
        after = place.losses_with(update(place.parameters, joint, place.rule))
    return bool(torch.where(usable, after - losses, 0).sum() < 0)


def _gradients(place: Place) -> tuple[Tensor, Tensor, TaskGradients]:
    where = (place.model, place.tasks, place.batch, place.parameters)
    if len(place.tasks) >= FEW_TASKS:
        return gradients_by_layers(*where, seed=place.seed)
    losses, labelled, gradients = task_gradients(*where, seed=place.seed)
    return losses, labelled, TaskGradients(gradients)


def _nothing(point: Point) -> dict[str, Tensor]:
    """The gradient of a step for nobody."""
    return {
        name: torch.zeros_like(value, dtype=torch.promote_types(value.dtype, torch.float32))
        for name, value in point.parameters.items()
    }


def _chunks(point: Point) -> Iterator[Sequence[int]]:
    size = sum(value.numel() for value in point.parameters.values())
    n = max(1, CHUNK_ELEMENTS // size)
    return (point.rows[start : start + n] for start in range(0, len(point.rows), n))


def _products(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> Tensor:
    parts = [(left[name].flatten(1) @ right[name].flatten(1).T).double() for name in left]
    return torch.stack(parts).sum(0)
