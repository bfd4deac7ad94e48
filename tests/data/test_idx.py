import gzip
from pathlib import Path

import numpy as np
import pytest
from data_files import write_idx
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cotrain.data.idx import read_idx
from cotrain.errors import DataError


@settings(deadline=None, max_examples=30)
@given(arrays("u1", st.tuples(st.integers(0, 4), st.integers(1, 4), st.integers(1, 4))), st.booleans())
def test_reads_what_was_written(tmp_path_factory: pytest.TempPathFactory, values: np.ndarray, packed: bool) -> None:
    path = tmp_path_factory.mktemp("idx") / "file"
    write_idx(path, values)
    if not packed:
        path.write_bytes(gzip.decompress(path.read_bytes()))
    assert np.array_equal(read_idx(path, n_dims=3), values)


def damage(path: Path, change: str) -> None:
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(
        {
            "cut gzip": path.read_bytes()[:-9],
            "cut values": gzip.compress(content[:-1]),
            "too long": gzip.compress(content + b"x"),
            "cut header": gzip.compress(content[:6]),
            "floats": gzip.compress(b"\0\0\x0d\x01" + content[4:]),
            "empty": b"",
            "text": b"<html>not found</html>",
        }[change]
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("cut gzip", "error while reading"),
        ("cut values", r"declares \(7,\), 7 values. Got 6 values"),
        ("too long", "Got 8 values"),
        ("cut header", "header of 8 bytes. Got 6 bytes"),
        ("floats", "begin with 00 00 08 01.*Got 00 00 0d 01"),
        ("empty", "must begin with"),
        ("text", "must begin with"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, change: str, message: str) -> None:
    path = tmp_path / "labels.gz"
    write_idx(path, np.arange(7, dtype="u1"))
    damage(path, change)
    with pytest.raises(DataError, match=message) as error:
        read_idx(path, n_dims=1)
    assert str(path) in str(error.value)
    assert "get it again" in str(error.value)


def test_images_are_no_labels(tmp_path: Path) -> None:
    write_idx(tmp_path / "images.gz", np.zeros((2, 3, 3), dtype="u1"))
    with pytest.raises(DataError, match="1 dimensions"):
        read_idx(tmp_path / "images.gz", n_dims=1)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read_idx(tmp_path / "nothing.gz", n_dims=1)
