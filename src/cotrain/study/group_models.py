"""What `cotrain groups` can choose by: the gain models of each kind of source, by name, and what each rests on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

from cotrain.affinity import Affinity
from cotrain.errors import ArgumentsError
from cotrain.grouping import (
    Backend,
    GainModel,
    GainTable,
    HammingProcess,
    MembershipRidge,
    PairMean,
    StackedGains,
    TaskMean,
)
from cotrain.study.config import Method, StudyConfig
from cotrain.study.folder import StudyFolder
from cotrain.study.gain_models import (
    ALL_PAIRS,
    backends,
    basis,
    known_effects,
    pair_mean_words,
    predicted_gains,
    trained_table,
)

__all__ = ["Foresight", "Models", "affinity_models", "study_models", "table_models"]

CALIBRATED: Mapping[str, str] = {"linearized": "linearised network", "transference": "pair mean of the affinity"}
"""What a study has measured that trained groups can turn into gains, and how it is called."""


@dataclass(frozen=True)
class Foresight:
    """A gain model, and in words what its predictions rest on; empty if it predicts nothing."""

    model: GainModel
    basis: str = ""


Models: TypeAlias = Mapping[str, Callable[[], Foresight]]
"""By the name of the method; made only when asked for."""


def table_models(table: GainTable) -> Models:
    """The methods that need groups that were really trained, and nothing else."""

    def stacked() -> Foresight:
        model = StackedGains(_with_groups(table))
        return Foresight(model, str(model))

    return {
        "measured": lambda: Foresight(table),
        "pairs": lambda: Foresight(PairMean.from_pairs(table), ALL_PAIRS),
        "task-mean": lambda: _learnt(table, "mean gain of each task", TaskMean),
        "ridge": lambda: _learnt(table, "sum of effects of the other members", MembershipRidge),
        "process": lambda: _learnt(table, "gains of similar groups", HammingProcess),
        "stacked": stacked,
    }


def affinity_models(affinity: Affinity) -> Models:
    """The methods that need scores of pairs, and nothing else."""

    def transference() -> Foresight:
        matrix, stderr = known_effects(affinity, affinity.tasks)
        return Foresight(PairMean(matrix, affinity.tasks, stderr=stderr), pair_mean_words("given"))

    return {"transference": transference}


def study_models(folder: StudyFolder, config: StudyConfig) -> Models:
    """The methods of `cotrain run` that choose by gains or scores, and those that need the groups it has trained.

    Args:
        folder: A study that is measured, with two learnable tasks or more.
        config: Of the study.
    """

    def of_run(method: Method) -> Foresight:
        asked = replace(config, method=method, trainings=None)
        model = predicted_gains(folder, asked)
        assert model is not None, "there are groups of two learnable tasks or more"
        return Foresight(model, basis(folder, asked, model))

    def trained(name: str) -> Foresight:
        return table_models(trained_table(folder))[name]()

    def calibrated(score: str) -> Foresight:
        table = trained_table(folder)
        return _learnt(table, f"{CALIBRATED[score]}, calibrated", backends(folder)[f"{score}, calibrated"])

    return {
        "search": partial(trained, "measured"),
        "pairs": partial(of_run, "pairs"),
        "linearized": partial(of_run, "linearized"),
        "transference": partial(of_run, "transference"),
        **{name: partial(trained, name) for name in ("measured", "task-mean", "ridge", "process")},
        "stacked": partial(of_run, "search"),
        **{f"{score}-calibrated": partial(calibrated, score) for score in CALIBRATED},
    }


def _learnt(table: GainTable, words: str, backend: Backend) -> Foresight:
    """A gain model and its error on the groups that it is learnt from, beside those of knowing less.

    Raises:
        ArgumentsError: If there is no group to learn from.
    """
    told = StackedGains(_with_groups(table), {words: backend})
    return Foresight(
        backend(table),
        f"{words}. Error {told.errors[words]:.3g} on {told.n_groups} trained groups, each left out in turn; that of"
        f" each task's mean gain is {told.errors['task mean']:.3g}, of no gain at all {told.errors['zero']:.3g}.",
    )


def _with_groups(table: GainTable) -> GainTable:
    if not any(len(group) > 1 for group in table.groups):
        raise ArgumentsError(
            "No group of two or more tasks was trained, so there is nothing to learn gains from. Train some."
        )
    return table
