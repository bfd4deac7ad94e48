"""After the check: the networks of several tasks once more, with their gradients combined in another way."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cotrain.aggregation import TransferenceAggregation, named
from cotrain.evaluation import evaluate
from cotrain.files import write_json
from cotrain.model import random_state_kept
from cotrain.progress import Listener, share_of
from cotrain.study.aggregation_comparison import compared_with_the_sum
from cotrain.study.arms import is_kept, networks_of
from cotrain.study.check import arms_of, network_file, refuse_infinite
from cotrain.study.config import StudyConfig
from cotrain.study.folder import StudyFolder
from cotrain.study.setting import Setting
from cotrain.study.weights import save_network
from cotrain.task import TaskSet
from cotrain.training import fit
from cotrain.version import __version__

__all__ = ["aggregation_file", "train_aggregated"]


def train_aggregated(
    config: StudyConfig, folder: StudyFolder, name: str, *, bar: Callable[[str], AbstractContextManager[Listener]]
) -> None:
    """Train every network of several tasks with its gradients combined, and compare with the plain sum.

    These are the network of all tasks and those of the chosen groups. They start from the weights, and see the samples
    in the order, of the check's, once per seed of the check; what is trained already is not trained again. Written are
    the test losses of every seed, the networks of the first one, and the comparison, `aggregation_file(name)`. IT-MTL's
    choices over time are kept with every network, by stretches of steps (at most 200).

    Args:
        config: Of the study.
        folder: Of a study that is checked.
        name: One of `cotrain.aggregation.aggregation_names()`, with its default options.
        bar: Shows the progress of a seed.

    Raises:
        UnknownNameError: If there is no aggregation of that name.
        ImportError: If it needs an extra that is not installed.
        CotrainError: If a training diverges; what was finished is kept.
    """
    name = name.lower()
    named(name)
    setting = Setting.load(config)
    depends = {
        "config": config.as_dict(),
        "data": setting.data.fingerprint,
        "versions": {"cotrain": __version__, "torch": torch.__version__, "torchjd": _version_of("torchjd")},
        "checked": folder.digests(["grouping.json", "metrics.json"]),
        "aggregation": name,
    }
    results = []
    for number in range(config.seeds):
        seed = config.seed + number

        def trained(seed: int = seed, number: int = number) -> None:
            with bar(f"Combine gradients by {name}: seed {number + 1} of {config.seeds}") as progress:
                _train_seed(folder, setting, name, seed, progress)

        networks = _networks(folder, setting, seed)
        files = [_results_file(name, seed)]
        if seed == config.seed:
            files += [_network_file(name, network.number) for network in networks]
        folder.step(_step(name, seed), {**depends, "seed": seed}, files, trained)
        results += files
    after = {**depends, "trained": folder.digests(results)}
    folder.step(f"aggregation-{name}", after, [aggregation_file(name)], lambda: _compare(folder, setting, name))


def aggregation_file(name: str) -> str:
    """Where the comparison of an aggregation with the plain sum is."""
    return str(Path("aggregation") / f"{name.lower()}.json")


@dataclass(frozen=True)
class _Network:
    """A network of several tasks: its number in the check, and its tasks."""

    number: int
    trains: tuple[str, ...]
    serves: tuple[str, ...]


def _networks(folder: StudyFolder, setting: Setting, seed: int) -> list[_Network]:
    arms = arms_of(folder, setting, seed)
    serves = {group.trains: group.serves for arm in arms if is_kept(arm.name) for group in arm.groups}
    return [
        _Network(number, trains, serves[trains])
        for number, trains in enumerate(networks_of(arms))
        if len(trains) > 1 and trains in serves
    ]


def _train_seed(folder: StudyFolder, setting: Setting, name: str, seed: int, progress: Listener) -> None:
    records = []
    networks = _networks(folder, setting, seed)
    for position, network in enumerate(networks):
        part = share_of(progress, position, 1, len(networks), "network")
        records.append(_trained(folder, setting, name, seed, network, part))
    write_json(folder.path / _results_file(name, seed), {"aggregation": name, "networks": records})


def _trained(
    folder: StudyFolder, setting: Setting, name: str, seed: int, network: _Network, progress: Listener
) -> dict[str, Any]:
    data, config = setting.data, setting.config
    with random_state_kept():
        torch.manual_seed(seed)
        model = setting.make_network()
    aggregation = named(name)
    inputs, targets = setting.check_train
    result = fit(
        model,
        data.tasks,
        (inputs, _targets_of(network, data.tasks, targets)),
        (data.valid.inputs, _targets_of(network, data.tasks, data.valid.targets)),
        epochs=setting.epochs,
        batch_size=setting.batch_size,
        aggregation=aggregation,
        optimizer=setting.optimizer,
        patience=config.patience,
        seed=seed,
        checkpoint=folder.checkpoint(_step(name, seed)) / f"{network.number:02d}",
        progress=progress,
    )
    evaluation = evaluate(result.model, result.tasks, data.test.pair)
    losses = {task: evaluation.loss_of(task) for task in network.trains}
    refuse_infinite(losses, network.trains)
    if seed == config.seed:
        path = folder.path / _network_file(name, network.number)
        save_network(path, result.model, setting, network.trains, network.serves)
    # Of the whole training, also past the best epoch.
    choices = {"choices": aggregation.record().as_dict()} if isinstance(aggregation, TransferenceAggregation) else {}
    return {
        **choices,
        "trains": list(network.trains),
        "best_epoch": result.best_epoch,
        "skipped_steps": getattr(aggregation, "skipped_steps", 0),
        "loss": losses,
        "metrics": {
            task: {key: value if math.isfinite(value) else None for key, value in evaluation.metrics[task].items()}
            for task in network.trains
        },
    }


def _targets_of(network: _Network, tasks: TaskSet, targets: Tensor) -> Tensor:
    """[N, T] with no labels for the tasks that the network does not train: their heads stay as they begin."""
    trained = torch.tensor([task in network.trains for task in tasks.names])
    return torch.where(trained, targets, torch.nan)


def _compare(folder: StudyFolder, setting: Setting, name: str) -> None:
    networks = _networks(folder, setting, setting.config.seed)
    records = folder.read_json(_results_file(name, setting.config.seed))["networks"]
    write_json(
        folder.path / aggregation_file(name),
        {
            "aggregation": name,
            **compared_with_the_sum(folder, setting, partial(_results_file, name)),
            "networks": [
                {
                    "trains": list(network.trains),
                    "serves": list(network.serves),
                    "model": _network_file(name, network.number),
                    **({"choices": record["choices"]} if "choices" in record else {}),
                }
                for network, record in zip(networks, records, strict=True)
            ],
        },
    )


def _step(name: str, seed: int) -> str:
    return f"aggregation-{name}-{seed}"


def _results_file(name: str, seed: int) -> str:
    return str(Path("aggregation") / name / f"seed-{seed}.json")


def _network_file(name: str, number: int) -> str:
    return str(Path("models") / name / Path(network_file(number)).name)


def _version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
