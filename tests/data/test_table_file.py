import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from cotrain.data import MultiTaskData, load, read_table
from cotrain.errors import DataError


def people(count: int = 200, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "age": random.integers(18, 90, count),
            "wage": random.lognormal(3, 1, count).round(2),
            "town": random.choice(["Bern", "Chur", "Genf"], count),
            "since": pd.to_datetime("2020-01-01") + pd.to_timedelta(random.integers(0, 900, count), unit="D"),
            "churned": random.choice(["no", "yes"], count),
            "plan": random.choice(["basic", "plus", "pro"], count),
            "spent": random.normal(100, 30, count).round(2),
            "stars": random.integers(1, 6, count),
        }
    )
    frame.loc[[3, 7], "spent"] = np.nan
    frame.loc[[5], "churned"] = None
    return frame


TARGETS = ["churned", "plan", "spent", "stars"]


def saved(frame: pd.DataFrame, path: Path) -> Path:
    if path.suffix in (".parquet", ".pq"):
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if ".tsv" in path.name else ",")
    return path


def sorted_labels(data: MultiTaskData, name: str) -> list[float]:
    column = data.tasks.names.index(name)
    return sorted(torch.cat([part.targets for part in data.splits.values()])[:, column].nan_to_num(-1).tolist())


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.csv.gz", "t.parquet", "t.pq"])
def test_kinds_and_classes_are_inferred(tmp_path: Path, name: str) -> None:
    frame = people()
    data = read_table(saved(frame, tmp_path / name), TARGETS)
    assert [(task.name, task.kind, task.n_outputs) for task in data.tasks] == [
        ("churned", "binary", 1),
        ("plan", "multiclass", 3),
        ("spent", "regression", 1),
        ("stars", "multiclass", 5),
    ]
    assert [len(part) for part in data.splits.values()] == [120, 40, 40]
    assert data.notes["churned"].startswith("1 = yes, 0 = no; base rate 0.")
    assert re.search(r"0 = basic 0\.\d+, 1 = plus 0\.\d+, 2 = pro 0\.\d+$", data.notes["plan"])
    assert "mean" in data.notes["spent"]
    codes = {"no": 0.0, "yes": 1.0}
    assert sorted_labels(data, "churned") == sorted(codes.get(value, -1.0) for value in frame["churned"])
    assert sorted_labels(data, "stars") == sorted((frame["stars"] - 1.0).tolist())
    expected = torch.tensor(sorted(frame["spent"].fillna(-1))).tolist()
    assert sorted_labels(data, "spent") == pytest.approx(expected)


def test_all_formats_give_the_same_data(tmp_path: Path) -> None:
    frame = people().drop(columns="since")
    first, second = (read_table(saved(frame, tmp_path / f"t{end}"), TARGETS) for end in (".csv", ".tsv.gz"))
    for one, other in zip(first.splits.values(), second.splits.values(), strict=True):
        assert torch.equal(one.inputs, other.inputs)
        torch.testing.assert_close(one.targets, other.targets, equal_nan=True)


def test_inputs_are_learned_from_training_rows_only(tmp_path: Path) -> None:
    frame = people()
    first = read_table(saved(frame, tmp_path / "a.parquet"), TARGETS)
    torch.testing.assert_close(first.train.inputs.mean(0), torch.zeros(first.input_shape), atol=1e-5, rtol=0)
    assert {"age", "wage", "town_Bern", "since_year"} <= set(first.input_names)
    assert first.input_shape == (len(first.input_names),)
    # Rows that are not for training may say anything without changing how training rows are read.
    from cotrain.data.splits import random_split

    train, _, test = random_split(len(frame))
    frame.loc[test, "wage"] *= 1000
    frame.loc[test, "town"] = "elsewhere"
    changed = read_table(saved(frame, tmp_path / "b.parquet"), TARGETS)
    assert torch.equal(first.train.inputs, changed.train.inputs)
    assert torch.equal(first.valid.inputs, changed.valid.inputs)
    assert changed.test.inputs[:, changed.input_names.index("town_Bern")].unique().numel() == 1
    assert len(train) == len(first.train)


def test_kinds_can_be_given(tmp_path: Path) -> None:
    path = saved(people(), tmp_path / "t.csv")
    data = read_table(path, TARGETS, kinds={"stars": "regression", "churned": "multiclass"})
    assert [task.kind for task in data.tasks] == ["multiclass", "multiclass", "regression", "regression"]
    assert data.tasks[0].n_outputs == 2
    with pytest.raises(DataError, match=r"'stars' is binary and must have 2 values. Got 5: 1, 2, 3, 4, 5.*multiclass"):
        read_table(path, TARGETS, kinds={"stars": "binary"})
    with pytest.raises(DataError, match=r"There is no target \(in kinds\) called 'star'. Did you mean 'stars'"):
        read_table(path, TARGETS, kinds={"star": "binary"})
    with pytest.raises(DataError, match="cannot be custom"):
        read_table(path, TARGETS, kinds={"stars": "custom"})


@pytest.mark.parametrize(
    ("values", "kind", "n_outputs"),
    [
        ([True, False] * 20, "binary", 1),
        ([3, 7] * 20, "binary", 1),
        ([0.5, 1.5] * 20, "binary", 1),
        (list(range(40)), "regression", 1),
        ([0.5, 1.0, 2.0, 4.0] * 10, "regression", 1),
        (pd.Categorical(["b", "a", "c", "a"] * 10, categories=list("cbad")), "multiclass", 3),
        (pd.array([1, 2, None, 4] * 10, dtype="Int64"), "multiclass", 3),
    ],
)
def test_kind_of_a_column(tmp_path: Path, values: object, kind: str, n_outputs: int) -> None:
    frame = people(40).drop(columns="spent").assign(y=values)
    data = read_table(saved(frame, tmp_path / "t.parquet"), ["y", "plan"])
    assert (data.tasks[0].kind, data.tasks[0].n_outputs) == (kind, n_outputs)


