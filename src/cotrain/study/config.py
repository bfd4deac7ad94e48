"""What a study is asked to do: one flat, validated configuration, the same for flags, YAML and Python."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import yaml

from cotrain.errors import ArgumentsError, StudyError

__all__ = ["TRAINING_METHODS", "Check", "Features", "Method", "StudyConfig"]

Check = Literal["none", "quick", "full"]
Method = Literal["search", "pairs", "linearized", "transference", "affinity-clusters", "data-maps"]
TRAINING_METHODS = ("search", "pairs")
"""Those that train groups to learn which ones to choose."""
CLUSTERING_METHODS = ("affinity-clusters", "data-maps")
Features = Literal["combined", "standardised", "signed", "raw"]


@dataclass(frozen=True)
class StudyConfig:
    """The configuration of a study.

    Args:
        data: digits, fashion-mnist, multi-fashion, census-income, or the path of a table (CSV, TSV, Parquet).
        targets: Names of the targets; None for all that a built-in data set has. A table needs them.
        budget: How many networks may be trained and served in the end.
        check: full: train single tasks, all tasks in one, the groups and random groups, on all samples; quick: the
            same on at most 12,000 training samples and with one random cover; none: predict only.
        seeds: How many seeds the check is repeated with; fewer than 2 give no interval.
        seed: The first seed; everything that is random follows from it.
        epochs: The most epochs of each training; None: 100 for up to 10,000 training samples, else 30.
        patience: A training stops after so many epochs without a lower validation loss.
        batch_size: Samples per step; None: 64 for up to 10,000 training samples, else 256.
        learning_rate: Of Adam.
        network: cnn (images), mlp, or auto: cnn for images larger than 8 x 8, else mlp.
        width: Width of the trunk's hidden layers.
        method: How groups are chosen. search: some groups are really trained, which ones is learnt on the way, and the
            best of them are taken; pairs: all pairs are really trained, and their mean gains predict larger groups
            (HOA). Without trainings, and unverified: linearized (gains predicted by the linearised network),
            transference (mean affinity of the pairs, TAG); or clusters, as many as the budget allows:
            affinity-clusters (where the affinity is densest), data-maps (similar training dynamics, STG-MTL).
        trainings: search only: the most groups that are trained to learn from, single tasks included. None: twice as
            many as there are tasks.
        features: data-maps only: what is clustered. raw is what was published; combined (the default) adds labels and
            predictions to the standardised maps.
        fuzziness: data-maps only: above 1, the softness of memberships (published: 1.07); None: such that the largest
            membership of a task is .7 on average.
        runs: How many networks are trained to measure, each with its own seed. None: 3 for data-maps, whose
            clusters are then those that the runs agree on, else 1.
        estimator: How transference is measured: lookahead (exact), gram (first order), sketch (first order, at a
            cost that does not grow with the tasks), or auto.
        every: Steps from one measurement to the next; None: such that measuring adds about two plain
            trainings to the one that is measured, more if it is too short for error bars.
        max_size: The most tasks in one network; None: no limit.
        solver_seconds: Time limit of the selection.
        task_set: census-income only: ten (the default), or pair.
        flips: digits and fashion-mnist only: whether half of the images are turned upside down, for the task of
            telling them (the default).
        kinds: Tables only: {target: binary | multiclass | regression} where the guess is wrong.
        missing_inputs: Tables only: error (the default), or impute.

    Raises:
        ArgumentsError: If a value is out of its range.
    """

    data: str
    targets: tuple[str, ...] | None = None
    budget: int = 3
    check: Check = "full"
    seeds: int = 3
    seed: int = 0
    epochs: int | None = None
    patience: int = 5
    batch_size: int | None = None
    learning_rate: float = 3e-3
    network: Literal["auto", "cnn", "mlp"] = "auto"
    width: int = 64
    method: Method = "search"
    trainings: int | None = None
    features: Features = "combined"
    fuzziness: float | None = None
    runs: int | None = None
    estimator: Literal["auto", "lookahead", "gram", "sketch"] = "auto"
    every: int | None = None
    max_size: int | None = None
    solver_seconds: float = 60.0
    task_set: Literal["ten", "pair"] | None = None
    flips: bool | None = None
    kinds: Mapping[str, Literal["binary", "multiclass", "regression"]] | None = None
    missing_inputs: Literal["error", "impute"] | None = None

    def __post_init__(self) -> None:
        for name in (
            "budget",
            "seeds",
            "patience",
            "width",
            "epochs",
            "batch_size",
            "every",
            "max_size",
            "runs",
            "trainings",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ArgumentsError(f"{name} must be at least 1. Got {value}.")
        if self.fuzziness is not None and not self.fuzziness > 1:
            raise ArgumentsError(f"fuzziness must be above 1. Got {self.fuzziness}.")
        if self.method in CLUSTERING_METHODS and self.max_size is not None:
            raise ArgumentsError(
                f"max_size limits groups, and --method {self.method} makes clusters. Leave it out, or raise --budget."
            )
        if self.method != "search" and self.trainings is not None:
            raise ArgumentsError("trainings belong to --method search. Leave them out.")
        if self.seed < 0:
            raise ArgumentsError(f"seed must not be negative. Got {self.seed}.")
        for name in ("learning_rate", "solver_seconds"):
            if not getattr(self, name) > 0:
                raise ArgumentsError(f"{name} must be positive. Got {getattr(self, name)}.")
        if self.targets is not None and len(self.targets) < 2:
            raise ArgumentsError(
                f"A study needs at least 2 targets, to ask which train together. Got {list(self.targets)}."
            )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as in study.yaml."""
        values = asdict(self)
        values["targets"] = None if self.targets is None else list(self.targets)
        values["kinds"] = None if self.kinds is None else dict(self.kinds)
        return values

    def to_yaml(self) -> str:
        """The configuration as YAML, in the order of the fields."""
        text: str = yaml.safe_dump(self.as_dict(), sort_keys=False)
        return text

    @classmethod
    def from_yaml(cls, path: Path) -> "StudyConfig":
        """Read study.yaml.

        Raises:
            StudyError: If it is not a study's configuration.
        """
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
            values["targets"] = None if values["targets"] is None else tuple(values["targets"])
            return cls(**{item.name: values[item.name] for item in fields(cls)})
        except (yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError) as error:
            raise StudyError(f"{path} is not the configuration of a study ({error}).") from error
