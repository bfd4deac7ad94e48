"""Affinities as files: a table (CSV) of what was measured of each pair, or everything there is to know (JSON).

Both are read into the fields of an `Affinity`, from which it is made.
"""

import csv
import io
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor

from cotrain.errors import DataError
from cotrain.files import write_text

if TYPE_CHECKING:
    from cotrain.affinity.affinity import Affinity

__all__ = ["read_csv", "read_json", "write_csv", "write_json"]

COLUMNS = ("source", "target", "affinity", "stderr", "observations")
COSINE_COLUMN = "gradient_cosine"
VERSION = 1
"""Of the JSON format; a reader refuses files of a later one."""

INFINITIES = {"Infinity": math.inf, "-Infinity": -math.inf}
"""JSON has no infinite numbers, so they are written as strings, and NaN as null."""


def write_csv(affinity: "Affinity", path: Path, extra: Mapping[str, Tensor]) -> None:
    """Write one row per ordered pair; see `Affinity.to_csv`."""
    columns = {"affinity": affinity.matrix, "stderr": affinity.stderr, "observations": affinity.observations}
    if affinity.cosine is not None:
        columns[COSINE_COLUMN] = affinity.cosine
    for name, value in extra.items():
        if value.shape != affinity.matrix.shape:
            raise ValueError(
                f"Column {name!r} must have the shape {list(affinity.matrix.shape)}. Got {list(value.shape)}."
            )
        columns[name] = value
    text = io.StringIO()
    # Up to Python 3.12 the writer does not see by itself that a carriage return must be quoted.
    needs_quotes = any("\r" in name for name in (*affinity.tasks, *columns))
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL if needs_quotes else csv.QUOTE_MINIMAL)
    writer.writerow(["source", "target", *columns])
    rows = torch.stack([value.double().flatten() for value in columns.values()], dim=1).tolist()
    pairs = ((source, target) for source in affinity.tasks for target in affinity.tasks)
    whole = [name == "observations" for name in columns]
    for pair, row in zip(pairs, rows, strict=True):
        writer.writerow([*pair, *(_cell(value, is_whole) for value, is_whole in zip(row, whole, strict=True))])
    write_text(path, text.getvalue())


def read_csv(path: Path) -> dict[str, Any]:
    """The fields in a table of pairs; see `Affinity.from_csv`."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or ()
            rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a table of affinities: it is no CSV text ({error}).") from error
    missing = [name for name in COLUMNS if name not in columns]
    if missing:
        raise DataError(f"{path} is not a table of affinities: the columns {missing} are missing.")
    tasks = tuple(dict.fromkeys(row["source"] for row in rows))
    by_pair = {(row["source"], row["target"]): row for row in rows}
    if set(by_pair) != {(source, target) for source in tasks for target in tasks} or len(rows) != len(by_pair):
        raise DataError(
            f"{path} must hold every ordered pair of its {len(tasks)} tasks exactly once,"
            f" {len(tasks) ** 2} rows. Got {len(rows)} rows for {len(by_pair)} pairs."
        )

    def matrix(column: str) -> Tensor:
        try:
            values = [float(by_pair[a, b][column] or "nan") for a in tasks for b in tasks]
        except (TypeError, ValueError) as error:
            raise DataError(f"Column {column!r} of {path} must hold numbers ({error}).") from error
        return torch.tensor(values, dtype=torch.float64).reshape(len(tasks), len(tasks))

    observations = matrix("observations").nan_to_num().long()
    return {
        "matrix": matrix("affinity"),
        "stderr": matrix("stderr"),
        "observations": observations,
        "tasks": tasks,
        "estimator": "file",
        "n_observations": int(observations.max()) if tasks else 0,
        "cosine": matrix(COSINE_COLUMN) if COSINE_COLUMN in columns else None,
    }


def write_json(affinity: "Affinity", path: Path) -> None:
    """Write every field, numbers to the last bit, whole or not at all."""
    content: dict[str, Any] = {"format": "cotrain.Affinity", "version": VERSION, "tasks": list(affinity.tasks)}
    for name in FIELDS:
        value = getattr(affinity, name)
        content[name] = _encoded(value.tolist()) if isinstance(value, Tensor) else _encoded(value)
    write_text(path, json.dumps(content, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """The fields that `write_json` wrote.

    Raises:
        DataError: If the file is damaged or of a later version; the message says what is wrong.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except ValueError as error:  # no JSON, or no UTF-8
        raise DataError(f"{path} is not an affinity: it is no JSON text ({error}).") from error
    if not isinstance(content, dict) or content.get("format") != "cotrain.Affinity":
        raise DataError(f'{path} is not an affinity: it does not say "format": "cotrain.Affinity".')
    if content.get("version") != VERSION:
        raise DataError(
            f"{path} is of version {content.get('version')!r} of the format; this cotrain reads version {VERSION}."
            " Read it with the cotrain that wrote it."
        )
    missing = [name for name in ("tasks", *FIELDS) if name not in content]
    if missing:
        raise DataError(f"{path} is not a whole affinity: {missing} are missing.")
    tasks = content["tasks"]
    if not isinstance(tasks, list) or not all(isinstance(task, str) for task in tasks):
        raise DataError(f'"tasks" in {path} must be a list of names. Got {_short(tasks)}.')
    fields: dict[str, Any] = {"tasks": tuple(tasks)}
    for name, read in FIELDS.items():
        try:
            fields[name] = read(content[name], len(tasks))
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(f"{name!r} in {path} must be {error}. Got {_short(content[name])}.") from error
    return fields


