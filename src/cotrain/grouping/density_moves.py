"""Improve a partition's density by moves of one task and swaps of two, until neither helps."""

from __future__ import annotations

import math
import time

import numpy as np

from cotrain.grouping.gains import FloatArray
from cotrain.grouping.geometry import IntArray

__all__ = ["by_moves", "by_moves_and_swaps"]

ROUNDING = 1e-10
"""An improvement below this share of the largest entry is that of rounding."""

SPARE = 8
"""Empty clusters that may be opened at a time if the number of clusters is free."""


def by_moves(similarity: FloatArray, labels: IntArray, *, free: bool, deadline: float = math.inf) -> IntArray:
    """Move single tasks while the density rises.

    With S_c the sum over a cluster c of n tasks and s_c(t) the similarity of task t with it, c without t loses
    `S_c / n - (S_c - 2 s_c(t) + S_tt) / (n - 1)`, and with t it gains `(S_c + 2 s_c(t) + S_tt) / (n + 1) - S_c / n`.
    In a round, moves that share no cluster are made at once; their gains add up.

    Args:
        similarity: [T, T] symmetric.
        labels: [T], 0 to K - 1, each used.
        free: Whether clusters may be emptied and opened. Else their number stays.
        deadline: Of `time.monotonic`; then the partition so far is returned.

    Returns:
        [T] labels, 0 to K - 1.
    """
    return _Search(similarity, labels, free).moves(deadline).numbered()


def by_moves_and_swaps(similarity: FloatArray, labels: IntArray, *, free: bool, deadline: float = math.inf) -> IntArray:
    """`by_moves`, then swap two tasks of different clusters, and so on until neither raises the density."""
    search = _Search(similarity, labels, free).moves(deadline)
    while search.swaps():
        search.moves(deadline)
        if time.monotonic() >= deadline:
            break
    return search.numbered()


class _Search:
    """A partition with what its moves are computed from, kept up to date."""

    def __init__(self, similarity: FloatArray, labels: IntArray, free: bool) -> None:
        self.similarity, self.labels, self.free = similarity, labels.copy(), free
        self.own = similarity.diagonal()
        self.least = ROUNDING * float(np.abs(similarity).max())
        self.every = np.arange(len(labels))
        self.count()

    def count(self) -> None:
        """Sums from scratch, which also ends the growth of rounding errors; with empty clusters at the end."""
        self.labels = self.numbered()
        n_slots = int(self.labels.max()) + 1 + (SPARE if self.free else 0)
        member = (self.labels == np.arange(n_slots)[:, None]).astype(np.float64)
        self.size = member.sum(axis=1)
        self.sums = member @ self.similarity
        self.inside = (member * self.sums).sum(axis=1)

    def numbered(self) -> IntArray:
        """[T] labels without gaps."""
        return np.unique(self.labels, return_inverse=True)[1]

    def moves(self, deadline: float) -> _Search:
        """Rounds of moves until none helps."""
        while time.monotonic() < deadline:
            gain, target = self.best_moves()
            tasks = self.apart(gain, target)
            if not len(tasks):
                break
            self.move(tasks, target[tasks])
            if self.free and self.size[-1] > 0:
                self.count()
        return self

    def best_moves(self) -> tuple[FloatArray, IntArray]:
        """[T] by how much the density rises with each task's best move, and [T] where it goes."""
        size = self.size[:, None]
        now = (self.inside / np.maximum(self.size, 1))[:, None]
        enter = (self.inside[:, None] + 2 * self.sums + self.own) / (size + 1) - now
        enter[self.labels, self.every] = -np.inf
        target = enter.argmax(axis=0)
        around, mine = self.size[self.labels], self.inside[self.labels]
        left = mine - 2 * self.sums[self.labels, self.every] + self.own
        leave = np.where(around > 1, left / np.maximum(around - 1, 1), 0.0) - mine / around
        if not self.free:
            leave[around == 1] = -np.inf
        return leave + enter[target, self.every], target

    def apart(self, gain: FloatArray, target: IntArray) -> IntArray:
        """Tasks whose move is the best of all that touch either of its two clusters."""
        source, n_tasks = self.labels, len(gain)
        place = np.empty(n_tasks, dtype=np.intp)
        place[np.argsort(-gain, kind="stable")] = self.every
        helps = gain > self.least
        first = np.full(len(self.size), n_tasks)
        np.minimum.at(first, source[helps], place[helps])
        np.minimum.at(first, target[helps], place[helps])
        return np.flatnonzero(helps & (place == first[source]) & (place == first[target]))

    def move(self, tasks: IntArray, target: IntArray) -> None:
        """Move tasks to clusters that no other of them leaves or enters."""
        source, rows, own = self.labels[tasks], self.similarity[tasks], self.own[tasks]
        self.inside[source] += own - 2 * self.sums[source, tasks]
        self.inside[target] += own + 2 * self.sums[target, tasks]
        self.sums[source] -= rows
        self.sums[target] += rows
        self.size[source] -= 1
        self.size[target] += 1
        self.labels[tasks] = target

    def swaps(self) -> bool:
        """Make the best swap, and further ones that share no cluster with it; whether there was one."""
        half = self.sums[self.labels]  # [i, j]: task j with the cluster of task i
        half = 2 * (half - half.diagonal()[:, None] - self.similarity) + self.own + self.own[:, None]
        half /= self.size[self.labels][:, None]
        gain = half + half.T
        gain[self.labels[:, None] == self.labels] = -np.inf
        partner = gain.argmax(axis=1)
        best = gain[self.every, partner]
        tasks = self.apart(best, self.labels[partner])
        first, second = self.labels[tasks], self.labels[partner[tasks]]
        self.move(tasks, second)
        self.move(partner[tasks], first)
        return len(tasks) > 0
