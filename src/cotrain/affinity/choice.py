"""Which estimator of transference to take, and how often: by the number of tasks and the price that is allowed."""

import math
from dataclasses import dataclass
from typing import Literal

from torch.optim import Optimizer

from cotrain.affinity.sketch import LATE_PER_EARLY

__all__ = ["DIRECTIONS", "ESTIMATORS", "Choice", "Estimator", "check_options", "choose", "measuring_price", "price"]

Estimator = Literal["lookahead", "gram", "sketch"]
ESTIMATORS: tuple[Estimator, ...] = ("lookahead", "gram", "sketch")

DIRECTIONS = 16
"""Of a sketch, by default: on Fashion-MNIST with 100 tasks it correlates at .97 with the exact matrix over 200 steps;
exact measurements of every fifth of them, at five times the cost, at .91."""

MOST_FOR_LOOKAHEAD = 24
"""Up to so many tasks exact steps are affordable with some of them left out, and right where first order is biased."""


@dataclass(frozen=True)
class Choice:
    """What is measured, and when.

    Args:
        estimator: The estimator.
        every: Measured is every so-many-th call.
        reason: Why, in words; "" for what the user asked for.
    """

    estimator: Estimator
    every: int
    reason: str


def choose(
    n_tasks: int, estimator: Estimator | Literal["auto"], every: int | None, budget: float, directions: int
) -> Choice:
    """Take what was asked for, and choose the rest.

    Args:
        n_tasks: T.
        estimator: An estimator, or "auto": exact while there are few tasks.
        every: Measure on every so-many-th call; None: on every call for an estimator that was asked for, and such
            that measuring costs the budget for "auto".
        budget: Plain training steps that measuring may add to each step of the training.
        directions: Of a sketch.
    """
    if estimator != "auto":
        return Choice(estimator, every or 1, "")
    found: Estimator = "lookahead" if n_tasks <= MOST_FOR_LOOKAHEAD else "sketch"
    cost = price(found, n_tasks, directions)
    interval = every or max(1, math.ceil(cost / budget))
    why = (
        f"exact, also for steps too long for first order; affordable up to {MOST_FOR_LOOKAHEAD} tasks"
        if found == "lookahead"
        else f"for more than {MOST_FOR_LOOKAHEAD} tasks, at a cost that does not grow with them"
    )
    times = "every step" if interval == 1 else f"one in {interval} steps"
    reason = f"{found} on {times} ({why}); adds about {cost / interval:.1f} plain steps to each step of the training"
    return Choice(found, interval, reason)


def price(estimator: Estimator, n_tasks: int, directions: int) -> float:
    """About how many plain training steps one measurement costs, in passes through the network."""
    passes = {
        "lookahead": 3 * n_tasks + 3,
        "gram": 2 * n_tasks + 2,
        "sketch": 1 + 2 * math.ceil(directions / LATE_PER_EARLY),
    }
    return passes[estimator] / 3


def measuring_price(estimator: Estimator | Literal["auto"], n_tasks: int) -> float:
    """The same of what `Transference` takes by default, also where "auto" chooses."""
    return price(choose(n_tasks, estimator, None, 1.0, DIRECTIONS).estimator, n_tasks, DIRECTIONS)


def check_options(
    estimator: str,
    optimizer: Optimizer | None,
    lr: float | None,
    every: int | None,
    budget: float,
    directions: int,
    calibrate: int | None,
    until: float | None,
) -> None:
    """Refuse options of `Transference` that are out of range.

    Raises:
        ValueError: Naming the first of them.
    """
    if estimator not in ("auto", *ESTIMATORS):
        raise ValueError(f"There is no estimator {estimator!r}. Use one of {['auto', *ESTIMATORS]}.")
    if optimizer is not None and lr is not None:
        raise ValueError("Give an optimizer (its own rule and rate) or lr (a plain step), not both.")
    if lr is not None and not lr > 0:
        raise ValueError(f"lr must be positive. Got {lr}.")
    if every is not None and every < 1:
        raise ValueError(f"every must be at least 1: measure on every n-th call. Got {every}.")
    if not budget > 0:
        raise ValueError(f"budget must be positive: plain steps per step of the training. Got {budget}.")
    if directions < 1:
        raise ValueError(f"directions must be at least 1. Got {directions}.")
    if calibrate is not None and calibrate < 1:
        raise ValueError(f"calibrate must be at least 1: on every n-th observation. Got {calibrate}.")
    if until is not None and not 0 < until < 1:
        raise ValueError(f"until must be between 0 and 1, both excluded. Got {until}.")
