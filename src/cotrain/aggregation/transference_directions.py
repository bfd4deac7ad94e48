"""Sums of task gradients with any weights, and every task's slope along one: from backward passes or from all rows."""

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Protocol

import torch
from torch import Tensor, nn

from cotrain.aggregation.aggregation import unflattened
from cotrain.aggregation.fabric import in_precision_of
from cotrain.aggregation.gradients import NotFiniteError, TrainingPass, all_finite
from cotrain.aggregation.layer_outputs import LayerOutputs
from cotrain.aggregation.split import Split
from cotrain.aggregation.transference_tangents import tangent_of
from cotrain.aggregation.wrappers import unwrapped
from cotrain.forward_mode import forward_mode_kernels
from cotrain.model import pure_forward, random_state_kept
from cotrain.task import Batch, TaskSet

__all__ = ["Direction", "Directions", "FromPasses", "FromRows", "Replay", "inner_product"]

TOLERANCE = 0.05
"""A derivative that goes missing is a gross error, the rounding of half precision is not."""

STEP = 5e-3
"""Of a central difference, in units of the parameters' norm: the cube root of float32's precision."""


@dataclass(frozen=True, eq=False)
class Replay:
    """The forward pass of a training step once more: at other parameters, with the random numbers that it drew.

    Args:
        module: The module, inside any wrapper.
        tasks: The tasks.
        batch: The samples of the step.
        put_back: Puts the random state back to where it was before the step.
        fitting: Gives another batch the precision in which the wrapper would run the module.
        layers: What the module's layers give in the step's forward pass.
    """

    module: nn.Module
    tasks: TaskSet
    batch: Batch
    put_back: Callable[[], None]
    fitting: Callable[[Batch], Batch]
    layers: LayerOutputs

    @classmethod
    def before(cls, model: nn.Module, tasks: TaskSet, batch: Batch) -> "Replay":
        """To be made before the forward pass of a model in any wrapper, after which `layers` is to be stopped."""
        module = unwrapped(model)
        here = torch.get_rng_state()
        devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []

        def put_back() -> None:
            torch.set_rng_state(here)
            if devices:
                torch.cuda.set_rng_state_all(devices)

        return cls(module, tasks, batch, put_back, partial(in_precision_of, model), LayerOutputs(module))

    def outputs(self, parameters: Mapping[str, Tensor], batch: Batch | None = None) -> Tensor:
        """[B, O] without a graph, on the step's batch or another one; parameters without a name stay."""
        with torch.no_grad(), random_state_kept():
            self.put_back()
            seen = self.batch if batch is None else self.fitting(batch)
            return self.tasks.pack(pure_forward(self.module, parameters, seen.inputs))


@dataclass(frozen=True, eq=False)
class Direction:
    """A sum of task gradients.

    Args:
        values: By the names of the shared parameters.
        square: Its squared norm.
    """

    values: dict[str, Tensor]
    square: float

    def times(self, factor: float) -> "Direction":
        """Rescaled, in place: the old one is gone."""
        return Direction({name: value.mul_(factor) for name, value in self.values.items()}, self.square * factor**2)


class Directions(Protocol):
    """Where directions come from."""

    def joint(self) -> tuple[Direction, dict[str, Tensor]]:
        """The plain sum, and what the other parameters get of it.

        Raises:
            NotFiniteError: As `direction`.
        """
        ...

    def direction(self, weights: Tensor) -> Direction:
        """The sum of the tasks' gradients by the shared parameters with these weights [T].

        Raises:
            NotFiniteError: If it is NaN or infinite, with the task whose gradient is.
        """
        ...

    def slopes(self, weights: Tensor) -> Tensor:
        """[T] float64 on the CPU, every task's derivative along that sum; 0 for absent tasks."""
        ...


@dataclass(frozen=True, eq=False)
class FromRows:
    """From every task's gradient: a backward pass per task, and then nothing but products.

    Args:
        run: The step.
        split: Its parameters.
        jacobian: [m, P] of the present tasks.
        gramian: [m, m] float64, its products.
    """

    run: TrainingPass
    split: Split
    jacobian: Tensor
    gramian: Tensor

    @classmethod
    def of(cls, run: TrainingPass, split: Split) -> "FromRows":
        """Raises NotFiniteError with the tasks whose gradient is NaN or infinite."""
        jacobian = run.jacobian(split.shared)
        return cls(run, split, jacobian, run.gramian(jacobian))

    def joint(self) -> tuple[Direction, dict[str, Tensor]]:
        """A sum of the rows, and a backward pass down to the heads."""
        return self.direction(self.run.present.cpu().double()), self.run.sums(self.split.own)

    def direction(self, weights: Tensor) -> Direction:
        """A product of the weights and the rows."""
        present = weights[self.run.rows]
        values = unflattened(present.to(self.jacobian) @ self.jacobian, self.split.shared)
        square = inner_product(values, values)
        if not math.isfinite(square):
            raise NotFiniteError([])
        return Direction(values, square)

    def slopes(self, weights: Tensor) -> Tensor:
        """K w."""
        found = torch.zeros_like(weights)
        found[self.run.rows] = (self.gramian @ weights[self.run.rows].to(self.gramian)).to(found)
        return found


