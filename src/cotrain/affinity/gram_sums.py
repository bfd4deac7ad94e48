"""Sums of products of task confidences, in float64: what a correlation between tasks needs, without the samples."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from cotrain.affinity.overlap import FEWEST_SAMPLES, shrunk

__all__ = ["BlockTriangle", "CompleteSums", "OverlapSums"]

BLOCK = 1024
"""The most tasks per block. At T = 10,000 and batch 256, blocks of 512 take 1.4x as long, the whole square 1.7x."""

FEWEST_BLOCKS = 4
"""For fewer tasks. At T = 1,000 a fifth less time than in one block; smaller blocks gain nothing more."""

FLAT = 1e-13
"""A variance up to here is none: confidences are float32, whose steps near 1 are 6e-8, and their sums are rounded."""


class BlockTriangle:
    """The lower triangle of a symmetric [T, T] matrix in blocks of rows, 4.4 T^2 bytes for T = 10,000, 5 for 1,000.

    Args:
        size: T.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        step = min(BLOCK, math.ceil(size / FEWEST_BLOCKS))
        spans = [(start, min(start + step, size)) for start in range(0, size, step)]
        self._blocks = [torch.zeros(end - start, end, dtype=torch.float64) for start, end in spans]

    def __iter__(self) -> Iterator[tuple[slice, Tensor]]:
        """The rows of every block and the block [rows, columns up to the last of these rows]."""
        for block in self._blocks:
            n_rows, end = block.shape
            yield slice(end - n_rows, end), block

    def add(self, values: Tensor) -> None:
        """Add values^T values, of values [B, T] float64."""
        for rows, block in self:
            block.addmm_(values[:, rows].T, values[:, : rows.stop])

    def merge(self, other: "BlockTriangle") -> None:
        """Add another matrix of the same size."""
        for block, theirs in zip(self._blocks, other._blocks, strict=True):
            block += theirs.to(block.device)

    def zero(self) -> None:
        """Set every entry to 0."""
        for block in self._blocks:
            block.zero_()

    def lower(self) -> Tensor:
        """[T, T], of which the entries above the diagonal mean nothing until it is mirrored."""
        matrix = torch.zeros(self._size, self._size, dtype=torch.float64, device=self._blocks[0].device)
        for rows, block in self:
            matrix[rows, : rows.stop] = block
        return matrix

    def mirror(self, matrix: Tensor) -> None:
        """Overwrite what stands above the diagonal of [T, T] by what stands below it, without a second matrix."""
        for rows, _ in self:
            square = matrix[rows, rows]
            square.copy_(square.tril() + square.tril(-1).T)
            matrix[: rows.start, rows] = matrix[rows, : rows.start].T

    def to(self, device: torch.device) -> None:
        """Move to a device; nothing happens if it is there."""
        self._blocks = [block.to(device) for block in self._blocks]

    def state(self) -> list[Tensor]:
        """The blocks, copied."""
        return [block.clone() for block in self._blocks]

    def load(self, blocks: list[Tensor]) -> None:
        """Go on from `state`."""
        self._blocks = [block.clone() for block in blocks]


