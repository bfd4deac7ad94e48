"""How the groups were chosen, and how sure that choice is, in words."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cotrain.grouping import Grouping
from cotrain.report.trainings import Trainings
from cotrain.report.wording import significant

SEARCH, AFFINITY_CLUSTERS, DATA_MAPS = "search", "affinity-clusters", "data-maps"
GAIN_METHODS = (SEARCH, "pairs", "linearized")
"""Those that predict gains; the predictions of the others are mean affinities, which only rank groups."""

OBJECTIVES = {
    "total_loss": "total loss saved over single tasks",
    "mean_gain": "mean gain over single tasks",
    "mean_score": "mean score (which is no gain)",
}
"""What the value of a choice is called on the page."""


@dataclass(frozen=True)
class Selection:
    """How the groups were chosen.

    Attributes:
        method: As in study.yaml; empty where it was not recorded.
        budget: Networks, or None.
        prediction: What the choice rests on, in words, without a full stop.
        grouping: The choice with its value, bound and status.
    """

    method: str
    budget: object
    prediction: str
    grouping: Grouping

    @property
    def predicts_gains(self) -> bool:
        """Whether its predictions are gains, not scores."""
        return self.method in GAIN_METHODS


def selection_from(decision: Mapping[str, Any]) -> Selection:
    """How the groups of grouping.json were chosen.

    Raises:
        KeyError: If there is no grouping.
        ValueError: If a task is served by two groups or by none.
    """
    return Selection(
        method=str(decision.get("method") or ""),
        budget=decision.get("budget"),
        prediction=str(decision.get("prediction") or "of unrecorded origin").rstrip("."),
        grouping=Grouping.from_dict(decision["grouping"]),
    )


def selection_sentences(selection: Selection, trainings: Trainings | None) -> list[str]:
    """What the groups were chosen for, how sure it is that no others are better, and what that is worth.

    Args:
        selection: How they were chosen.
        trainings: What was trained to choose them, or None.
    """
    rests_on, solver = selection.prediction, selection.grouping.solver
    if selection.method == DATA_MAPS:
        return [
            f"Chosen by clustering the tasks: {rests_on}{f'; {solver}' if solver else ''}.",
            "Clustering maximises no predicted gain, so there is no value and no bound; only training shows whether"
            " the clusters pay.",
        ]
    if math.isnan(selection.grouping.value):
        return [f"No value was put on these groups ({selection.grouping.standing})."]
    if selection.method == AFFINITY_CLUSTERS:
        return [
            f"Chosen by clustering the tasks for the {rests_on}: {_certificate(selection.grouping)}.",
            "That certifies the clusters; only training shows whether they pay.",
        ]
    together = trainings is not None and bool(trainings.groups)
    if selection.method == SEARCH:
        number = f"{trainings.spent} " if trainings else ""
        return [
            f"Chosen among the {number}groups that were trained, by their validation losses:"
            f" {_certificate(selection.grouping)}.",
            "That is about the trained groups: an untrained one may be better, and the best of many trainings is in"
            " part luck.",
            f"What to train was decided by predicted gains. {rests_on}.",
            *(["Before each name stands its weight, behind it its own error."] if together else []),
        ]
    unverified = "" if together or "unverified" in rests_on else "unverified "
    kind = "gains" if selection.predicts_gains else "scores"
    return [
        f"Chosen by {unverified}predicted {kind} ({rests_on}): {_certificate(selection.grouping)}.",
        "That certifies the choice under the prediction, not the prediction.",
    ]


def _certificate(grouping: Grouping) -> str:
    """The value of a choice, and how much better another one could be."""
    value = f"{OBJECTIVES.get(grouping.objective, grouping.objective or 'value')} {significant(grouping.value)}"
    if grouping.kappa > 0 and not math.isclose(grouping.value, grouping.value_at_mean):
        value += f" after a deduction of {grouping.kappa:g} s.d."
    return f"{value}, {grouping.standing}{f' ({grouping.solver})' if grouping.solver else ''}"
