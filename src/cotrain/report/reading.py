"""Reads the file formats of a study's folder, and names the file in every complaint."""

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from cotrain.errors import StudyError


@contextmanager
def well_formed(path: Path) -> Iterator[None]:
    """Turns whatever goes wrong while `path` is taken apart into one StudyError that names the file.

    Raises:
        StudyError: If the block fails on a missing field, a wrong type or unreadable content.
    """
    try:
        yield
    except KeyError as error:
        raise StudyError(_complaint(path, f"has no field or task {error}")) from error
    except (TypeError, AttributeError, ValueError, yaml.YAMLError, SafetensorError) as error:
        raise StudyError(_complaint(path, f"cannot be understood ({' '.join(str(error).split())})")) from error


def read_object(path: Path) -> Mapping[str, Any]:
    """A JSON object (`.json`) or a YAML mapping (any other suffix)."""
    text = path.read_text(encoding="utf-8")
    content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    if not isinstance(content, Mapping):
        raise TypeError(f"expected named fields, got {type(content).__name__}")
    return content


def read_rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV file as dictionaries, after checking that every one of `columns` is there."""
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        missing = [column for column in columns if column not in (reader.fieldnames or ())]
        if missing:
            raise KeyError(missing[0])
        rows = list(reader)
    for row in rows:
        if None in row or None in row.values():
            raise ValueError(f"line of {len(row)} cells: {','.join(map(str, row.values()))}")
    return rows


def read_events(path: Path) -> list[Mapping[str, Any]]:
    """The events of a log with one JSON object a line, without a last line that a kill cut short."""
    lines = path.read_text(encoding="utf-8").splitlines()
    events = []
    for position, line in enumerate(lines):
        try:
            events.append(json.loads(line))
        except json.JSONDecodeError:
            if position < len(lines) - 1:
                raise
    return events


def read_tensors(path: Path, names: Sequence[str], columns: int) -> list[NDArray[np.float32]]:
    """The named tensors of a safetensors file, all [N, columns]."""
    stored = load_file(path)
    tensors = [stored[name] for name in names]
    shapes = {tensor.shape for tensor in tensors}
    if len(shapes) != 1 or tensors[0].ndim != 2 or tensors[0].shape[1] != columns:
        raise ValueError(f"expected tensors of one shape [samples, {columns}], got {sorted(shapes)}")
    return tensors


def number(value: str | float | None) -> float:
    """A cell of a file as a float: an empty cell and null are NaN."""
    return math.nan if value is None or value == "" else float(value)


def _complaint(path: Path, what: str) -> str:
    return (
        f"{path.name} in {path.parent} {what}."
        " Delete the file and run the study again with --resume to have it rewritten."
    )
