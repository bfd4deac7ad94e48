"""A study's folder as values: everything the page shows, read once and checked."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cotrain.errors import StudyError
from cotrain.report.aggregations import Aggregated, aggregated_from
from cotrain.report.clusters import Clusters, clusters_from
from cotrain.report.pareto import Pareto, read_pareto
from cotrain.report.reading import number, read_events, read_object, read_rows, read_tensors, well_formed
from cotrain.report.results import (
    Check,
    FrontPoint,
    Gain,
    Group,
    Verdict,
    check_from,
    groups_from,
    verdict_from,
)
from cotrain.report.selection import Selection, selection_from
from cotrain.report.thumbnails import Thumbnails, read_thumbnails
from cotrain.report.trainings import Trainings, trainings_from

REQUIRED_FILES = ("study.yaml", "measure.json", "affinity.csv", "grouping.json")
PAIR_COLUMNS = ("affinity", "stderr", "observations", "label_correlation", "gradient_cosine")
GAIN_COLUMNS = ("arm", "network", "trains", "task", "role", "predicted", "predicted_std", "seed", "realised")
FRONT_COLUMNS = ("arm", "networks", "parameters", "relative_loss", "low", "high", "dominated")


@dataclass(frozen=True)
class TaskNote:
    """What is known of one task from the measuring run alone."""

    name: str
    kind: str
    note: str
    learnable: bool
    statistic: str
    value: float
    p_value: float
    confidence: float
    mastery: float
    learned_by_everybody: bool


@dataclass(frozen=True, eq=False)
class DataMaps:
    """Training dynamics per sample and task: each [N, T], NaN where a sample has no label."""

    confidence: NDArray[np.float32]
    variability: NDArray[np.float32]
    correctness: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Study:
    """Everything the page shows; what a study has not done is None or empty.

    Attributes:
        configuration: The resolved configuration, as written.
        measure: The rest of the measuring run's record: data, rule, cost, versions, machine.
        tasks: One note per task; their order is that of every matrix here.
        pairs: Name of a column of affinity.csv -> [T, T], row = source, column = target.
        groups: The chosen groups.
        noise: Tasks that were left out of the groups because they cannot be told from chance.
        selection: How the groups were chosen.
        trainings: The groups that were trained to choose them, or None if the method trains none.
        clusters: How sure the groups are as clusters of data maps, or None if they are no clusters.
        maps: Data maps, or None.
        thumbnails: The images that tasks find hardest and most ambiguous, or None if the inputs are no images.
        gains: Predicted and realised gains, one per arm, network and task.
        check: The trained arms, or None if nothing was trained after the groups were chosen.
        verdict: What the study recommends, or None.
        front: Cost against quality of every arm.
        seconds: Step -> seconds spent in it, over all runs of the study.
        aggregations: Ways to combine gradients that were compared with this check, by name.
        outdated: Names of others, that were compared with an earlier check.
        pareto: The front of trade-offs that was made of the study, or None.
    """

    configuration: Mapping[str, Any]
    measure: Mapping[str, Any]
    tasks: tuple[TaskNote, ...]
    pairs: Mapping[str, NDArray[np.float64]]
    groups: tuple[Group, ...]
    noise: tuple[str, ...]
    selection: Selection
    trainings: Trainings | None
    clusters: Clusters | None
    maps: DataMaps | None
    thumbnails: Thumbnails | None
    gains: tuple[Gain, ...]
    check: Check | None
    verdict: Verdict | None
    front: tuple[FrontPoint, ...]
    seconds: Mapping[str, float]
    aggregations: tuple[Aggregated, ...] = ()
    outdated: tuple[str, ...] = ()
    pareto: Pareto | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The tasks' names, in the order of the matrices."""
        return tuple(task.name for task in self.tasks)

    @property
    def is_verified(self) -> bool:
        """Whether any prediction of a gain was held against a group that was really trained."""
        return self.trainings is not None and bool(self.trainings.groups)

    @property
    def display_order(self) -> list[int]:
        """Positions of the tasks with those served by one network side by side, and those in none last."""
        network = {task: k for k, group in reversed(list(enumerate(self.groups))) for task in group.serves}
        return sorted(range(len(self.tasks)), key=lambda t: network.get(self.names[t], len(self.groups)))


def read_study(folder: Path) -> Study:
    """Reads a study's folder.

    Args:
        folder: Written by `cotrain run`. study.yaml, measure.json, affinity.csv and grouping.json must be
            there; trainings.json, clusters.json, data_maps.safetensors, thumbnails.safetensors, gains.csv,
            metrics.json, front.csv, events.jsonl and the folder aggregation may be absent.

    Raises:
        StudyError: If a required file is missing, or a file is damaged or disagrees with the others.
    """
    missing = [name for name in REQUIRED_FILES if not (folder / name).is_file()]
    if missing:
        raise StudyError(
            f"{folder} is not the folder of a study whose groups are chosen: {', '.join(missing)} missing."
            " Pass the folder given to `cotrain run --out`, or run the study to its end with --resume."
        )
    with well_formed(folder / "study.yaml"):
        configuration = read_object(folder / "study.yaml")
    with well_formed(folder / "measure.json"):
        measure = read_object(folder / "measure.json")
        tasks = tuple(_task_note(entry) for entry in measure["tasks"])
    names = [task.name for task in tasks]
    with well_formed(folder / "affinity.csv"):
        pairs = _pairs(folder / "affinity.csv", names)
    with well_formed(folder / "grouping.json"):
        decision = read_object(folder / "grouping.json")
        groups = groups_from(decision["grouping"]["groups"], names)
        selection = selection_from(decision)
    check, verdict = _checked(folder / "metrics.json", names)
    aggregations, outdated = _aggregations(folder, names) if check else ((), ())
    return Study(
        configuration=configuration,
        measure=measure,
        tasks=tasks,
        pairs=pairs,
        groups=groups,
        noise=tuple(decision.get("noise", ())),
        selection=selection,
        trainings=_trainings(folder / "trainings.json", names),
        clusters=_clusters(folder / "clusters.json", names, groups),
        maps=_data_maps(folder / "data_maps.safetensors", len(names)),
        thumbnails=_thumbnails(folder / "thumbnails.safetensors", len(names)),
        gains=_gains(folder / "gains.csv"),
        check=check,
        verdict=verdict or verdict_from(decision.get("verdict")),
        front=_front(folder / "front.csv"),
        seconds=_seconds(folder / "events.jsonl"),
        aggregations=aggregations,
        outdated=outdated,
        pareto=read_pareto(folder),
    )


