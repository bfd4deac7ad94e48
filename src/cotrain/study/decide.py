"""From what is known of the tasks to groups under the budget."""

from dataclasses import asdict, replace

from cotrain.errors import StudyError
from cotrain.files import write_json
from cotrain.grouping import Group, Grouping, cluster_affinity, select_groups
from cotrain.study.clusters import CLUSTER_FILE, cluster_grouping, cluster_study, write_clusters
from cotrain.study.config import TRAINING_METHODS, StudyConfig
from cotrain.study.folder import StudyFolder
from cotrain.study.gain_models import basis, learnable_affinity, learnable_tasks, predicted_gains, trained_table
from cotrain.study.setting import Setting
from cotrain.study.verdict import unchecked

__all__ = ["choose_groups", "decide", "decided_files", "read_grouping", "some_learnable"]


def decide(folder: StudyFolder, setting: Setting) -> None:
    """Choose the groups of the tasks that can be learnt, and write grouping.json.

    Tasks that cannot be told from chance are left out: no network can serve them, and as helpers they only add
    noise.
    """
    config, learnable = setting.config, learnable_tasks(folder)
    grouping = choose_groups(folder, config)
    if config.method == "data-maps":
        write_clusters(folder, config, cluster_study(folder, config))
    record = grouping.as_dict()
    del record["seconds"]  # the only part that is not the same in every run
    write_json(
        folder.path / "grouping.json",
        {
            "budget": config.budget,
            "grouping": record,
            "noise": [task for task in setting.data.tasks.names if task not in learnable],
            "method": config.method,
            "prediction": basis(folder, config, predicted_gains(folder, config)),
            "verdict": asdict(unchecked(grouping.n_networks, trained=config.method in TRAINING_METHODS)),
        },
    )


def decided_files(config: StudyConfig) -> list[str]:
    """The files that `decide` writes."""
    return ["grouping.json", CLUSTER_FILE] if config.method == "data-maps" else ["grouping.json"]


def choose_groups(folder: StudyFolder, config: StudyConfig) -> Grouping:
    """The groups of the learnable tasks that the method of the configuration chooses.

    With --method search only groups that were really trained are chosen, so that none is taken because its
    prediction happened to be too high. A choice by predicted gains says what these rest on.

    Args:
        folder: A study that is measured, and has trained groups where the method needs them.
        config: Method and budget; largest group and time limit, or features and fuzziness.

    Raises:
        StudyError: If no task can be learnt, or the method needs trained groups and there are none.
    """
    learnable = some_learnable(folder)
    if config.method == "data-maps":
        return cluster_grouping(cluster_study(folder, config))
    if len(learnable) < 2:
        return Grouping((Group(tuple(learnable), tuple(learnable)),))
    if config.method == "affinity-clusters":
        n_clusters = min(config.budget, len(learnable))
        matrix, _ = learnable_affinity(folder)
        limit = config.solver_seconds
        return cluster_affinity(matrix, learnable, n_clusters, time_limit=limit, seed=config.seed).grouping
    gains = trained_table(folder) if config.method == "search" else predicted_gains(folder, config)
    assert gains is not None
    found = select_groups(gains, budget=config.budget, max_size=config.max_size, time_limit=config.solver_seconds)
    return found if config.method == "search" else replace(found, basis=basis(folder, config, gains))


def some_learnable(folder: StudyFolder) -> list[str]:
    """The learnable tasks.

    Raises:
        StudyError: If there is none.
    """
    learnable = learnable_tasks(folder)
    if not learnable:
        raise StudyError(
            "No task could be told from chance on the validation samples, so there is nothing to group."
            " Look at the targets and inputs, or train longer with --epochs."
        )
    return learnable


def read_grouping(folder: StudyFolder) -> Grouping:
    """The chosen groups."""
    return Grouping.from_dict(folder.read_json("grouping.json")["grouping"])
