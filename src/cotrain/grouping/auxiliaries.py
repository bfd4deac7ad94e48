"""Which other tasks help one main task, and with what weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cotrain.grouping.gains import GainModel, check_model
from cotrain.grouping.pair_mean import PairMean

__all__ = ["Auxiliaries", "select_auxiliaries"]


@dataclass(frozen=True)
class Auxiliaries:
    """The helpers of a main task. Without any helper its gain is 0 by definition.

    Attributes:
        main: The task that counts.
        weights: Loss weights of the kept helpers, beside 1 for the main task; proportional to the scores, the
            strongest has 1. In the order in which they were added. Empty: train the main task alone.
        scores: Of every other task, as they were compared with their errors.
        errors: Their standard errors, the same units.
        unit: Of the scores: "gain", or "score" for an affinity, which is no gain.
        gain_unit: The same of the two below.
        gain: What the model predicts for the main task with the kept helpers (weights 1), and its std.
        gain_of_all: The same with all other tasks as helpers.
        verified: Whether the group of the kept helpers was trained, so that `gain` is a measurement.
    """

    main: str
    weights: Mapping[str, float]
    scores: Mapping[str, float]
    errors: Mapping[str, float]
    unit: str
    gain_unit: str
    gain: tuple[float, float]
    gain_of_all: tuple[float, float]
    verified: bool

    @property
    def helpers(self) -> tuple[str, ...]:
        """The names of the kept helpers."""
        return tuple(self.weights)

    def __str__(self) -> str:
        kept = ", ".join(f"{name} ({weight:.2f})" for name, weight in self.weights.items()) or "none"
        unknown = [name for name, score in self.scores.items() if np.isnan(score)]
        return (
            f"Helpers of {self.main}: {kept}. {'Measured' if self.verified else 'Predicted, unverified'}"
            f" {self.gain_unit}: {_said(*self.gain)};"
            f" no helper: 0; all {len(self.scores)} helpers: {_said(*self.gain_of_all)}"
            f"{'; unknown pair: ' + ', '.join(unknown) if unknown else ''}."
        )


def _said(gain: float, deviation: float) -> str:
    return "unknown" if np.isnan(gain) else f"{gain:+.3f} +- {deviation:.3f}"


def select_auxiliaries(
    main: str,
    effects: Any,
    *,
    gains: GainModel | None = None,
    previous: Auxiliaries | None = None,
    momentum: float = 0.9,
) -> Auxiliaries:
    """Choose the tasks that help one main task, for example one with few samples.

    The score of helper a is the entry (a, main) of an affinity, or the gain of the main task in the pair
    {main, a}. A helper whose score is not above one standard error is dropped: it may as well be harmful; so is one
    of whose pair a table knows nothing, and its score is NaN. Of the others, the one that raises the predicted gain of
    the main task most is added until none raises it. An affinity alone cannot do the last step, because the mean of
    its entries is highest for a single helper: without `gains` it keeps all that were not dropped. What comes out is a
    prediction; train it against no helper and all helpers.

    Args:
        main: Name of the main task.
        effects: An `Affinity` (or anything with `matrix` [T, T], row = source, `stderr` and `tasks`), such as a mean
            cosine in one, or a gain model.
        gains: The gain model by which helpers are added; by default `effects` itself if its unit is "gain".
        previous: The result at an earlier stage of the same training: scores are moved towards the new ones.
        momentum: The share of the previous scores that is kept, from 0 to below 1.

    Raises:
        ValueError: If `effects` or `gains` is no gain model, the main task is unknown, `gains` has other tasks or is
            one of scores, `previous` belongs to another main task, unit or set of tasks, or momentum is out of range.
    """
    model: GainModel = PairMean(effects) if hasattr(effects, "matrix") else effects
    for given in (model,) if gains is None else (model, gains):
        check_model(given)
    unit = getattr(model, "unit", "gain")
    if main not in model.tasks:
        raise ValueError(f"There is no task {main!r}. There are: {', '.join(model.tasks)}.")
    others = [task for task in model.tasks if task != main]
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be from 0 to below 1. Got {momentum}.")
    if previous is not None and (previous.main, previous.unit, set(previous.scores)) != (main, unit, set(others)):
        raise ValueError(
            f"previous must be a result for {main!r} of the same tasks and unit. Got one for {previous.main!r} in"
            f" {previous.unit}s."
        )
    if gains is None and unit == "gain":
        gains = model
    elif gains is not None and (set(gains.tasks) != set(model.tasks) or getattr(gains, "unit", "gain") != "gain"):
        raise ValueError(f"gains must be a model of gains of the same tasks {list(model.tasks)}.")
    values, deviations = _of_main(model, main, [(main, helper) for helper in others])
    scores = dict(zip(others, map(float, values), strict=True))
    errors = dict(zip(others, map(float, deviations), strict=True))
    if previous is not None:
        scores = {task: momentum * previous.scores[task] + (1 - momentum) * scores[task] for task in others}
        errors = {task: float(np.hypot(momentum * previous.errors[task], (1 - momentum) * errors[task]))
                  for task in others}  # fmt: skip
    kept = sorted((task for task in others if scores[task] > errors[task]), key=lambda task: -scores[task])
    if gains is not None:
        kept = _added(gains, main, kept)
    of_both, spread = _of_main(gains or model, main, [(main, *kept), (main, *others)])
    strongest = max((scores[task] for task in kept), default=1.0)
    return Auxiliaries(
        main,
        {task: scores[task] / strongest for task in kept},
        scores,
        errors,
        unit,
        unit if gains is None else "gain",
        (float(of_both[0]), float(spread[0])),
        (float(of_both[1]), float(spread[1])),
        bool(len(kept) > 0 and (gains or model).measured([(main, *kept)])[0]),
    )


def _added(gains: GainModel, main: str, candidates: list[str]) -> list[str]:
    """Candidates in the order in which they raise the gain, as long as one does."""
    kept: list[str] = []
    rest, best = list(candidates), 0.0
    while rest:
        values, _ = _of_main(gains, main, [(main, *kept, helper) for helper in rest])
        values = np.nan_to_num(values, nan=-np.inf)  # a group that nothing is known of does not help
        top = int(values.argmax())
        if values[top] <= best:
            break
        best = float(values[top])
        kept.append(rest.pop(top))
    return kept


def _of_main(model: GainModel, main: str, groups: list[tuple[str, ...]]) -> tuple[Any, Any]:
    """Gains of the main task in the groups and their std, [n] each."""
    mean, std = model.predict(groups)
    column = list(model.tasks).index(main)
    return mean[:, column], std[:, column]
