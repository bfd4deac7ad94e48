"""Soft and sparse memberships, really trained: one weighted network per cluster, and one wider network instead."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cotrain.ensemble import Combination, combine, served_tasks
from cotrain.evaluation import packed_outputs
from cotrain.files import write_json
from cotrain.fleet import Fleet, fit_fleet
from cotrain.grouping import loss_weights, sparse_memberships
from cotrain.progress import Listener, share_of
from cotrain.study.clusters import read_memberships
from cotrain.study.folder import StudyFolder
from cotrain.study.network import make_wider, multiply_adds
from cotrain.study.setting import Setting

__all__ = ["WIDER", "check_memberships", "membership_file", "membership_step"]

WIDER = "wider"


@dataclass(frozen=True)
class _Variant:
    """Memberships that are trained and used for prediction: [T, K]."""

    name: str
    memberships: NDArray[np.float64]


def check_memberships(folder: StudyFolder, setting: Setting, seed: int, progress: Listener) -> None:
    """Train soft and sparse memberships and the wider network with one seed, and write their test losses."""
    soft = read_memberships(folder)
    variants = [_Variant("soft", soft), _Variant("sparse", sparse_memberships(soft)[0])]
    rows = np.concatenate([loss_weights(variant.memberships) for variant in variants])
    n_clusters = soft.shape[1]
    data, config = setting.data, setting.config
    wider = partial(make_wider, config.network, data.tasks, data.input_shape, config.width, n_clusters)
    fleet = _train(folder, setting, seed, setting.make_network, rows, share_of(progress, 0, 1, 2, "fleet"), "variants")
    ones = np.ones((1, len(data.tasks)))
    alone = _train(folder, setting, seed, wider, ones, share_of(progress, 1, 1, 2, "fleet"), WIDER)
    base = multiply_adds(setting.make_network(), data.input_shape)
    results = [*_combined(setting, fleet, variants)]
    whole = _Variant(WIDER, np.where(soft.sum(axis=1, keepdims=True) > 0, 1.0, 0.0))
    losses = _test_losses(setting, packed_outputs(alone.models[0], fleet.tasks, data.test.pair)[None], whole, "best")
    cost = multiply_adds(alone.models[0], data.input_shape) / base
    results.append({"variant": WIDER, "by": None, "networks": 1, "cost": cost, "loss": losses})
    write_json(folder.path / membership_file(seed), {"results": results})


def membership_step(seed: int) -> str:
    """Name of the step with this seed."""
    return f"memberships-{seed}"


def membership_file(seed: int) -> str:
    """Where the results with this seed are."""
    return f"check/memberships-{seed}.json"


def _train(
    folder: StudyFolder, setting: Setting, seed: int, make: Callable[[], nn.Module],
    rows: NDArray[np.float64], progress: Listener, name: str,
) -> Fleet:  # fmt: skip
    return fit_fleet(
        make,
        setting.data.tasks,
        torch.from_numpy(rows),
        setting.check_train,
        setting.data.valid.pair,
        epochs=setting.epochs,
        batch_size=setting.batch_size,
        optimizer=setting.optimizer,
        patience=setting.config.patience,
        seed=seed,
        checkpoint=folder.checkpoint(membership_step(seed)) / name,
        progress=progress,
    )


def _combined(setting: Setting, fleet: Fleet, variants: Sequence[_Variant]) -> Iterator[dict[str, object]]:
    """Test losses of every variant with every way to put its networks' predictions together."""
    outputs = torch.stack([packed_outputs(model, fleet.tasks, setting.data.test.pair) for model in fleet.models])
    first = 0
    for variant in variants:
        n_networks = variant.memberships.shape[1]
        own, first = outputs[first : first + n_networks], first + n_networks
        for by in get_args(Combination):
            losses = _test_losses(setting, own, variant, by)
            cost = float(n_networks)
            yield {"variant": variant.name, "by": by, "networks": n_networks, "cost": cost, "loss": losses}


def _test_losses(setting: Setting, outputs: Tensor, variant: _Variant, by: Combination) -> dict[str, float]:
    """Test loss of every task that has a network, from the outputs [K, N, O] of all networks."""
    tasks, test = setting.data.tasks, setting.data.test
    served = served_tasks(tasks, variant.memberships)
    columns = [tasks.names.index(name) for name in served.names]
    losses = served.losses(combine(outputs, tasks, variant.memberships, by), test.targets[:, columns])
    return dict(zip(served.names, losses.tolist(), strict=True))
