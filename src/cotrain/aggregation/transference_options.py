"""The options of `TransferenceAggregation`, and what they must be."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from torch.optim import Optimizer

from cotrain.aggregation.transference_candidates import Sums
from cotrain.aggregation.transference_contenders import Contender
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

    sums: Sums
    contenders: tuple[Contender, ...]
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
        for name, value, known in (
            ("score", self.score, get_args(Score)),
            ("heads", self.heads, get_args(Heads)),
            ("exact", self.exact, (True, False)),
            ("equal_norm", self.equal_norm, (True, False)),
        ):
            if not any(value is one or (isinstance(value, str) and value == one) for one in known):
                raise ValueError(f"{name} must be one of {list(known)}. Got {value!r}.")
        if not _is_whole(self.every) or self.every < 1:
            raise ValueError(
                f"every must be at least 1, a whole number: decide at every n-th step. Got {self.every!r}."
            )
        if not _is_number(self.min_rate) or not 0 <= self.min_rate <= 1:
            raise ValueError(f"min_rate must be between 0 and 1: the least share of steps. Got {self.min_rate!r}.")
        if not _is_number(self.hysteresis) or not self.hysteresis >= 0:
            raise ValueError(
                f"hysteresis must not be negative, and finite: standard errors of a gain. Got {self.hysteresis!r}."
            )
        if self.score_batch is not None and not callable(self.score_batch):
            raise ValueError(f"score_batch must be a function that returns a Batch. Got {self.score_batch!r}.")
        if not self.exact and (self.heads != "fixed" or self.score_batch is not None):
            raise ValueError("heads and score_batch are for steps that are tried: they need exact=True.")


def rule_from(optimizer: Optimizer | None, lr: float | None) -> Rule | None:
    """How a gradient becomes the step that is tried; None if that is left open.

    Raises:
        ValueError: If both are given, or the rate is not positive.
    """
    if optimizer is not None and lr is not None:
        raise ValueError("Give an optimizer (its own rule and rate) or lr (a plain step), not both.")
    if lr is not None and not (_is_number(lr) and lr > 0):
        raise ValueError(f"lr must be positive and finite. Got {lr!r}.")
    if optimizer is not None and not isinstance(optimizer, Optimizer):
        raise ValueError(f"optimizer must be a torch.optim.Optimizer, with its parameters. Got {optimizer!r}.")
    return lr if lr is not None else optimizer


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