class CompleteSums:
    """Sums for tasks that have a label for every sample: one triangle, and [T] per epoch.

    Sums of products run over all epochs; what centres them is kept by epoch. That makes merging an addition at any
    time, and needs no matrix per epoch.

    Args:
        n_tasks: T.
    """

    def __init__(self, n_tasks: int) -> None:
        self._products = BlockTriangle(n_tasks)
        self._sum = torch.zeros(n_tasks, dtype=torch.float64)
        self._count = 0
        self._ended: list[tuple[Tensor, int]] = []

    def add(self, values: Tensor, seen: Tensor) -> None:  # noqa: ARG002 - who is here has all labels, or none
        """Take in values [B, T] float64 of the open epoch."""
        self._products.add(values)
        self._sum += values.sum(0)
        self._count += len(values)

    def end_epoch(self) -> None:
        """Close the epoch."""
        self._ended.append((self._sum.clone(), self._count))
        self._sum.zero_()
        self._count = 0

    def merge(self, other: "CompleteSums") -> None:
        """Add the sums of other samples of the same epochs, or of the open epoch alone."""
        self._products.merge(other._products)
        self._sum += other._sum.to(self._sum.device)
        self._count += other._count
        if other._ended:
            pairs = zip(self._ended, other._ended, strict=True)
            self._ended = [(ours + theirs.to(ours.device), n + m) for (ours, n), (theirs, m) in pairs]

    def correlation(self, visits: Tensor) -> Tensor:
        """[T, T], centred in every epoch; 0 for tasks that do not vary over the samples, NaN for those without label.

        Args:
            visits: [T] labelled visits in all epochs.
        """
        # sum_e s s^T / n, as one product of [E, T].
        means = torch.stack([total / max(count, 1) ** 0.5 for total, count in self._ended])
        matrix = self._products.lower().addmm_(means.T, means, alpha=-1)
        variances = matrix.diagonal().clone()
        varies = variances > FLAT * visits
        scale = torch.where(varies, variances.rsqrt(), 0)
        matrix.mul_(scale[:, None]).mul_(scale).clamp_(-1, 1)
        matrix.diagonal().copy_(varies)
        self._products.mirror(matrix)
        without = visits == 0
        matrix[without] = torch.nan
        matrix[:, without] = torch.nan
        return matrix

    def to(self, device: torch.device) -> None:
        """Move to a device; nothing happens if it is there."""
        self._products.to(device)
        self._sum = self._sum.to(device)
        self._ended = [(total.to(device), count) for total, count in self._ended]

    def state_dict(self) -> dict[str, Any]:
        """Everything recorded so far."""
        return {
            "products": self._products.state(),
            "sum": self._sum.clone(),
            "count": self._count,
            "ended": [(total.clone(), count) for total, count in self._ended],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a recorded state."""
        self._products.load(state["products"])
        self._sum = state["sum"].clone()
        self._count = state["count"]
        self._ended = [(total.clone(), count) for total, count in state["ended"]]


class OverlapSums:
    """Sums over the samples that have the labels of both tasks of a pair, for every pair: about 30 T^2 bytes.

    Means over such an overlap are a matrix per epoch. So an epoch's sums are centred when it ends, in place, and
    two recorders can only be merged while it is open.

    Args:
        n_tasks: T.
    """

    def __init__(self, n_tasks: int) -> None:
        self._products = BlockTriangle(n_tasks)
        self._shared = BlockTriangle(n_tasks)
        self._shared_in_epoch = BlockTriangle(n_tasks)
        # Of the row's task, over the samples that the column's task labels too.
        self._sums = torch.zeros(n_tasks, n_tasks, dtype=torch.float64)
        self._squares = torch.zeros(n_tasks, n_tasks, dtype=torch.float64)
        self._epochs = 0

    def add(self, values: Tensor, seen: Tensor) -> None:
        """Take in values [B, T] float64 of the open epoch, 0 where `seen` is false."""
        mask = seen.double()
        self._products.add(values)
        self._shared_in_epoch.add(mask)
        self._sums.addmm_(values.T, mask)
        self._squares.addmm_((values**2).T, mask)

    def end_epoch(self) -> None:
        """Close the epoch: centre its sums by the means over every pair's own overlap."""
        for (rows, products), (_, shared) in zip(self._products, self._shared_in_epoch, strict=True):
            n = shared.clamp(min=1)
            below, above = self._sums[rows, : rows.stop], self._sums[: rows.stop, rows].T
            products -= below * above / n
            self._squares[rows, : rows.stop] -= below**2 / n
            self._squares[: rows.start, rows] -= (above**2 / n)[:, : rows.start].T
        self._shared.merge(self._shared_in_epoch)
        self._shared_in_epoch.zero()
        self._sums.zero_()
        self._epochs += 1

    def merge(self, other: "OverlapSums") -> None:
        """Add the sums of other samples of the open epoch."""
        self._products.merge(other._products)
        self._shared_in_epoch.merge(other._shared_in_epoch)
        self._sums += other._sums.to(self._sums.device)
        self._squares += other._squares.to(self._squares.device)

    def correlation(self, visits: Tensor) -> Tensor:  # noqa: ARG002 - every pair has visits of its own
        """[T, T], centred in every epoch, shrunk; 0 where one does not vary over the overlap, NaN where it is small."""
        matrix = self._products.lower()
        for (rows, products), (_, shared) in zip(self._products, self._shared, strict=True):
            samples = shared / self._epochs
            variances = self._squares[rows, : rows.stop], self._squares[: rows.stop, rows].T
            varies = torch.minimum(*variances) > FLAT * shared
            found = torch.where(varies, products / (variances[0] * variances[1]).sqrt(), 0).clamp_(-1, 1)
            found = shrunk(found, samples)
            own = varies[:, rows].diagonal()
            found[:, rows].diagonal().copy_(
                torch.where(samples[:, rows].diagonal() < FEWEST_SAMPLES, torch.nan, own.double())
            )
            matrix[rows, : rows.stop] = found
        self._products.mirror(matrix)
        return matrix

    def to(self, device: torch.device) -> None:
        """Move to a device; nothing happens if it is there."""
        for triangle in (self._products, self._shared, self._shared_in_epoch):
            triangle.to(device)
        self._sums, self._squares = self._sums.to(device), self._squares.to(device)

    def state_dict(self) -> dict[str, Any]:
        """Everything recorded so far."""
        return {
            "products": self._products.state(),
            "shared": self._shared.state(),
            "shared_in_epoch": self._shared_in_epoch.state(),
            "sums": self._sums.clone(),
            "squares": self._squares.clone(),
            "epochs": self._epochs,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a recorded state."""
        self._products.load(state["products"])
        self._shared.load(state["shared"])
        self._shared_in_epoch.load(state["shared_in_epoch"])
        self._sums, self._squares = state["sums"].clone(), state["squares"].clone()
        self._epochs = state["epochs"]