def _cell(value: float, is_whole: bool) -> str:
    if math.isnan(value):
        return ""
    return str(int(value)) if is_whole else repr(value)


def _encoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_encoded(item) for item in value]
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return None if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _number(value: Any, _: int = 0) -> float:
    if value is None:
        return math.nan
    if isinstance(value, str) and value in INFINITIES:
        return INFINITIES[value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("a number, null for NaN, or an infinity as a string")
    return float(value)


def _count(value: Any, _: int = 0) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise TypeError("a whole number from 0 on")
    return value


def _is(kind: type, what: str) -> Callable[[Any, int], Any]:
    def read(value: Any, _: int) -> Any:
        if not isinstance(value, kind):
            raise TypeError(what)
        return value

    return read


def _row(entry: Callable[[Any], Any], dtype: torch.dtype) -> Callable[[Any, int], Tensor]:
    def read(value: Any, n_tasks: int) -> Tensor:
        if not isinstance(value, list) or len(value) != n_tasks:
            raise ValueError(f"a list of one number for each of {n_tasks} tasks")
        return torch.tensor([entry(item) for item in value], dtype=dtype)

    return read


def _square(entry: Callable[[Any], Any], dtype: torch.dtype) -> Callable[[Any, int], Tensor]:
    row = _row(entry, dtype)

    def read(value: Any, n_tasks: int) -> Tensor:
        if not isinstance(value, list) or len(value) != n_tasks:
            raise ValueError(f"a list of {n_tasks} rows, one for each task")
        return torch.stack([row(item, n_tasks) for item in value]) if value else torch.empty(0, 0, dtype=dtype)

    return read


def _or_null(read: Callable[[Any, int], Tensor]) -> Callable[[Any, int], Tensor | None]:
    return lambda value, n_tasks: None if value is None else read(value, n_tasks)


FIELDS: Mapping[str, Callable[[Any, int], Any]] = {
    "estimator": _is(str, "a text"),
    "rule": _is(str, "a text"),
    "form": _is(str, "a text"),
    "choice": _is(str, "a text"),
    "calibrated": _is(bool, "true or false"),
    "n_observations": _count,
    "joint_descent": _number,
    "cost": _number,
    "matrix": _square(_number, torch.float64),
    "stderr": _square(_number, torch.float64),
    "observations": _square(_count, torch.int64),
    "effective": _or_null(_square(_number, torch.float64)),
    "cosine": _or_null(_square(_number, torch.float64)),
    "floored": _or_null(_row(_count, torch.int64)),
    "calibration_r2": _or_null(_row(_number, torch.float64)),
}
"""Every field of an `Affinity` but the tasks, and how it is read: from the JSON value and the number of tasks."""
