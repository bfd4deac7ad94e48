from dataclasses import replace

import pytest
import torch
from blends import blend_front

from cotrain.errors import DataError
from cotrain.pareto.front import Front

FIELDS = ("preferences", "losses", "metrics", "shares")


def assert_same(front, other):
    for name in ("names", "tasks", "metric_names"):
        assert getattr(front, name) == getattr(other, name)
    for name in FIELDS:
        torch.testing.assert_close(getattr(other, name), getattr(front, name), rtol=0.0, atol=0.0, equal_nan=True)
    assert other.scores is None
    assert other.knee() == front.knee()


@pytest.fixture
def front():
    """With a name that CSV must quote, and a task without labels."""
    front = blend_front(3, n=40)
    names = ('a, "quoted"', "b/c", "ü")
    losses = front.losses.clone()
    losses[:, 2] = torch.nan
    return replace(front, names=names, tasks=names, losses=losses)


def test_json_gives_back_the_front_bit_for_bit(front, tmp_path):
    front.to_json(tmp_path / "front.json")
    assert_same(front, Front.from_json(tmp_path / "front.json"))


def test_csv_gives_back_the_front_bit_for_bit(front, tmp_path):
    front.to_csv(str(tmp_path / "front.csv"))
    assert_same(front, Front.from_csv(str(tmp_path / "front.csv")))


def test_a_front_over_groups_needs_its_shares_for_csv(tmp_path):
    grouped = replace(blend_front(2), names=("all", "first"), shares=torch.tensor([[0.5, 0.5], [1.0, 0.0]]))
    grouped.to_json(tmp_path / "front.json")
    assert_same(grouped, Front.from_json(tmp_path / "front.json"))
    grouped.to_csv(tmp_path / "front.csv")
    assert_same(grouped, Front.from_csv(tmp_path / "front.csv", shares=grouped.shares))
    with pytest.raises(DataError, match="shares="):
        Front.from_csv(tmp_path / "front.csv")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "cotrain front", "version": 99}', '{"format": "x"}'])
def test_another_json_is_refused(tmp_path, text):
    (tmp_path / "front.json").write_text(text)
    with pytest.raises(DataError, match="not a front of ours"):
        Front.from_json(tmp_path / "front.json")


@pytest.mark.parametrize(
    "text", ["", "a,b\n1,2\n", "preference/a,loss/a\n1,2\n", "preference/a,loss/a,metric/loss/a\n1,x,2\n",
             "preference/a,loss/a,metric/loss/a\n1,2\n"]
)  # fmt: skip
def test_another_table_is_refused(tmp_path, text):
    (tmp_path / "front.csv").write_text(text)
    with pytest.raises(DataError, match="not a table of a front"):
        Front.from_csv(tmp_path / "front.csv")


def test_a_failed_write_leaves_the_old_file(front, tmp_path, monkeypatch):
    for name in ("csv", "json"):
        file = tmp_path / f"front.{name}"
        getattr(front, f"to_{name}")(file)
        before = file.read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
            with pytest.raises(OSError, match="disk full"):
                getattr(replace(front, metrics=front.metrics + 1), f"to_{name}")(file)
        assert file.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["front.csv", "front.json"]
