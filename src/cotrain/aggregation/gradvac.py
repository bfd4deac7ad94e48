"""Gradients that are turned towards the angles that they usually have with each other."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from cotrain.aggregation.aggregation import Choice, Combined, StepAggregation, weighed
from cotrain.aggregation.gradients import NotFiniteError, TrainingPass
from cotrain.aggregation.gram_roots import scaled
from cotrain.aggregation.pcgrad import random_orders
from cotrain.aggregation.seeds import Seed, seed_from
from cotrain.aggregation.split import Split
from cotrain.task import Batch

__all__ = ["GradVac", "turned"]

LEAST_SINE = 1e-4
"""Of a target's angle: a smaller one would be reached by ever longer gradients only."""


class GradVac(StepAggregation):
    """The sum of the gradients, each turned to its usual angles with the others (Wang et al. 2021, arXiv 2010.05874).

    Every task looks at the others in a random order of its own. Where the cosine of its gradient, as turned so far,
    with another task's gradient is below the pair's target, as much of the other one is added as makes it the target.
    Targets are running means of these cosines and begin with 0, where this is PCGrad. A task that is absent, or whose
    gradient is 0, leaves its targets as they are. Costs (1 + 2 m) / 3 plain steps for m present tasks; all tasks are
    turned side by side, which takes seconds only at a thousand.

    Args:
        beta: The share of a new cosine in its target, from 0 (PCGrad for ever) to 1. Half, as in TorchJD; the paper
            has .01, and thousands of steps.
        seed: Of the orders; or a generator, which is asked for one.
        on_choice: Called with what was decided at every step.

    Raises:
        ValueError: If beta is out of range.
    """

    def __init__(self, *, beta: float = 0.5, seed: Seed = 0, on_choice: Callable[[Choice], None] | None = None) -> None:
        super().__init__(on_choice=on_choice)
        if not 0 <= beta <= 1:
            raise ValueError(f"beta is a share, from 0 to 1. Got {beta}.")
        self._beta, self._seed = beta, seed_from(seed)
        self._generator = torch.Generator().manual_seed(self._seed)
        self._targets: Tensor | None = None

    def options(self) -> dict[str, Any]:
        """As `StepAggregation.options`."""
        return {"beta": self._beta, "seed": self._seed}

    def _combine(self, run: TrainingPass, split: Split, batch: Batch) -> Combined:  # noqa: ARG002
        n, present = len(run.tasks), run.present.cpu().nonzero().squeeze(1)
        before = torch.zeros(n, n, dtype=torch.float64) if self._targets is None else self._targets
        targets = before[present][:, present]
        jacobian = run.jacobian(split.shared)
        gramian = run.gramian(jacobian)
        drawn = self._generator.get_state()
        weights, cosines = turned(gramian.cpu(), targets, self._generator)
        try:
            combined = weighed(run, split, jacobian, gramian, weights)
        except NotFiniteError:
            self._generator.set_state(drawn)
            raise
        after = before.clone()
        after[present[:, None], present] = torch.where(cosines.isnan(), targets, targets.lerp(cosines, self._beta))
        self._targets = after
        return combined

    def _state(self) -> dict[str, Any]:
        return {"targets": self._targets, "generator": self._generator.get_state()}

    def _load(self, state: Mapping[str, Any]) -> None:
        self._targets = None if state["targets"] is None else state["targets"].clone()
        self._generator.set_state(state["generator"])


def turned(gramian: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """What is left of the gradients' sum, and the cosines that were met.

    Args:
        gramian: [m, m] float64, on the CPU.
        targets: [m, m], the cosine that task i's gradient shall at least have with task j's.
        generator: Of the orders: every task looks at all others in an order of its own.

    Returns:
        [m] weights of the gradients; and [m, m] the cosine of task i's gradient, as turned so far, with task j's when
        it looked at that, NaN on the diagonal and for gradients of 0.
    """
    cosines, lengths = map(torch.from_numpy, scaled(gramian))
    m, some = len(cosines), cosines.diagonal() > 0
    tasks, sines = torch.arange(m), (1 - targets.square()).sqrt().clamp(min=LEAST_SINE)
    coefficients, products = torch.eye(m, dtype=cosines.dtype), cosines.clone()
    squares, met = cosines.diagonal().clone(), torch.full_like(cosines, torch.nan)
    for others in random_orders(m, generator):
        own = squares.clamp(min=0).sqrt()
        both = some & some[others] & (others != tasks) & (own > 0)
        product, target = products[tasks, others], targets[tasks, others]
        cosine = (product / own).clamp(-1, 1)
        met[tasks[both], others[both]] = cosine[both]
        amount = own * (target * (1 - cosine.square()).sqrt() / sines[tasks, others] - cosine)
        amount = torch.where(both & (cosine < target), amount, 0.0)
        squares += amount * (2 * product + amount)
        coefficients[tasks, others] += amount
        products.addcmul_(amount[:, None], cosines[others])
    return lengths @ coefficients / lengths, met
