"""Gets the files of a built-in data set from its publisher, checked, whole or not at all."""

import gzip
import hashlib
import http.client
import itertools
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from cotrain.data.locations import DATA_VARIABLE, cache_folder
from cotrain.data.sources import DataFile, Source
from cotrain.errors import DataError
from cotrain.files import write_atomically
from cotrain.progress import Listener, silent

__all__ = ["download"]

_CHUNK = 1 << 20
_TIMEOUT_SECONDS = 30.0
_NETWORK_ERRORS = (urllib.error.URLError, http.client.HTTPException, OSError)
_DAMAGED_ERRORS = (OSError, EOFError, zlib.error, zipfile.BadZipFile, tarfile.TarError)


def download(source: Source, *, folder: Path | str | None = None, progress: Listener = silent) -> Path:
    """Download a data set; files that are already there are checked instead of fetched again.

    The SHA-256 of every file's uncompressed content is compared with the published data's; a file that does not
    match is not kept.

    Args:
        source: What to get.
        folder: Where to put the files; None puts them in the cache, where the loaders look.
        progress: Called with bytes done, bytes in all (0 if the publisher does not say) and the file's name.

    Returns:
        The folder that holds the files.

    Raises:
        DataError: If the publisher cannot be reached or sends something else, with what to do by hand.
    """
    target = cache_folder(source) if folder is None else Path(folder)
    missing = [file for file in source.files if not _is_whole(target / file.name, file)]
    for url, files in itertools.groupby(missing, key=lambda file: file.url):
        with tempfile.TemporaryFile() as received:
            _receive(url, received, progress, by_hand=_by_hand(source, target))
            for file in files:
                received.seek(0)
                _keep(received, file, target / file.name, by_hand=_by_hand(source, target))
    return target


def _is_whole(path: Path, file: DataFile) -> bool:
    try:
        with gzip.open(path) as content:
            return hashlib.file_digest(content, "sha256").hexdigest() == file.sha256
    except _DAMAGED_ERRORS:
        return False


def _by_hand(source: Source, target: Path) -> str:
    names = " and ".join(file.name for file in source.files)
    return (
        f"Or download them from {source.homepage} with another machine or a browser, and put {names} into"
        f" {target}, or into any folder that {DATA_VARIABLE} names."
    )


def _receive(url: str, into: IO[bytes], progress: Listener, *, by_hand: str) -> None:
    name = url.rpartition("/")[2]
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as answer:
            total, done = int(answer.headers.get("Content-Length") or 0), 0
            while chunk := answer.read(_CHUNK):
                into.write(chunk)
                done += len(chunk)
                progress(done, total, name)
    except _NETWORK_ERRORS as error:
        raise DataError(f"{url} could not be downloaded: {error}. Try again with a network. {by_hand}") from error
    if done < total:
        raise DataError(f"{url} ended after {done} of {total} bytes. Try again. {by_hand}")


def _keep(received: IO[bytes], file: DataFile, path: Path, *, by_hand: str) -> None:
    """Check a file's content, then put it in its place, compressed."""
    wanted = file.name.removesuffix(".gz")
    digest = hashlib.sha256()

    def write(part: Path) -> None:
        # No name and no time in the header: the same content gives the same file.
        with (
            _member(received, file.url, wanted) as content,
            part.open("wb") as raw,
            gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as out,
        ):
            while chunk := content.read(_CHUNK):
                digest.update(chunk)
                out.write(chunk)
        if digest.hexdigest() != file.sha256:
            raise DataError(
                f"{wanted} from {file.url} has the SHA-256 {digest.hexdigest()}, expected {file.sha256}."
                f" It was not kept: it is damaged, or was replaced by its publisher. Try again later. {by_hand}"
            )

    try:
        write_atomically(path, write)
    except (EOFError, zlib.error, zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile) as error:
        raise DataError(
            f"What {file.url} sent is not the archive it should be ({error}). Try again later. {by_hand}"
        ) from error


@contextmanager
def _member(received: IO[bytes], url: str, wanted: str) -> Iterator[IO[bytes]]:
    """The uncompressed content of the file `wanted`: `received` itself, or inside it if it is an archive."""
    for name, content in _files(received, url):
        if name == url or Path(name).name.removesuffix(".gz") == wanted:
            yield cast("IO[bytes]", gzip.GzipFile(fileobj=content)) if name.endswith(".gz") else content
            return
    raise zipfile.BadZipFile(f"it holds no {wanted}")


def _files(received: IO[bytes], name: str) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of every file in an archive and in the archives inside it; of `received` if it is none."""
    if name.endswith(".zip"):
        with zipfile.ZipFile(received) as archive:
            for entry in archive.infolist():
                with archive.open(entry) as content:
                    yield from _files(content, entry.filename)
    elif name.endswith((".tar.gz", ".tgz", ".tar")):
        with tarfile.open(fileobj=received) as tar:
            for member in tar:
                if inside := tar.extractfile(member):
                    yield from _files(inside, member.name)
    else:
        yield name, received
