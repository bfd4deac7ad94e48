"""First step: train all tasks together once, with the instruments on."""

import math
import os
import platform
import warnings
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import Tensor

from cotrain.affinity import Affinity, DataMap, Learnability, Transference, label_correlation, learnability
from cotrain.evaluation import packed_outputs
from cotrain.files import write_atomically, write_json
from cotrain.model import random_state_kept
from cotrain.progress import Listener
from cotrain.study.folder import StudyFolder
from cotrain.study.setting import Setting
from cotrain.study.weights import save_network
from cotrain.training import fit

__all__ = ["MEASURED_FILES", "measure"]

MEASURED_FILES = ("affinity.csv", "measure.json", "data_maps.safetensors", "models/all-in-one.safetensors")
MEASURING_BUDGET = 2.0
"""What measuring may add to the training that is measured, in plain trainings."""
FEWEST_MEASUREMENTS = 10
"""From so many on an affinity has an error bar."""


def measure(folder: StudyFolder, setting: Setting, progress: Listener) -> None:
    """Train all tasks in one network and write affinities, data maps, noise flags and the network."""
    data, config = setting.data, setting.config
    with random_state_kept():
        torch.manual_seed(config.seed)
        model = setting.make_network()
    # Early stopping comes after `patience` + 1 epochs at the earliest.
    fewest_steps = min(setting.epochs, config.patience + 1) * math.ceil(len(data.train) / setting.batch_size)
    every = config.every or measuring_interval(len(data.tasks), fewest_steps)
    transference = Transference(model, data.tasks, estimator=config.estimator, every=every, seed=config.seed)
    data_map = DataMap(len(data.train), data.tasks)
    result = fit(
        model,
        data.tasks,
        data.train.pair,
        data.valid.pair,
        epochs=setting.epochs,
        batch_size=setting.batch_size,
        optimizer=setting.optimizer,
        patience=config.patience,
        instruments=[transference, data_map],
        seed=config.seed,
        checkpoint=folder.checkpoint("measure"),
        progress=progress,
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        affinity = transference.result()
    flags = learnability(data.tasks, packed_outputs(model, data.tasks, data.valid.pair), data.valid.targets)
    maps = data_map.result()
    correlation = label_correlation(data.tasks, data.train.targets)
    affinity.to_csv(folder.path / "affinity.csv", {"label_correlation": correlation})
    tensors = {
        "confidence": maps.confidence.numpy(),
        "variability": maps.variability.numpy(),
        "correctness": maps.correctness.numpy(),
    }
    write_atomically(folder.path / "data_maps.safetensors", lambda part: save_file(tensors, part))
    save_network(folder.path / "models" / "all-in-one.safetensors", model, setting, data.tasks.names, data.tasks.names)
    summary = _summary(setting, affinity, flags, maps.confidence, every)
    summary["epochs_trained"] = len(result.history)
    summary["warnings"] = [str(warning.message) for warning in caught]
    write_json(folder.path / "measure.json", summary)


def measuring_interval(n_tasks: int, n_steps: int) -> int:
    """Steps between measurements, so that measuring T tasks adds about two plain trainings.

    One exact measurement costs about T + 1 plain steps (see `Transference`), so one in T / 2 steps adds two plain
    trainings to the one that is measured. A short training is measured more often, for an error bar.

    Args:
        n_tasks: T.
        n_steps: Steps that the training has at least.
    """
    return max(1, min(math.ceil((n_tasks + 1) / MEASURING_BUDGET), n_steps // FEWEST_MEASUREMENTS))


def _summary(
    setting: Setting, affinity: Affinity, flags: Learnability, confidence: Tensor, every: int
) -> dict[str, Any]:
    data = setting.data
    mean_confidence = np.nanmean(confidence.numpy(), axis=0)
    return {
        "data": {
            "name": data.name,
            "n_train": len(data.train),
            "n_valid": len(data.valid),
            "n_test": len(data.test),
            "input_shape": list(data.input_shape),
            "fingerprint": data.fingerprint,
        },
        "estimator": affinity.estimator,
        "rule": affinity.rule,
        "every": every,
        "observations": affinity.n_observations,
        "cost_in_plain_steps": 1 + affinity.cost,
        "joint_step_lowers_loss": _finite(affinity.joint_descent),
        "tasks": [
            {
                "name": task.name,
                "kind": task.kind,
                "note": data.notes.get(task.name, ""),
                "learnable": bool(flags.learnable[number]),
                "statistic": flags.statistics[number],
                "value": _finite(float(flags.value[number])),
                "p_value": _finite(float(flags.p_value[number])),
                "confidence": _finite(float(mean_confidence[number])),
            }
            for number, task in enumerate(data.tasks)
        ],
        "parameters_per_network": sum(parameter.numel() for parameter in setting.make_network().parameters()),
        "versions": {
            "cotrain": version("cotrain"),
            "torch": torch.__version__,
            "numpy": version("numpy"),
            "scipy": version("scipy"),
            "python": platform.python_version(),
        },
        "machine": {"system": platform.platform(), "cores": os.cpu_count(), "threads": torch.get_num_threads()},
    }


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
