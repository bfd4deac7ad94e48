"""What a front has come to, in words: against equal weights, single tasks, and in its own order."""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["comparison_words", "front_verdict", "preference_words"]

MOST_NAMES = 3
LEAST = 0.0005
"""A smaller share is written as none."""


def front_verdict(values: Mapping[str, Any]) -> dict[str, Any]:
    """A headline, sentences, and a code: better, no-difference, mixed or worse, than equal weights on test samples.

    Args:
        values: Of `front_results`.
    """
    against = values["against_equal"]
    better = {task["name"]: task["better"] for task in values["tasks"]}
    outcome = {task: comparison_words(entry, better[task]) for task, entry in against["test"].items()}
    won = [task for task, word in outcome.items() if word == "clearly better"]
    lost = [task for task, word in outcome.items() if word == "clearly worse"]
    preference = preference_words(values["points"][against["point"]]["preference"])
    code = "mixed" if won and lost else "better" if won else "worse" if lost else "no-difference"
    headline = {
        "better": f"The front has a point that is better than equal weights for {named(won)}, and worse for none",
        "mixed": f"Against equal weights the front is better for {named(won)} and worse for {named(lost)}",
        "worse": f"Equal weights are better for {named(lost)}; what the front adds is the choice",
        "no-difference": "No clear difference from equal weights; what the front adds is the choice",
    }[code]
    sentences = [
        f"Compared is, on test samples, the preference {preference}: the one whose smallest gain over equal weights is"
        " the largest on validation samples."
    ]
    sentences += [*_volume(values), *_order(values), *_unfinished(values)]
    return {"code": code, "headline": headline, "sentences": sentences}


def comparison_words(entry: Mapping[str, float | None], better: str) -> str:
    """Whether better is told from chance, by an interval of a difference of metrics."""
    low, high = entry["low"], entry["high"]
    if low is None or high is None:
        return "no clear difference"
    if low > 0:
        return "clearly better" if better == "higher" else "clearly worse"
    if high < 0:
        return "clearly worse" if better == "higher" else "clearly better"
    return "no clear difference"


def preference_words(preference: Mapping[str, float]) -> str:
    """The shares that are not 0, such as "a 0.7, b 0.3"."""
    return ", ".join(f"{name} {share:.3g}" for name, share in preference.items() if share >= LEAST)


def named(names: Sequence[str]) -> str:
    """Names as in "a, b and c"; of many names the first ones."""
    if len(names) > MOST_NAMES:
        return f"{', '.join(names[:MOST_NAMES])} and {len(names) - MOST_NAMES} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _volume(values: Mapping[str, Any]) -> list[str]:
    if values["hypervolume"] is None:
        return ["There are too many targets for an exact hypervolume."]
    test = values["hypervolume"]["test"]
    if any(test[name]["value"] is None for name in ("front", "equal", "single")):
        return ["A target has no labels among the test samples, so there is no hypervolume."]
    equal, single = (
        f"{test[name]['value']:.4g} ({comparison_words(test[f'over_{name}'], 'lower')})" for name in ("equal", "single")
    )
    return [
        f"Hypervolume on test samples: {_with_interval(test['front'])}; equal weights {equal}; single tasks, in as many"
        f" networks, {single}. Many points have more than the best of them by that alone."
    ]


def _order(values: Mapping[str, Any]) -> list[str]:
    order = values["order"]["valid"]
    wrong = [name for name, right in order["corners"].items() if not right]
    corners = (
        f" At its own corner {named(wrong)} {'is' if len(wrong) == 1 else 'are'} not better than at another's."
        if wrong
        else " Each is best at its own corner, among the corners."
    )
    return [
        f"More preference, higher loss, on {order['count']} of {order['total']} steps between neighbouring preferences"
        f" (validation samples).{corners}"
    ]


def _unfinished(values: Mapping[str, Any]) -> list[str]:
    training = values["training"]
    if training["best_epoch"] + 1 < training["epochs"]:
        return []
    return ["The training was still improving in its last epoch: with more --epochs the front may be better."]


def _with_interval(entry: Mapping[str, float]) -> str:
    return f"{entry['value']:.4g} (95 %: {entry['low']:.4g} to {entry['high']:.4g})"
