"""Reads IDX files, the format of MNIST and Fashion-MNIST, and says exactly what is wrong with a bad one."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cotrain.errors import DataError

__all__ = ["read_idx"]

_UNSIGNED_BYTE = 8
_WORD = 4
_GZIP_MAGIC = b"\x1f\x8b"


def read_idx(path: Path, *, n_dims: int) -> NDArray[np.uint8]:
    """Read a file of unsigned bytes, gzip-compressed or plain.

    Args:
        path: The file. Whether it is compressed is seen from its first bytes.
        n_dims: How many dimensions it must have: 1 for labels, 3 for images.

    Returns:
        The values in the shape that the file declares.

    Raises:
        DataError: If the file cannot be read, is of another type or shape, or is shorter or longer than it declares.
    """
    content = _content(path)
    expected = bytes((0, 0, _UNSIGNED_BYTE, n_dims))
    if content[:_WORD] != expected:
        raise _bad(path, f"must begin with {expected.hex(' ')} (bytes, {n_dims} dimensions)", content[:_WORD].hex(" "))
    start = _WORD * (1 + n_dims)
    if len(content) < start:
        raise _bad(path, f"must have a header of {start} bytes", f"{len(content)} bytes")
    shape = tuple(int(size) for size in np.frombuffer(content, dtype=">u4", count=n_dims, offset=_WORD))
    if len(content) - start != math.prod(shape):
        raise _bad(path, f"declares {shape}, {math.prod(shape)} values", f"{len(content) - start} values")
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content.startswith(_GZIP_MAGIC) else content
    except (OSError, EOFError, zlib.error) as error:
        raise _bad(path, "must be a whole IDX file", f"an error while reading: {error}") from error


def _bad(path: Path, expected: str, got: str) -> DataError:
    return DataError(f"{path} {expected}. Got {got}. The file is damaged or another one: delete it and get it again.")
