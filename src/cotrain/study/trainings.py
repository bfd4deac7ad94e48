"""Between measuring and deciding: groups are really trained, to learn which ones to choose."""

import hashlib
import json
import math
from collections.abc import Sequence
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cotrain.files import write_json
from cotrain.fleet import fit_fleet
from cotrain.grouping import MeasuredLosses, Names, Round, StackedGains, search_groups
from cotrain.progress import Listener, share_of
from cotrain.study.arms import weight_rows
from cotrain.study.folder import StudyFolder
from cotrain.study.gain_models import TRAININGS_FILE, backends, learnable_tasks
from cotrain.study.search_candidates import search_candidates
from cotrain.study.setting import Setting

__all__ = ["STEP", "train_to_learn"]

STEP = "search"
PER_ROUND = 4
"""A round trains a quarter as many groups as there are tasks: a fleet trains several at once faster, and every round
learns from those before."""


def train_to_learn(folder: StudyFolder, setting: Setting, identity: object, progress: Listener) -> None:
    """Train groups on the samples of the check, and write trainings.json with their validation losses.

    With --method search the tasks alone, then groups that `search_groups` chooses; with --method pairs the tasks
    alone and all pairs. Their seed is none of the check's, whose gains must not be known before.

    Args:
        folder: A study that is measured.
        setting: Of the study.
        identity: All that the trainings follow from, as JSON values: what an interrupted step has trained is used
            only if this is the same.
        progress: Of the trainings.
    """
    tasks = tuple(learnable_tasks(folder))
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    log = folder.checkpoint(STEP) / f"{digest}.jsonl"
    n_pairs = len(tasks) * (len(tasks) - 1) // 2
    limit = setting.config.trainings or (len(tasks) + n_pairs if setting.config.method == "pairs" else 2 * len(tasks))
    losses: list[dict[str, float]] = []
    rounds: tuple[Round, ...] = ()
    settled = False
    if len(tasks) >= 2:
        train = _Trainer(folder, setting, tasks, limit, progress)
        if setting.config.method == "pairs":
            measured = MeasuredLosses(tasks, train, log=log)
            every = measured.train([*((task,) for task in tasks), *combinations(tasks, 2)])
            rounds, table = (Round(tuple(every), "first", math.nan, math.nan),), measured.table()
        else:
            found = search_groups(
                train,
                partial(StackedGains, backends=backends(folder)),
                tasks=tasks,
                budget=setting.config.budget,
                trainings=limit,
                singles=True,
                batch=max(1, len(tasks) // PER_ROUND),
                max_size=setting.config.max_size,
                candidates=search_candidates(
                    tasks, setting.config.budget, setting.config.max_size, setting.config.seed
                ),
                grow=True,
                log=log,
                seed=setting.config.seed,
            )
            rounds, table, settled = found.rounds, found.table, found.settled
        for group, gains in zip(table.groups, table.gains, strict=True):
            values = table.single_losses * (1 - gains)
            losses.append({task: float(value) for task, value in zip(tasks, values, strict=True) if task in group})
    write_json(
        folder.path / TRAININGS_FILE,
        {
            "tasks": list(tasks),
            "limit": limit,
            "settled": settled,
            "rounds": [_record(done) for done in rounds],
            "losses": [{"loss": entry} for entry in losses],
        },
    )


class _Trainer:
    """Trains groups as one fleet; gives the validation losses of the learnable tasks."""

    def __init__(self, folder: StudyFolder, setting: Setting, tasks: Names, limit: int, progress: Listener) -> None:
        self._folder, self._setting, self._tasks, self._limit, self._progress = folder, setting, tasks, limit, progress
        self._done = 0

    def __call__(self, groups: Sequence[Names]) -> NDArray[Any]:
        setting, names = self._setting, self._setting.data.tasks.names
        fleet = fit_fleet(
            setting.make_network,
            setting.data.tasks,
            weight_rows(groups, names),
            setting.check_train,
            setting.data.valid.pair,
            epochs=setting.epochs,
            batch_size=setting.batch_size,
            optimizer=setting.optimizer,
            patience=setting.config.patience,
            seed=setting.config.seed + setting.config.seeds,
            checkpoint=self._folder.checkpoint(STEP) / _name_of(groups),
            progress=share_of(self._progress, self._done, len(groups), self._limit, "trainings"),
        )
        self._done += len(groups)
        losses = fleet.valid_losses[:, [names.index(task) for task in self._tasks]].double().numpy()
        return np.where([[task in group for task in self._tasks] for group in groups], losses, np.nan)


def _name_of(groups: Sequence[Names]) -> str:
    """Of a checkpoint: the same groups, the same name."""
    return hashlib.sha256(json.dumps([list(group) for group in groups]).encode()).hexdigest()[:16]


def _record(done: Round) -> dict[str, Any]:
    def plain(value: float) -> float | None:
        return value if math.isfinite(value) else None

    return {
        "trained": [list(group) for group in done.trained],
        "why": done.why,
        "expected": plain(done.expected),
        "value": plain(done.value),
    }