@dataclass(frozen=True, eq=False)
class FromPasses:
    """From one backward pass per direction, whatever the number of tasks.

    Args:
        run: The step.
        split: Its parameters.
        replay: Its forward pass.
    """

    run: TrainingPass
    split: Split
    replay: Replay

    def joint(self) -> tuple[Direction, dict[str, Tensor]]:
        """One backward pass for both."""
        found = self.run.sent_back({**self.split.shared, **self.split.own}, self.run.slopes)
        shared = {name: value for name, value in found.items() if name in self.split.shared}
        own = {name: value for name, value in found.items() if name in self.split.own}
        square = inner_product(shared, shared)
        if not math.isfinite(square) or not all_finite(own.values()):
            shared, own = self.run.plain_sums(self.split)  # which says whose
        return Direction(shared, square), own

    def direction(self, weights: Tensor) -> Direction:
        """One backward pass; whose gradient is not finite is only looked for where the norm is not."""
        weights = weights.to(self.run.slopes.device)
        found = self.run.sent_back(self.split.shared, self.run.slopes * weights.to(self.run.slopes)[self._owner])
        square = inner_product(found, found)
        if not math.isfinite(square):
            found = self.run.sums(self.split.shared, weights)
        return Direction(found, square)

    def slopes(self, weights: Tensor) -> Tensor:
        """One forward-mode pass; for a model without forward rules, or with wrong ones, a central difference.

        Wrong rules are seen for free: sum_i w_i <g_i, d> is to be |d|^2. The direction is sent at length 1, against
        overflow.
        """
        direction = self.direction(weights)
        length = math.sqrt(direction.square)
        if length == 0:
            return torch.zeros_like(weights)
        unit = direction.times(1 / length).values
        for kernels, layers in ((nullcontext, self.replay.layers), *((kernels, None) for kernels in _KERNELS)):
            try:
                with kernels():
                    tangent = tangent_of(self.replay.outputs, self.split.shared, unit, layers)
                    found = self._contracted(tangent) * length
            except RuntimeError:  # NotImplementedError is one
                continue
            if abs(float(weights @ found) - length**2) <= TOLERANCE * length**2:
                return found
        values = {name: self.split.shared[name].detach() for name in unit}
        return self._contracted(self._difference(values, unit)) * length

    @cached_property
    def _owner(self) -> Tensor:
        """[O] the position of the task of every output."""
        widths = torch.tensor([task.n_outputs for task in self.run.tasks], device=self.run.slopes.device)
        return torch.repeat_interleave(widths)

    def _contracted(self, of_outputs: Tensor) -> Tensor:
        """[T] from the outputs' derivatives: those of the losses by the outputs are known."""
        by_output = (of_outputs.to(self.run.slopes.dtype) * self.run.slopes).sum(0).double()
        found = by_output.new_zeros(len(self.run.tasks)).index_add_(0, self._owner, by_output)
        return self.run.reduced(found).cpu()

    def _difference(self, values: Mapping[str, Tensor], direction: Mapping[str, Tensor]) -> Tensor:
        step = STEP * (math.sqrt(inner_product(values, values)) or 1.0)
        ahead, behind = (
            self.replay.outputs({name: value + way * direction[name] for name, value in values.items()})
            for way in (step, -step)
        )
        return (ahead.double() - behind.double()) / (2 * step)


_KERNELS: tuple[Callable[[], AbstractContextManager[None]], ...] = (nullcontext, forward_mode_kernels)


def inner_product(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> float:
    """<left, right> over all names; rows are summed in their own precision, and their sums in float64.

    That is as exact as float64 throughout, at a seventh of the time; where it overflows everything is in float64.
    """
    pairs = [(_matrix(left[name]), _matrix(right[name])) for name in left]
    total = torch.stack([torch.linalg.vecdot(one, other).sum(dtype=torch.float64) for one, other in pairs]).sum()
    if not bool(total.isfinite()):
        total = torch.stack([(one.double() * other.double()).sum() for one, other in pairs]).sum()
    return float(total)


def _matrix(value: Tensor) -> Tensor:
    return value.reshape(len(value) if value.dim() > 1 else 1, -1)
