"""One byte for what a network gave the true label at one visit, and whether it was right."""

from collections.abc import Iterable

import torch
from torch import Tensor

from cotrain.task import Task

__all__ = ["Codes"]

_FIRST_RIGHT = 128
"""0 is no label, 1 to 127 are wrong answers, 128 to 255 right ones."""


class Codes:
    """Confidences as bytes: one bit says whether the sample was right, the other seven where in the range it was.

    A right answer to a binary task lies in [1/2, 1] and a wrong one in [0, 1/2]; the same holds for ranks. Of C
    classes, corrected for chance, a right answer lies in [0, 1] and a wrong one in [-1/(C-1), (C/2-1)/(C-1)],
    because another class has at least the same probability. So a byte is off by at most 0.002 for binary, regression
    and custom tasks, and by at most 0.002 C/(C-1), or 0.004 if right, for C classes. Right answers are exact.

    Args:
        tasks: In the order of the columns.
    """

    def __init__(self, tasks: Iterable[Task]) -> None:
        ranges = torch.tensor([_ranges(task) for task in tasks], dtype=torch.float32).reshape(-1, 4)
        self._wrong, self._wrong_step, self._right, self._right_step = ranges.unbind(1)

    def encode(self, values: Tensor, right: Tensor, seen: Tensor | None) -> Tensor:
        """Bytes [B, T] of confidences [B, T]; 0 where not seen."""
        wrong = ((values - self._wrong) / self._wrong_step).round().clamp(0, _FIRST_RIGHT - 2) + 1
        correct = ((values - self._right) / self._right_step).round().clamp(0, 255 - _FIRST_RIGHT) + _FIRST_RIGHT
        codes = torch.where(right > 0, correct, wrong)
        return (codes if seen is None else torch.where(seen, codes, 0)).to(torch.uint8)

    def decode(self, codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Confidence [B, T] float32, whether it was right [B, T] in 0 and 1, and whether there was one [B, T]."""
        right = codes >= _FIRST_RIGHT
        numbers = codes.float()
        values = torch.where(
            right,
            self._right + (numbers - _FIRST_RIGHT) * self._right_step,
            self._wrong + (numbers - 1) * self._wrong_step,
        )
        return values, right.float(), codes > 0


def _ranges(task: Task) -> tuple[float, float, float, float]:
    """Lowest value and step of wrong answers and of right ones."""
    wrong, wrong_width, right, right_width = 0.0, 0.5, 0.5, 0.5
    if task.kind == "multiclass":
        others = task.n_outputs - 1
        wrong, wrong_width, right, right_width = -1 / others, task.n_outputs / (2 * others), 0.0, 1.0
    return wrong, wrong_width / (_FIRST_RIGHT - 2), right, right_width / (255 - _FIRST_RIGHT)
