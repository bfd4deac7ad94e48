import csv
import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cotrain.affinity import Affinity
from cotrain.errors import DataError

FIELDS = (
    "matrix",
    "stderr",
    "tasks",
    "estimator",
    "n_observations",
    "observations",
    "rule",
    "joint_descent",
    "cosine",
    "floored",
    "cost",
    "effective",
    "calibrated",
    "calibration_r2",
    "choice",
    "form",
)


def example(**changes):
    generator = torch.Generator().manual_seed(0)
    parts = {
        "matrix": torch.randn(3, 3, generator=generator, dtype=torch.float64) / 7,
        "stderr": torch.rand(3, 3, generator=generator, dtype=torch.float64),
        "observations": torch.arange(9).reshape(3, 3),
        "tasks": ("first, of all", 'the "second"', "третья"),
        "estimator": "lookahead",
        "n_observations": 8,
        "rule": "Adam step, lr 0.001",
        "joint_descent": 0.875,
    }
    parts["matrix"][1, 2] = parts["stderr"][1, 2] = math.nan
    return Affinity(**{**parts, **changes})


def full_example():
    return example(
        cosine=torch.eye(3).double(),
        floored=torch.tensor([0, 2, 5]),
        cost=1.5,
        effective=torch.full((3, 3), 6.25).double(),
        calibrated=True,
        calibration_r2=torch.tensor([0.1, math.nan, 0.9]).double(),
        choice="gram: more than 24 tasks",
        form="symmetrised",
    )


numbers = st.floats(width=64)
names = st.text(max_size=8) | st.sampled_from(
    ['a, "b"', "line\nbreak", "carriage\rreturn", "\r\n", "", " ", "0", "ü€𝕏"]
)


@st.composite
def affinities(draw):
    tasks = draw(st.lists(names, min_size=0, max_size=4, unique=True))
    n = len(tasks)

    def square(entries):
        return torch.tensor(draw(st.lists(entries, min_size=n * n, max_size=n * n))).reshape(n, n)

    def row(entries):
        return torch.tensor(draw(st.lists(entries, min_size=n, max_size=n)))

    counts = st.integers(0, 2**40)
    return Affinity(
        matrix=square(numbers).double(),
        stderr=square(numbers).double(),
        tasks=tuple(tasks),
        estimator=draw(st.text(max_size=5)),
        n_observations=draw(counts),
        observations=square(counts).long(),
        rule=draw(st.text(max_size=5)),
        joint_descent=draw(numbers),
        cosine=draw(st.sampled_from([None, 1])) and square(numbers).double(),
        floored=draw(st.sampled_from([None, 1])) and row(counts).long(),
        cost=draw(numbers),
        effective=draw(st.sampled_from([None, 1])) and square(numbers).double(),
        calibrated=draw(st.booleans()),
        calibration_r2=draw(st.sampled_from([None, 1])) and row(numbers).double(),
        choice=draw(st.text(max_size=5)),
        form=draw(st.text(max_size=5)),
    )


def fields(affinity):
    return {name: getattr(affinity, name) for name in FIELDS}


def bits(value):
    """Numbers to the last bit, the sign of 0 included; NaN is NaN."""
    if isinstance(value, torch.Tensor):
        return value.dtype, value.shape, [bits(number) for number in value.flatten().tolist()]
    return value if not isinstance(value, float) else "nan" if math.isnan(value) else value.hex()


@given(affinity=affinities())
def test_json_holds_everything(tmp_path_factory, affinity):
    path = tmp_path_factory.mktemp("affinity") / "affinity.json"
    affinity.save(path)
    again = Affinity.load(path)
    for name in FIELDS:
        assert bits(getattr(again, name)) == bits(getattr(affinity, name)), name
    text = path.read_text(encoding="utf-8")
    json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))


@given(affinity=affinities())
def test_a_table_holds_the_pairs(tmp_path_factory, affinity):
    path = tmp_path_factory.mktemp("affinity") / "affinity.csv"
    affinity.save(str(path))
    again = Affinity.load(str(path))
    assert again.tasks == affinity.tasks
    assert bits(again.matrix) == bits(affinity.matrix)
    assert bits(again.stderr) == bits(affinity.stderr)
    assert torch.equal(again.observations, affinity.observations)
    assert (again.cosine is None) == (affinity.cosine is None)
    assert again.estimator == "file"


def test_every_field_is_tested():
    assert set(FIELDS) == set(Affinity.__dataclass_fields__)
    plain = fields(example())
    changed = [name for name, value in fields(full_example()).items() if value is not plain[name]]
    assert set(changed) >= {"cosine", "floored", "cost", "effective", "calibrated", "calibration_r2", "choice", "form"}


@pytest.mark.parametrize("name", ["affinity.txt", "affinity", "affinity.json.gz", "csv"])
def test_another_suffix_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"a \.json file .* or a \.csv file .*Got .*" + name):
        example().save(tmp_path / name)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"a \.json file .* or a \.csv file .*Got .*" + name):
        Affinity.load(tmp_path / name)


