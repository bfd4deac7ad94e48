"""Census-Income (KDD): US surveys of 1994 and 1995, with ten tasks of mixed kinds or the pair of the literature."""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cotrain.data.census_pair import pair
from cotrain.data.census_ten import ten
from cotrain.data.dataset import MultiTaskData
from cotrain.data.locations import locate
from cotrain.data.sources import CENSUS_INCOME
from cotrain.errors import DataError
from cotrain.extras import require

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CENSUS_COLUMNS", "TaskSetName", "load_census_income", "read_census"]

TaskSetName = Literal["ten", "pair"]

# fmt: off
CENSUS_COLUMNS = (
    "AAGE", "ACLSWKR", "ADTIND", "ADTOCC", "AHGA", "AHRSPAY", "AHSCOL", "AMARITL", "AMJIND",
    "AMJOCC", "ARACE", "AREORGN", "ASEX", "AUNMEM", "AUNTYPE", "AWKSTAT", "CAPGAIN", "CAPLOSS",
    "DIVVAL", "FILESTAT", "GRINREG", "GRINST", "HHDFMX", "HHDREL", "MARSUPWT", "MIGMTR1", "MIGMTR3",
    "MIGMTR4", "MIGSAME", "MIGSUN", "NOEMP", "PARENT", "PEFNTVTY", "PEMNTVTY", "PENATVTY",
    "PRCITSHP", "SEOTR", "VETQVA", "VETYN", "WKSWORK", "YEAR", "target",
)
# fmt: on
_NUMERIC = ("AAGE", "AHRSPAY", "CAPGAIN", "CAPLOSS", "DIVVAL", "MARSUPWT", "WKSWORK")
_INCOMES = {"- 50000.", "50000+."}


def load_census_income(
    *,
    task_set: TaskSetName = "ten",
    targets: Sequence[str] | None = None,
    fix_masters: bool = False,
    seed: int = 0,
    folder: Path | str | None = None,
) -> MultiTaskData:
    """Census-Income with one of its two task sets. Needs the extra `[table]`.

    Args:
        task_set: "ten": ten targets of mixed kinds, some with missing labels, and no input that gives one of them
            away (`cotrain.data.census_ten` has the reason for every column). "pair": age of 40 or more and
            education, exactly as in the literature (`cotrain.data.census_pair`), to compare figures with.
        targets: Names of the tasks to keep; None keeps all.
        fix_masters: Only for "pair": count Masters degrees as higher education, which the original misses.
        seed: Of the validation samples, 20 % of the training file.
        folder: Where the two files are; None looks in the usual places (`cotrain datasets` lists them).

    Returns:
        Inputs [N, D]: D = 468 for "pair". The test samples are those of the official test file.

    Raises:
        DataError: If a file is not found or damaged, or an argument is unknown.
        ImportError: If pandas is not installed.
    """
    if task_set not in ("ten", "pair"):
        raise DataError(f"Census-Income has the task sets 'ten' and 'pair'. Got {task_set!r}.")
    if fix_masters and task_set != "pair":
        raise DataError(
            "fix_masters belongs to the task set 'pair'; 'ten' counts Masters degrees anyway. Leave it out."
        )
    paths = locate(CENSUS_INCOME, folder=folder)
    train, test = read_census(paths["census-income.data.gz"]), read_census(paths["census-income.test.gz"])
    data = pair(train, test, fix_masters=fix_masters, seed=seed) if task_set == "pair" else ten(train, test, seed=seed)
    return data if targets is None else data.select(targets)


def read_census(path: Path) -> "pd.DataFrame":
    """Read one of the two files, gzip-compressed or plain: 42 comma-separated columns without a header.

    Returns:
        Columns named as in `CENSUS_COLUMNS`; seven are numbers, the others categories of stripped text ("?" and
        "Not in universe" among them).

    Raises:
        DataError: If the file cannot be read, is cut short or does not have these columns.
        ImportError: If pandas is not installed.
    """
    pandas = require("pandas", extra="table")
    try:
        width = pandas.read_csv(path, header=None, nrows=1, dtype=str).shape[1]
        if width != len(CENSUS_COLUMNS):
            raise _bad(path, f"{width} columns")
        # No value is a missing one for pandas: "NA" is an answer here.
        frame = pandas.read_csv(
            path,
            header=None,
            names=CENSUS_COLUMNS,
            skipinitialspace=True,
            keep_default_na=False,
            dtype={name: "float64" if name in _NUMERIC else "category" for name in CENSUS_COLUMNS},
        )
        incomes = set(frame["target"].cat.categories)
        if not incomes <= _INCOMES or frame.isna().any(axis=None):
            raise _bad(path, f"a row without one of the incomes {sorted(_INCOMES)} at its end")
        stripped = {
            name: column.cat.rename_categories(lambda answer: str(answer).strip())
            for name, column in frame.items()
            if name not in _NUMERIC
        }
    except DataError:
        raise
    # ValueError: of pandas' parser, and of text where a number is expected.
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise _bad(path, f"an error while reading: {error}") from error
    table: pd.DataFrame = frame.assign(**stripped)
    return table


def _bad(path: Path, got: str) -> DataError:
    return DataError(
        f"{path} must be a whole Census-Income file of {len(CENSUS_COLUMNS)} comma-separated columns. Got {got}."
        " The file is damaged or another one: delete it and get it again."
    )
