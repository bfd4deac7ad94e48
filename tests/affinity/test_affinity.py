import csv
import math

import pytest
import torch

from cotrain.affinity import Affinity
from cotrain.errors import DataError


def example(**changes):
    generator = torch.Generator().manual_seed(0)
    names = ("first, of all", 'the "second"', "третья")
    parts = {
        "matrix": torch.randn(3, 3, generator=generator, dtype=torch.float64) / 7,
        "stderr": torch.rand(3, 3, generator=generator, dtype=torch.float64),
        "observations": torch.arange(9).reshape(3, 3),
        "tasks": names,
        "estimator": "lookahead",
        "n_observations": 8,
        "rule": "Adam step, lr 0.001",
        "joint_descent": 0.875,
    }
    parts["matrix"][1, 2] = parts["stderr"][1, 2] = math.nan
    return Affinity(**{**parts, **changes})


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


def test_in_words():
    words = str(example())
    assert "Affinity of 3 tasks: lookahead (Adam step, lr 0.001), 8 observations" in words
    assert "lowers the summed loss on 88% of the batches" in words
    best = example(matrix=torch.tensor([[9.0, 0.5, -0.1], [0, 9, 0], [0, 0, 9]]).double())
    assert 'highest first, of all -> the "second" +0.5 ±' in str(best)
    assert "lowest first, of all -> третья -0.1 ±" in str(best)
    assert "highest" not in str(example(matrix=torch.full((3, 3), math.nan).double()))


def test_shapes_must_fit():
    with pytest.raises(ValueError, match=r"stderr must have the shape \[3, 3\] of 3 tasks\. Got \[2, 3\]"):
        example(stderr=torch.zeros(2, 3))
    with pytest.raises(ValueError, match="Column 'label_correlation' must have the shape"):
        example().to_csv("never.csv", {"label_correlation": torch.ones(2, 2)})


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


def test_every_entry_counts_as_observed_on_every_batch_by_default() -> None:
    square = torch.zeros(2, 2, dtype=torch.float64)
    affinity = Affinity(square, square, ("a", "b"), "lookahead", 7)
    assert affinity.observations.tolist() == [[7, 7], [7, 7]]
