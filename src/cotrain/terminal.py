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
from cotrain.grouping import Clustering, Grouping
from cotrain.study import StudyFolder
from cotrain.study.aggregated import aggregation_file

__all__ = ["affinity_table", "aggregation_tables", "cluster_tables", "dataset_table", "outcome_tables"]

MOST_ROWS = 40
"""Beyond this a table of tasks scrolls out of sight; the report shows them all."""
BEST_PAIRS = 15
ARMS = ("single", "all-in-one", "grouped")
BY = {"logits": "weighted logits", "probabilities": "weighted probabilities", "best": "best member"}


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
    if metrics["memberships"]:
        parts.append(_membership_comparison(metrics))
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


def aggregation_tables(out: Path, name: str) -> list[RenderableType]:
    """What combining the gradients by a method has changed against their plain sum, and where the networks are."""
    folder = StudyFolder(out)
    found = folder.read_json(aggregation_file(name))
    title = f"Gradients combined by {found['aggregation']}"
    table = Table("networks", "total test loss, plain sum = 1", "95 % interval", "", title=title)
    for arm, loss in found["relative_loss"].items():
        if loss["low"] is None:
            table.add_row(arm, f"{loss['mean']:.3f}", "", "one seed cannot tell")
            continue
        low, high = round(loss["low"], 3), round(loss["high"], 3)  # as shown: rounding is no difference
        word = "clearly better" if high < 1 else "clearly worse" if low > 1 else "no clear difference"
        table.add_row(arm, f"{loss['mean']:.3f}", f"{loss['low']:.3f} to {loss['high']:.3f}", word)
    parts: list[RenderableType] = [table]
    if found["skipped_steps"]:
        parts.append(Text(f"{found['skipped_steps']} steps were skipped: a gradient was NaN or infinite."))
    return [*parts, Text(f"Networks of the first seed: {(out / found['networks'][0]['model']).parent}")]


def cluster_tables(clustering: Clustering) -> list[RenderableType]:
    """Every task's memberships, and how far they can be relied on."""
    heads = [f"cluster {number + 1}" for number in range(clustering.memberships.shape[1])]
    shown = clustering.tasks[:MOST_ROWS]
    title = "Memberships" + (f" (first {MOST_ROWS} tasks)" if len(clustering.tasks) > MOST_ROWS else "")
    table = Table("task", *heads, "certainty", title=title)
    for t, task in enumerate(shown):
        if clustering.labels[t] < 0:
            why = (
                "noise" if task in clustering.noise else "learned by all" if task in clustering.universal else "no map"
            )
            table.add_row(Text(task), *([why] + [""] * (len(heads) - 1)), "")
            continue
        cells = [
            Text(f"{share:.2f}", style="bold" if k == clustering.labels[t] else "")
            for k, share in enumerate(clustering.memberships[t])
        ]
        table.add_row(Text(task), *cells, f"{clustering.certainty[t]:.2f}")
    stable = clustering.stability
    words = (
        "one measuring run: no stability between runs"
        if stable != stable
        else f"stability between runs (ARI) {stable:.2f}"
    )
    fuzziness = "" if clustering.fuzziness is None else f"; fuzziness {clustering.fuzziness:.3g}"
    return [table, Text(f"{words}{fuzziness}")]


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


def _membership_comparison(metrics: Mapping[str, Any]) -> Table:
    """Soft, sparse and hard memberships in one table, with the one network of equal cost."""
    head = ("memberships", "prediction", "networks", "cost", "loss, single = 1", "95 % interval")
    table = Table(*head, title="Ways to use the clusters")
    hard = {**metrics["relative_loss"]["grouped"], "variant": "hard", "by": "its own network"}
    hard["networks"] = hard["cost"] = metrics["arms"]["grouped"]["networks"]
    for row in (hard, *metrics["memberships"]):
        interval = "" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"
        by = BY.get(row["by"], row["by"]) or ""
        table.add_row(row["variant"], by, str(row["networks"]), f"{row['cost']:.1f}", f"{row['mean']:.3f}", interval)
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
