"""Third step: really train every arm, once per seed, all networks of a seed as one fleet."""

import math
from collections.abc import Mapping
from pathlib import Path

from cotrain.errors import StudyError
from cotrain.files import write_json
from cotrain.fleet import fit_fleet
from cotrain.progress import Listener
from cotrain.study.arms import Arm, is_kept, make_arms, networks_of, weight_rows
from cotrain.study.clusters import control_groupings
from cotrain.study.decide import read_grouping
from cotrain.study.folder import StudyFolder
from cotrain.study.setting import Setting
from cotrain.study.weights import save_network

__all__ = ["RANDOM_COVERS", "arms_of", "check_files", "check_seed", "network_file", "refuse_infinite", "results_file"]

RANDOM_COVERS = {"none": 0, "quick": 1, "full": 3}


def arms_of(folder: StudyFolder, setting: Setting, seed: int) -> list[Arm]:
    """The arms of the check with one seed; only those that chance has drawn differ between seeds.

    Drawn anew for every seed, they put the luck of their draw into the interval of their comparison.
    """
    n_random = RANDOM_COVERS[setting.config.check]
    controls = control_groupings(folder, seed) if setting.config.method == "data-maps" else None
    return make_arms(setting.data.tasks.names, read_grouping(folder), n_random, seed, controls)


def check_files(folder: StudyFolder, setting: Setting, seed: int) -> list[str]:
    """The files that `check_seed` writes: results, and with the first seed the networks that may be used."""
    files = [results_file(seed)]
    if seed == setting.config.seed:
        arms = [arm for arm in arms_of(folder, setting, seed) if is_kept(arm.name)]
        files += [network_file(number) for number in range(len(networks_of(arms)))]
    return files


def check_seed(folder: StudyFolder, setting: Setting, seed: int, progress: Listener) -> None:
    """Train all networks of all arms with one seed, and write their test results."""
    config, data = setting.config, setting.data
    arms = arms_of(folder, setting, seed)
    networks = networks_of(arms)
    fleet = fit_fleet(
        setting.make_network,
        data.tasks,
        weight_rows(networks, data.tasks.names),
        setting.check_train,
        data.valid.pair,
        epochs=setting.epochs,
        batch_size=setting.batch_size,
        optimizer=setting.optimizer,
        patience=config.patience,
        seed=seed,
        checkpoint=folder.checkpoint(step_name(seed)),
        progress=progress,
    )
    evaluations = dict(zip(networks, fleet.evaluate(data.test.pair), strict=True))
    for trains, evaluation in evaluations.items():
        refuse_infinite({task: evaluation.loss_of(task) for task in trains}, trains)
    results = [
        {
            "trains": list(trains),
            "best_epoch": best_epoch,
            "loss": {task: evaluation.loss_of(task) for task in trains},
            "metrics": {
                task: {
                    name: value if math.isfinite(value) else None
                    for name, value in {**evaluation.metrics[task], "loss": evaluation.loss_of(task)}.items()
                }
                for task in trains
            },
        }
        for (trains, evaluation), best_epoch in zip(evaluations.items(), fleet.best_epochs, strict=True)
    ]
    if seed == config.seed:
        served = {group.trains: group.serves for arm in arms for group in arm.groups if is_kept(arm.name)}
        for number, trains in enumerate(networks):
            if trains in served:
                save_network(folder.path / network_file(number), fleet.models[number], setting, trains, served[trains])
    write_json(folder.path / results_file(seed), {"one_by_one": fleet.one_by_one, "networks": results})


def step_name(seed: int) -> str:
    """Of the step that checks with this seed."""
    return f"check-{seed}"


def results_file(seed: int) -> str:
    """Where the test results of a seed's networks are."""
    return str(Path("check") / f"seed-{seed}.json")


def network_file(number: int) -> str:
    """Where a network of the first seed is; the numbers are those of `networks_of`."""
    return str(Path("models") / f"network-{number:02d}.safetensors")


def refuse_infinite(losses: Mapping[str, float], trains: tuple[str, ...]) -> None:
    """Stop where a test loss is NaN or infinite, with the tasks that the network was trained on."""
    bad = [task for task, loss in losses.items() if not math.isfinite(loss)]
    if bad:
        raise StudyError(
            f"The test loss of {bad}, trained on {list(trains)}, is NaN or infinite, so nothing can be compared."
            " Look for extreme values among the test samples, or try a lower --learning_rate."
        )
