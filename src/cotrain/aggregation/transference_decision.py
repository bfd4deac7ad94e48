"""One decision: what could be applied at this step, how much each helps the tasks, and what wins."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from cotrain.aggregation.aggregation import against_joint
from cotrain.aggregation.gradients import NotFiniteError, TrainingPass
from cotrain.aggregation.split import Split
from cotrain.aggregation.transference_candidates import JOINT, n_sums, proposals
from cotrain.aggregation.transference_contenders import KnownRows, proposed
from cotrain.aggregation.transference_directions import (
    Direction,
    Directions,
    FromPasses,
    FromRows,
    Replay,
    inner_product,
)
from cotrain.aggregation.transference_losses import RunningLosses
from cotrain.aggregation.transference_options import TransferenceOptions
from cotrain.aggregation.transference_scores import Scored, Trial, gain_over, mean_losses
from cotrain.lookahead import Rule, update
from cotrain.step_response import holds_any
from cotrain.task import Batch

__all__ = ["Applied", "Decision", "Situation", "decide"]

FEW_TASKS = 2
"""Up to which a backward pass per task costs less than two for sums of tasks and a forward-mode pass."""


@dataclass(frozen=True)
class Decision:
    """What was tried at one step, and what won.

    Args:
        picked: The candidate that was applied.
        scores: Total transference by candidate, the sum of all tasks' relative decreases; of first order, per unit of
            learning rate, if not exact.
        gain: Of the best candidate over the joint step.
        gain_stderr: Its standard error over the samples; None if not exact.
        forced: Tasks that were forced into every subset.
    """

    picked: str
    scores: Mapping[str, float]
    gain: float
    gain_stderr: float | None
    forced: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Situation:
    """A training step after its forward pass.

    Args:
        run: The step.
        split: Its parameters.
        replay: Its forward pass.
        batch: Its samples.
        present: [T] which tasks have a label.
        losses: [T] float64 on the CPU.
        seen: The running losses, with these.
        starved: [T] tasks that were left out for too long.
        rule: How a gradient becomes a step.
        generator: Of PCGrad's orders.
        compared: Whether it is wanted how the direction lies to the joint gradient.
    """

    run: TrainingPass
    split: Split
    replay: Replay
    batch: Batch
    present: Tensor
    losses: Tensor
    seen: RunningLosses
    starved: Tensor
    rule: Rule
    generator: torch.Generator
    compared: bool


@dataclass(frozen=True, eq=False)
class Applied:
    """What the shared parameters get.

    Args:
        name: The candidate that was picked.
        weights: [T] float64 of the tasks' gradients; None for an aggregator that does not weigh tasks.
        direction: What was picked, by the shared parameters.
        own: The plain gradients of the other parameters.
        cosine: With the joint gradient; None where that was not formed, or nobody wants it.
        norm_ratio: To the joint gradient; None likewise.
        decision: What was tried.
    """

    name: str
    weights: Tensor | None
    direction: Mapping[str, Tensor]
    own: dict[str, Tensor]
    cosine: float | None
    norm_ratio: float | None
    decision: Decision


def decide(situation: Situation, options: TransferenceOptions) -> Applied:
    """Form the candidates, score them, and take the best one.

    Raises:
        NotFiniteError: If a gradient or a weight is NaN or infinite.
        ValueError: If the optimizer holds no shared parameter, or the candidates do not fit the tasks.
    """
    directions = _directions(situation, options)
    relative = torch.where(situation.present, 1 / situation.seen.units(situation.losses, options.score), 0)
    slopes = directions.slopes(relative) if "closed-form" in options.sums or not options.exact else None
    forced = situation.starved & situation.present
    names = situation.run.tasks.names
    candidates = proposals(
        options.sums,
        names=names,
        present=situation.present,
        forced=forced,
        relative=relative,
        slopes=slopes,
        gramian=directions.gramian if isinstance(directions, FromRows) else None,
        generator=situation.generator,
    )
    must = tuple(name for name, wanted in zip(names, forced.tolist(), strict=True) if wanted)
    if slopes is not None and not options.exact and not options.equal_norm and not options.contenders:
        return _by_slopes(candidates, slopes, directions, situation, must)
    several = len(candidates) > 1 or options.contenders
    trial = _trial(situation, options) if options.exact and several else None
    # An aggregator's weights may leave out what it remembers: its direction alone says where it goes.
    ascent = directions.direction(relative) if options.contenders and not options.exact else None
    first, own = directions.joint()
    offers = _offers(candidates, first, directions, situation, options)
    return _by_trials(
        offers, slopes if ascent is None else ascent, trial, options, own, must, compared=situation.compared
    )


def _directions(situation: Situation, options: TransferenceOptions) -> Directions:
    """All rows where they are asked for or cheaper: they take a backward pass and the memory of a gradient per task."""
    n_tasks = int(situation.present.sum())
    beside = [kind for kind in options.sums if kind not in ("closed-form", "log-sum")]
    needed = "pcgrad" in beside or any(contender.needs_rows for contender in options.contenders)
    if n_tasks <= FEW_TASKS or needed or n_sums(beside, n_tasks) >= n_tasks:
        return FromRows.of(situation.run, situation.split)
    return FromPasses(situation.run, situation.split, situation.replay)


def _by_slopes(
    candidates: Mapping[str, Tensor],
    slopes: Tensor,
    directions: Directions,
    situation: Situation,
    forced: tuple[str, ...],
) -> Applied:
    """The best to first order, at its own norm: only its own sum is formed."""
    scores = {name: float(weights @ slopes) for name, weights in candidates.items()}
    best = max(scores, key=lambda name: scores[name])  # of equals the first, and the joint sum stands first
    decision = Decision(best, scores, scores[best] - scores[JOINT], None, forced)
    if best == JOINT:
        direction, own = directions.joint()
    else:
        direction, own = directions.direction(candidates[best]), situation.run.sums(situation.split.own)
    return Applied(best, candidates[best], direction.values, own, None, None, decision)


_Offer = tuple[str, Tensor | None, Direction]
"""A candidate's name, weights and direction."""


