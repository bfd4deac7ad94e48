"""What a front is asked to be: its data, its knobs, the form of the manifold and how it is trained."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import yaml

from cotrain.errors import ArgumentsError, StudyError
from cotrain.study.config import StudyConfig

__all__ = ["FrontConfig"]

OF_STUDY = (
    "data", "targets", "seed", "epochs", "patience", "batch_size", "learning_rate", "network", "width", "task_set",
    "flips", "kinds", "missing_inputs",
)  # fmt: skip
"""Options that mean the same as in a study."""


@dataclass(frozen=True)
class FrontConfig:
    """The configuration of a front.

    Args:
        data: digits, fashion-mnist, multi-fashion, census-income, or the path of a table (CSV, TSV, Parquet).
        targets: Names of the targets; None for all that a built-in data set has. A table needs them.
        groups: Groups of targets, each as names joined by "+", every target in one: a preference is then over the
            groups. None: over the targets, of which there may be at most 5.
        left_out: Targets that are neither trained nor inputs: those that a study left out of its groups.
        form: full: every knob has a trunk of its own; residual: a difference from a common one; lora: a low-rank
            difference, for a cost that hardly grows with the knobs.
        rank: lora only: of one difference; None: 4.
        rays: Preferences per training step, among which the batch is divided.
        preferences: At how many preferences the front is looked at; None: 11 for two knobs, a lattice for more.
        seed: Everything that is random follows from it.
        epochs: The most epochs; None: 100 for up to 10,000 training samples, else 30.
        patience: A training stops after so many epochs without a lower validation loss.
        batch_size: Samples per step; None: 64 for up to 10,000 training samples, else 256.
        learning_rate: Of Adam.
        network: cnn (images), mlp, or auto: cnn for images larger than 8 x 8, else mlp.
        width: Width of the trunk's hidden layers.
        task_set: census-income only: ten (the default), or pair.
        flips: digits and fashion-mnist only: whether half of the images are turned upside down (the default).
        kinds: Tables only: {target: binary | multiclass | regression} where the guess is wrong.
        missing_inputs: Tables only: error (the default), or impute.

    Raises:
        ArgumentsError: If a value is out of its range.
    """

    data: str
    targets: tuple[str, ...] | None = None
    groups: tuple[str, ...] | None = None
    left_out: tuple[str, ...] = ()
    form: Literal["full", "residual", "lora"] = "full"
    rank: int | None = None
    rays: int = 4
    preferences: int | None = None
    seed: int = 0
    epochs: int | None = None
    patience: int = 5
    batch_size: int | None = None
    learning_rate: float = 3e-3
    network: Literal["auto", "cnn", "mlp"] = "auto"
    width: int = 64
    task_set: Literal["ten", "pair"] | None = None
    flips: bool | None = None
    kinds: Mapping[str, Literal["binary", "multiclass", "regression"]] | None = None
    missing_inputs: Literal["error", "impute"] | None = None

    def __post_init__(self) -> None:
        for name in ("rank", "rays"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ArgumentsError(f"{name} must be at least 1. Got {value}.")
        if self.rank is not None and self.form != "lora":
            raise ArgumentsError(f"rank belongs to --form lora. Got --form {self.form}: leave --rank out.")
        if self.preferences is not None and self.preferences < 2:
            raise ArgumentsError(f"preferences must be at least 2. Got {self.preferences}.")
        if self.groups is not None and len(self.groups) < 2:
            raise ArgumentsError(
                f"A front lies between at least 2 groups. Got {list(self.groups)}: write --groups a+b,c for the groups"
                " a, b and c."
            )
        self.study  # noqa: B018 - the options of a study are checked as there

    @property
    def study(self) -> StudyConfig:
        """The study whose data, networks and trainings are these."""
        return StudyConfig(**{name: getattr(self, name) for name in OF_STUDY})

    @classmethod
    def of_study(cls, study: StudyConfig, **more: Any) -> "FrontConfig":
        """With the data, networks and trainings of a study."""
        return cls(**{name: getattr(study, name) for name in OF_STUDY}, **more)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as in the file; without `left_out` where nothing is, so that `--config` takes it."""
        values = asdict(self)
        for name, value in values.items():
            if isinstance(value, tuple):
                values[name] = list(value)
        values["kinds"] = None if self.kinds is None else dict(self.kinds)
        if not self.left_out:
            del values["left_out"]
        return values

    def to_yaml(self) -> str:
        """The configuration as YAML, in the order of the fields."""
        text: str = yaml.safe_dump(self.as_dict(), sort_keys=False)
        return text

    @classmethod
    def from_yaml(cls, path: Path) -> "FrontConfig":
        """Read what `to_yaml` gave.

        Raises:
            StudyError: If it is not a front's configuration.
        """
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
            values = {"left_out": (), **values}
            return cls(**{item.name: _as_tuple(values[item.name]) for item in fields(cls)})
        except (OSError, yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError) as error:
            raise StudyError(f"{path} is not the configuration of a front ({error}).") from error


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
