"""What the command line prints of a front: its points, what they are worth, and a choice."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cotrain.study.front_choice import CHOICE, CHOSEN
from cotrain.study.front_run import MANIFOLD, RESULTS
from cotrain.study.front_words import comparison_words

__all__ = ["choice_tables", "front_tables"]

MOST_ROWS, MOST_COLUMNS, FEWEST_TASKS = 24, 7, 2
"""Beyond these a table does not fit a terminal; front.csv and the page have everything."""


def front_tables(out: Path) -> list[RenderableType]:
    """The points on validation samples, the comparison on test samples, the verdict, and what to do next."""
    found = _read(out / RESULTS)
    verdict = found["verdict"]
    return [
        _points(found),
        _against_equal(found),
        Text(f"\n{verdict['headline']}", style="bold"),
        *(Text(f"  {sentence}") for sentence in verdict["sentences"]),
        *_left_out(found),
        Text(f"Next: {next_command(out, found)}"),
    ]


def choice_tables(out: Path) -> list[RenderableType]:
    """The chosen preference, what it promised, and what it is on test samples."""
    choice, found = _read(out / CHOICE), _read(out / RESULTS)
    style = "" if choice["feasible"] else "bold"
    table = Table("task", "metric", "validation", "test", "95 % interval", title="At the chosen preference")
    for task in found["tasks"]:
        valid, test = choice["valid"][task["name"]], choice["test"][task["name"]]
        interval = "" if test["low"] is None else f"{test['low']:.4g} to {test['high']:.4g}"
        table.add_row(Text(task["name"]), _metric(task), _value(valid["metric"]), _value(test["metric"]), interval)
    return [
        Text(choice["sentence"], style=style),
        table,
        Text(f"Weights: {out / CHOSEN}. For every preference: {out / MANIFOLD}"),
    ]


def next_command(out: Path, found: Mapping[str, Any]) -> str:
    """How to choose a preference: of the two tasks that it moves most, one at least half-way, the other at its best."""
    ranges = {task["name"]: _range(found, task["name"]) for task in found["tasks"]}
    moved = sorted(ranges, key=lambda name: (ranges[name][0] - ranges[name][1]) / (abs(ranges[name][1]) or 1.0))
    first, second = (task for task in found["tasks"] if task["name"] in moved[:2])
    low, high = ranges[second["name"]]
    wish = "--maximize" if first["better"] == "higher" else "--minimize"
    bound = f"metric/{second['name']} {'>=' if second['better'] == 'higher' else '<='} {(low + high) / 2:.4g}"
    return shlex.join(["cotrain", "front", str(out), wish, f"metric/{first['name']}", "--subject_to", bound])


def _range(found: Mapping[str, Any], task: str) -> tuple[float, float]:
    values = [point["valid"][task]["metric"] for point in found["points"]]
    known = [value for value in values if value is not None]
    return (min(known), max(known)) if known else (0.0, 0.0)


def _points(found: Mapping[str, Any]) -> Table:
    points = found["points"]
    tasks = found["tasks"][: max(FEWEST_TASKS, MOST_COLUMNS - len(found["names"]))]
    cut = [f"first {len(tasks)} of {len(found['tasks'])} targets"] if len(tasks) < len(found["tasks"]) else []
    if len(points) > MOST_ROWS:
        cut.append(f"{MOST_ROWS} of {len(points)} points, those not dominated first")
        points = sorted(points, key=lambda point: bool(point["dominated"]))[:MOST_ROWS]
    title = "The front on validation samples" + (f" ({', '.join(cut)})" if cut else "")
    table = Table(title=title)
    for name in found["names"]:
        table.add_column(Text(name))
    for task in tasks:
        table.add_column(Text(f"{task['name']}, {_metric(task)}"), justify="right")
    table.add_column("")
    for point in points:
        table.add_row(
            *(f"{point['preference'][name]:.2f}" for name in found["names"]),
            *(_value(point["valid"][task["name"]]["metric"]) for task in tasks),
            "dominated" if point["dominated"] else "",
        )
    table.add_section()
    for title, control in (("equal weights", "equal"), ("single tasks", "single")):
        values = (_value(found["controls"][control]["valid"][task["name"]]["metric"]) for task in tasks)
        table.add_row(title, *[""] * (len(found["names"]) - 1), *values, "")
    return table


def _against_equal(found: Mapping[str, Any]) -> Table:
    """The point that is best against equal weights, on test samples."""
    against = found["against_equal"]
    point = found["points"][against["point"]]
    head = ("task", "front", "equal", "alone", "front − equal, 95 %", "front is")
    table = Table(*head, title="Test samples, at the preference that is best against equal weights")
    for task in found["tasks"][:MOST_ROWS]:
        name = task["name"]
        entry = against["test"][name]
        values = [point["test"], found["controls"]["equal"]["test"], found["controls"]["single"]["test"]]
        interval = "" if entry["low"] is None else f"{entry['low']:+.4f} to {entry['high']:+.4f}"
        words = comparison_words(entry, task["better"]).replace("no clear difference", "not clear")
        cells = (_value(value[name]["metric"]) for value in values)
        table.add_row(Text(f"{name}, {_metric(task)}"), *cells, interval, words)
    return table


def _left_out(found: Mapping[str, Any]) -> list[RenderableType]:
    if not found["left_out"]:
        return []
    return [Text(f"Left out, as the study left them out of its groups: {', '.join(found['left_out'])}")]


def _metric(task: Mapping[str, str]) -> str:
    return f"{task['metric']} {'↑' if task['better'] == 'higher' else '↓'}"


def _value(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}" if abs(value) < 100 else f"{value:.5g}"


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