def _offers(
    candidates: Mapping[str, Tensor],
    joint: Direction,
    directions: Directions,
    situation: Situation,
    options: TransferenceOptions,
) -> Iterator[_Offer]:
    """The joint direction, those of the other sums, and last those of aggregators, which remember what they saw."""
    run, split = situation.run, situation.split
    for name, weights in candidates.items():
        yield name, weights, joint if name == JOINT else directions.direction(weights)
    if isinstance(directions, FromRows):
        run = KnownRows.of(run, split, directions.jacobian)
    taken = {*candidates, *run.tasks.names}
    for name, found in proposed(options.contenders, run, split, situation.batch, taken=taken):
        if found.weights is None and options.every > 1:
            raise ValueError(
                f"every={options.every} keeps the weights of a decision for the steps after it, but {name} weighs"
                " coordinates, not tasks. Use every=1."
            )
        values = {key: value.clone() for key, value in found.gradients.items()}
        square = inner_product(values, values)
        if not math.isfinite(square):
            raise NotFiniteError([])
        yield name, None if found.weights is None else found.weights.cpu().double(), Direction(values, square)


@dataclass(frozen=True, eq=False)
class _Attempt:
    name: str
    weights: Tensor | None
    direction: Direction
    scored: Scored


def _by_trials(
    offers: Iterator[_Offer],
    first_order: Tensor | Direction | None,
    trial: Trial | None,
    options: TransferenceOptions,
    own: dict[str, Tensor],
    forced: tuple[str, ...],
    *,
    compared: bool,
) -> Applied:
    """The best by its score; of the directions only the joint one and the best so far are kept.

    Without a trial scores are products with the sum of the relative gradients: of its slopes with the weights, or of
    itself with the direction.
    """
    joint = best = None
    scores: dict[str, float] = {}
    for name, weights, direction in offers:
        if joint is not None and direction.square == 0:
            continue  # it cannot be brought to a norm, and a step for nobody is no combination
        if joint is not None and options.equal_norm:
            factor = (joint.direction.square / direction.square) ** 0.5
            weights, direction = None if weights is None else weights * factor, direction.times(factor)
        if trial is not None:
            scored = trial.of(direction.values)
        else:
            scored = Scored(_slope(first_order, weights, direction), torch.zeros(1))
        attempt = _Attempt(name, weights, direction, scored)
        scores[name] = scored.value
        joint = joint or attempt
        best = attempt if best is None or scored.value > best.scored.value else best
    assert joint is not None
    assert best is not None
    gain, stderr = best.scored.value - joint.scored.value, None
    picked = best
    if trial is not None and best is not joint:
        gain, stderr = gain_over(joint.scored, best.scored, trial.run)
        # A joint step to where no loss is finite is left for any other one.
        picked = joint if gain <= options.hysteresis * stderr else best
    cosine = norm_ratio = None
    if compared:
        product = inner_product(picked.direction.values, joint.direction.values)
        cosine, norm_ratio = against_joint(product, picked.direction.square, joint.direction.square)
    decision = Decision(picked.name, scores, gain, stderr, forced)
    return Applied(picked.name, picked.weights, picked.direction.values, own, cosine, norm_ratio, decision)


def _slope(first_order: Tensor | Direction | None, weights: Tensor | None, direction: Direction) -> float:
    if isinstance(first_order, Direction):
        return inner_product(direction.values, first_order.values)
    return 0.0 if first_order is None or weights is None else float(weights @ first_order)


def _trial(situation: Situation, options: TransferenceOptions) -> Trial:
    run, split, rule = situation.run, situation.split, situation.rule
    if isinstance(rule, Optimizer) and not holds_any(rule, split.shared.values()):
        raise ValueError(
            f"The {type(rule).__name__} holds none of the model's shared parameters, so its step moves nothing."
            " Give the optimizer that trains this very model."
        )
    heads: dict[str, Tensor] = {}
    if options.heads == "stepped":
        own = run.sums(split.own)
        heads = update({name: split.own[name] for name in own}, own, rule)
    batch, before, present = situation.batch, situation.losses.to(run.losses.device), run.present
    if options.score_batch is not None:
        batch = options.score_batch()
        _, before, labelled = mean_losses(run, situation.replay.outputs({}, batch), batch)
        present = labelled > 0
    units = situation.seen.units(before.cpu(), options.score).to(before)
    floor = situation.seen.floor.to(before)
    return Trial(run, split, situation.replay, rule, heads, batch, before, present, units, floor, options.score)
