"""What combining the gradients changed: the networks of several tasks beside those of the plain sum, over the seeds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from cotrain.metrics import primary_metric
from cotrain.study.arms import ALL_IN_ONE, GROUPED, Arm
from cotrain.study.check import arms_of, results_file
from cotrain.study.folder import StudyFolder
from cotrain.study.gain_models import learnable_tasks
from cotrain.study.setting import Setting
from cotrain.study.verdict import interval

__all__ = ["compared_with_the_sum"]

Networks = Mapping[tuple[str, ...], Mapping[str, Any]]
"""The record of a network by the tasks that it was trained on."""


def compared_with_the_sum(folder: StudyFolder, setting: Setting, results_of: Callable[[int], str]) -> dict[str, Any]:
    """An aggregation's test results in the arms that have networks of several tasks.

    Args:
        folder: Of a study that is checked.
        setting: Of the study.
        results_of: From a seed to the file of the networks that were trained with the aggregation. A network of a
            single task is that of the check.

    Returns:
        "checked", a digest of the check that it belongs to; "relative_loss" by arm, the total test loss over the
        learnable tasks relative to the same arm with the plain sum; "arms", every seed's losses and metrics by task in
        the form of metrics.json, and how many networks were trained again; "skipped_steps" of all seeds.
    """
    config, learnable = setting.config, learnable_tasks(folder)
    ratios: dict[str, list[float]] = {}
    arms: dict[str, dict[str, Any]] = {}
    skipped = 0
    for seed in range(config.seed, config.seed + config.seeds):
        plain, combined = _networks(folder, results_file(seed)), _networks(folder, results_of(seed))
        skipped += sum(record["skipped_steps"] for record in combined.values())
        for arm in arms_of(folder, setting, seed):
            if arm.name in (ALL_IN_ONE, GROUPED) and any(group.trains in combined for group in arm.groups):
                trained = {**plain, **combined}
                ratio = _total(arm, trained, learnable) / _total(arm, plain, learnable)
                ratios.setdefault(arm.name, []).append(ratio)
                n_networks = sum(group.trains in combined for group in arm.groups)
                record = arms.setdefault(arm.name, {"networks": n_networks, "results": []})
                record["results"].append({"seed": seed, **_by_task(arm, trained, setting)})
    return {
        "checked": folder.digests(["metrics.json"])["metrics.json"],
        "relative_loss": {arm: {**asdict(interval(values)), "per_seed": values} for arm, values in ratios.items()},
        "arms": arms,
        "skipped_steps": skipped,
    }


def _networks(folder: StudyFolder, file: str) -> Networks:
    return {tuple(record["trains"]): record for record in folder.read_json(file)["networks"]}


def _total(arm: Arm, networks: Networks, learnable: Sequence[str]) -> float:
    served = [(group.trains, task) for group in arm.groups for task in group.serves if task in learnable]
    return sum(float(networks[trains]["loss"][task]) for trains, task in served)


def _by_task(arm: Arm, networks: Networks, setting: Setting) -> dict[str, dict[str, Any]]:
    """Of every served task the loss and the metric that the tables show."""
    primary = {task.name: primary_metric(task) for task in setting.data.tasks}
    served = [(networks[group.trains], task) for group in arm.groups for task in group.serves]
    return {
        "loss": {task: record["loss"][task] for record, task in served},
        "metric": {
            task: {**record["metrics"][task], "loss": record["loss"][task]}[primary[task]] for record, task in served
        },
    }
