"""The data sets and networks that ways to combine gradients are compared on: two published pairs, six planted tasks."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cotrain import TaskSet
from cotrain.data import MultiTaskData, load_census_income, load_multi_fashion, make_planted_tasks

__all__ = ["DATA", "Network", "Problem"]


@dataclass(frozen=True)
class Problem:
    """One data set with its network.

    Args:
        title: For the table.
        load: Gives the data.
        trunk: Makes what all tasks share.
        head: Makes one task's own part, from the number of its outputs.
        rows: Training samples of a seed.
        epochs: Of a training.
        rate: Of Adam.
        batch: Samples per step.
    """

    title: str
    load: Callable[[], MultiTaskData]
    trunk: Callable[[], nn.Module]
    head: Callable[[int], nn.Module]
    rows: int
    epochs: int
    rate: float
    batch: int = 256


class Network(nn.Module):
    """A trunk and a head per task, or, with `apart`, a whole network per task: the single tasks, side by side.

    Args:
        problem: Makes the parts.
        tasks: The tasks.
        apart: Whether every task has a trunk of its own.
    """

    def __init__(self, problem: Problem, tasks: TaskSet, *, apart: bool = False) -> None:
        super().__init__()
        self.trunk: nn.Module = nn.ModuleList(problem.trunk() for _ in tasks) if apart else problem.trunk()
        self.heads = nn.ModuleList(problem.head(task.n_outputs) for task in tasks)

    def forward(self, inputs: Tensor) -> Tensor:
        """Packed outputs."""
        if isinstance(self.trunk, nn.ModuleList):
            features = [trunk(inputs) for trunk in self.trunk]
        else:
            features = [self.trunk(inputs)] * len(self.heads)
        return torch.cat([head(values) for head, values in zip(self.heads, features, strict=True)], dim=1)


def _lenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 10, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(10, 20, 5), nn.MaxPool2d(2), nn.ReLU(),
        nn.Flatten(), nn.Linear(320, 50), nn.ReLU(),
    )  # fmt: skip


def _planted() -> MultiTaskData:
    """Six tasks that quarrel over a narrow trunk: four of one group, and one each of two others."""
    data = make_planted_tasks(12, 3, n_samples=25_000, n_features=10, relatedness=0.8, seed=0)
    names = data.tasks.names
    return data.select([names[number] for number in (0, 3, 6, 9, 1, 2)])


DATA = {
    "multi-fashion": Problem(
        "MultiFashion: two overlaid images, LeNet (27,450 parameters)",
        load_multi_fashion,
        _lenet,
        lambda n_outputs: nn.Sequential(nn.Linear(50, 50), nn.ReLU(), nn.Linear(50, n_outputs)),
        rows=4000,
        epochs=5,
        rate=3e-3,
        batch=128,
    ),
    "census": Problem(
        "Census: age and education, MLP 468-256",
        lambda: load_census_income(task_set="pair"),
        lambda: nn.Sequential(nn.Linear(468, 256), nn.ReLU()),
        lambda n_outputs: nn.Linear(256, n_outputs),
        rows=6000,
        epochs=6,
        rate=1e-3,
    ),
    "planted": Problem(
        "Planted: four tasks of one group and two of others, through 3 shared units",
        _planted,
        lambda: nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 3)),
        lambda n_outputs: nn.Linear(3, n_outputs),
        rows=6000,
        epochs=6,
        rate=5e-3,
    ),
}
