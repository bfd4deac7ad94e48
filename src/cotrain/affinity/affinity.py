"""What was measured of how tasks act on each other: a matrix, its error bars, and how it came about."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cotrain.affinity.affinity_arithmetic import difference, normalised, pooled, symmetrised
from cotrain.affinity.affinity_files import read_csv, read_json, write_csv, write_json
from cotrain.affinity.affinity_plot import heat_map
from cotrain.files import write_text

__all__ = ["Affinity"]


@dataclass(frozen=True, eq=False)
class Affinity:
    """How a step for one task changes every other task's loss. Not a gain: see the note.

    `first + second` pools what was observed on different batches; `first - second` compares, for example two
    phases of a training.

    Note:
        Affinities describe single steps of one joint training. On the published group tables they correlate
        weakly with what trained groups gain; train groups before believing a decision that rests on them.

    Attributes:
        matrix: [T, T] float64. Row = source, column = target, positive = a step for the source lowers the
            target's loss, in units of that loss. NaN where never observed. The diagonal is a baseline.
        stderr: [T, T] float64 standard errors of the means; NaN below 10 observations.
        tasks: The tasks' names, in the order of rows and columns.
        estimator: "lookahead", "gram", or "file" for a matrix that was read from a table.
        n_observations: How many batches were measured.
        observations: [T, T] int64, how often each entry was observed; by default on every batch.
        rule: The step that was looked at, in words, such as "Adam step, lr 0.001".
        joint_descent: Share of the measured batches on which the same step for all tasks together lowers the
            summed loss. When it is low, the step is too long, and the matrix measures divergence.
        cosine: [T, T] mean cosine of the tasks' gradients on the same batches, a control; None if not known.
        floored: [T] how often a target's loss was below 1 % of its running mean, which then stood in for it.
        cost: Price of measuring in plain training steps, per call of `observe`, in passes through the network
            (a forward pass counts 1, a backward pass 2, a plain training step 3).
        effective: [T, T] float64, how many independent observations would have the same standard error; NaN
            below 10 observations. None if not known.
        calibrated: Whether the estimates were corrected by exact measurements on some of the steps.
        calibration_r2: [T] float64, per target the share of the exact values' variance that the calibration fits;
            None without a calibration.
        choice: What "auto" chose and why, in words.
        form: What was made of the measured values, such as "symmetrised"; "" for the values themselves.
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
    effective: Tensor | None = None
    calibrated: bool = False
    calibration_r2: Tensor | None = None
    choice: str = ""
    form: str = ""

    def __post_init__(self) -> None:
        if self.observations.numel() == 0:
            object.__setattr__(self, "observations", torch.full(self.matrix.shape, self.n_observations))
        row = [len(self.tasks)]
        for name in ("matrix", "stderr", "observations", "cosine", "effective", "floored", "calibration_r2"):
            value = getattr(self, name)
            shape = row if name in ("floored", "calibration_r2") else row * 2
            if value is not None and list(value.shape) != shape:
                raise ValueError(
                    f"{name} must have the shape {shape} of {len(self.tasks)} tasks. Got {list(value.shape)}."
                )

    def __str__(self) -> str:
        rule = f" ({self.rule})" if self.rule else ""
        form = f", {self.form}" if self.form else ""
        lines = [
            f"Affinity of {len(self.tasks)} tasks{form}: {self.estimator}{rule}, {self.n_observations} observations"
        ]
        pairs = self.matrix.clone().fill_diagonal_(torch.nan).flatten()
        if not bool(pairs.isnan().all()):
            best, worst = int(pairs.nan_to_num(-math.inf).argmax()), int(pairs.nan_to_num(math.inf).argmin())
            lines.append(f"highest {self._pair(best)}, lowest {self._pair(worst)}")
        if not math.isnan(self.joint_descent):
            lines.append(f"the joint step lowers the summed loss on {self.joint_descent:.0%} of the batches")
        if self.calibrated:
            lines.append(f"calibrated against exact steps{_fit(self.calibration_r2)}")
        if self.choice:
            lines.append(f"chosen automatically: {self.choice}")
        return "\n".join(lines)

    def __add__(self, other: object) -> "Affinity":
        """Pool with an affinity of the same tasks, estimator and rule that rests on other batches.

        Matrix and cosine are means weighted by each entry's observations, with the standard error
        `sqrt((n1 s1)^2 + (n2 s2)^2) / (n1 + n2)` of independent parts; it is NaN where a part that was observed has
        none. Observations, their effective number and `floored` are added. `joint_descent`, `cost` (the numbers of
        calls are not known) and `calibration_r2` are means weighted by `n_observations`. What one of the two does
        not know, the pooled one does not know either.

        Raises:
            ValueError: If tasks, their order, estimator, rule or calibration differ, or one of the two is not as
                measured (see `form`); the message says which.
        """
        if not isinstance(other, Affinity):
            return NotImplemented
        return pooled(self, other)

    def __sub__(self, other: object) -> "Affinity":
        """The difference to an affinity of the same tasks that rests on other batches, such as an earlier phase.

        Standard errors are `sqrt(s1^2 + s2^2)`, observations the smaller number of the two. What has no difference
        to speak of (cosine, joint descent, floors, cost, fit) is left out.

        Raises:
            ValueError: If tasks, their order or the form differ; the message says which.
        """
        if not isinstance(other, Affinity):
            return NotImplemented
        return difference(self, other)

    def symmetrised(self) -> "Affinity":
        """The mean of both directions of every pair, `(Z + Z^T) / 2`; NaN where either was never observed.

        Standard errors are `sqrt(a^2 + b^2) / 2`, as for independent entries. It is an approximation: the two
        directions share their batches, and where they vary together the true error is larger, up to `(a + b) / 2`.
        Observations are the smaller number of the two. The diagonal stays.
        """
        return symmetrised(self)

    def normalised(self) -> "Affinity":
        """Each target's column in units of its own spread: minus its mean, divided by its standard deviation.

        A target that is easy to help lifts its whole column: in the published CelebA matrix of arXiv 2109.04617,
        93 % of the variance is such an offset. Mean and standard deviation (divisor n) are those of the finite
        entries off the diagonal; diagonal and standard errors are put on the same scale, without the error of the
        scale itself. A column with fewer than two such entries, or with equal ones, becomes NaN.
        """
        return normalised(self)

    def plot(self, path: Path | str | None = None) -> Any:
        """A heat map: sources down the side, targets across the top, blue where a step helps, orange where it hurts.

        Colours are centred on 0 and saturate at the 95 % quantile of the sizes off the diagonal. The diagonal, a
        baseline, and what was never observed are grey. Pointing at a cell shows value, standard error and number
        of observations. Above 60 tasks the axes have no names.

        Args:
            path: An .html file to make or replace as well; it needs no network to be read.

        Returns:
            A `plotly.graph_objects.Figure`.

        Raises:
            ImportError: If plotly is not installed; the message holds the command.
            ValueError: If the path has another suffix.
        """
        if path is not None and Path(path).suffix != ".html":
            raise ValueError(f"A plot is saved as an .html file. Got {path}.")
        figure = heat_map(self)
        if path is not None:
            write_text(Path(path), figure.to_html(include_plotlyjs=True))
        return figure

    def save(self, path: Path | str) -> None:
        """Write a .json file, which holds every field to the last bit, or a .csv table of the pairs (`to_csv`).

        Args:
            path: The file to make or replace, whole or not at all.

        Raises:
            ValueError: If the suffix is neither of the two.
        """
        if _suffix(path) == ".json":
            write_json(self, Path(path))
        else:
            self.to_csv(path)

    @classmethod
    def load(cls, path: Path | str) -> "Affinity":
        """Read what `save` wrote.

        Raises:
            ValueError: If the suffix is neither .json nor .csv.
            DataError: If the file is damaged or no affinity.
        """
        return cls(**read_json(Path(path))) if _suffix(path) == ".json" else cls.from_csv(path)

    def to_csv(self, path: Path | str, extra: Mapping[str, Tensor] | None = None) -> None:
        """Write one row per ordered pair of tasks, diagonal included; an empty cell is NaN.

        Columns: source, target, affinity, stderr, observations, gradient_cosine (if known), then the extra ones.

        Args:
            path: The file to make or replace, whole or not at all.
            extra: More [T, T] matrices by column name, such as the label correlation.

        Raises:
            ValueError: If an extra matrix has another shape.
        """
        write_csv(self, Path(path), extra or {})

    @classmethod
    def from_csv(cls, path: Path | str) -> "Affinity":
        """Read what `to_csv` wrote, or any table with its first five columns and one row per ordered pair.

        Raises:
            DataError: If the file is not such a table.
        """
        return cls(**read_csv(Path(path)))

    def _pair(self, position: int) -> str:
        row, column = divmod(position, len(self.tasks))
        value, error = float(self.matrix[row, column]), float(self.stderr[row, column])
        spread = "" if math.isnan(error) else f" ± {error:.1g}"
        return f"{self.tasks[row]} -> {self.tasks[column]} {value:+.3g}{spread}"


def _fit(r2: Tensor | None) -> str:
    known = torch.empty(0) if r2 is None else r2[r2.isfinite()]
    if not len(known):
        return ""
    return f"; R2 of the fit by target {float(known.min()):.2f} to {float(known.max()):.2f}"


def _suffix(path: Path | str) -> str:
    suffix = Path(path).suffix
    if suffix not in (".csv", ".json"):
        raise ValueError(f"An affinity is saved as a .json file (everything) or a .csv file (a table). Got {path}.")
    return suffix
