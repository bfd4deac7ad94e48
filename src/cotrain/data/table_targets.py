"""One column of a table as a target: its kind, its classes, its numbers."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cotrain.errors import DataError
from cotrain.extras import require
from cotrain.task import Kind, Task

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Target", "read_target"]

_MOST_INTEGER_CLASSES = 10  # whole numbers of more values are counts or amounts rather than codes
_MOST_CLASSES = 1000  # a column of more values holds names or sentences rather than classes
_SHOWN = 10


@dataclass(frozen=True)
class Target:
    """What a column says as a target.

    Args:
        task: Its name, kind and number of classes.
        values: [N] float64, NaN = no label.
        meaning: In words.
        classes: What each class number of a multiclass task stands for.
    """

    task: Task
    values: NDArray[np.float64]
    meaning: str
    classes: tuple[object, ...] = ()


def read_target(column: "pd.Series[Any]", kind: Kind | None = None) -> Target:
    """Take a column as a target.

    Args:
        column: [N]; a missing value is "no label".
        kind: Of the task; None infers it: two values are binary, text, categories and whole numbers of at most 10
            values multiclass, other numbers regression.

    Raises:
        DataError: If the column has no value, or cannot be of that kind.
    """
    pandas = require("pandas", extra="table")
    name = str(column.name)
    known = column.dropna()
    if "+" in name:
        raise DataError(
            f"Target {name!r} needs a name without '+', which joins the names of a group. Rename the column."
        )
    if known.empty:
        raise DataError(f"Target {name!r} has no value in any of the {len(column)} rows. Leave it out.")
    if pandas.api.types.is_datetime64_any_dtype(column) or pandas.api.types.is_timedelta64_dtype(column):
        raise DataError(f"Target {name!r} is a date or a duration. Turn it into a number, for example of days.")
    is_number = pandas.api.types.is_numeric_dtype(column) and not pandas.api.types.is_bool_dtype(column)
    if is_number and (n_infinite := int(np.isinf(known.to_numpy(np.float64)).sum())):
        raise DataError(f"Target {name!r} has {n_infinite} infinite values. Remove these rows, or empty the cells.")
    distinct = list(known.unique())
    kind = kind or _inferred(known, is_number=is_number, n_distinct=len(distinct))
    if kind == "custom":
        raise DataError(f"Target {name!r} of a table cannot be custom. Use binary, multiclass or regression.")
    if kind == "regression":
        return _regression(column, name, is_number=is_number)
    classes = sorted(distinct) if is_number else sorted(distinct, key=str)
    if kind == "binary" and len(classes) != 2:
        raise DataError(
            f"Target {name!r} is binary and must have 2 values. Got {len(classes)}: {_few(classes)}."
            + (
                f" Use kinds={{{name!r}: 'multiclass'}}, or map its values to two."
                if len(classes) > 2
                else " Leave it out."
            )
        )
    if len(classes) < 2:
        raise DataError(f"Target {name!r} has only the value {_few(classes)}: there is nothing to learn. Leave it out.")
    if len(classes) > _MOST_CLASSES:
        raise DataError(
            f"Target {name!r} has {len(classes)} different values, more than {_MOST_CLASSES} classes:"
            f" {_few(classes)}. It looks like a name, not a class. Leave it out, or merge its values."
        )
    codes = pandas.Categorical(column.astype(object), categories=classes).codes
    numbers = np.where(codes < 0, np.nan, codes)
    if kind == "binary":
        return Target(Task(name, "binary"), numbers, f"1 = {classes[1]}, 0 = {classes[0]}")
    return Target(Task(name, "multiclass", len(classes)), numbers, f"one of {len(classes)} classes", tuple(classes))


def _inferred(known: "pd.Series[Any]", *, is_number: bool, n_distinct: int) -> Kind:
    if n_distinct == 2:
        return "binary"
    whole = is_number and np.all(np.mod(known.to_numpy(np.float64), 1) == 0)
    return "multiclass" if not is_number or (whole and n_distinct <= _MOST_INTEGER_CLASSES) else "regression"


def _regression(column: "pd.Series[Any]", name: str, *, is_number: bool) -> Target:
    if not is_number:
        pandas = require("pandas", extra="table")
        text = column[pandas.to_numeric(column, errors="coerce").isna() & column.notna()]
        held = (text if len(text) else column).unique()
        raise DataError(
            f"Target {name!r} cannot be a regression target: it holds {_few(held)}."
            f" Clean the column so that every cell is a number or empty, or use kinds={{{name!r}: 'multiclass'}}."
        )
    return Target(Task(name, "regression"), column.to_numpy(np.float64, na_value=np.nan), "a number")


def _few(values: "Any") -> str:
    shown = ", ".join(repr(value) if isinstance(value, str) else str(value) for value in values[:_SHOWN])
    return f"{shown} and {len(values) - _SHOWN} more" if len(values) > _SHOWN else shown
