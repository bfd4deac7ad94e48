"""First step: train all tasks together, with the instruments on."""

import math
import os
import platform
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import Tensor, nn

from cotrain.affinity import (
    MASTERED,
    Affinity,
    DataMap,
    DataMaps,
    Learnability,
    Transference,
    label_correlation,
    learnability,
    mastery,
    measuring_price,
)
from cotrain.evaluation import packed_outputs
from cotrain.files import write_atomically, write_json
from cotrain.instrument import Instrument
from cotrain.model import random_state_kept
from cotrain.progress import Listener, share_of
from cotrain.study.features import FEATURE_FILE, pair_matrices, write_pair_matrices
from cotrain.study.folder import StudyFolder
from cotrain.study.linearized import LINEARIZED_FILE, write_linearized
from cotrain.study.setting import Setting
from cotrain.study.thumbnails import THUMBNAIL_FILE, write_thumbnails
from cotrain.study.weights import save_network
from cotrain.training import Fit, fit

__all__ = ["MEASURED_FILES", "measure"]

MEASURED_FILES = (
    "affinity.csv",
    "measure.json",
    "data_maps.safetensors",
    FEATURE_FILE,
    LINEARIZED_FILE,
    THUMBNAIL_FILE,
    "models/all-in-one.safetensors",
)
MEASURING_BUDGET = 2.0
"""What measuring may add to the training that is measured, in plain trainings."""
FEWEST_MEASUREMENTS = 10
"""From so many on an affinity has an error bar."""


def measure(folder: StudyFolder, setting: Setting, progress: Listener) -> None:
    """Train all tasks in one network and write affinities, data maps, noise flags and the network.

    Further runs, with other seeds, leave what they say of every pair of tasks.
    """
    data, config = setting.data, setting.config
    model = _network(setting, config.seed)
    # Early stopping comes after `patience` + 1 epochs at the earliest.
    fewest_steps = min(setting.epochs, config.patience + 1) * math.ceil(len(data.train) / setting.batch_size)
    every = config.every or measuring_interval(measuring_price(config.estimator, len(data.tasks)), fewest_steps)
    transference = Transference(model, data.tasks, estimator=config.estimator, every=every, seed=config.seed)
    data_map = DataMap(len(data.train), data.tasks)
    n_runs = setting.runs
    result = _train(folder, setting, 0, model, [transference, data_map], share_of(progress, 0, 1, n_runs, "run"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        affinity = transference.result()
        maps = data_map.result()
    outputs = packed_outputs(model, data.tasks, data.valid.pair)
    pairs = [pair_matrices(data.tasks, maps, outputs)]
    for run in range(1, n_runs):
        again, recorder = _network(setting, config.seed + run), DataMap(len(data.train), data.tasks)
        _train(folder, setting, run, again, [recorder], share_of(progress, run, 1, n_runs, "run"))
        pairs.append(_quiet_pairs(setting, recorder, again))
    flags = learnability(data.tasks, outputs, data.valid.targets)
    learned = mastery(data.tasks, outputs, data.valid.targets)
    correlation = label_correlation(data.tasks, data.train.targets)
    affinity.to_csv(folder.path / "affinity.csv", {"label_correlation": correlation})
    tensors = {
        "confidence": maps.confidence.numpy(),
        "variability": maps.variability.numpy(),
        "correctness": maps.correctness.numpy(),
    }
    write_atomically(folder.path / "data_maps.safetensors", lambda part: save_file(tensors, part))
    write_pair_matrices(folder.path / FEATURE_FILE, correlation, pairs)
    write_linearized(folder.path / LINEARIZED_FILE, model, setting)
    write_thumbnails(folder.path / THUMBNAIL_FILE, data.train.inputs, maps)
    save_network(folder.path / "models" / "all-in-one.safetensors", model, setting, data.tasks.names, data.tasks.names)
    summary = _summary(setting, affinity, flags, learned, maps.confidence, every)
    summary["runs"] = n_runs
    summary["epochs_trained"] = len(result.history)
    summary["warnings"] = [str(warning.message) for warning in caught]
    write_json(folder.path / "measure.json", summary)


def _network(setting: Setting, seed: int) -> nn.Module:
    with random_state_kept():
        torch.manual_seed(seed)
        return setting.make_network()


def _train(
    folder: StudyFolder, setting: Setting, run: int, model: nn.Module, instruments: Sequence[Instrument],
    progress: Listener,
) -> Fit:  # fmt: skip
    data, config = setting.data, setting.config
    return fit(
        model,
        data.tasks,
        data.train.pair,
        data.valid.pair,
        epochs=setting.epochs,
        batch_size=setting.batch_size,
        optimizer=setting.optimizer,
        patience=config.patience,
        instruments=instruments,
        seed=config.seed + run,
        checkpoint=folder.checkpoint("measure") / f"run-{run}.safetensors",
        progress=progress,
    )


def _quiet_pairs(setting: Setting, recorder: DataMap, model: nn.Module) -> dict[str, Tensor]:
    """What a further run says of every pair; warnings of its maps would be those of the first."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        maps: DataMaps = recorder.result()
    return pair_matrices(setting.data.tasks, maps, packed_outputs(model, setting.data.tasks, setting.data.valid.pair))


def measuring_interval(price: float, n_steps: int) -> int:
    """Steps between measurements, so that measuring adds about two plain trainings to the one that is measured.

    A short training is measured more often, for an error bar.

    Args:
        price: Of one measurement, in plain training steps.
        n_steps: Steps that the training has at least.
    """
    return max(1, min(math.ceil(price / MEASURING_BUDGET), n_steps // FEWEST_MEASUREMENTS))


def _summary(
    setting: Setting, affinity: Affinity, flags: Learnability, learned: Tensor, confidence: Tensor, every: int
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
                "mastery": _finite(float(learned[number])),
                "learned_by_everybody": bool(learned[number] >= MASTERED),
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
