import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cotrain.data import MultiTaskData
from cotrain.data.census import read_census
from cotrain.data.census_ten import ten


@pytest.fixture
def small(census_folder: Path) -> tuple[MultiTaskData, list[dict[str, object]]]:
    """The data, and the test file's rows that must be in it."""
    train, test = (read_census(census_folder / f"census-income.{part}.gz") for part in ("data", "test"))
    return ten(train, test), [row for row in test.to_dict("records") if row["AAGE"] >= 15]


CLASSES = {"Private": 0.0, "Self-employed-incorporated": 2.0, "Local government": 3.0}
ROLES = {"Householder": 0.0, "Spouse of householder": 1.0, "Child 18 or older": 2.0}
EXPECTED: dict[str, Callable[[dict[str, object]], float]] = {
    "income_over_50k": lambda row: float(row["target"] == "50000+."),
    "higher_education": lambda row: float(str(row["AHGA"]).startswith(("Bach", "Mast"))),
    "never_married": lambda row: float(row["AMARITL"] == "Never married"),
    "age": lambda row: float(str(row["AAGE"])),
    "weeks_worked": lambda row: float(str(row["WKSWORK"])) or math.nan,
    "class_of_worker": lambda row: CLASSES.get(str(row["ACLSWKR"]), math.nan),
    "employed": lambda row: {"Full-time schedules": 1.0, "Unemployed full-time": 0.0}.get(
        str(row["AWKSTAT"]), math.nan
    ),
    "household_role": lambda row: ROLES[str(row["HHDREL"])],
    "citizen": lambda row: float(str(row["PRCITSHP"]).startswith("Native")),
    "union_member": lambda row: {"Yes": 1.0, "No": 0.0}.get(str(row["AUNMEM"]), math.nan),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_each_target_is_read_from_its_column(small: tuple[MultiTaskData, list[dict[str, object]]], name: str) -> None:
    data, rows = small
    got = data.test.targets[:, data.tasks.names.index(name)]
    torch.testing.assert_close(got, torch.tensor([EXPECTED[name](row) for row in rows]), equal_nan=True)


def test_there_are_ten_tasks_of_three_kinds(small: tuple[MultiTaskData, list[dict[str, object]]]) -> None:
    data, _ = small
    assert data.tasks.names == tuple(EXPECTED)
    assert {task.kind for task in data.tasks} == {"binary", "regression", "multiclass"}
    assert list(data.notes) == list(EXPECTED)
    assert "base rate" in data.notes["citizen"]
    assert "mean" in data.notes["age"]
    assert "0 = private" in data.notes["class_of_worker"]
    assert "of the samples have a label" in data.notes["union_member"]


def test_no_source_of_a_target_is_an_input(small: tuple[MultiTaskData, list[dict[str, object]]]) -> None:
    columns = {name.partition("=")[0] for name in small[0].input_names}
    sources = {"target", "AHGA", "AMARITL", "AAGE", "WKSWORK", "ACLSWKR", "AWKSTAT", "HHDREL", "PRCITSHP", "AUNMEM"}
    given_away = {"ADTIND", "AMJIND", "AHSCOL", "AUNTYPE", "FILESTAT", "HHDFMX", "PARENT", "PENATVTY", "SEOTR"}
    assert not columns & (sources | given_away | {"MARSUPWT", "PEFNTVTY", "PEMNTVTY"})
    assert len(small[0].input_names) == small[0].input_shape[0]


def test_what_is_learned_from_rows_is_learned_from_training_rows(
    small: tuple[MultiTaskData, list[dict[str, object]]],
) -> None:
    data, rows = small
    dollars = data.train.inputs[:, :4]
    torch.testing.assert_close(dollars.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(dollars.std(0, correction=0), torch.ones(4), atol=1e-5, rtol=0)
    male = data.input_names.index("ASEX=Male")
    assert data.test.inputs[:, male].tolist() == [float(row["ASEX"] == "Male") for row in rows]
    unsure = data.input_names.index("MIGSUN=?")
    assert data.test.inputs[:, unsure].tolist() == [float(row["MIGSUN"] == "?") for row in rows]


def test_the_seed_draws_the_validation_rows(census_folder: Path) -> None:
    train, test = (read_census(census_folder / f"census-income.{part}.gz") for part in ("data", "test"))
    first, again, other = (ten(train, test, seed=seed) for seed in (0, 0, 1))
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert len(first.valid) == math.ceil(0.2 * (len(first.train) + len(first.valid)))
