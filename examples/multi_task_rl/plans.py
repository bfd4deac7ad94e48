"""How long and with which settings a set of tasks is trained, unless asked otherwise."""

from collections.abc import Mapping
from dataclasses import dataclass

from sac import SacSettings

__all__ = ["PLANS", "Plan"]


@dataclass(frozen=True)
class Plan:
    """A training's settings.

    Args:
        copies: Episodes per task side by side.
        steps: Actions per row of environments.
        random_steps: Of these, before the first update.
        score_every: Rounds of episodes between two scores.
        settings: Of the learner.
    """

    copies: int
    steps: int
    random_steps: int
    score_every: int
    settings: SacSettings


PLANS: Mapping[str, Plan] = {
    "swing-up": Plan(copies=4, steps=2_000, random_steps=200, score_every=1, settings=SacSettings()),
    "mt10": Plan(
        copies=1,
        steps=2_000_000,
        random_steps=500,
        score_every=4,
        settings=SacSettings(width=256, learning_rate=3e-4, discount=0.99, averaging=0.005),
    ),
}
"""By the name of the set of tasks. MT10's step count is that of the literature, far more than a few minutes' worth."""
