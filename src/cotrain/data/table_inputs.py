"""The input columns of a table as finite numbers, everything learned from the training rows."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cotrain.data.encoding import Standardiser
from cotrain.errors import DataError
from cotrain.extras import require

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["encode_inputs"]


def encode_inputs(
    frames: "Sequence[pd.DataFrame]", *, impute: bool, seed: int = 0
) -> tuple[list[Tensor], tuple[str, ...]]:
    """Encode rows as numbers with mean 0 and standard deviation 1 over the training rows.

    Args:
        frames: Rows of the same columns, the training rows first.
        impute: Whether a missing number becomes the training rows' median, with an indicator where training rows
            have missing ones. Otherwise it is refused.
        seed: Of the encoding of text.

    Returns:
        [N, D] float32 for each frame, and the D names.

    Raises:
        DataError: If a number or a date is missing and `impute` is off, if a column is infinite, or if no column
            holds anything.
        ImportError: If skrub is not installed.
    """
    skrub = require("skrub", extra="table")
    from sklearn.preprocessing import OneHotEncoder

    vectorizer = skrub.TableVectorizer(
        # Every category keeps its own column, so that one that training rows lack (all zeros) is like none of them.
        low_cardinality=OneHotEncoder(handle_unknown="ignore", sparse_output=False, dtype="float32"),
        high_cardinality=skrub.StringEncoder(random_state=seed),
    )
    encoded = [vectorizer.fit_transform(frames[0]), *map(vectorizer.transform, frames[1:])]
    names = tuple(map(str, encoded[0].columns))
    if not names:
        raise DataError(f"None of the input columns {', '.join(frames[0].columns)} holds a value in training.")
    arrays = [frame.to_numpy(np.float64, na_value=np.nan) for frame in encoded]
    _refuse(vectorizer, names, [np.isinf(values) for values in arrays], "infinite values", "Remove them.")
    if impute:
        arrays, names = _imputed(arrays, names)
    else:
        missing = [np.isnan(values) for values in arrays]
        _refuse(vectorizer, names, missing, "missing (NaN) values", "Fill them in, or choose missing_inputs='impute'.")
    standardiser = Standardiser.learn(arrays[0])
    return [standardiser.apply(values) for values in arrays], names


def _refuse(vectorizer: Any, names: tuple[str, ...], bad: "list[NDArray[np.bool_]]", fault: str, remedy: str) -> None:
    """Raise if any value is bad, naming the columns of the table (not those of the encoding) with their counts."""
    counts = dict(zip(names, sum(values.sum(axis=0) for values in bad), strict=True))
    faults = {
        column: max(counts[name] for name in outputs)
        for column, outputs in vectorizer.input_to_outputs_.items()
        if any(counts.get(name) for name in outputs)
    }
    if faults:
        listed = ", ".join(f"{column} ({count})" for column, count in faults.items())
        raise DataError(f"Input columns have {fault}: {listed}. {remedy}")


def _imputed(
    arrays: list[NDArray[np.float64]], names: tuple[str, ...]
) -> tuple[list[NDArray[np.float64]], tuple[str, ...]]:
    # A column that is empty in all training rows was dropped by the vectorizer, so that every median exists.
    median = np.nanmedian(arrays[0], axis=0)
    gaps = np.flatnonzero(np.isnan(arrays[0]).any(axis=0))
    filled = [
        np.concatenate([np.where(np.isnan(values), median, values), np.isnan(values[:, gaps])], axis=1)
        for values in arrays
    ]
    return filled, (*names, *(f"{names[gap]} is missing" for gap in gaps))
