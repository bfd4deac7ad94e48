"""What a study knows of the gain of any group: measured affinities, the linearised network, groups it has trained."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from cotrain.affinity import Affinity
from cotrain.errors import StudyError
from cotrain.grouping import (
    DEFAULT_BACKENDS,
    Backend,
    CalibratedGains,
    GainModel,
    GainTable,
    PairMean,
    RememberedGains,
    StackedGains,
)
from cotrain.study.config import TRAINING_METHODS, StudyConfig
from cotrain.study.folder import StudyFolder
from cotrain.study.linearized import LINEARIZED_FILE, read_linearized

__all__ = [
    "ALL_PAIRS",
    "TRAININGS_FILE",
    "affinity_scores",
    "backends",
    "basis",
    "known_effects",
    "learnable_affinity",
    "learnable_tasks",
    "pair_mean_words",
    "predicted_gains",
    "trained_table",
]

TRAININGS_FILE = "trainings.json"
"""The groups that were trained to learn which ones to choose, and their validation losses."""

ALL_PAIRS = "mean of the gains of all pairs, each really trained once"
"""What the choice by measured pairs rests on."""

UNVERIFIED = "unverified: no group was trained for it"
"""What is said of a prediction that no real group stands behind."""


def learnable_tasks(folder: StudyFolder) -> list[str]:
    """The tasks that were told from chance, in order."""
    return [task["name"] for task in folder.read_json("measure.json")["tasks"] if task["learnable"]]


def predicted_gains(folder: StudyFolder, config: StudyConfig) -> GainModel | None:
    """The gain model of the study's method, of the learnable tasks; None for fewer than two, which have no groups.

    Raises:
        StudyError: If the method needs trained groups, and the study has trained none.
    """
    tasks = learnable_tasks(folder)
    if len(tasks) < 2:
        return None
    if config.method == "search":
        return StackedGains(trained_table(folder), backends(folder))
    if config.method == "pairs":
        return PairMean.from_pairs(trained_table(folder))
    if config.method == "linearized":
        return read_linearized(folder.path / LINEARIZED_FILE, tasks)
    return affinity_scores(folder)


def backends(folder: StudyFolder) -> Mapping[str, Backend]:
    """What is stacked on trained groups: the rules that need nothing else, and what the measured network told."""
    linearized = RememberedGains(read_linearized(folder.path / LINEARIZED_FILE, learnable_tasks(folder)))
    return {
        **DEFAULT_BACKENDS,
        "linearized": lambda _: linearized,
        "linearized, calibrated": partial(CalibratedGains, score=linearized),
        "transference, calibrated": partial(CalibratedGains, score=affinity_scores(folder)),
    }


def basis(folder: StudyFolder, config: StudyConfig, model: GainModel | None) -> str:
    """What the choice rests on, in words."""
    if config.method == "search" and model is not None:
        return str(model)
    if config.method == "pairs":
        return ALL_PAIRS
    if config.method == "linearized":
        return f"linearised network, {UNVERIFIED}"
    measured = folder.read_json("measure.json")
    if config.method == "data-maps":
        return f"kinship in {config.features} features of the data maps of {measured['runs']} runs"
    if config.method == "affinity-clusters":
        return f"density of the {measured['estimator']} affinity within clusters"
    return pair_mean_words(measured["estimator"])


def pair_mean_words(estimator: str) -> str:
    """What a choice by the pair mean of an affinity rests on."""
    return f"pair mean of the {estimator} affinity, {UNVERIFIED}"


def trained_table(folder: StudyFolder) -> GainTable:
    """The validation gains of the groups that the study has trained to learn from.

    Raises:
        StudyError: If there are none.
    """
    if not (folder.path / TRAININGS_FILE).exists():
        raise StudyError(
            f"{folder.path} has trained no groups to learn from. Start a study with --method"
            f" {' or '.join(TRAINING_METHODS)}."
        )
    record = folder.read_json(TRAININGS_FILE)
    tasks = record["tasks"]
    groups = [tuple(entry["loss"]) for entry in record["losses"]]
    losses = np.array([[entry["loss"].get(task, np.nan) for task in tasks] for entry in record["losses"]])
    alone = {group[0]: row for row, group in enumerate(groups) if len(group) == 1}
    singles = np.array([losses[alone[task], number] for number, task in enumerate(tasks)])
    return GainTable(tasks, groups, 1 - losses / singles, single_losses=singles)


def affinity_scores(folder: StudyFolder) -> PairMean:
    """The pair mean of the measured affinities among the learnable tasks: scores, not gains."""
    matrix, stderr = learnable_affinity(folder)
    return PairMean(matrix, learnable_tasks(folder), stderr=stderr)


def learnable_affinity(folder: StudyFolder) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`known_effects` among the learnable tasks."""
    return known_effects(Affinity.from_csv(folder.path / "affinity.csv"), learnable_tasks(folder))


def known_effects(affinity: Affinity, tasks: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """[T, T] measured affinities among some tasks, and their standard errors.

    A pair that was observed too seldom for an error bar has the spread of its target's column as one; a pair that was
    never observed has no known effect, 0 with that error bar.
    """
    rows = [affinity.tasks.index(task) for task in tasks]
    matrix = affinity.matrix[rows][:, rows].fill_diagonal_(0.0).nan_to_num()
    stderr = affinity.stderr[rows][:, rows].fill_diagonal_(0.0)
    stderr = torch.where(stderr.isnan(), matrix.std(dim=0, correction=0), stderr)
    return matrix.numpy(), stderr.numpy()
