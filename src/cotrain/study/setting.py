"""What all trainings of a study share: the data, the networks, the optimizer and their settings."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from cotrain.data import MultiTaskData, load
from cotrain.errors import ArgumentsError
from cotrain.optimizers import OptimizerFactory, adam
from cotrain.study.config import StudyConfig
from cotrain.study.network import make_network

__all__ = ["Setting"]

SMALL_DATA = 10_000
"""Up to so many training samples an epoch is short: more epochs, smaller batches."""
QUICK_SAMPLES = 12_000
"""Training samples of a quick check."""


@dataclass(frozen=True, eq=False)
class Setting:
    """The data of a study and how its networks are trained.

    Args:
        config: The study's configuration.
        data: The loaded data; regression tasks know their units.
    """

    config: StudyConfig
    data: MultiTaskData

    @classmethod
    def load(cls, config: StudyConfig) -> "Setting":
        """Load and check the data that the configuration names.

        Raises:
            CotrainError: If the data cannot be used, or the networks of the budget cannot hold all tasks.
        """
        data = load(
            config.data,
            targets=config.targets,
            seed=config.seed,
            flips=config.flips,
            task_set=config.task_set,
            kinds=config.kinds,
            missing_inputs=config.missing_inputs,
        )
        make_network(config.network, data.tasks, data.input_shape, config.width)
        _require_room(config, len(data.tasks))
        return cls(config, replace(data, tasks=data.tasks.with_units(data.train.targets)))

    @property
    def epochs(self) -> int:
        """The most epochs of a training."""
        return self.config.epochs or (100 if len(self.data.train) <= SMALL_DATA else 30)

    @property
    def runs(self) -> int:
        """How many networks are trained to measure."""
        return self.config.runs or (3 if self.config.method == "data-maps" else 1)

    @property
    def batch_size(self) -> int:
        """Samples per step."""
        return self.config.batch_size or (64 if len(self.data.train) <= SMALL_DATA else 256)

    @property
    def optimizer(self) -> OptimizerFactory:
        """Of every training."""
        return adam(self.config.learning_rate)

    @cached_property
    def check_train(self) -> tuple[Tensor, Tensor]:
        """The training samples of the check: all, or a seeded choice of them if it is quick."""
        train = self.data.train
        if self.config.check == "full" or len(train) <= QUICK_SAMPLES:
            return train.pair
        generator = torch.Generator().manual_seed(self.config.seed)
        chosen = torch.randperm(len(train), generator=generator)[:QUICK_SAMPLES]
        return train.inputs[chosen], train.targets[chosen]

    def make_network(self) -> nn.Module:
        """An untrained network for all tasks."""
        return make_network(self.config.network, self.data.tasks, self.data.input_shape, self.config.width)


def _require_room(config: StudyConfig, n_tasks: int) -> None:
    """Refuses networks that cannot hold all tasks, before anything is trained."""
    if config.max_size is not None and config.budget * config.max_size < n_tasks:
        raise ArgumentsError(
            f"--budget {config.budget} with --max_size {config.max_size} holds {config.budget * config.max_size} tasks,"
            f" and there are {n_tasks}. Raise --budget to {-(-n_tasks // config.max_size)} or --max_size to"
            f" {-(-n_tasks // config.budget)}, or name fewer --targets."
        )
