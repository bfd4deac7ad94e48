"""`cotrain groups`: groups by any method that its source has, within any limits; nothing of a study is changed."""

import csv
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from cotrain.affinity import Affinity
from cotrain.errors import ArgumentsError, DataError, UnknownNameError
from cotrain.files import write_text
from cotrain.grouping import Clustering, GainTable, Grouping, cluster_affinity, partition_tasks, select_groups
from cotrain.study.clusters import cluster_grouping, cluster_study
from cotrain.study.config import CLUSTERING_METHODS, Method, StudyConfig
from cotrain.study.decide import choose_groups, read_grouping, some_learnable
from cotrain.study.folder import StudyFolder
from cotrain.study.gain_models import known_effects
from cotrain.study.group_models import Foresight, affinity_models, study_models, table_models
from cotrain.study.groups_config import GroupsConfig
from cotrain.study.run import Bar, run_study

__all__ = ["Answer", "answer"]

TABLE_SUFFIX = ".csv"
TABLE_COLUMNS = {"group", "task"}
AFFINITY_COLUMNS = {"source", "target", "affinity"}
AFFINITY_CLUSTERS = "affinity-clusters"
OPTION_OF = {
    "must_link ": "--together ",
    "cannot_link ": "--apart ",
    "served_alone ": "--alone ",
    "min_gain=": "--at_least ",
    "min_gain ": "--at_least ",
    "n_networks=": "--networks ",
    "n_networks ": "--networks ",
    "max_size=": "--max_size ",
    "max_size ": "--max_size ",
    "budget=": "--budget ",
    "kappa=": "--kappa ",
    "objective=": "--objective ",
    "helpers=False": "--partition",
    "GainTable.from_csv": "--column",
}
"""How the library's errors name a limit, and by which option it was given."""


@dataclass(frozen=True)
class Answer:
    """The chosen groups.

    Args:
        grouping: The groups.
        clustering: What they were made of, with --method data-maps.
        of_study: Whether they are the study's own, which its next steps train and check.
    """

    grouping: Grouping
    clustering: Clustering | None = None
    of_study: bool = False


def answer(config: GroupsConfig, *, bar: Bar) -> Answer:
    """Choose groups, and write them to `config.out` if it is given.

    Args:
        config: From what, how, and within which limits. Steps of a study up to its own choice are run if they are
            not done.
        bar: Shows the progress of these.

    Raises:
        ArgumentsError: If the source has no such method, an option does not fit it, or no choice is within all limits.
        CotrainError: If the source is no study or table, or lacks what the method needs.
    """
    source = Path(config.source)
    is_table = source.is_file() or source.suffix == TABLE_SUFFIX
    found = _from_csv(source, config) if is_table else _from_study(source, config, bar)
    if config.out is not None:
        write_text(Path(config.out), found.grouping.to_json() + "\n")
    return found


def _from_csv(source: Path, config: GroupsConfig) -> Answer:
    config.refuse("features", "fuzziness", because="clusters of a study's data maps")
    budget = config.most_networks
    if budget is None and not config.partition:
        raise ArgumentsError(
            "A table needs --budget, the most networks there may be (or --networks, exactly how many; or --partition)."
        )
    columns = _columns(source)
    if columns >= TABLE_COLUMNS:
        table = _measured(source, config, columns)
        models = table_models(table)
        method = _known(config.method or "measured", models, "A table of measured groups")
        return Answer(_within_limits(models[method](), config, budget))
    config.refuse("column", "std_column", because="tables of measured groups")
    if not columns >= AFFINITY_COLUMNS:
        raise DataError(
            f"{source} is neither a table of measured groups, with columns group, task and a loss or gain, nor one of"
            f" affinities, with columns source, target, affinity, stderr and observations. It has"
            f" {', '.join(sorted(columns)) or 'none'}."
        )
    affinity = Affinity.from_csv(source)
    models = affinity_models(affinity)
    method = _known(config.method or "transference", [*models, AFFINITY_CLUSTERS], "A table of affinities")
    if method != AFFINITY_CLUSTERS:
        return Answer(_within_limits(models[method](), config, budget))
    _refuse_limits(config, method)
    assert budget is not None, "without --partition there is a budget"
    with _by_options():
        matrix, _ = known_effects(affinity, affinity.tasks)
        return Answer(cluster_affinity(matrix, affinity.tasks, min(budget, len(affinity.tasks))).grouping)


