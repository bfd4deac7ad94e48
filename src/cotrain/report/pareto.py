"""A front as values: what its files say, read once and checked."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cotrain.report.reading import number, read_object, well_formed
from cotrain.study.front_choice import CHOICE
from cotrain.study.front_run import CONFIG, RESULTS

__all__ = ["Choice", "FrontTask", "Pareto", "read_pareto"]

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FrontTask:
    """One task along a front, on validation samples.

    Args:
        name: Of the task.
        metric: Of the task.
        higher: Whether more is better.
        values: [n] its metric at every point.
        low: [n] lower ends of the intervals.
        high: [n] upper ends.
        equal: By the network with equal weights.
        single: By its own network.
    """

    name: str
    metric: str
    higher: bool
    values: Values
    low: Values
    high: Values
    equal: float
    single: float

    @property
    def ends(self) -> tuple[float, float]:
        """The worst and the best of all that is known of the task; the same number twice if nothing is."""
        everything = np.concatenate([self.values, self.low, self.high, [self.equal, self.single]])
        finite = everything[np.isfinite(everything)]
        if not finite.size:
            return math.nan, math.nan
        low, high = float(finite.min()), float(finite.max())
        return (low, high) if self.higher else (high, low)

    def place(self, values: Values | float) -> Values:
        """0 at the worst, 1 at the best; NaN stays NaN."""
        worst, best = self.ends
        return (np.asarray(values, dtype=np.float64) - worst) / ((best - worst) or 1.0)


@dataclass(frozen=True)
class Choice:
    """A chosen preference.

    Args:
        sentence: How it was chosen, and what it promised.
        preference: Share of every knob.
        valid: Task -> metric, low, high on validation samples.
        test: The same on test samples.
    """

    sentence: str
    preference: Mapping[str, float]
    valid: Mapping[str, tuple[float, float, float]]
    test: Mapping[str, tuple[float, float, float]]


@dataclass(frozen=True, eq=False)
class Pareto:
    """Everything the page shows of a front.

    Args:
        data: Name of the data.
        samples: Split -> number of samples.
        names: K knobs.
        preferences: [n, K].
        dominated: [n].
        tasks: T tasks.
        left_out: Tasks that the study left out of its groups.
        best: The point that is best against equal weights.
        verdict: Code, headline and sentences.
        hypervolume: Split -> what -> value, low, high; None with too many tasks.
        reference: Task -> from where hypervolume is measured.
        draws: Of the bootstrap.
        training: What is recorded of the training.
        configuration: The options, as written.
        choice: The chosen preference, or None.
        folder: Name of the folder.
    """

    data: str
    samples: Mapping[str, int]
    names: tuple[str, ...]
    preferences: Values
    dominated: NDArray[np.bool_]
    tasks: tuple[FrontTask, ...]
    left_out: tuple[str, ...]
    best: int
    verdict: Mapping[str, Any]
    hypervolume: Mapping[str, Mapping[str, tuple[float, float, float]]] | None
    reference: Mapping[str, float]
    draws: int
    training: Mapping[str, Any]
    configuration: Mapping[str, Any]
    choice: Choice | None
    folder: str


def read_pareto(folder: Path) -> Pareto | None:
    """The front in a folder, or None if there is none.

    Raises:
        StudyError: If one of its files is damaged.
    """
    file = folder / RESULTS
    if not file.is_file():
        return None
    configuration: Mapping[str, Any] = {}
    if (folder / CONFIG).is_file():
        with well_formed(folder / CONFIG):
            configuration = read_object(folder / CONFIG)
    choice = None
    if (folder / CHOICE).is_file():
        with well_formed(folder / CHOICE):
            choice = _choice(read_object(folder / CHOICE))
    with well_formed(file):
        found = read_object(file)
        names = tuple(str(name) for name in found["names"])
        points = found["points"]
        volumes = found["hypervolume"]
        return Pareto(
            data=str(found["data"]),
            samples={str(part): int(count) for part, count in found["samples"].items()},
            names=names,
            preferences=np.array([[float(point["preference"][name]) for name in names] for point in points]),
            dominated=np.array([bool(point["dominated"]) for point in points]),
            tasks=tuple(_task(task, found) for task in found["tasks"]),
            left_out=tuple(str(name) for name in found["left_out"]),
            best=int(found["against_equal"]["point"]),
            verdict=found["verdict"],
            hypervolume=volumes
            and {part: {what: _entry(e, "value") for what, e in of.items()} for part, of in volumes.items()},
            reference={str(task): float(value) for task, value in found["reference"].items()},
            draws=int(found["draws"]),
            training=found["training"],
            configuration=configuration,
            choice=choice,
            folder=folder.name,
        )


def _task(task: Mapping[str, Any], found: Mapping[str, Any]) -> FrontTask:
    name = task["name"]
    along = [point["valid"][name] for point in found["points"]]
    values, low, high = (np.array([number(entry[key]) for entry in along]) for key in ("metric", "low", "high"))
    equal, single = (number(found["controls"][which]["valid"][name]["metric"]) for which in ("equal", "single"))
    return FrontTask(str(name), str(task["metric"]), task["better"] == "higher", values, low, high, equal, single)


def _choice(found: Mapping[str, Any]) -> Choice:
    return Choice(
        sentence=str(found["sentence"]),
        preference={str(name): float(share) for name, share in found["preference"].items()},
        valid={str(task): _entry(entry, "metric") for task, entry in found["valid"].items()},
        test={str(task): _entry(entry, "metric") for task, entry in found["test"].items()},
    )


def _entry(entry: Mapping[str, Any], value: str) -> tuple[float, float, float]:
    return number(entry[value]), number(entry["low"]), number(entry["high"])
