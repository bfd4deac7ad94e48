"""What the parts of a front share: the data, the knobs, and the preferences at which it is watched."""

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from cotrain.errors import ArgumentsError, as_arguments_errors
from cotrain.pareto import preference_grid
from cotrain.pareto.knobs import MOST_KNOBS, Knobs, knobs_of
from cotrain.study.front_config import FrontConfig
from cotrain.study.setting import Setting
from cotrain.study.words import members_of
from cotrain.version import __version__

__all__ = ["FrontSetting"]


@dataclass(frozen=True, eq=False)
class FrontSetting:
    """The data of a front and what its preferences are over.

    Args:
        config: The front's configuration.
        base: Data, networks and optimizer, as a study has them.
        knobs: The entries of a preference.
        grid: [n, K] preferences at which the front is looked at.
    """

    config: FrontConfig
    base: Setting
    knobs: Knobs
    grid: Tensor

    @classmethod
    def load(cls, config: FrontConfig) -> "FrontSetting":
        """Load the data and check everything that can be checked before a training.

        Raises:
            CotrainError: If the data cannot be used, or groups and preferences do not fit it.
        """
        base = Setting.load(config.study)
        if config.left_out:
            kept = [name for name in base.data.tasks.names if name not in config.left_out]
            base = replace(base, data=base.data.select(kept))
        tasks = base.data.tasks
        with as_arguments_errors():
            knobs = knobs_of(tasks, None if config.groups is None else _by_name(config.groups))
            count = len(knobs.names)
            if count < 2:
                raise ArgumentsError(f"A front lies between at least 2 targets. Got {list(tasks.names)}.")
            if count > MOST_KNOBS:
                raise ArgumentsError(_too_many(knobs.names, config.groups is not None))
            grid = preference_grid(config.preferences, knobs.names, seed=config.seed)
        return cls(config, base, knobs, grid)

    @property
    def groups(self) -> dict[str, tuple[str, ...]] | None:
        """Group names and their tasks; None if every task is a knob."""
        return None if self.config.groups is None else _by_name(self.config.groups)

    @cached_property
    def watched(self) -> Tensor:
        """[K + 1, K] preferences by which the best epoch is told: the middle and the corners."""
        count = len(self.knobs.names)
        return torch.cat([torch.full((1, count), 1 / count), torch.eye(count)])

    @cached_property
    def identity(self) -> str:
        """Of everything that the training follows from: data, options and versions."""
        options = {name: value for name, value in self.config.as_dict().items() if name not in ("data", "preferences")}
        content = {
            "options": options,
            "data": self.base.data.fingerprint,
            "versions": {"cotrain": __version__, "torch": torch.__version__},
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _by_name(groups: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    return {group: members_of(group) for group in groups}


def _too_many(names: tuple[str, ...], grouped: bool) -> str:
    what = "groups" if grouped else "targets"
    return (
        f"There are {len(names)} {what}, and a preference over more than {MOST_KNOBS} can hardly be trained or chosen."
        f' Join {what}: --groups "{"+".join(names[: len(names) // 2])},{"+".join(names[len(names) // 2 :])}" for'
        " example; or give the folder of a study, whose groups are taken."
    )
