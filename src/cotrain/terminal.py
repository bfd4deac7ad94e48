"""What the command line prints: the outcome of a study as tables and plain sentences."""

import csv
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cotrain.data import DatasetInfo
from cotrain.grouping import Grouping
from cotrain.study import StudyFolder

__all__ = ["affinity_table", "dataset_table", "outcome_tables"]

MOST_ROWS = 40
"""Beyond this a table of tasks scrolls out of sight; the report shows them all."""
BEST_PAIRS = 15
ARMS = ("single", "all-in-one", "grouped")


def outcome_tables(out: Path) -> list[RenderableType]:
    """The groups, and if there was a check the arms, the tasks and the verdict."""
    folder, config = StudyFolder.existing(out)
    decided = folder.read_json("grouping.json")
    parts: list[RenderableType] = [Text(f"\n{Grouping.from_dict(decided['grouping'])}")]
    if decided["noise"]:
        parts.append(Text(f"Not told from chance, so left out of the groups: {', '.join(decided['noise'])}"))
    parts += [Text(f"Note: {words}") for words in folder.read_json("measure.json")["warnings"]]
    if config.check == "none":
        return [*parts, *_verdict(decided["verdict"])]
    metrics = folder.read_json("metrics.json")
    return [*parts, _arm_table(metrics), _task_table(metrics), *_verdict(metrics["verdict"])]


def affinity_table(out: Path) -> Table:
    """The pairs with the highest affinities."""
    with (out / "affinity.csv").open(encoding="utf-8", newline="") as file:
        pairs = [row for row in csv.DictReader(file) if row["source"] != row["target"] and row["affinity"]]
    pairs.sort(key=lambda row: -float(row["affinity"]))
    table = Table("training", "helps", "affinity", "std. error", title=f"The highest of {len(pairs)} affinities")
    for row in pairs[:BEST_PAIRS]:
        stderr = f"{float(row['stderr']):.2g}" if row["stderr"] else "unknown"
        table.add_row(Text(row["source"]), Text(row["target"]), f"{float(row['affinity']):.3g}", stderr)
    return table


def dataset_table(infos: Iterable[DatasetInfo]) -> Table:
    """What is built in, and where it is."""
    table = Table("name", "what", "files", show_lines=True)
    for info in infos:
        if not info.source.files:
            place = "ships with an installed package"
        elif info.found:
            place = f"in {info.found}"
        else:
            looked = "\n  ".join(str(folder) for folder in info.looked_in)
            place = f"not found; looked in\n  {looked}\nGet them with: cotrain datasets get {info.source.name}"
        table.add_row(info.source.name, info.source.description, Text(place, overflow="fold"))
    return table


def _verdict(verdict: Mapping[str, Any]) -> list[RenderableType]:
    headline = Text(f"\n{verdict['headline']}", style="bold")
    return [headline, *(Text(f"  {sentence}") for sentence in verdict["sentences"])]


def _arm_table(metrics: Mapping[str, Any]) -> Table:
    table = Table("arm", "networks", "total test loss, single = 1", "95 % interval", title="What real trainings say")
    for name, arm in metrics["arms"].items():
        loss = metrics["relative_loss"][name]
        interval = "" if loss["low"] is None or name == "single" else f"{loss['low']:.3f} to {loss['high']:.3f}"
        table.add_row(name, str(arm["networks"]), f"{loss['mean']:.3f}", interval)
    return table


def _task_table(metrics: Mapping[str, Any]) -> Table:
    tasks = metrics["tasks"]
    title = "Test metrics, mean over seeds" + (f" (first {MOST_ROWS} tasks)" if len(tasks) > MOST_ROWS else "")
    table = Table("task", "metric", *ARMS, title=title)
    for task in tasks[:MOST_ROWS]:
        values = [_mean_metric(metrics["arms"][arm]["results"], task["name"]) for arm in ARMS]
        table.add_row(Text(task["name"]), task["metric"], *_with_best_in_bold(values, task["better"] == "higher"))
    return table


def _mean_metric(results: Sequence[Mapping[str, Any]], task: str) -> float | None:
    values = [result["metric"].get(task) for result in results]
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known and len(known) == len(values) else None


def _with_best_in_bold(values: Sequence[float | None], higher: bool) -> list[Text]:
    known = [value for value in values if value is not None]
    best = (max if higher else min)(known) if known else None
    return [
        Text("" if value is None else f"{value:.4g}", style="bold" if value == best and value is not None else "")
        for value in values
    ]
