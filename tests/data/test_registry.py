from pathlib import Path

import pytest
import torch

from cotrain.data import datasets, get, load, load_digits
from cotrain.errors import DataError


def test_a_name_loads_the_built_in_data() -> None:
    assert load("digits", seed=2).fingerprint == load_digits(seed=2).fingerprint
    assert load("digits", targets=["is_1", "odd"], flips=False).tasks.names == ("is_1", "odd")


def test_files_are_found_through_the_variable(
    fashion_folder: Path, census_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COTRAIN_DATA", str(fashion_folder))
    assert load("fashion-mnist").name == "fashion-mnist"
    assert {info.source.name: info.found for info in datasets()} == {
        "digits": None,
        "fashion-mnist": fashion_folder,
        "multi-fashion": fashion_folder,
        "census-income": None,
    }
    assert [info.available for info in datasets()] == [True, True, True, False]
    monkeypatch.setenv("COTRAIN_DATA", str(census_folder))
    assert load("census-income", task_set="pair", fix_masters=True).tasks.names == ("age_40", "education")


def test_a_path_loads_a_table(tmp_path: Path) -> None:
    rows = "\n".join(f"{number},{number % 2},{number % 3}" for number in range(60))
    (tmp_path / "t.csv").write_text("x,a,b\n" + rows)
    data = load(tmp_path / "t.csv", targets=["a", "b"], kinds={"b": "regression"})
    assert [task.kind for task in data.tasks] == ["binary", "regression"]


def test_what_is_loaded_is_validated(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x,a\n" + "\n".join(f"{number},{number % 2}" for number in range(60)))
    with pytest.raises(DataError, match="at least 2"):
        load(tmp_path / "t.csv", targets=["a"])
    with pytest.raises(DataError, match="at least 2"):
        load("digits", targets=["odd"])


def test_unknown_data_and_foreign_options_are_refused() -> None:
    with pytest.raises(DataError, match=r"no data called 'digit'. Use digits, fashion-mnist, multi-fashion, census"):
        load("digit")
    with pytest.raises(DataError, match=r"digits has no option 'task_set'. Its options are flips"):
        load("digits", task_set="pair")
    with pytest.raises(DataError, match=r"no option 'flips'. Its options are kinds, missing_inputs"):
        load("t.csv", targets=["a"], flips=False)


def test_what_is_built_in_says_where_it_comes_from() -> None:
    for info in datasets():
        assert info.source.description
        assert info.source.licence
        assert info.source.homepage.startswith("https://")
        for file in info.source.files:
            assert file.url.startswith("https://")
            assert len(file.sha256) == 64
        assert bool(info.looked_in) == bool(info.source.files)


def test_get_knows_what_needs_no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    assert get("digits") is None
    with pytest.raises(DataError, match=r"no built-in data set called 'fashion-mnis'. Did you mean 'fashion-mnist'"):
        get("fashion-mnis")


def test_get_downloads_into_the_folder_where_load_looks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []
    monkeypatch.setattr(
        "cotrain.data.registry.download", lambda source, **options: asked.append((source.name, options))
    )
    get("census-income", folder=tmp_path)
    assert asked[0][0] == "census-income"
    assert asked[0][1]["folder"] == tmp_path


def test_loaded_tensors_are_those_a_training_takes() -> None:
    data = load("digits")
    assert data.train.inputs.dtype == data.train.targets.dtype == torch.float32