def _task_note(entry: Mapping[str, Any]) -> TaskNote:
    return TaskNote(
        name=str(entry["name"]),
        kind=str(entry["kind"]),
        note=str(entry.get("note") or ""),
        learnable=bool(entry.get("learnable", True)),
        statistic=str(entry.get("statistic") or ""),
        value=number(entry.get("value")),
        p_value=number(entry.get("p_value")),
        confidence=number(entry.get("confidence")),
        mastery=number(entry.get("mastery")),
        learned_by_everybody=bool(entry.get("learned_by_everybody", False)),
    )


def _pairs(path: Path, names: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    place = {name: t for t, name in enumerate(names)}
    rows = read_rows(path, ("source", "target", *PAIR_COLUMNS))
    sources = [place[row["source"]] for row in rows]
    targets = [place[row["target"]] for row in rows]
    pairs = {}
    for column in PAIR_COLUMNS:
        pairs[column] = np.full((len(names), len(names)), np.nan)
        pairs[column][sources, targets] = [number(row[column]) for row in rows]
    return pairs


def _checked(path: Path, names: Sequence[str]) -> tuple[Check | None, Verdict | None]:
    if not path.is_file():
        return None, None
    with well_formed(path):
        metrics = read_object(path)
        return check_from(metrics, names), verdict_from(metrics.get("verdict"))


def _trainings(path: Path, names: Sequence[str]) -> Trainings | None:
    if not path.is_file():
        return None
    with well_formed(path):
        return trainings_from(read_object(path), names)


def _data_maps(path: Path, n_tasks: int) -> DataMaps | None:
    if not path.is_file():
        return None
    with well_formed(path):
        return DataMaps(*read_tensors(path, ("confidence", "variability", "correctness"), n_tasks))


def _clusters(path: Path, names: Sequence[str], groups: Sequence[Group]) -> Clusters | None:
    if not path.is_file():
        return None
    with well_formed(path):
        return clusters_from(read_object(path), names, groups)


def _thumbnails(path: Path, n_tasks: int) -> Thumbnails | None:
    if not path.is_file():
        return None
    with well_formed(path):
        return read_thumbnails(path, n_tasks)


def _gains(path: Path) -> tuple[Gain, ...]:
    if not path.is_file():
        return ()
    with well_formed(path):
        entries: dict[tuple[str, str, str], list[dict[str, str]]] = {}
        for row in read_rows(path, GAIN_COLUMNS):
            entries.setdefault((row["arm"], row["network"], row["task"]), []).append(row)
        return tuple(_gain(rows) for rows in entries.values())


def _gain(rows: Sequence[Mapping[str, str]]) -> Gain:
    """One task in one network: its prediction, and its realised gain under every seed."""
    first = rows[0]
    realised = [number(row["realised"]) for row in rows]
    return Gain(
        arm=first["arm"],
        network=first["network"],
        trains=first["trains"],
        task=first["task"],
        served=first["role"] == "serves",
        predicted=number(first["predicted"]),
        predicted_std=number(first["predicted_std"]),
        realised=tuple(value for value in realised if math.isfinite(value)),
    )


def _front(path: Path) -> tuple[FrontPoint, ...]:
    if not path.is_file():
        return ()
    with well_formed(path):
        return tuple(
            FrontPoint(
                arm=row["arm"],
                networks=number(row["networks"]),
                relative_loss=number(row["relative_loss"]),
                low=number(row["low"]),
                high=number(row["high"]),
                dominated=row["dominated"].lower() in ("true", "1"),
            )
            for row in read_rows(path, FRONT_COLUMNS)
        )


def _aggregations(folder: Path, names: Sequence[str]) -> tuple[tuple[Aggregated, ...], tuple[str, ...]]:
    """What was compared with the check that is there, and the names of what was compared with another one."""
    found = []
    for path in sorted((folder / "aggregation").glob("*.json")):
        with well_formed(path):
            found.append(aggregated_from(read_object(path), names))
    now = hashlib.sha256((folder / "metrics.json").read_bytes()).hexdigest()
    return tuple(one for one in found if one.checked == now), tuple(one.name for one in found if one.checked != now)


def _seconds(path: Path) -> dict[str, float]:
    if not path.is_file():
        return {}
    spent: dict[str, float] = {}
    with well_formed(path):
        for event in read_events(path):
            if event.get("event") == "step-finished":
                spent[str(event["step"])] = spent.get(str(event["step"]), 0.0) + number(event["seconds"])
    return spent