def _measured(source: Path, config: GroupsConfig, columns: set[str]) -> GainTable:
    column = config.column or "test_loss"
    offered = ", ".join(name for name in sorted(columns) if "loss" in name.lower() or "gain" in name.lower()) or "none"
    if column not in columns:
        raise DataError(f"{source} has no column {column!r}. Name its losses or gains with --column. It has {offered}.")
    if "loss" not in column.lower() and "gain" not in column.lower():
        raise DataError(
            f"Column {column!r} of {source} has neither loss nor gain in its name, which says whether smaller is"
            f" better. Rename it, or take another with --column. It has {offered}."
        )
    return GainTable.from_csv(source, column, std_column=config.std_column)


def _from_study(source: Path, config: GroupsConfig, bar: Bar) -> Answer:
    config.refuse("column", "std_column", because="tables of measured groups")
    folder, study = StudyFolder.existing(source)
    models = study_models(folder, study)
    method = _known(config.method or study.method, [*models, *CLUSTERING_METHODS], "A study")
    if method != "data-maps" and (config.features or config.fuzziness):
        raise ArgumentsError("--features and --fuzziness belong to clusters: add --method data-maps.")
    if method in CLUSTERING_METHODS:
        _refuse_limits(config, method)
    asked = _asked(study, config, method)
    run_study(study, source, bar=bar, resume=True, last="decide")
    own = asked == study and method == study.method and not config.limits
    if method == "data-maps":
        clustering = cluster_study(folder, asked)
        return Answer(cluster_grouping(clustering), clustering, own)
    if own:
        return Answer(read_grouping(folder), of_study=True)
    if method == AFFINITY_CLUSTERS or len(some_learnable(folder)) < 2:
        return Answer(choose_groups(folder, asked))
    limited = config if config.max_size is not None else replace(config, max_size=study.max_size)
    return Answer(_within_limits(models[method](), limited, asked.budget, study.solver_seconds))


def _asked(study: StudyConfig, config: GroupsConfig, method: str) -> StudyConfig:
    """The study's configuration with what was asked for in its place; its method stays if a study cannot have it."""
    wishes = {
        "budget": config.most_networks,
        "features": config.features,
        "fuzziness": config.fuzziness,
    }
    changes: dict[str, Any] = {name: value for name, value in wishes.items() if value is not None}
    if method != study.method and method in get_args(Method):
        # What belongs to the study's own method only, and would be refused beside another.
        changes |= {"method": method, "trainings": None}
        changes |= {"max_size": None} if method in CLUSTERING_METHODS else {}
    return replace(study, **changes)


def _within_limits(
    foresight: Foresight, config: GroupsConfig, budget: int | None, time_limit: float = 60.0
) -> Grouping:
    model = foresight.model
    options: Any = {"time_limit": time_limit, "kappa": config.kappa, "objective": config.objective}
    options = {name: value for name, value in options.items() if value is not None}
    with _by_options():
        limits = config.constraints()
        if config.partition:
            found = partition_tasks(model, budget=budget, constraints=limits, **options)
        else:
            assert budget is not None, "without --partition there is a budget"
            found = select_groups(model, budget=budget, constraints=limits, **options)
    return replace(found, basis=foresight.basis)


def _columns(source: Path) -> set[str]:
    """The names in the first line; none if it is no text."""
    with source.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets put a mark before UTF-8
        try:
            return set(next(csv.reader(file), ()))
        except (UnicodeDecodeError, csv.Error):
            return set()


def _known(method: str, methods: Collection[str], what: str) -> str:
    if method not in methods:
        raise UnknownNameError(f"{what} has no method {method!r}. There are {', '.join(methods)}.")
    return method


def _refuse_limits(config: GroupsConfig, method: str) -> None:
    if config.limits:
        raise ArgumentsError(
            f"--method {method} makes as many clusters as --budget says, and no choice by gains. Leave out"
            f" {' and '.join(config.limits)}, or take another method."
        )


@contextmanager
def _by_options() -> Iterator[None]:
    """A limit that the library refuses was given by the user of the command line, who knows it by its option."""
    try:
        yield
    except ArgumentsError:
        raise
    except ValueError as error:
        words = str(error)
        for name, option in OPTION_OF.items():
            words = words.replace(name, option)
        raise ArgumentsError(words) from error
