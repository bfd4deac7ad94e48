"""Second step: from the measured affinities to groups under the budget."""

from dataclasses import asdict

import torch

from cotrain.affinity import Affinity
from cotrain.errors import StudyError
from cotrain.files import write_json
from cotrain.grouping import Group, Grouping, PairMean, select_groups
from cotrain.study.clusters import CLUSTER_FILE, cluster_grouping, cluster_study, write_clusters
from cotrain.study.config import StudyConfig
from cotrain.study.folder import StudyFolder
from cotrain.study.setting import Setting
from cotrain.study.verdict import unchecked

__all__ = ["choose_groups", "decide", "decided_files", "learnable_tasks", "predicted_gains", "read_grouping"]


def decide(folder: StudyFolder, setting: Setting) -> None:
    """Choose the groups of the tasks that can be learnt, and write grouping.json.

    Tasks that cannot be told from chance are left out: no network can serve them, and as helpers they only add
    noise.
    """
    config, learnable = setting.config, learnable_tasks(folder)
    measured = folder.read_json("measure.json")
    grouping = choose_groups(folder, config)
    if config.method == "data-maps":
        write_clusters(folder, config, cluster_study(folder, config))
        how = f"kinship in {config.features} features of the data maps of {measured['runs']} runs"
    else:
        how = f"pair mean of the {measured['estimator']} affinity"
    record = grouping.as_dict()
    del record["seconds"]  # the only part that is not the same in every run
    write_json(
        folder.path / "grouping.json",
        {
            "budget": config.budget,
            "grouping": record,
            "noise": [task for task in setting.data.tasks.names if task not in learnable],
            "method": config.method,
            "prediction": how,
            "verdict": asdict(unchecked(grouping.n_networks)),
        },
    )


def decided_files(config: StudyConfig) -> list[str]:
    """The files that `decide` writes."""
    return ["grouping.json", CLUSTER_FILE] if config.method == "data-maps" else ["grouping.json"]


def choose_groups(folder: StudyFolder, config: StudyConfig) -> Grouping:
    """The best groups of the learnable tasks by the measured affinities, or their clusters by data maps.

    Args:
        folder: A study that is measured.
        config: Method and budget; largest group and time limit, or features and fuzziness.

    Raises:
        StudyError: If no task can be learnt.
    """
    learnable = learnable_tasks(folder)
    if not learnable:
        raise StudyError(
            "No task could be told from chance on the validation samples, so there is nothing to group."
            " Look at the targets and inputs, or train longer with --epochs."
        )
    if config.method == "data-maps":
        return cluster_grouping(cluster_study(folder, config))
    gains = predicted_gains(folder)
    if gains is None:
        return Grouping((Group(tuple(learnable), tuple(learnable)),))
    return select_groups(gains, budget=config.budget, max_size=config.max_size, time_limit=config.solver_seconds)


def read_grouping(folder: StudyFolder) -> Grouping:
    """The chosen groups."""
    return Grouping.from_dict(folder.read_json("grouping.json")["grouping"])


def learnable_tasks(folder: StudyFolder) -> list[str]:
    """The tasks that were told from chance, in order."""
    return [task["name"] for task in folder.read_json("measure.json")["tasks"] if task["learnable"]]


def predicted_gains(folder: StudyFolder) -> PairMean | None:
    """The pair mean of the measured affinities among the learnable tasks: scores, not yet gains.

    None for fewer than two learnable tasks, which have no pairs. A pair that was observed too seldom for an error
    bar has the spread of its target's column as one; a pair that was never observed has no known effect, 0 with
    that error bar.
    """
    tasks = learnable_tasks(folder)
    if len(tasks) < 2:
        return None
    affinity = Affinity.from_csv(folder.path / "affinity.csv")
    rows = [affinity.tasks.index(task) for task in tasks]
    matrix = affinity.matrix[rows][:, rows].fill_diagonal_(0.0).nan_to_num()
    stderr = affinity.stderr[rows][:, rows].fill_diagonal_(0.0)
    stderr = torch.where(stderr.isnan(), matrix.std(dim=0, correction=0), stderr)
    return PairMean(matrix.numpy(), tasks, stderr=stderr.numpy())