@pytest.mark.parametrize("name", ["affinity.json", "affinity.csv"])
def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch, name):
    path = tmp_path / name
    example().save(path)
    before = path.read_bytes()

    def fail(handle):
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        full_example().save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def damaged(**changes):
    def change(content):
        content.update(changes)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (damaged(format="other"), 'does not say "format": "cotrain.Affinity"'),
        (lambda content: content.pop("format"), 'does not say "format"'),
        (damaged(version=2), "version 2 of the format; this cotrain reads version 1"),
        (lambda content: content.pop("version"), "version None of the format"),
        (lambda content: content.pop("tasks"), r"\['tasks'\] are missing"),
        (lambda content: content.pop("cosine"), r"\['cosine'\] are missing"),
        (damaged(tasks="abc"), r'"tasks" in .* must be a list of names\. Got .abc'),
        (damaged(tasks=["a", 1, "c"]), "must be a list of names"),
        (damaged(tasks=["a", "b"]), "must be a list of 2 rows, one for each task"),
        (damaged(estimator=3), "'estimator' in .* must be a text. Got 3"),
        (damaged(calibrated=1), "'calibrated' in .* must be true or false. Got 1"),
        (damaged(n_observations=-1), "'n_observations' in .* must be a whole number from 0 on. Got -1"),
        (damaged(n_observations=1.5), "'n_observations' in .* must be a whole number"),
        (damaged(n_observations=True), "'n_observations' in .* must be a whole number"),
        (damaged(joint_descent="0.5"), "'joint_descent' in .* must be a number, null for NaN"),
        (damaged(cost=False), "'cost' in .* must be a number"),
        (damaged(cost=10**400), "'cost' in .* must be"),
        (damaged(matrix=None), "'matrix' in .* must be a list of 3 rows"),
        (damaged(matrix=[[1, 2, 3]] * 2), "'matrix' in .* must be a list of 3 rows"),
        (damaged(matrix=[[1, 2, 3]] * 2 + [[1, 2]]), "'matrix' in .* must be a list of one number for each of 3"),
        (damaged(matrix=[[1, 2, 3]] * 2 + [3]), "'matrix' in .* must be a list of one number for each of 3"),
        (damaged(matrix=[[1, 2, "x"]] * 3), "'matrix' in .* must be a number, null for NaN, or an infinity"),
        (damaged(observations=[[1, 2, 2**63]] * 3), "'observations' in .* must be a whole number"),
        (damaged(floored=[1, 2]), "'floored' in .* must be a list of one number for each of 3 tasks"),
        (damaged(floored=[1, 2, None]), "'floored' in .* must be a whole number"),
        (damaged(calibration_r2=[[1]] * 3), "'calibration_r2' in .* must be a number"),
    ],
)
def test_a_damaged_file_says_what_is_wrong(tmp_path, change, message):
    path = tmp_path / "affinity.json"
    full_example().save(path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message) as raised:
        Affinity.load(path)
    assert str(path) in str(raised.value)
    assert len(str(raised.value)) < 250 + len(str(path))


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe{}", b"[]", b"3", b'{"cost": NaN}', b'{"cost": Infinity}'])
def test_what_is_no_affinity_at_all(tmp_path, content):
    path = tmp_path / "affinity.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match="is not an affinity"):
        Affinity.load(path)


def test_a_file_that_was_cut_off_is_refused(tmp_path):
    path = tmp_path / "affinity.json"
    full_example().save(path)
    whole = path.read_bytes()
    for end in range(0, len(whole) - 2, 37):
        path.write_bytes(whole[:end])
        with pytest.raises(DataError):
            Affinity.load(path)


@pytest.mark.parametrize("cosine", [None, torch.eye(3, dtype=torch.float64)])
def test_what_is_written_is_read(tmp_path, cosine):
    affinity = example(cosine=cosine)
    affinity.to_csv(tmp_path / "affinity.csv")
    again = Affinity.from_csv(tmp_path / "affinity.csv")
    assert again.tasks == affinity.tasks
    for name in ("matrix", "stderr", "observations"):
        torch.testing.assert_close(getattr(again, name), getattr(affinity, name), rtol=0, atol=0, equal_nan=True)
    assert again.n_observations == 8
    assert again.estimator == "file"
    assert again.cosine is None if cosine is None else torch.equal(again.cosine, cosine)


def test_the_table_is_long_and_nan_is_empty(tmp_path):
    affinity = example(cosine=torch.eye(3, dtype=torch.float64))
    affinity.to_csv(tmp_path / "affinity.csv", {"label_correlation": torch.ones(3, 3)})
    with (tmp_path / "affinity.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "source", "target", "affinity", "stderr", "observations", "gradient_cosine", "label_correlation",
    ]  # fmt: skip
    assert len(rows) == 9
    assert rows[5]["source"] == 'the "second"'
    assert rows[5]["target"] == "третья"
    assert rows[5]["affinity"] == ""
    assert rows[5]["observations"] == "5"
    assert float(rows[3]["affinity"]) == affinity.matrix[1, 0]
    assert rows[4]["label_correlation"] == "1.0"


HEADER = "source,target,affinity,stderr,observations\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("source,target,gain\na,a,1\n", r"columns \['affinity', 'stderr', 'observations'\] are missing"),
        ("", "are missing"),
        (HEADER + "a,b,1,1,1\n", "every ordered pair of its 1 tasks"),
        (HEADER + "a,a,1,1,1\na,a,1,1,1\n", "Got 2 rows for 1 pairs"),
        (HEADER + "a,a,much,1,1\n", "Column 'affinity' of .* must hold numbers"),
        (HEADER + "a,a,1,1\n", None),
    ],
)
def test_a_file_that_is_no_such_table(tmp_path, text, message):
    path = tmp_path / "affinity.csv"
    path.write_text(text)
    if message is None:  # a short row: the missing cell is unknown
        assert Affinity.from_csv(path).observations.item() == 0
        return
    with pytest.raises(DataError, match=message):
        Affinity.from_csv(path)


def test_an_extra_column_must_fit(tmp_path):
    with pytest.raises(ValueError, match="Column 'label_correlation' must have the shape"):
        example().to_csv(tmp_path / "never.csv", {"label_correlation": torch.ones(2, 2)})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"source,target\n" + b"a" * 200_000])
def test_a_file_that_is_no_text(tmp_path, content):
    path = tmp_path / "affinity.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match="it is no CSV text"):
        Affinity.load(path)
