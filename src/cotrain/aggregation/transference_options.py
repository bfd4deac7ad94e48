"""The options of `TransferenceAggregation`, and what they must be."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from torch.optim import Optimizer

from cotrain.aggregation.transference_candidates import Candidate, check_candidates
from cotrain.aggregation.transference_scores import Score
from cotrain.lookahead import Rule
from cotrain.task import Batch

__all__ = ["Heads", "TransferenceOptions", "rule_from"]

Heads = Literal["fixed", "stepped"]


@dataclass(frozen=True)
class TransferenceOptions:
    """How a step is decided, as explained at `TransferenceAggregation`.

    Raises:
        ValueError: If one is out of range.
    """

    candidates: tuple[Candidate, ...]
    exact: bool
    equal_norm: bool
    score: Score
    heads: Heads
    every: int
    score_batch: Callable[[], Batch] | None
    min_rate: float
    hysteresis: float
    seed: int

    def __post_init__(self) -> None:
        check_candidates(self.candidates)
        for name, value, known in (
            ("score", self.score, get_args(Score)),
            ("heads", self.heads, get_args(Heads)),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {list(known)}. Got {value!r}.")
        if self.every < 1:
            raise ValueError(f"every must be at least 1: decide at every n-th step. Got {self.every}.")
        if not 0 <= self.min_rate <= 1:
            raise ValueError(f"min_rate must be between 0 and 1: the least share of steps. Got {self.min_rate}.")
        if not self.hysteresis >= 0:
            raise ValueError(f"hysteresis must not be negative: standard errors of a gain. Got {self.hysteresis}.")
        if not self.exact and (self.heads != "fixed" or self.score_batch is not None):
            raise ValueError("heads and score_batch are for steps that are tried: they need exact=True.")


def rule_from(optimizer: Optimizer | None, lr: float | None) -> Rule | None:
    """How a gradient becomes the step that is tried; None if that is left open.

    Raises:
        ValueError: If both are given, or the rate is not positive.
    """
    if optimizer is not None and lr is not None:
        raise ValueError("Give an optimizer (its own rule and rate) or lr (a plain step), not both.")
    if lr is not None and not lr > 0:
        raise ValueError(f"lr must be positive. Got {lr}.")
    return lr if lr is not None else optimizer
