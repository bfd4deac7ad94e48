"""What a front is held against: one network with equal weights, and a network per task, of the same budget."""

from pathlib import Path

import torch
from torch import nn

from cotrain.files import read_state, write_state
from cotrain.fleet import fit_fleet
from cotrain.model import random_state_kept
from cotrain.pareto import SeparateNetworks
from cotrain.progress import Listener
from cotrain.study.front_setting import FrontSetting

__all__ = ["EQUAL", "load_controls", "train_controls"]

EQUAL = 0
"""Position of the network with equal weights; those of the tasks follow in their order."""


def train_controls(setting: FrontSetting, path: Path, *, checkpoint: Path, progress: Listener) -> None:
    """Train the controls as the manifold is trained, and save their weights.

    Args:
        setting: Of the front: the same samples, epochs, batches, early stopping and optimizer.
        path: Of the weights.
        checkpoint: A folder from which an interrupted training goes on.
        progress: Of the trainings.
    """
    base, config = setting.base, setting.config
    n_tasks = len(base.data.tasks)
    fleet = fit_fleet(
        base.make_network,
        base.data.tasks,
        torch.cat([torch.ones(1, n_tasks), torch.eye(n_tasks)]),
        base.data.train.pair,
        base.data.valid.pair,
        epochs=base.epochs,
        batch_size=base.batch_size,
        optimizer=base.optimizer,
        patience=config.patience,
        seed=config.seed,
        checkpoint=checkpoint,
        progress=progress,
    )
    write_state(
        path, {"best_epochs": list(fleet.best_epochs), "networks": [dict(model.state_dict()) for model in fleet.models]}
    )


def load_controls(setting: FrontSetting, path: Path) -> SeparateNetworks:
    """The trained controls as a front of separate points: equal weights first, then every task alone."""
    base = setting.base
    networks: list[nn.Module] = []
    for state in read_state(path)["networks"]:
        with random_state_kept():
            network = base.make_network()
        network.load_state_dict(state)
        networks.append(network.eval())
    n_tasks = len(base.data.tasks)
    preferences = torch.cat([torch.full((1, n_tasks), 1 / n_tasks), torch.eye(n_tasks)])
    return SeparateNetworks(networks, base.data.tasks, preferences)
