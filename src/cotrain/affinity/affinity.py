"""What was measured of how tasks act on each other: a matrix, its error bars, and how it came about."""

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from cotrain.errors import DataError
from cotrain.files import write_text

__all__ = ["Affinity"]

COLUMNS = ("source", "target", "affinity", "stderr", "observations")
COSINE_COLUMN = "gradient_cosine"


@dataclass(frozen=True, eq=False)
class Affinity:
    """How a step for one task changes every other task's loss. Not a gain: see the note.

    Note:
        Affinities describe single steps of one joint training. On the published group tables they correlate
        weakly with what trained groups gain; train groups before believing a decision that rests on them.

    Attributes:
        matrix: [T, T] float64. Row = source, column = target, positive = a step for the source lowers the
            target's loss, in units of that loss. NaN where never observed. The diagonal is a baseline.
        stderr: [T, T] float64 standard errors of the means; NaN below 10 observations.
        tasks: The tasks' names, in the order of rows and columns.
        estimator: "lookahead", "gram", or "file" for a matrix that was read.
        n_observations: How many batches were measured.
        observations: [T, T] int64, how often each entry was observed; by default on every batch.
        rule: The step that was looked at, in words, such as "Adam step, lr 0.001".
        joint_descent: Share of the measured batches on which the same step for all tasks together lowers the
            summed loss. When it is low, the step is too long, and the matrix measures divergence.
        cosine: [T, T] mean cosine of the tasks' gradients on the same batches, a control; None if not known.
        floored: [T] how often a target's loss was below 1 % of its running mean, which then stood in for it.
        cost: Price of measuring in plain training steps, per call of `observe`, in passes through the network
            (a forward pass counts 1, a backward pass 2, a plain training step 3).
    """

    matrix: Tensor
    stderr: Tensor
    tasks: tuple[str, ...]
    estimator: str
    n_observations: int
    observations: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    rule: str = ""
    joint_descent: float = math.nan
    cosine: Tensor | None = None
    floored: Tensor | None = None
    cost: float = math.nan

    def __post_init__(self) -> None:
        if self.observations.numel() == 0:
            object.__setattr__(self, "observations", torch.full(self.matrix.shape, self.n_observations))
        square = (len(self.tasks), len(self.tasks))
        for name in ("matrix", "stderr", "observations", "cosine"):
            value = getattr(self, name)
            if value is not None and tuple(value.shape) != square:
                raise ValueError(f"{name} must have the shape {list(square)} of {len(self.tasks)} tasks."
                                 f" Got {list(value.shape)}.")  # fmt: skip

    def __str__(self) -> str:
        rule = f" ({self.rule})" if self.rule else ""
        lines = [f"Affinity of {len(self.tasks)} tasks: {self.estimator}{rule}, {self.n_observations} observations"]
        pairs = self.matrix.clone().fill_diagonal_(torch.nan).flatten()
        if not bool(pairs.isnan().all()):
            best, worst = int(pairs.nan_to_num(-math.inf).argmax()), int(pairs.nan_to_num(math.inf).argmin())
            lines.append(f"highest {self._pair(best)}, lowest {self._pair(worst)}")
        if not math.isnan(self.joint_descent):
            lines.append(f"the joint step lowers the summed loss on {self.joint_descent:.0%} of the batches")
        return "\n".join(lines)

    def to_csv(self, path: Path | str, extra: Mapping[str, Tensor] | None = None) -> None:
        """Write one row per ordered pair of tasks, diagonal included; an empty cell is NaN.

        Columns: source, target, affinity, stderr, observations, gradient_cosine (if known), then the extra ones.

        Args:
            path: The file to make or replace, whole or not at all.
            extra: More [T, T] matrices by column name, such as the label correlation.

        Raises:
            ValueError: If an extra matrix has another shape.
        """
        columns = {"affinity": self.matrix, "stderr": self.stderr, "observations": self.observations}
        if self.cosine is not None:
            columns[COSINE_COLUMN] = self.cosine
        for name, value in (extra or {}).items():
            if value.shape != self.matrix.shape:
                raise ValueError(
                    f"Column {name!r} must have the shape {list(self.matrix.shape)}. Got {list(value.shape)}."
                )
            columns[name] = value
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["source", "target", *columns])
        rows = torch.stack([value.double().flatten() for value in columns.values()], dim=1).tolist()
        pairs = ((source, target) for source in self.tasks for target in self.tasks)
        whole = [name == "observations" for name in columns]
        for pair, row in zip(pairs, rows, strict=True):
            writer.writerow([*pair, *(_cell(value, is_whole) for value, is_whole in zip(row, whole, strict=True))])
        write_text(Path(path), text.getvalue())

    @classmethod
    def from_csv(cls, path: Path | str) -> "Affinity":
        """Read what `to_csv` wrote, or any table with its first five columns and one row per ordered pair.

        Raises:
            DataError: If the file is not such a table.
        """
        with Path(path).open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise DataError(f"{path} is not a table of affinities: the columns {missing} are missing.")
            rows = list(reader)
        tasks = tuple(dict.fromkeys(row["source"] for row in rows))
        by_pair = {(row["source"], row["target"]): row for row in rows}
        if set(by_pair) != {(source, target) for source in tasks for target in tasks} or len(rows) != len(by_pair):
            raise DataError(
                f"{path} must hold every ordered pair of its {len(tasks)} tasks exactly once,"
                f" {len(tasks) ** 2} rows. Got {len(rows)} rows for {len(by_pair)} pairs."
            )

        def matrix(column: str) -> Tensor:
            try:
                values = [float(by_pair[a, b][column] or "nan") for a in tasks for b in tasks]
            except (TypeError, ValueError) as error:
                raise DataError(f"Column {column!r} of {path} must hold numbers ({error}).") from error
            return torch.tensor(values, dtype=torch.float64).reshape(len(tasks), len(tasks))

        observations = matrix("observations").nan_to_num().long()
        return cls(
            matrix=matrix("affinity"),
            stderr=matrix("stderr"),
            observations=observations,
            tasks=tasks,
            estimator="file",
            n_observations=int(observations.max()) if tasks else 0,
            cosine=matrix(COSINE_COLUMN) if COSINE_COLUMN in (reader.fieldnames or ()) else None,
        )

    def _pair(self, position: int) -> str:
        row, column = divmod(position, len(self.tasks))
        value, error = float(self.matrix[row, column]), float(self.stderr[row, column])
        spread = "" if math.isnan(error) else f" ± {error:.1g}"
        return f"{self.tasks[row]} -> {self.tasks[column]} {value:+.3g}{spread}"


def _cell(value: float, is_whole: bool) -> str:
    if math.isnan(value):
        return ""
    return str(int(value)) if is_whole else repr(value)
