"""What the check says, in plain words: never a recommendation that its own figures contradict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import stats

from cotrain.study.arms import ALL_IN_ONE, GROUPED, SINGLE, is_random

__all__ = ["Interval", "Verdict", "interval", "judge", "unchecked"]

CONFIDENCE = 0.95
Code = Literal["groups", "single", "all-in-one", "undecided", "unchecked"]


@dataclass(frozen=True)
class Interval:
    """A mean over seeds with its 95 % interval (Student's t); low and high are None for one seed."""

    mean: float
    low: float | None
    high: float | None

    @property
    def below_zero(self) -> bool:
        """Whether the whole interval is below 0."""
        return self.high is not None and self.high < 0


@dataclass(frozen=True)
class Verdict:
    """The outcome of a study.

    Args:
        code: What to do: "groups", "single", "all-in-one"; "undecided" where several are equally good (then the
            cheapest of them is recommended) or random groups are better than all of them; "unchecked" without a check.
        headline: The same in one sentence.
        sentences: What it rests on.
        recommended: Name of the recommended arm; None without a check, or if random groups are clearly better.
    """

    code: Code
    headline: str
    sentences: tuple[str, ...]
    recommended: str | None

    def with_sentences(self, *more: str | None) -> "Verdict":
        """The same verdict with more to say; None is nothing."""
        return replace(self, sentences=(*self.sentences, *(sentence for sentence in more if sentence)))


def interval(values: Sequence[float]) -> Interval:
    """Mean and 95 % interval of one value per seed."""
    numbers = np.asarray(values, dtype=float)
    mean = float(numbers.mean())
    if len(numbers) < 2:
        return Interval(mean, None, None)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(numbers) - 1) * stats.sem(numbers))
    return Interval(mean, mean - half, mean + half)


def judge(totals: Mapping[str, Sequence[float]], networks: Mapping[str, int]) -> Verdict:
    """Compare the arms.

    An arm is out of the running if another arm, or the mean of the random groups, is clearly better (the 95 %
    interval of their difference, paired by seed, excludes 0), or if another arm in the running is better on average
    with no more networks. Of the arms in the running the one with the fewest networks is recommended; none, if the
    random groups are clearly better than all that is left.

    Args:
        totals: For each arm its total test loss relative to the single tasks, one value per seed.
        networks: For each arm its number of networks.
    """
    covers = [name for name in totals if is_random(name)]
    chance = np.mean([totals[name] for name in covers], axis=0).tolist() if covers else None
    arms = {name: totals[name] for name in _ARMS}
    rivals = [*arms.values(), *([chance] if chance else [])]
    unbeaten = {name for name in arms if not any(_clearly_less(rival, arms[name]) for rival in rivals)}
    means = {name: float(np.mean(values)) for name, values in arms.items()}
    running = [
        name
        for name in _ARMS
        if name in unbeaten
        and not any(networks[other] <= networks[name] and means[other] < means[name] for other in unbeaten)
    ]
    sentences = (
        *(_compared(name, totals[name]) for name in _ARMS if name != SINGLE),
        *([_against_chance(totals[GROUPED], chance, len(covers))] if chance else []),
        _on_seeds(len(totals[SINGLE])),
    )
    if not running:
        headline = (
            "Nothing is recommended: random groups of the same sizes are clearly better than the best of single tasks,"
            " all tasks in one network and the chosen groups."
        )
        return Verdict("undecided", headline, sentences, None)
    recommended = min(running, key=lambda name: networks[name])
    others = [name for name in _ARMS if name != recommended]
    unclear = [name for name in others if not _clearly_less(arms[recommended], arms[name])]
    if unclear:
        headline = (
            f"No clear difference between {_WORDS[recommended]} and {' or '.join(_WORDS[name] for name in unclear)}."
            f" {_ADVICE[recommended]} is {_reason(recommended, unclear, networks, means)}."
        )
        return Verdict("undecided", headline, sentences, recommended)
    headline = f"{_ORDERS[recommended]}: clearly better than {' and than '.join(_WORDS[name] for name in others)}"
    if recommended == GROUPED and chance:
        informed = _clearly_less(arms[GROUPED], chance)
        tried = f", and than the {_groupings(len(covers))} that stood beside them"
        headline += tried if informed else "; but random groups of the same sizes do as well"
    return Verdict(_CODES[recommended], f"{headline}.", sentences, recommended)


def unchecked(n_networks: int) -> Verdict:
    """Without real trainings nothing is recommended."""
    return Verdict(
        "unchecked",
        f"A prediction only: {n_networks} groups were chosen, and no real training has checked them.",
        (
            "Affinities of this kind often do not predict real gains. Run with --check quick or --check full before"
            " relying on the groups.",
        ),
        None,
    )


_ARMS = (SINGLE, ALL_IN_ONE, GROUPED)
_CODES: Mapping[str, Code] = {SINGLE: "single", ALL_IN_ONE: "all-in-one", GROUPED: "groups"}
_WORDS = {SINGLE: "single tasks", ALL_IN_ONE: "all tasks in one network", GROUPED: "the chosen groups"}
_ORDERS = {
    SINGLE: "Train every task alone",
    ALL_IN_ONE: "Train all tasks in one network",
    GROUPED: "Train the chosen groups",
}
_ADVICE = {
    SINGLE: "Training every task alone",
    ALL_IN_ONE: "Training all tasks in one network",
    GROUPED: "Training the chosen groups",
}


def _clearly_less(some: Sequence[float], others: Sequence[float]) -> bool:
    return interval(np.subtract(some, others).tolist()).below_zero


def _reason(recommended: str, unclear: Sequence[str], networks: Mapping[str, int], means: Mapping[str, float]) -> str:
    """Why an arm is recommended before others that are not clearly worse."""
    if all(networks[recommended] <= networks[name] for name in unclear):
        return "the cheapest of them"
    if all(means[recommended] <= means[name] for name in unclear):
        return "the best of them on average"
    return "the cheapest that nothing is clearly better than"


def _on_seeds(n_seeds: int) -> str:
    if n_seeds == 1:
        return "One seed gives no interval: run with --seeds 3 or more before relying on it."
    return f"Intervals are 95 % over {n_seeds} seeds of training, on one test split."


def _compared(name: str, totals: Sequence[float]) -> str:
    change = interval([100 * (total - 1) for total in totals])
    words = _WORDS[name]
    return f"{words[0].upper()}{words[1:]}: total test loss {_percent(change)} against single tasks."


def _against_chance(grouped: Sequence[float], chance: Sequence[float], n_covers: int) -> str:
    difference = interval([100 * value for value in np.subtract(grouped, chance).tolist()])
    if difference.below_zero:
        judgement = "clearly better than"
    elif difference.low is not None and difference.low > 0:
        judgement = "clearly worse than"
    else:
        judgement = "no better, as far as can be told, than"
    return (
        f"The chosen groups are {judgement} {_groupings(n_covers)} of the same sizes: {_percent(difference)}; the luck"
        " of their draw is not in the interval."
    )


def _groupings(number: int) -> str:
    return "one random grouping" if number == 1 else f"{number} random groupings"


def _percent(value: Interval) -> str:
    if value.low is None or value.high is None:
        return f"{value.mean:+.1f} %"
    return f"{value.mean:+.1f} % ({value.low:+.1f} to {value.high:+.1f})"
