"""Which estimator of transference to take, and how often: by the number of tasks and the price that is allowed."""

import math
from dataclasses import dataclass
from typing import Literal

from cotrain.affinity.options import Estimator, Options
from cotrain.affinity.sketch import LATE_PER_EARLY

__all__ = ["Choice", "choose", "measuring_price", "price"]

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


def choose(n_tasks: int, options: Options, every: int | None, budget: float) -> Choice:
    """Take what was asked for, and choose the rest.

    Args:
        n_tasks: T.
        options: Which estimator, or "auto": exact while there are few tasks; and what a sketch is made of.
        every: Measure on every so-many-th call; None: on every call for an estimator that was asked for, and such
            that measuring costs the budget for "auto".
        budget: Plain training steps that measuring may add to each step of the training.

    Raises:
        ValueError: If heads shall step by an estimator of first order.
    """
    found: Estimator = "lookahead" if n_tasks <= MOST_FOR_LOOKAHEAD else "sketch"
    if options.estimator != "auto":
        found = options.estimator
    if options.heads == "stepped" and found != "lookahead":
        raise ValueError(
            f'Stepped heads need estimator="lookahead": first order knows no second step. Got {options.estimator!r}.'
        )
    if options.estimator != "auto":
        return Choice(found, every or 1, "")
    cost = price(found, n_tasks, options)
    interval = every or max(1, math.ceil(cost / budget))
    why = (
        f"exact, also for steps too long for first order; affordable up to {MOST_FOR_LOOKAHEAD} tasks"
        if found == "lookahead"
        else f"for more than {MOST_FOR_LOOKAHEAD} tasks, at a cost that does not grow with them"
    )
    times = "every step" if interval == 1 else f"one in {interval} steps"
    reason = f"{found} on {times} ({why}); adds about {cost / interval:.1f} plain steps to each step of the training"
    return Choice(found, interval, reason)


def price(estimator: Estimator, n_tasks: int, options: Options) -> float:
    """About how many plain training steps one measurement costs, in passes through the network."""
    per_direction = 2 if options.along == "parameters" else 4  # signs of tasks are sent backwards first
    passes = {
        "lookahead": 3 * n_tasks + 3,
        "gram": 2 * n_tasks + 2,
        "sketch": 1 + per_direction * math.ceil(options.directions / LATE_PER_EARLY),
    }
    return passes[estimator] / 3


def measuring_price(estimator: Estimator | Literal["auto"], n_tasks: int) -> float:
    """The same of what `Transference` takes by default, also where "auto" chooses."""
    options = Options(estimator=estimator)
    return price(choose(n_tasks, options, None, 1.0).estimator, n_tasks, options)
