"""Second step: from the measured affinities to groups under the budget."""

from cotrain.affinity import Affinity
from cotrain.errors import StudyError
from cotrain.files import write_json
from cotrain.grouping import Group, Grouping, PairMean, select_groups
from cotrain.study.folder import StudyFolder
from cotrain.study.setting import Setting

__all__ = ["decide", "learnable_tasks", "predicted_gains", "read_grouping"]


def decide(folder: StudyFolder, setting: Setting) -> None:
    """Choose the groups of the tasks that can be learnt, and write grouping.json.

    Tasks that cannot be told from chance are left out: no network can serve them, and as helpers they only add
    noise.
    """
    config = setting.config
    learnable = learnable_tasks(folder)
    if not learnable:
        raise StudyError(
            "No task could be told from chance on the validation samples, so there is nothing to group."
            " Look at the targets and inputs, or train longer with --epochs."
        )
    if len(learnable) == 1:
        grouping = Grouping((Group(tuple(learnable), tuple(learnable)),))
    else:
        grouping = select_groups(
            predicted_gains(folder),
            budget=config.budget,
            max_size=config.max_size,
            time_limit=config.solver_seconds,
        )
    estimator = folder.read_json("measure.json")["estimator"]
    record = grouping.as_dict()
    del record["seconds"]  # the only part that is not the same in every run
    write_json(
        folder.path / "grouping.json",
        {
            "budget": config.budget,
            "grouping": record,
            "noise": [task for task in setting.data.tasks.names if task not in learnable],
            "prediction": f"pair mean of the {estimator} affinity",
        },
    )


def read_grouping(folder: StudyFolder) -> Grouping:
    """The chosen groups."""
    return Grouping.from_dict(folder.read_json("grouping.json")["grouping"])


def learnable_tasks(folder: StudyFolder) -> list[str]:
    """The tasks that were told from chance, in order."""
    return [task["name"] for task in folder.read_json("measure.json")["tasks"] if task["learnable"]]


def predicted_gains(folder: StudyFolder) -> PairMean:
    """The pair mean of the measured affinities among the learnable tasks: scores, not yet gains."""
    tasks = learnable_tasks(folder)
    affinity = Affinity.from_csv(folder.path / "affinity.csv")
    rows = [affinity.tasks.index(task) for task in tasks]
    stderr = affinity.stderr[rows][:, rows].fill_diagonal_(0.0)
    return PairMean(affinity.matrix[rows][:, rows].numpy(), tasks, stderr=stderr.numpy())