def test_a_missing_label_of_any_type_is_no_label(tmp_path: Path) -> None:
    y = pd.array([1, 2, None, 4] * 10, dtype="Int64")
    frame = people(40).drop(columns="spent").assign(y=y)
    data = read_table(saved(frame, tmp_path / "t.parquet"), ["y", "plan"])
    assert sorted_labels(data, "y") == [-1.0] * 10 + [0.0] * 10 + [1.0] * 10 + [2.0] * 10


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("y", [None] * 40, "'y' has no value in any of the 40 rows"),
        ("y", ["a"] * 40, "only the value 'a'"),
        ("y", [np.inf] + [1.0] * 39, "'y' has 1 infinite values"),
        ("y", pd.date_range("2020", periods=40), "'y' is a date"),
        ("a+b", [0, 1] * 20, r"'a\+b' needs a name without"),
    ],
)
def test_targets_that_cannot_be_used_are_named(tmp_path: Path, column: str, values: object, message: str) -> None:
    path = saved(people(40).assign(**{column: values}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=message):
        read_table(path, [column, "plan"])


def test_text_is_no_regression_target(tmp_path: Path) -> None:
    frame = people(40).assign(price=["12.50", "about 20"] * 20)
    with pytest.raises(DataError, match=r"'price' cannot be a regression target: it holds 'about 20'. Clean"):
        read_table(saved(frame, tmp_path / "t.csv"), ["price", "plan"], kinds={"price": "regression"})


def test_names_of_things_are_no_classes(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": range(1500), "who": [f"person {number}" for number in range(1500)]})
    with pytest.raises(DataError, match=r"1500 different values.*looks like a name"):
        read_table(saved(frame, tmp_path / "t.csv"), ["who"])


def test_missing_inputs_are_refused_by_name_or_imputed(tmp_path: Path) -> None:
    frame = people()
    frame.loc[:19, "wage"] = np.nan
    frame.loc[4, "since"] = pd.NaT
    path = saved(frame, tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"missing \(NaN\) values: wage \(20\), since \(1\).*missing_inputs='impute'"):
        read_table(path, TARGETS)
    data = read_table(path, TARGETS, missing_inputs="impute")
    assert "wage is missing" in data.input_names
    assert all(torch.isfinite(part.inputs).all() for part in data.splits.values())
    indicator = data.train.inputs[:, data.input_names.index("wage is missing")]
    wage = data.train.inputs[:, data.input_names.index("wage")]
    assert indicator.unique().numel() == 2
    assert wage[indicator > 0].unique().numel() == 1
    torch.testing.assert_close(wage[indicator > 0][0], wage[indicator < 0].median(), atol=0.1, rtol=0)


def test_a_missing_text_is_a_category_of_its_own(tmp_path: Path) -> None:
    frame = people()
    frame.loc[:49, "town"] = None
    data = read_table(saved(frame, tmp_path / "t.parquet"), TARGETS)
    assert any(name.startswith("town_") and "nan" in name.lower() for name in data.input_names)


def test_infinite_inputs_are_refused_by_name(tmp_path: Path) -> None:
    frame = people()
    frame.loc[3, "wage"] = np.inf
    with pytest.raises(DataError, match=r"infinite values: wage \(1\)"):
        read_table(saved(frame, tmp_path / "t.parquet"), TARGETS, missing_inputs="impute")


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (["churned", "plans"], "no target column of t.csv called 'plans'. Did you mean 'plan'"),
        (["plan", "plan"], "named 2 times"),
        ([], "Name at least one target column of t.csv. There are: age, wage"),
        (None, "Name at least one target column of t.csv"),
        (list(people(40).columns), "no column left as an input"),
    ],
)
def test_targets_must_be_columns(tmp_path: Path, targets: list[str] | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_table(saved(people(40), tmp_path / "t.csv"), targets)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"", "could not be read as a table"),
        ("t.csv", b"a,b\n1,2\n1,2,3\n", "could not be read as a table"),
        ("t.csv", b"a,b\n\xff\xfe,2\n", "could not be read as a table"),
        ("t.csv.gz", b"no gzip", "could not be read as a table"),
        ("t.parquet", b"PAR1 and no more", "could not be read as a table"),
        ("t.xlsx", b"", "must end in .csv"),
        ("absent.csv", None, "There is no file"),
    ],
)
def test_unreadable_files_are_named(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        read_table(path, ["a"])
    assert str(path) in str(error.value)


def test_a_truncated_parquet_file_is_named(tmp_path: Path) -> None:
    path = saved(people(), tmp_path / "t.parquet")
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(DataError, match="could not be read as a table"):
        read_table(path, TARGETS)


def test_a_table_without_inputs_that_hold_anything(tmp_path: Path) -> None:
    frame = people(40)[["plan", "stars"]].assign(empty=None)
    with pytest.raises(DataError, match="None of the input columns empty holds a value"):
        read_table(saved(frame, tmp_path / "t.parquet"), ["plan", "stars"])


def test_the_seed_draws_the_rows(tmp_path: Path) -> None:
    path = saved(people(), tmp_path / "t.csv")
    first, again, other = (load(path, targets=TARGETS, seed=seed) for seed in (0, 0, 1))
    assert first.fingerprint == again.fingerprint != other.fingerprint
