"""How much a step helps all tasks: the sum of their losses' relative decreases, and its standard error."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from cotrain.aggregation.gradients import TrainingPass
from cotrain.aggregation.split import Split
from cotrain.aggregation.transference_directions import Replay
from cotrain.lookahead import Rule, displacements
from cotrain.task import Batch

__all__ = ["Score", "Scored", "Trial", "gain_over"]

Score: TypeAlias = Literal["relative", "log", "difference"]


@dataclass(frozen=True, eq=False)
class Scored:
    """A step that was tried.

    Args:
        value: Total transference: the sum over the tasks of their losses' decreases, each in its own unit. -inf where
            a loss after the step is not finite.
        by_sample: [B] every sample's part in the losses after the step, to first order, in those units.
    """

    value: float
    by_sample: Tensor


@dataclass(frozen=True, eq=False)
class Trial:
    """Where steps are tried: the losses before, and what they are counted in.

    Args:
        run: The training step, for sums over processes.
        split: Its parameters.
        replay: Its forward pass.
        rule: How a gradient becomes a step.
        heads: Values of the other parameters, if they step first.
        batch: The samples to score on.
        before: [T] losses there before the step.
        present: [T] tasks with a label there.
        units: [T] positive: what a decrease of the loss is divided by.
        floor: [T] the least loss whose logarithm is taken.
        score: "log" counts log ratios, the others differences over the units.
    """

    run: TrainingPass
    split: Split
    replay: Replay
    rule: Rule
    heads: Mapping[str, Tensor]
    batch: Batch
    before: Tensor
    present: Tensor
    units: Tensor
    floor: Tensor
    score: Score

    def of(self, direction: Mapping[str, Tensor]) -> Scored:
        """Try the step along a direction: one forward pass."""
        parameters = {name: self.split.shared[name] for name in direction}
        moved = displacements(parameters, direction, self.rule)
        for name, value in parameters.items():  # in place: the moves are of no other use
            moved[name] = moved[name].add_(value.detach()).to(value.dtype)
        outputs = self.replay.outputs({**self.heads, **moved}, self.batch)
        values, after, labelled = mean_losses(self.run, outputs, self.batch)
        if self.score == "log":
            units = after.clamp(min=self.floor)
            decrease = torch.log(self.before.clamp(min=self.floor)) - torch.log(units)
        else:
            units = self.units
            decrease = (self.before - after) / units
        total = float(torch.where(self.present, decrease, 0).sum())
        parts = torch.where(self.present, 1 / (units * labelled.clamp(min=1)), 0)
        return Scored(total if total == total else float("-inf"), values @ parts.to(values))


def mean_losses(run: TrainingPass, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Losses by sample [B, T], and over the samples of all processes their means [T] and numbers [T] in float64."""
    values, labelled = run.tasks.sample_losses(outputs, batch.targets)
    sums = run.reduced(torch.stack([values.sum(0, dtype=torch.float64), labelled.sum(0).double()]))
    return values, sums[0] / sums[1].clamp(min=1), sums[1]


def gain_over(joint: Scored, other: Scored, run: TrainingPass) -> tuple[float, float]:
    """How much more another step helps, and the standard error of that: both were tried on the same samples.

    A sum of B parts that vary from sample to sample has a variance of B times theirs; infinite for one sample.
    """
    parts = (joint.by_sample - other.by_sample).double()
    own = torch.stack([torch.ones_like(parts).sum(), parts.sum(), parts.square().sum()])
    n, total, squares = run.reduced(own).tolist()
    variance = max(squares - total**2 / n, 0.0) * n / (n - 1) if n > 1 else float("inf")
    return other.value - joint.value, variance**0.5
