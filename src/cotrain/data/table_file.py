"""Reads a table file: some columns become targets, all others inputs. Needs the extra `[table]`."""

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from cotrain.data.dataset import MultiTaskData, Split, choose_names
from cotrain.data.notes import describe_target
from cotrain.data.splits import SHARES, random_split
from cotrain.data.table_inputs import encode_inputs
from cotrain.data.table_targets import read_target
from cotrain.errors import DataError, UnknownNameError
from cotrain.extras import require
from cotrain.task import Kind, TaskSet

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TABLE_SUFFIXES", "MissingInputs", "read_table"]

MissingInputs = Literal["error", "impute"]

_SEPARATORS = {".csv": ",", ".csv.gz": ",", ".tsv": "\t", ".tsv.gz": "\t"}
_PARQUET = (".parquet", ".pq")
TABLE_SUFFIXES = (*_SEPARATORS, *_PARQUET)


def read_table(
    path: Path | str,
    targets: Sequence[str] | None,
    *,
    kinds: Mapping[str, Kind] | None = None,
    missing_inputs: MissingInputs = "error",
    shares: tuple[float, float, float] = SHARES,
    seed: int = 0,
) -> MultiTaskData:
    """A data set from a CSV, TSV or Parquet file.

    A target column with two values becomes binary (the later in sorted order is 1), text, categories and whole
    numbers of few values become multiclass (classes in sorted order), other numbers regression; the notes say what
    was taken for what. An empty cell of a target is "no label". All columns that are no target become inputs:
    dates, text and categories by skrub's TableVectorizer, then standardised, all learned from training rows only.

    Args:
        path: The file; its name ends in one of `TABLE_SUFFIXES`.
        targets: Names of the target columns.
        kinds: Kind of a target where the one inferred is not wanted: {"stars": "regression"}.
        missing_inputs: What to do with an empty cell of a number or a date: "error" refuses it and names the
            columns; "impute" puts the training rows' median there, and adds an indicator where training rows have
            such cells. An empty text cell is a category of its own in both cases.
        shares: Of training, validation and test rows, which are drawn at random.
        seed: Of the drawing, and of the encoding of text.

    Returns:
        Inputs [N, D].

    Raises:
        DataError: If the file cannot be read, a target is not a column, cannot be what its kind says or has no
            value, or inputs are missing.
        ImportError: If pandas or skrub is not installed.
    """
    path = Path(path)
    frame = _read(path)
    names = choose_names(targets or [], frame.columns, what=f"target column of {path.name}")
    kinds = kinds or {}
    if kinds:
        choose_names(kinds, names, what="target (in kinds)")
    if len(names) == len(frame.columns):
        raise DataError(f"{path} has no column left as an input: all {len(names)} are targets. Name fewer targets.")
    read = [read_target(frame[name], kinds.get(name)) for name in names]
    parts = random_split(len(frame), shares=shares, seed=seed)
    inputs, input_names = encode_inputs(
        [frame.drop(columns=names).iloc[part] for part in parts], impute=missing_inputs == "impute", seed=seed
    )
    values = torch.from_numpy(np.stack([target.values for target in read], axis=1).astype(np.float32))
    train, valid, test = (Split(part, values[where]) for part, where in zip(inputs, parts, strict=True))
    return MultiTaskData(
        path.name,
        TaskSet(target.task for target in read),
        train,
        valid,
        test,
        notes={
            target.task.name: describe_target(
                target.task, target.values[parts[0]], meaning=target.meaning, classes=target.classes
            )
            for target in read
        },
        input_names=input_names,
    )


def _read(path: Path) -> "pd.DataFrame":
    pandas = require("pandas", extra="table")
    suffix = next((suffix for suffix in TABLE_SUFFIXES if path.name.lower().endswith(suffix)), None)
    if suffix is None:
        raise DataError(f"{path} is not a table that can be read. Its name must end in {', '.join(TABLE_SUFFIXES)}.")
    if not path.is_file():
        raise UnknownNameError(f"There is no file {path}. Check the path.")
    try:
        frame: pd.DataFrame = (
            pandas.read_parquet(path) if suffix in _PARQUET else pandas.read_csv(path, sep=_SEPARATORS[suffix])
        )
    # ValueError: pandas' parser, a wrong encoding, and pyarrow's errors are all of this kind.
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise DataError(f"{path} could not be read as a table: {error}. Is it damaged, or cut short?") from error
    return frame.rename(columns=str)
