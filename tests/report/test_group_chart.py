from collections.abc import Callable
from pathlib import Path

from cotrain.report.contents import read_study
from cotrain.report.group_chart import group_columns, group_rows


def test_roles_in_every_network(make_folder: Callable[..., Path]) -> None:
    study = read_study(make_folder(names=("a", "b", "c", "d", "noise")))
    assert [(column.trained, column.served) for column in group_columns(study)] == [(2, 2), (2, 1), (1, 1)]
    rows = {row.task: row for row in group_rows(study)}
    assert rows["a"].roles == ("serves", "helps", "")
    assert rows["b"].roles == ("", "serves", "")
    assert rows["noise"].left_out
    assert rows["noise"].noise
    assert not rows["a"].left_out
    assert list(rows) == ["a", "d", "b", "c", "noise"]
