import numpy as np
import pytest

from cotrain import Task
from cotrain.data.notes import describe_target


@pytest.mark.parametrize(
    ("task", "labels", "expected"),
    [
        (Task("a", "binary"), [0, 1, 1, 1], "it; base rate 0.7500"),
        (Task("a", "binary"), [0, 1, np.nan, np.nan], "it; base rate 0.5000; 0.500 of the samples have a label"),
        (Task("a", "regression"), [1, 3], "it; mean 2, standard deviation 1"),
        (Task("a", "multiclass", 3), [0, 0, 1], "it; classes and base rates: 0 = x 0.6667, 1 = y 0.3333, 2 = z 0.0000"),
        (Task("a", "regression"), [np.nan], "it; no label in training"),
    ],
)
def test_a_target_in_one_line(task: Task, labels: list[float], expected: str) -> None:
    classes = "xyz" if task.kind == "multiclass" else ""
    assert describe_target(task, np.array(labels), meaning="it", classes=classes) == expected
