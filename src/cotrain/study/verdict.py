"""What the check says, in plain words: never a recommendation that its own figures contradict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import stats

from cotrain.study.arms import ALL_IN_ONE, GROUPED, SINGLE, is_random

__all__ = ["Interval", "Verdict", "beside_control", "interval", "judge", "unchecked"]

CONFIDENCE = 0.95
MARGIN = 0.02
"""The most of the single tasks' total loss that an arm may lose to the best and still count as good."""
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
        code: What to do: "groups", "single", "all-in-one"; "undecided" where the recommended arm is not clearly
            better than the others, or nothing is recommended; "unchecked" without a check.
        headline: The same in one sentence.
        sentences: What it rests on.
        recommended: Name of the recommended arm; None without a check, with one seed, or if random groups are
            clearly better.
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


def beside_control(words: str, groups: Sequence[float], control: Sequence[float]) -> str:
    """How the chosen groups compare with a control, in words.

    Args:
        words: What the control is.
        groups: Total test loss of the chosen groups relative to the single tasks, one value per seed.
        control: The same of the control.
    """
    difference = _percent_difference(groups, control)
    return f"The chosen groups are {_judgement(difference)} {words}: {_percent(difference)}."


def judge(totals: Mapping[str, Sequence[float]], networks: Mapping[str, int]) -> Verdict:
    """Compare the arms.

    An arm is out of the running if another arm, or the mean of the random groups, is clearly better: the 95 % interval
    of their difference, paired by seed, excludes 0. Of the arms in the running the best on average is recommended, or
    the one with the fewest networks that is as good: whose interval against the best excludes a loss of more than 2 %
    of the single tasks' total. "Not clearly different" is not "as good", and with one seed nothing is recommended.

    Args:
        totals: For each arm its total test loss relative to the single tasks, one value per seed. The chosen groups may
            be missing, if they are another arm by another name.
        networks: For each arm its number of networks.
    """
    covers = [name for name in totals if is_random(name)]
    chance = np.mean([totals[name] for name in covers], axis=0).tolist() if covers else None
    arms = {name: totals[name] for name in _ARMS if name in totals}
    rivals = [*arms.values(), *([chance] if chance else [])]
    running = {
        name: float(np.mean(values))
        for name, values in arms.items()
        if not any(_clearly_less(rival, values) for rival in rivals)
    }
    sentences = (
        *(_compared(name, values) for name, values in arms.items() if name != SINGLE),
        *([_against_chance(totals[GROUPED], chance, len(covers))] if chance else []),
        _on_seeds(len(totals[SINGLE])),
    )
    if not running:
        headline = (
            "Nothing is recommended: random groups of the same sizes are clearly better than the best of single tasks,"
            " all tasks in one network and the chosen groups."
        )
        return Verdict("undecided", headline, sentences, None)
    best = min(running, key=lambda name: (running[name], networks[name]))
    if len(totals[SINGLE]) == 1:
        headline = f"Undecided: {_WORDS[best]} came out best, but one seed cannot tell that from chance."
        return Verdict("undecided", headline, sentences, None)
    good = max(mean for name, mean in running.items() if name == best or _no_worse(arms[name], arms[best]))
    recommended = min(
        (name for name in running if running[name] <= good), key=lambda name: (networks[name], running[name])
    )
    others = [name for name in arms if name != recommended]
    unclear = [name for name in others if not _clearly_less(arms[recommended], arms[name])]
    if unclear:
        names = " or ".join(_WORDS[name] for name in unclear)
        reason = "the best of them on average" if recommended == best else "the cheapest that is as good as the best"
        headline = f"No clear difference between {_WORDS[recommended]} and {names}. {_ADVICE[recommended]} is {reason}."
        return Verdict("undecided", headline, sentences, recommended)
    headline = f"{_ORDERS[recommended]}: clearly better than {' and than '.join(_WORDS[name] for name in others)}"
    if recommended == GROUPED and chance:
        informed = _clearly_less(arms[GROUPED], chance)
        tried = ", and than random groups of the same sizes"
        headline += tried if informed else "; but not clearly better than random groups of the same sizes"
    return Verdict(_CODES[recommended], f"{headline}.", sentences, recommended)


def unchecked(n_networks: int, *, trained: bool) -> Verdict:
    """Without a check on test samples nothing is recommended.

    Args:
        n_networks: How many groups were chosen.
        trained: Whether groups were trained to choose them.
    """
    if trained:
        return Verdict(
            "unchecked",
            f"Not checked: {n_networks} groups were chosen by their validation losses in one training each.",
            (
                "The best of many trainings is in part luck. Run with --check quick or --check full, which trains them"
                " again with other seeds and looks at test losses, before relying on them.",
            ),
            None,
        )
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


def _no_worse(some: Sequence[float], others: Sequence[float]) -> bool:
    """Whether a loss of more than the margin is excluded."""
    high = interval(np.subtract(some, others).tolist()).high
    return high is not None and high <= MARGIN


def _on_seeds(n_seeds: int) -> str:
    if n_seeds == 1:
        return "One seed gives no interval: run with --seeds 3 or more before relying on it."
    return f"Intervals are 95 % over {n_seeds} seeds of training, on one test split."


def _compared(name: str, totals: Sequence[float]) -> str:
    change = interval([100 * (total - 1) for total in totals])
    words = _WORDS[name]
    return f"{words[0].upper()}{words[1:]}: total test loss {_percent(change)} against single tasks."


def _against_chance(grouped: Sequence[float], chance: Sequence[float], n_covers: int) -> str:
    return beside_control(f"{_groupings(n_covers)} of the same sizes per seed", grouped, chance)


def _percent_difference(some: Sequence[float], others: Sequence[float]) -> Interval:
    """In per cent of the single tasks' total loss."""
    return interval([100 * value for value in np.subtract(some, others).tolist()])


def _judgement(difference: Interval) -> str:
    if difference.below_zero:
        return "clearly better than"
    if difference.low is not None and difference.low > 0:
        return "clearly worse than"
    return "no better, as far as can be told, than"


def _groupings(number: int) -> str:
    return "one random grouping" if number == 1 else f"{number} random groupings"


def _percent(value: Interval) -> str:
    if value.low is None or value.high is None:
        return f"{value.mean:+.1f} %"
    return f"{value.mean:+.1f} % ({value.low:+.1f} to {value.high:+.1f})"
