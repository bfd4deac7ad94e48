"""What there is to say of clusters: how stable, how fuzzy, how much of them is difficulty, and their controls."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cotrain.grouping import adjusted_rand_index
from cotrain.report.clusters import Clusters
from cotrain.report.contents import Study
from cotrain.report.results import GROUPED, Check
from cotrain.report.wording import NOTHING, arm_title, decimal, significant, with_interval

MAX_NAMED = 20
"""Tasks of one cluster that a table names."""

REDRAWN = "difficulty-matched"
"""The control that is drawn anew for every seed, so that it has no clusters to show."""


@dataclass(frozen=True)
class ControlRow:
    """One way to divide the same tasks: the clusters, how far they agree with the chosen ones, and their loss."""

    title: str
    clusters: tuple[str, ...]
    agreement: str
    loss: str


def cluster_sentences(study: Study, clusters: Clusters) -> list[tuple[str, str]]:
    """(what, sentence): one each on stability, restarts, fuzziness and difficulty."""
    return [
        ("Between runs", _stability(clusters)),
        ("Between restarts", _restarts(clusters)),
        ("Fuzziness", _fuzziness(clusters, is_given=study.configuration.get("fuzziness") is not None)),
        ("Difficulty", _difficulty(clusters)),
    ]


def absent_sentences(study: Study, clusters: Clusters) -> list[tuple[str, str]]:
    """(why, tasks) of every reason for which tasks take no part in the clusters."""
    flagged = {*clusters.noise, *clusters.universal}
    missing = [study.names[t] for t in np.flatnonzero(clusters.labels < 0) if study.names[t] not in flagged]
    reasons = (
        ("Left out as noise, for they cannot be told from chance", clusters.noise),
        ("Learned by everybody: every network learns them, so they take no cluster, and the largest group serves them",
         clusters.universal),
        ("Left out for want of data maps", missing),
    )  # fmt: skip
    return [(reason, ", ".join(tasks)) for reason, tasks in reasons if tasks]


def control_rows(study: Study, clusters: Clusters) -> list[ControlRow]:
    """The chosen clusters, then their controls."""
    rows = [
        ControlRow(
            arm_title(GROUPED), named_clusters(clusters.labels, study.names), NOTHING, _loss(study.check, GROUPED)
        )
    ]
    rows += [
        ControlRow(
            arm_title(name),
            named_clusters(labels, study.names),
            decimal(adjusted_rand_index(labels, clusters.labels), 2),
            _loss(study.check, name),
        )
        for name, labels in clusters.controls.items()
    ]
    if study.check and study.check.arm(REDRAWN):
        rows.append(
            ControlRow(arm_title(REDRAWN), ("drawn anew for every seed",), NOTHING, _loss(study.check, REDRAWN))
        )
    return rows


def cut_agreement(clusters: Clusters, names: Sequence[str]) -> str:
    """Adjusted Rand index of the tree, cut for K clusters, with the chosen clusters."""
    tree = clusters.tree
    if tree is None or clusters.n_clusters > len(tree.tasks):
        return NOTHING
    label = dict(zip(names, clusters.labels.tolist(), strict=True))
    return decimal(adjusted_rand_index(tree.cut(clusters.n_clusters), [label[task] for task in tree.tasks]), 2)


def named_clusters(labels: NDArray[np.intp], names: Sequence[str]) -> tuple[str, ...]:
    """The tasks of every cluster, in the order of the first task of each."""
    found: dict[int, list[Any]] = {}
    for name, label in zip(names, labels.tolist(), strict=True):
        if label >= 0:
            found.setdefault(label, []).append(name)
    return tuple(
        ", ".join(tasks[:MAX_NAMED]) + (f" and {len(tasks) - MAX_NAMED} more" if len(tasks) > MAX_NAMED else "")
        for tasks in found.values()
    )


def _stability(clusters: Clusters) -> str:
    if clusters.runs < 2:
        return (
            "There was one measuring run, so nothing says whether another seed would give the same clusters:"
            " use --runs 3."
        )
    return (
        f"The clusters of {clusters.runs} measuring runs with different seeds agree with an adjusted Rand index (ARI)"
        f" of {decimal(clusters.stability, 2)}: 1 is the same clusters every time, 0 no more than chance."
    )


def _restarts(clusters: Clusters) -> str:
    if not math.isfinite(clusters.restart_agreement):
        return "There was a single restart of k-means in every run, so nothing says whether it ends in one place."
    return (
        "Within a run, the restarts of k-means agree with the best of them with an ARI of"
        f" {decimal(clusters.restart_agreement, 2)}: far below 1, other clusters fit nearly as well."
    )


def _fuzziness(clusters: Clusters, *, is_given: bool) -> str:
    if not math.isfinite(clusters.fuzziness):
        return "The clusters are hard: every membership is 0 or 1."
    largest = clusters.memberships[clusters.labels >= 0].max(axis=1).mean()
    source = "given by hand" if is_given else "calibrated to the distances of these tasks"
    return (
        f"{significant(clusters.fuzziness, 4)}, {source}; the largest membership of a task is {decimal(largest, 2)}"
        " in the mean."
    )


def _difficulty(clusters: Clusters) -> str:
    if not math.isfinite(clusters.difficulty_share):
        return "The share of the tasks' mean confidence that lies between clusters is not defined."
    kept = clusters.labels[clusters.labels >= 0]
    by_chance = (len(np.unique(kept)) - 1) / max(len(kept) - 1, 1)
    return (
        f"{clusters.difficulty_share:.0%} of the variance of the tasks' mean confidence lies between clusters (by"
        f" chance {by_chance:.0%}): near 100%, the clusters sort tasks by difficulty and not by kinship."
    )


def _loss(check: Check | None, name: str) -> str:
    arm = check.arm(name) if check else None
    return with_interval(arm.relative) if arm and arm.relative else NOTHING
