"""Fronts in files: a table for spreadsheets, and JSON with everything but the sample scores."""

import csv
import io
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cotrain.errors import DataError
from cotrain.files import write_json, write_text

if TYPE_CHECKING:
    from cotrain.pareto.front import Front

__all__ = ["read_csv", "read_json", "to_csv", "to_json"]

FORMAT = "cotrain front"
VERSION = 1
FIELDS = ("names", "tasks", "metric_names", "preferences", "losses", "metrics", "shares")


def to_csv(front: "Front", path: Path) -> None:
    """Columns preference/NAME, loss/TASK and metric/METRIC/TASK; no value where a task has no labels."""
    header = [f"preference/{name}" for name in front.names]
    header += [f"loss/{task}" for task in front.tasks]
    header += [f"metric/{metric}/{task}" for metric, task in zip(front.metric_names, front.tasks, strict=True)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for row in torch.cat([front.preferences.double(), front.losses, front.metrics], dim=1).tolist():
        writer.writerow([repr(value) if math.isfinite(value) else "" for value in row])
    write_text(path, text.getvalue())


def read_csv(path: Path, shares: Tensor | None) -> dict[str, Any]:
    """The fields of a front.

    Raises:
        DataError: If the file is not such a table.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
        table = torch.tensor(
            [[float(value) if value else torch.nan for value in row] for row in rows], dtype=torch.float64
        ).reshape(len(rows), len(header))
    except (ValueError, RuntimeError) as error:
        raise DataError(f"{path} is not a table of a front ({error}). Write one with front.to_csv.") from error
    names = tuple(title.removeprefix("preference/") for title in header if title.startswith("preference/"))
    tasks = tuple(title.removeprefix("loss/") for title in header if title.startswith("loss/"))
    metrics = [title.split("/", 2)[1:] for title in header if title.startswith("metric/")]
    if not names or not tasks or [task for _, task in metrics] != list(tasks):
        raise DataError(
            f"{path} is not a table of a front: it needs columns preference/NAME, and for each task loss/TASK and"
            f" metric/METRIC/TASK. Got {header[:6]}."
        )
    if shares is None:
        if names != tasks:
            raise DataError(
                f"{path} has preferences over {list(names)}, which are not its tasks. Give shares= [G, T], how each"
                " spreads over the tasks, or read the JSON file."
            )
        shares = torch.eye(len(tasks))
    ends = len(names), len(names) + len(tasks)
    return {
        "names": names,
        "tasks": tasks,
        "preferences": table[:, : ends[0]].to(torch.get_default_dtype()),
        "losses": table[:, ends[0] : ends[1]],
        "metrics": table[:, ends[1] :],
        "metric_names": tuple(metric for metric, _ in metrics),
        "shares": shares,
    }


def to_json(front: "Front", path: Path) -> None:
    """Null where a task has no labels."""
    values = {name: getattr(front, name) for name in FIELDS}
    plain = {name: _plain(value.tolist() if isinstance(value, Tensor) else value) for name, value in values.items()}
    write_json(path, {"format": FORMAT, "version": VERSION, **plain})


def read_json(path: Path) -> dict[str, Any]:
    """The fields of a front.

    Raises:
        DataError: If the file is not one of ours.
    """
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        if held["format"] != FORMAT or held["version"] != VERSION:
            raise ValueError(f"format {held['format']!r}, version {held['version']!r}")
        numbers = {name: _tensor(held[name]) for name in ("preferences", "losses", "metrics", "shares")}
        words = {name: tuple(held[name]) for name in ("names", "tasks", "metric_names")}
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is not a front of ours ({error!r}). Write one with front.to_json.") from error
    dtype = torch.get_default_dtype()
    return {**words, **numbers, "preferences": numbers["preferences"].to(dtype), "shares": numbers["shares"].to(dtype)}


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _tensor(rows: list[list[float | None]]) -> Tensor:
    return torch.tensor([[torch.nan if value is None else value for value in row] for row in rows], dtype=torch.float64)
