"""Folders with small data files, and the published ones where they are at hand."""

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data_files import N_TEST, N_TRAIN, SIDE, census_rows, census_text, write_idx


@pytest.fixture(autouse=True)
def no_data_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test finds data that happens to be on this machine, unless it asks for `published`."""
    monkeypatch.delenv("COTRAIN_DATA", raising=False)
    monkeypatch.setattr("cotrain.data.locations._SYSTEM_FOLDER", tmp_path / "system")
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / "cache" / name)


@pytest.fixture
def fashion_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "fashion"
    folder.mkdir()
    random = np.random.default_rng(0)
    for prefix, count in (("train", N_TRAIN), ("t10k", N_TEST)):
        write_idx(folder / f"{prefix}-images-idx3-ubyte.gz", random.integers(256, size=(count, SIDE, SIDE), dtype="u1"))
        write_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", np.resize(np.arange(10, dtype="u1"), count))
    return folder


@pytest.fixture
def census_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "census"
    folder.mkdir()
    for name, count, seed in (("data", 300, 0), ("test", 100, 1)):
        (folder / f"census-income.{name}.gz").write_bytes(gzip.compress(census_text(census_rows(count, seed))))
    return folder


@pytest.fixture(scope="session")
def published() -> Callable[[str], Path]:
    """The folder of a published data set, or a skip."""
    beside = Path(__file__).parents[2].parent / "shared" / "data"
    root = Path(os.environ.get("COTRAIN_DATA", beside))

    def folder(name: str) -> Path:
        if not (root / name).is_dir():
            pytest.skip(f"the published files of {name} are not in $COTRAIN_DATA ({root})")
        return root / name

    return folder
