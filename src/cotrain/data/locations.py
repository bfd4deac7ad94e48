"""Where the files of a data set are looked for, in order: $COTRAIN_DATA, the system's folder, the cache."""

import os
from collections.abc import Iterable
from pathlib import Path

import platformdirs

from cotrain.data.sources import Source
from cotrain.errors import DataError

__all__ = ["DATA_VARIABLE", "cache_folder", "files_in", "find", "locate", "search_folders"]

DATA_VARIABLE = "COTRAIN_DATA"
_SYSTEM_FOLDER = Path("/usr/share/datasets")


def locate(source: Source, *, folder: Path | str | None = None) -> dict[str, Path]:
    """The paths of a data set's files.

    Args:
        source: The data set.
        folder: The only folder to look in; None looks in `search_folders`.

    Returns:
        {file name: path}, all from one folder.

    Raises:
        DataError: If no folder holds all files, with the folders that were looked in and what to do.
    """
    folders = search_folders(source) if folder is None else (Path(folder),)
    found = _first_complete(source, folders)
    if found is None:
        looked = ", ".join(map(str, folders))
        raise DataError(
            f"The files of {source.name} were not found: {', '.join(file.name for file in source.files)}."
            f" Looked in {looked}. Run `cotrain datasets get {source.name}`, or download them from"
            f" {source.homepage} and set {DATA_VARIABLE} to their folder."
        )
    return found


def find(source: Source) -> Path | None:
    """The first folder that holds all files of a data set, or None."""
    found = _first_complete(source, search_folders(source))
    return next(iter(found.values())).parent if found else None


def search_folders(source: Source) -> tuple[Path, ...]:
    """The folders that are looked in, in order; each root may hold a folder of the data set, or its files directly."""
    roots = [_SYSTEM_FOLDER]
    if own := os.environ.get(DATA_VARIABLE):
        roots.insert(0, Path(own).expanduser())
    return (*(place for root in roots for place in (root / (source.folder or source.name), root)), cache_folder(source))


def cache_folder(source: Source) -> Path:
    """Where downloads of a data set are kept."""
    return platformdirs.user_cache_path("cotrain") / (source.folder or source.name)


def files_in(folder: Path, names: Iterable[str]) -> dict[str, Path] | None:
    """The paths by name, each with or without `.gz`, if a folder holds them all; None if it does not."""
    names = list(names)
    found = {
        name: path for name in names for path in (folder / name.removesuffix(".gz"), folder / name) if path.is_file()
    }
    return found if len(found) == len(names) else None


def _first_complete(source: Source, folders: tuple[Path, ...]) -> dict[str, Path] | None:
    names = [file.name for file in source.files]
    return next((found for folder in folders if (found := files_in(folder, names))), None)
