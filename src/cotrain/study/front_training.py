"""The training of a front: one Pareto manifold, resumable, with early stopping over a few fixed preferences."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cotrain.batches import batches, epoch_order
from cotrain.errors import StudyError, TrainingDivergedError
from cotrain.files import read_state, write_state
from cotrain.model import random_state_kept
from cotrain.pareto import ParetoManifold, ParetoObjective
from cotrain.progress import Listener
from cotrain.study.front_setting import FrontSetting
from cotrain.training import validation_losses

__all__ = ["TrainedFront", "new_manifold", "train_manifold"]


class TrainedFront:
    """A manifold in training: what it has come to, and a file from which it goes on.

    Args:
        setting: Of the front.
    """

    def __init__(self, setting: FrontSetting) -> None:
        self.setting = setting
        config = setting.config
        self.manifold = new_manifold(setting)
        self.objective = ParetoObjective(self.manifold, rays=config.rays, seed=config.seed)
        self.optimizer = torch.optim.Adam(
            self.manifold.parameter_groups(config.learning_rate), lr=config.learning_rate, fused=True
        )
        self.best_epoch, self.best_score = -1, math.inf
        self.best = self._copy()
        self.history: list[float] = []
        # At the start all preferences are alike, so that any of them gives every task's scale.
        self._scales = self._losses_at(setting.watched[0]).clamp(min=torch.finfo(torch.float64).tiny)

    @property
    def is_over(self) -> bool:
        """Whether all epochs are done, or there was no better one for too long."""
        done = len(self.history)
        return done >= self.setting.base.epochs or done - 1 - self.best_epoch > self.setting.config.patience

    def run_epoch(self, progress: Listener) -> None:
        """Train for an epoch, and score it."""
        setting, base, epoch = self.setting, self.setting.base, len(self.history)
        n_samples = len(base.data.train)
        steps = math.ceil(n_samples / base.batch_size)
        order = epoch_order(n_samples, setting.config.seed, epoch)
        self.manifold.train()
        for number, batch in enumerate(batches(base.data.train.pair, base.batch_size, order)):
            self.optimizer.zero_grad()
            try:
                self.objective.backward(batch)
            except TrainingDivergedError as error:
                raise TrainingDivergedError(f"At epoch {epoch}, step {number}: {error}") from error
            self.optimizer.step()
            progress(epoch * steps + number + 1, base.epochs * steps, f"epoch {epoch + 1}/{base.epochs}")
        self.history.append(self._score())
        if self.history[-1] < self.best_score:
            self.best_epoch, self.best_score, self.best = epoch, self.history[-1], self._copy()

    def save(self, path: Path) -> None:
        """Write everything after an epoch, whole or not at all."""
        write_state(
            path,
            {
                "settings": self._identity(),
                "manifold": self.manifold.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "objective": self.objective.state_dict(),
                "best": {"epoch": self.best_epoch, "score": self.best_score, "state": self.best},
                "history": self.history,
            },
        )

    def load(self, path: Path) -> None:
        """Go on from a file.

        Raises:
            StudyError: If it is of another training.
        """
        saved = read_state(path)
        if saved.get("settings") != self._identity():
            raise StudyError(f"{path} belongs to the training of another front. Delete it, and train anew.")
        self.manifold.load_state_dict(saved["manifold"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.objective.load_state_dict(saved["objective"])
        best = saved["best"]
        self.best_epoch, self.best_score, self.best = best["epoch"], best["score"], best["state"]
        self.history = list(saved["history"])

    def _score(self) -> float:
        """The validation loss in units of that before the training, each preference's weighted as it asks.

        Averaged over the corners and the middle of the simplex.
        """
        weights = self.manifold.knobs.task_weights(self.setting.watched).double()
        losses = torch.stack([self._losses_at(preference) for preference in self.setting.watched])
        score = float((weights * losses / self._scales).sum(1).mean())
        if not math.isfinite(score):
            raise TrainingDivergedError(
                f"A validation loss became NaN or infinite at epoch {len(self.history)}. Try a lower --learning_rate,"
                " and look for extreme values among the inputs and targets."
            )
        return score

    def _losses_at(self, preference: Tensor) -> Tensor:
        data = self.setting.base.data
        return validation_losses(self.manifold.export(preference), data.tasks, data.valid.pair).cpu()

    def _copy(self) -> dict[str, Any]:
        state = self.manifold.state_dict()
        return {name: value.detach().clone() if isinstance(value, Tensor) else value for name, value in state.items()}

    def _identity(self) -> str:
        return self.setting.identity


def new_manifold(setting: FrontSetting) -> ParetoManifold:
    """The untrained manifold of a front, the same for the same seed."""
    config = setting.config
    with random_state_kept():
        torch.manual_seed(config.seed)
        network = setting.base.make_network()
    return ParetoManifold(
        network, setting.base.data.tasks, config.form, rank=config.rank or 4, groups=setting.groups, seed=config.seed
    )


def train_manifold(setting: FrontSetting, *, checkpoint: Path, progress: Listener) -> TrainedFront:
    """Train a front's manifold, or the part of the training that is not done.

    Args:
        setting: Of the front.
        checkpoint: A file for the state after every epoch. If it is there, the training goes on from it and ends
            exactly as it would have without an interruption.
        progress: Called with the steps done and in all.

    Returns:
        With the weights of the best epoch in its manifold, in eval mode.

    Raises:
        TrainingDivergedError: If a loss is NaN or infinite.
        StudyError: If the checkpoint is of another training.
    """
    training = TrainedFront(setting)
    if checkpoint.exists():
        training.load(checkpoint)
    while not training.is_over:
        training.run_epoch(progress)
        training.save(checkpoint)
    training.manifold.load_state_dict(training.best)
    training.manifold.eval()
    return training
