from pathlib import Path

import pytest

from cotrain.data.locations import cache_folder, find, locate, search_folders
from cotrain.data.sources import CENSUS_INCOME, FASHION_MNIST
from cotrain.errors import DataError


def put(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for file in CENSUS_INCOME.files:
        (folder / file.name).touch()
    return folder


def test_the_variable_comes_first_then_the_system_then_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COTRAIN_DATA", str(tmp_path / "own"))
    own, system, cache = tmp_path / "own", tmp_path / "system", tmp_path / "cache" / "cotrain" / "census-income"
    expected = (own / "census-income", own, system / "census-income", system, cache)
    assert search_folders(CENSUS_INCOME) == expected
    assert cache_folder(CENSUS_INCOME) == cache
    for folder in reversed(expected[0::2]):
        put(folder)
        assert find(CENSUS_INCOME) == folder


def test_a_folder_may_hold_the_files_directly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COTRAIN_DATA", str(put(tmp_path / "own")))
    assert find(CENSUS_INCOME) == tmp_path / "own"
    assert find(FASHION_MNIST) is None


def test_files_may_be_uncompressed(tmp_path: Path) -> None:
    folder = put(tmp_path / "files")
    (folder / "census-income.data.gz").rename(folder / "census-income.data")
    paths = locate(CENSUS_INCOME, folder=folder)
    assert paths["census-income.data.gz"] == folder / "census-income.data"
    assert paths["census-income.test.gz"] == folder / "census-income.test.gz"


def test_files_of_one_data_set_come_from_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COTRAIN_DATA", str(tmp_path / "own"))
    (put(tmp_path / "own") / "census-income.test.gz").unlink()
    complete = put(tmp_path / "system")
    assert find(CENSUS_INCOME) == complete


def test_what_is_missing_where_and_what_to_do_is_said() -> None:
    with pytest.raises(DataError) as error:
        locate(FASHION_MNIST)
    for part in ("t10k-labels-idx1-ubyte.gz", "system", "cache", "cotrain datasets get fashion-mnist", "COTRAIN_DATA"):
        assert part in str(error.value)
