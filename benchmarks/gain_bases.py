"""What one training of all tasks says about groups: affinities, and gains of its linearised stages.

The stages are a third, a half and two thirds of its best epoch. What is needed of a base to judge it is small, so it is
kept in the folder of the trainings: a benchmark that is started again goes on where it was.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from gain_trainings import BATCH, PATIENCE, RATE, Setting
from numpy.typing import NDArray

from cotrain import fit
from cotrain.affinity import JointProbes, LinearizedOutputs, Transference, label_correlation, linearized_outputs
from cotrain.grouping import GainTable, LinearizedGains
from cotrain.optimizers import adam

__all__ = ["STAGES", "Base", "base_of"]

DIRECTIONS, STAGES = 256, (1 / 3, 1 / 2, 2 / 3)
MIDDLE = STAGES.index(1 / 2)
WATCH_EVERY, PROBE_EVERY = 4, 8
SEED_OF_BASES = 10_000
"""The bases start from other weights than the truth."""

Groups = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Base:
    """What one training says.

    Args:
        affinities: [T, T] each, row = source: "transference" (TAG), "cosine", "joint probes" (PTG), "labels".
        gains: Of the asked groups and of all tasks but one: "stages" (their mean), "one stage" (the middle one), and
            both ", not shrunk". The means are those of `LinearizedGains`; with stages the standard deviation is that
            of a mixture, a little larger.
    """

    affinities: dict[str, NDArray[np.float64]]
    gains: dict[str, GainTable]


def base_of(setting: Setting, groups: Groups, folder: Path) -> Base:
    """From the folder, or trained and put there."""
    path = folder / f"{setting}-base.npz"
    tasks = tuple(setting.load()[0].names)
    asked = _with_probes(tasks, groups)
    if not path.exists():
        draft = path.with_suffix(".part")
        with draft.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **_arrays(setting, asked))
        draft.replace(path)
    try:
        with np.load(path) as kept:
            arrays = {name: kept[name] for name in kept.files}
    except zipfile.BadZipFile as error:
        raise SystemExit(f"{path} is cut off. Delete it.") from error
    named = {kind: _of_kind(arrays, kind) for kind in ("affinity", "mean", "std")}
    gains = {name: GainTable(tasks, asked, mean, named["std"][name]) for name, mean in named["mean"].items()}
    return Base(named["affinity"], gains)


def _arrays(setting: Setting, groups: Groups) -> dict[str, NDArray[np.float64]]:
    tasks, train, *_ = setting.load()
    affinities, (trains, valids) = _trained(setting)
    affinities["labels"] = label_correlation(tasks, train[1])
    found = {f"affinity/{name}": matrix.double().nan_to_num(0.0).numpy() for name, matrix in affinities.items()}
    models = [LinearizedGains(*split, replicates=2) for split in zip(trains, valids, strict=True)]
    order = [models[0].tasks.index(task) for task in tasks.names]
    mean, std = (
        np.stack(values)[:, :, order] for values in zip(*(model.predict(groups) for model in models), strict=True)
    )
    shrinkage = np.stack([model.shrinkage[:, order] for model in models])
    for end, scale in (("", np.ones_like(shrinkage)), (", not shrunk", shrinkage)):
        for name, part in (("stages", slice(None)), ("one stage", slice(MIDDLE, MIDDLE + 1))):
            gains, spread = (mean / scale)[part], (std / scale)[part]
            found[f"mean/{name}{end}"] = gains.mean(axis=0)
            found[f"std/{name}{end}"] = np.sqrt((spread**2).mean(axis=0) + gains.var(axis=0))
    return found


def _trained(
    setting: Setting,
) -> tuple[dict[str, torch.Tensor], tuple[list[LinearizedOutputs], list[LinearizedOutputs]]]:
    """One training of all tasks: its affinities, and its stages linearised on the training and validation samples."""
    tasks, train, valid, _ = setting.load()
    seed = SEED_OF_BASES + 100 * setting.seed

    def model():
        torch.manual_seed(seed)
        return setting.model(tasks, train[0])()

    def fitted(network, epochs: int, patience: int | None, watching):
        return fit(
            network, tasks, train, valid, epochs=epochs, batch_size=BATCH, optimizer=adam(RATE),
            patience=patience, seed=seed, instruments=watching,
        )  # fmt: skip

    network = model()
    watch = Transference(network, tasks, estimator="gram", every=WATCH_EVERY)
    probes = JointProbes(network, tasks, every=PROBE_EVERY)
    best = fitted(network, setting.epochs, PATIENCE, [watch, probes]).best_epoch + 1
    affinity = watch.result()
    affinities = {"transference": affinity.matrix, "cosine": affinity.cosine, "joint probes": probes.result().matrix}
    splits: tuple[list[LinearizedOutputs], list[LinearizedOutputs]] = ([], [])
    for number, stage in enumerate(STAGES):
        early = fitted(model(), max(1, round(stage * best)), None, []).model
        for found, split in zip(splits, (train, valid), strict=True):
            found.append(linearized_outputs(early, tasks, split, directions=DIRECTIONS, seed=number))
    return affinities, splits


def _with_probes(tasks: tuple[str, ...], groups: Groups) -> Groups:
    """And all tasks but one, which a stack without real groups asks for."""
    fewer = (tuple(other for other in tasks if other != task) for task in tasks)
    return tuple(dict.fromkeys([*groups, *fewer]))


def _of_kind(arrays: dict[str, NDArray[np.float64]], kind: str) -> dict[str, NDArray[np.float64]]:
    return {name.partition("/")[2]: values for name, values in arrays.items() if name.startswith(f"{kind}/")}
