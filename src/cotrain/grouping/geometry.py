"""How far apart tasks lie: everything that clusters them needs only the distances between distinct rows of features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cotrain.grouping.gains import BoolArray, FloatArray

__all__ = ["DistinctRows", "Geometry", "IntArray", "distinct_rows", "squared_distances", "task_geometry"]

IntArray: TypeAlias = NDArray[np.intp]

CHUNK = 2**22
"""Entries taken at once: 32 MB in float64, so a large matrix of features is never copied whole."""

CANCELLED = 1e-6
"""Squared distances below this share of the squared norms are computed again from differences: a sum of products
keeps fewer than 10 of their 16 digits, and must not make two different rows one."""


@dataclass(frozen=True, eq=False)
class DistinctRows:
    """The different rows of a feature matrix, in an order that depends on their values only.

    Whatever is computed in this order is permuted when the tasks are, to the last bit.

    Attributes:
        position: [U], where each distinct row first stands in the matrix.
        weights: [U] float64, how many tasks have it.
        row: [n], the distinct row of every task that takes part.
    """

    position: IntArray
    weights: FloatArray
    row: IntArray

    @property
    def n_distinct(self) -> int:
        """U, the number of different rows."""
        return len(self.position)


@dataclass(frozen=True, eq=False)
class Geometry(DistinctRows):
    """Distinct rows and how far apart they are. Equal rows are one, so a task and its duplicate get one result.

    Attributes:
        squared: [U, U] float64 squared Euclidean distances.
    """

    squared: FloatArray


def task_geometry(features: NDArray[Any], kept: BoolArray | None = None) -> Geometry:
    """The distinct rows of a feature matrix and their distances: see `distinct_rows` and `squared_distances`."""
    found = distinct_rows(features, kept)
    return Geometry(found.position, found.weights, found.row, squared_distances(features, found))


def distinct_rows(features: NDArray[Any], kept: BoolArray | None = None) -> DistinctRows:
    """Find equal rows and sort the others.

    Args:
        features: [T, ...] numbers; what follows the first axis is flattened.
        kept: [T], the n rows that take part; by default all.

    Returns:
        The distinct ones among the n rows. NaN equals NaN.
    """
    rows = _plain_rows(features)
    order = _by_value(rows)
    if kept is not None:
        order = order[kept[order]]
    starts = np.ones(len(order), dtype=np.bool_)
    bits = rows.view(f"u{rows.itemsize}")
    equal = np.ones(max(len(order) - 1, 0), dtype=np.bool_)
    for columns in _chunks(rows):
        block = bits[order, columns]
        equal &= (block[1:] == block[:-1]).all(axis=1)
    starts[1:] = ~equal
    rank = np.cumsum(starts) - 1
    row = np.full(len(rows), -1)
    row[order] = rank
    return DistinctRows(order[starts], np.bincount(rank).astype(np.float64), row[row >= 0])


def squared_distances(features: NDArray[Any], distinct: DistinctRows) -> FloatArray:
    """Squared Euclidean distances between distinct rows of any width, by one pass of matrix products.

    Args:
        features: [T, ...] as for `distinct_rows`; the distinct rows must be finite. Computed with in float64, of
            which a chunk of columns is held at a time.
        distinct: What `distinct_rows` found.

    Returns:
        [U, U] float64, symmetric, 0 on the diagonal and elsewhere above 0 unless the square underflows.
    """
    rows, position = _plain_rows(features), distinct.position
    n = len(position)
    gram = np.zeros((n, n))
    for columns in _chunks(rows):
        block = rows[position, columns].astype(np.float64)
        block -= block.mean(axis=0)
        gram += block @ block.T
    norms = gram.diagonal()
    scale = norms[:, None] + norms
    squared = np.maximum(scale - 2 * gram, 0)
    first, second = np.nonzero(np.triu(squared <= CANCELLED * scale, 1))
    exact = np.zeros(len(first))
    width = max(CHUNK // rows.shape[1], 1)
    for start in range(0, len(first), width):
        pairs = slice(start, start + width)
        difference = rows[position[first[pairs]]].astype(np.float64) - rows[position[second[pairs]]]
        exact[pairs] = (difference**2).sum(axis=1)
    squared[first, second] = squared[second, first] = exact
    return squared


def _plain_rows(features: NDArray[Any]) -> NDArray[np.floating[Any]]:
    """[T, D] float32 or float64, contiguous, without negative zeros: rows are equal if their bytes are."""
    rows = np.ascontiguousarray(features.reshape(len(features), -1))
    if rows.dtype not in (np.float32, np.float64):
        rows = rows.astype(np.float64)
    if any((np.signbit(rows[:, columns]) & (rows[:, columns] == 0)).any() for columns in _chunks(rows)):
        rows = rows + rows.dtype.type(0)
    return rows


def _by_value(rows: NDArray[np.floating[Any]]) -> IntArray:
    """The rows' order by their bytes: a comparison ends at the first difference, so few columns are read."""
    return np.argsort(rows.view(np.dtype((np.void, rows.shape[1] * rows.itemsize)))[:, 0], kind="stable")


def _chunks(rows: NDArray[np.floating[Any]]) -> list[slice]:
    """Columns in turns."""
    width = max(CHUNK // max(len(rows), 1), 1)
    return [slice(start, start + width) for start in range(0, rows.shape[1], width)]
