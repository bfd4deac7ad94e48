"""One task of a linearised network: sums over its samples, and the same sums over samples drawn again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cotrain.grouping.gains import FloatArray

__all__ = ["Draws", "HeldOutTask", "LinearSamples", "LinearTask", "fit_sums", "held_out"]

BLOCKS = 16
"""Samples are drawn again by blocks, because a draw is then a weighted sum of 16 sums, whatever their number."""


class LinearTask(Protocol):
    """Samples of one task: `outputs + gradients @ w` is what a step w makes of the outputs."""

    @property
    def name(self) -> str:
        """Of the task."""
        ...

    @property
    def loss(self) -> str:
        """Its kind: "squared" or "logistic"."""
        ...

    @property
    def gradients(self) -> Any:
        """[n, d], anything that numpy can read."""
        ...

    @property
    def outputs(self) -> Any:
        """[n]."""
        ...

    @property
    def labels(self) -> Any:
        """[n], of a logistic loss in [0, 1]."""
        ...


class LinearSamples(Protocol):
    """A network that was linearised on the samples of a split, such as `cotrain.affinity.LinearizedOutputs`."""

    @property
    def parts(self) -> Sequence[LinearTask]:
        """One per task."""
        ...


@dataclass(frozen=True, eq=False)
class Draws:
    """How often every block of samples counts: once in row 0, by a bootstrap draw in each of the other rows.

    Args:
        blocks: [n] block of each sample.
        counts: [1 + replicates, K].
    """

    blocks: NDArray[np.intp]
    counts: FloatArray

    @classmethod
    def of(cls, n_samples: int, replicates: int, name: str, split: int, seed: int) -> Draws:
        """Draws that depend on the task's name, not on its place among the tasks."""
        generator = np.random.default_rng([seed, split, *name.encode()])
        n_blocks = min(BLOCKS, n_samples)
        blocks = generator.permutation(n_samples) % n_blocks
        drawn = generator.multinomial(n_blocks, np.full(n_blocks, 1 / n_blocks), size=replicates)
        return cls(blocks, np.concatenate([np.ones((1, n_blocks)), drawn]))

    @property
    def weights(self) -> FloatArray:
        """[1 + replicates, n], each row with sum 1."""
        drawn = self.counts[:, self.blocks]
        return np.asarray(drawn / drawn.sum(axis=1, keepdims=True))

    def means(self, gradients: FloatArray, scale: FloatArray) -> FloatArray:
        """[1 + replicates, d, d], means of scale * h h^T over the samples of every draw."""
        n_blocks, d = self.counts.shape[1], gradients.shape[1]
        sums = np.empty((n_blocks, d, d))
        for block in range(n_blocks):
            rows = self.blocks == block
            sums[block] = (gradients[rows] * scale[rows, None]).T @ gradients[rows]
        sizes = np.bincount(self.blocks, minlength=n_blocks)
        return np.asarray(np.tensordot(self.counts, sums, 1) / (self.counts @ sizes)[:, None, None])


def fit_sums(task: LinearTask, draws: Draws) -> tuple[FloatArray, FloatArray]:
    """Of every draw of the training samples: the loss's curvature and its negative slope in w at w = 0.

    Returns:
        [draws, d, d] and [draws, d].
    """
    h, f, y = _arrays(task)
    if task.loss == "squared":
        curvature, residual = np.full(len(f), 2.0), 2 * (y - f)
    else:
        q = _probability(f)
        curvature, residual = q * (1 - q), y - q
    return draws.means(h, curvature), (draws.weights * residual) @ h


class HeldOutTask(Protocol):
    """Mean losses of a task's validation samples, of the network and at steps."""

    def losses(self, steps: FloatArray) -> FloatArray:
        """From steps [n, d] to losses [n] over the samples as they are."""
        ...

    def redrawn(self, steps: FloatArray, moved: FloatArray) -> FloatArray:
        """From every draw's own steps [draws, n, d], near to steps [n, d], to its losses [draws, n].

        To second order in the difference.
        """
        ...


def held_out(task: LinearTask, draws: Draws) -> HeldOutTask:
    """The validation samples of a task."""
    return _Squared(task, draws) if task.loss == "squared" else _Logistic(task, draws)


class _Squared:
    """w^T B w - 2 b^T w + s: exact, without the samples."""

    def __init__(self, task: LinearTask, draws: Draws) -> None:
        h, f, y = _arrays(task)
        weights = draws.weights
        self._second = draws.means(h, np.ones(len(f)))
        self._first = (weights * (y - f)) @ h
        self._rest = weights @ (y - f) ** 2

    def losses(self, steps: FloatArray) -> FloatArray:
        return self._at(steps, 0)

    def redrawn(self, steps: FloatArray, moved: FloatArray) -> FloatArray:
        del steps  # nothing needs to be near
        return np.stack([self._at(one, draw) for draw, one in enumerate(moved, start=1)])

    def _at(self, steps: FloatArray, draw: int) -> FloatArray:
        square = np.einsum("nd,nd->n", steps @ self._second[draw], steps)
        return np.asarray(np.maximum(square - 2 * steps @ self._first[draw] + self._rest[draw], 0.0))  # rounding


class _Logistic:
    """Mean of log(1 + exp(F)) - y F on the stored gradients; the second part is linear in the step."""

    def __init__(self, task: LinearTask, draws: Draws) -> None:
        self._h, self._f, y = _arrays(task)
        self._weights = draws.weights
        self._slope = (self._weights * y) @ self._h
        self._start = self._weights @ (y * self._f)

    def losses(self, steps: FloatArray) -> FloatArray:
        softplus = _softplus(self._f[:, None] + self._h @ steps.T)
        return np.asarray(self._weights[0] @ softplus - self._linear(steps, 0))

    def redrawn(self, steps: FloatArray, moved: FloatArray) -> FloatArray:
        outputs = self._f[:, None] + self._h @ steps.T
        softplus, slope = _softplus(outputs), _probability(outputs)
        half_curvature = 0.5 * slope * (1 - slope)
        found = []
        for draw, one in enumerate(moved, start=1):
            # The second-order step from known values costs a third of new logarithms.
            difference = self._h @ (one - steps).T
            values = softplus + (slope + half_curvature * difference) * difference
            found.append(self._weights[draw] @ values - self._linear(one, draw))
        return np.stack(found)

    def _linear(self, steps: FloatArray, draw: int) -> FloatArray:
        return np.asarray(steps @ self._slope[draw] + self._start[draw])


def _softplus(outputs: FloatArray) -> FloatArray:
    # np.logaddexp takes four times as long.
    softplus = np.log1p(np.exp(-np.abs(outputs)))
    softplus += np.maximum(outputs, 0.0)
    return softplus


def _probability(outputs: FloatArray) -> FloatArray:
    return np.asarray(0.5 * (1 + np.tanh(outputs / 2)))  # never overflows


def _arrays(task: LinearTask) -> tuple[FloatArray, FloatArray, FloatArray]:
    h, f, y = (np.asarray(values, dtype=np.float64) for values in (task.gradients, task.outputs, task.labels))
    return h, f, y
