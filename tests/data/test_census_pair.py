from pathlib import Path

import numpy as np
import torch

from cotrain.data.census import read_census
from cotrain.data.census_pair import pair

DROPPED = "Grandchild <18 ever marr not in subfamily"


def test_rows_inputs_and_targets_follow_the_recipe(census_folder: Path) -> None:
    train, test = (read_census(census_folder / f"census-income.{part}.gz") for part in ("data", "test"))
    data = pair(train, test, seed=0)
    kept = train[train["HHDFMX"] != DROPPED]
    n_valid = int(np.ceil(0.2 * len(kept)))
    assert [len(data.train), len(data.valid)] == [len(kept) - n_valid, n_valid]
    assert len(data.test) == (test["HHDFMX"] != DROPPED).sum()
    assert data.input_names[:6] == ("AHRSPAY", "DIVVAL", "CAPGAIN", "CAPLOSS", "WKSWORK", "MARSUPWT")
    assert data.input_names[-1] == "ASEX=Male"
    columns = {name.partition("=")[0] for name in data.input_names}
    assert len(columns) == 42 - 6
    assert not columns & {"AAGE", "AHGA", "MIGMTR1", "MIGMTR3", "MIGMTR4", "YEAR"}
    tested = test[test["HHDFMX"] != DROPPED]
    assert data.test.targets[:, 0].tolist() == [float(age >= 40) for age in tested["AAGE"]]
    assert data.test.targets[:, 1].tolist() == [float(answer.startswith("Bach")) for answer in tested["AHGA"]]
    assert data.test.inputs[:, -1].tolist() == [float(sex == "Male") for sex in tested["ASEX"]]


def test_numbers_are_standardised_over_the_training_file(census_folder: Path) -> None:
    train, test = (read_census(census_folder / f"census-income.{part}.gz") for part in ("data", "test"))
    data = pair(train, test)
    numbers = torch.cat([data.train.inputs, data.valid.inputs])[:, :6]
    torch.testing.assert_close(numbers.mean(0), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(numbers.std(0, correction=0), torch.ones(6), atol=1e-5, rtol=0)
    indicators = data.train.inputs[:, 6:-1]
    assert bool(((indicators == 0) | (indicators == 1)).all())
    assert set(indicators.sum(1).tolist()) == {29.0}


def test_masters_count_only_when_fixed(census_folder: Path) -> None:
    train, test = (read_census(census_folder / f"census-income.{part}.gz") for part in ("data", "test"))
    masters = (test["AHGA"].str.startswith("Masters") & (test["HHDFMX"] != DROPPED)).to_numpy()
    masters = masters[(test["HHDFMX"] != DROPPED).to_numpy()]
    assert not pair(train, test).test.targets[masters, 1].any()
    assert pair(train, test, fix_masters=True).test.targets[masters, 1].all()
