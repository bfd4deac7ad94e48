"""The one entry to all data: what is built in, and `load` for a built-in name or the path of a table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cotrain.data.census import TaskSetName, load_census_income
from cotrain.data.checks import validate
from cotrain.data.dataset import MultiTaskData, choose_names
from cotrain.data.digits import load_digits
from cotrain.data.download import download
from cotrain.data.fashion_mnist import load_fashion_mnist
from cotrain.data.locations import find, search_folders
from cotrain.data.overlaid_images import load_multi_fashion
from cotrain.data.sources import CENSUS_INCOME, DIGITS, FASHION_MNIST, MULTI_FASHION, Source
from cotrain.data.table_file import TABLE_SUFFIXES, MissingInputs, read_table
from cotrain.errors import UnknownNameError
from cotrain.progress import Listener, silent
from cotrain.task import Kind

__all__ = ["DatasetInfo", "datasets", "get", "load"]


@dataclass(frozen=True)
class DatasetInfo:
    """What there is to know about a built-in data set on this machine.

    Args:
        source: Name, description, publisher, files with checksums, licence.
        looked_in: Folders that are looked in, in order; none for data that ships with an installed package.
        found: The folder that holds the files, or None if they are not here (or need no file: see `available`).
        options: Options of `load` that this data set has, besides targets and seed.
    """

    source: Source
    looked_in: tuple[Path, ...]
    found: Path | None
    options: tuple[str, ...]

    @property
    def available(self) -> bool:
        """Whether it can be loaded without a download."""
        return self.found is not None or not self.source.files


@dataclass(frozen=True)
class _BuiltIn:
    source: Source
    build: Callable[..., MultiTaskData]
    options: tuple[str, ...]


_BUILT_IN: Mapping[str, _BuiltIn] = {
    entry.source.name: entry
    for entry in (
        _BuiltIn(DIGITS, load_digits, ("flips",)),
        _BuiltIn(FASHION_MNIST, load_fashion_mnist, ("flips",)),
        _BuiltIn(MULTI_FASHION, load_multi_fashion, ("n_images",)),
        _BuiltIn(CENSUS_INCOME, load_census_income, ("task_set", "fix_masters")),
    )
}
_TABLE_OPTIONS = ("kinds", "missing_inputs")


def load(
    name_or_path: str | Path,
    *,
    targets: Sequence[str] | None = None,
    seed: int = 0,
    flips: bool | None = None,
    n_images: int | None = None,
    task_set: TaskSetName | None = None,
    fix_masters: bool | None = None,
    kinds: Mapping[str, Kind] | None = None,
    missing_inputs: MissingInputs | None = None,
) -> MultiTaskData:
    """Load a built-in data set or a table, and check that it can be trained on.

    Args:
        name_or_path: "digits", "fashion-mnist", "multi-fashion", "census-income", or the path of a CSV, TSV or Parquet
            file.
        targets: Names of the tasks, or of a table's target columns (there they are required); None keeps all.
        seed: Of the split and of everything drawn.
        flips: digits and fashion-mnist only; see `load_digits`.
        n_images: multi-fashion only; see `load_multi_fashion`.
        task_set: Census-Income only; see `load_census_income`.
        fix_masters: Census-Income only; see `load_census_income`.
        kinds: Tables only; see `read_table`.
        missing_inputs: Tables only; see `read_table`.

    Returns:
        Data that passed `validate`.

    Raises:
        DataError: If there is no such data, an option belongs to other data, a file is missing or damaged, or the
            data cannot be trained on.
        ImportError: If a table is asked for and the extra `[table]` is not installed.
    """
    given = {
        option: value
        for option, value in {
            "flips": flips,
            "n_images": n_images,
            "task_set": task_set,
            "fix_masters": fix_masters,
            "kinds": kinds,
            "missing_inputs": missing_inputs,
        }.items()
        if value is not None
    }
    built_in = _BUILT_IN.get(str(name_or_path))
    _refuse_foreign_options(str(name_or_path), given, built_in.options if built_in else _TABLE_OPTIONS)
    data = (
        built_in.build(targets=targets, seed=seed, **given)
        if built_in
        else _load_table(Path(name_or_path), targets=targets, seed=seed, **given)
    )
    validate(data)
    return data


def datasets() -> tuple[DatasetInfo, ...]:
    """The built-in data sets, with where their files are looked for and whether they are there."""
    return tuple(
        DatasetInfo(
            entry.source,
            search_folders(entry.source) if entry.source.files else (),
            find(entry.source),
            entry.options,
        )
        for entry in _BUILT_IN.values()
    )


def get(name: str, *, folder: Path | str | None = None, progress: Listener = silent) -> Path | None:
    """Download a built-in data set from its publisher; see `download`.

    Args:
        name: Of the data set.
        folder: Where to put the files; None puts them in the cache, where the loaders look.
        progress: Called with bytes done, bytes in all and the file's name.

    Returns:
        The folder that holds the files; None for data that ships with an installed package.

    Raises:
        DataError: If there is no such data set, or the download fails.
    """
    (name,) = choose_names([name], _BUILT_IN, what="built-in data set")
    source = _BUILT_IN[name].source
    return download(source, folder=folder, progress=progress) if source.files else None


def _refuse_foreign_options(name: str, given: Mapping[str, object], options: Sequence[str]) -> None:
    foreign = [option for option in given if option not in options]
    if foreign:
        raise UnknownNameError(
            f"{name} has no option {foreign[0]!r}. Its options are {', '.join(options)}: leave it out."
        )


def _load_table(path: Path, *, targets: Sequence[str] | None, seed: int, **options: Any) -> MultiTaskData:
    if not path.name.lower().endswith(TABLE_SUFFIXES) and not path.exists():
        raise UnknownNameError(
            f"There is no data called {str(path)!r}. Use {', '.join(_BUILT_IN)}, or the path of a table"
            f" ({', '.join(TABLE_SUFFIXES)})."
        )
    return read_table(path, targets, seed=seed, **options)
