import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from data_files import census_rows, census_text

from cotrain.data import load_census_income, validate
from cotrain.data.census import CENSUS_COLUMNS, read_census
from cotrain.errors import DataError


def test_reads_text_and_numbers_as_they_are(tmp_path: Path) -> None:
    rows = census_rows(50, seed=3)
    (tmp_path / "file.gz").write_bytes(gzip.compress(census_text(rows)))
    frame = read_census(tmp_path / "file.gz")
    assert tuple(frame.columns) == CENSUS_COLUMNS
    assert frame["AAGE"].tolist() == [float(row["AAGE"]) for row in rows]
    for name in ("AREORGN", "MIGSUN", "PRCITSHP", "target"):
        assert frame[name].tolist() == [row[name].strip() for row in rows]
    assert "NA" in set(frame["AREORGN"])


def test_a_plain_file_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(census_text(census_rows(5, seed=0)))
    assert len(read_census(tmp_path / "file")) == 5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(census_text(census_rows(500, seed=0)))[:-100], "error while reading"),
        (gzip.compress(census_text(census_rows(5, seed=0))[:-8]), "without one of the incomes"),
        (gzip.compress(census_text(census_rows(5, seed=0))[:-150]), "without one of the incomes|error while reading"),
        (gzip.compress(b"1, 2, 3\n"), "Got 3 columns"),
        (gzip.compress(b"age, " + b"a, " * 40 + b"50000+.\n"), "error while reading"),
        (gzip.compress(b""), "error while reading"),
        (b"<html>not found</html>", "error while reading"),
    ],
    ids=["cut", "too short", "a row cut", "three columns", "header", "empty", "page"],  # the bytes hold the time
)
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "census-income.data.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        read_census(path)
    assert str(path) in str(error.value)


def test_no_value_reads_as_missing(tmp_path: Path) -> None:
    rows = census_rows(3, seed=0)
    rows[1]["AAGE"] = ""
    (tmp_path / "file").write_bytes(census_text(rows))
    with pytest.raises(DataError, match="must be a whole Census-Income file"):
        read_census(tmp_path / "file")


def test_task_sets_and_options(census_folder: Path) -> None:
    assert len(load_census_income(folder=census_folder).tasks) == 10
    assert load_census_income(folder=census_folder, targets=["age", "citizen"]).tasks.names == ("age", "citizen")
    with pytest.raises(DataError, match="Got 'three'"):
        load_census_income(task_set="three", folder=census_folder)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="belongs to the task set 'pair'"):
        load_census_income(fix_masters=True, folder=census_folder)
    with pytest.raises(DataError, match="Did you mean 'citizen'"):
        load_census_income(folder=census_folder, targets=["age", "citizn"])


def test_the_published_pair(published: Callable[[str], Path]) -> None:
    data = load_census_income(task_set="pair", folder=published("census-income"))
    assert [len(part) for part in data.splits.values()] == [159_616, 39_905, 99_762]
    assert data.input_shape == (468,)
    shares = torch.cat([data.train.targets, data.valid.targets]).mean(0)
    assert shares.tolist() == pytest.approx([0.3925, 0.3030], abs=5e-5)
    assert data.test.targets.mean(0).tolist() == pytest.approx([0.3946, 0.3018], abs=5e-5)


def test_the_published_pair_with_masters(published: Callable[[str], Path]) -> None:
    frame = read_census(published("census-income") / "census-income.test.gz")
    from cotrain.data.census_pair import pair

    data = pair(frame, frame, fix_masters=True)
    assert float(data.test.targets[:, 1].mean()) == pytest.approx(0.3349, abs=5e-5)


def test_the_published_ten(published: Callable[[str], Path]) -> None:
    data = load_census_income(folder=published("census-income"))
    validate(data)
    assert [len(part) for part in data.splits.values()] == [121_680, 30_421, 76_320]
    labels = torch.cat([data.train.targets, data.valid.targets]).double().numpy()
    assert (~np.isnan(labels)).sum(axis=0).tolist() == [152101] * 4 + [103540, 98674, 48946, 152101, 152101, 19064]
    means = dict(zip(data.tasks.names, np.nanmean(labels, axis=0), strict=True))
    documented = {
        "income_over_50k": 0.0814,
        "higher_education": 0.4405,
        "never_married": 0.2569,
        "age": 43.0708,
        "weeks_worked": 44.6583,
        "employed": 0.9356,
        "citizen": 0.9217,
        "union_member": 0.1589,
    }
    assert {name: means[name] for name in documented} == pytest.approx(documented, abs=5e-5)
