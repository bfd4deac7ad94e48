"""Search for the densest partition: which solver at which size, and what is done with its result and the time."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Literal, TypeAlias

import numpy as np

from cotrain.grouping.density import density, in_order, is_proven
from cotrain.grouping.density_bound import centred, row_bound
from cotrain.grouping.density_cone import relax_by_cone
from cotrain.grouping.density_exact import MOST_TASKS, densest_partition
from cotrain.grouping.density_moves import by_moves, by_moves_and_swaps
from cotrain.grouping.density_relaxation import Relaxed, relax
from cotrain.grouping.density_rounding import rounded, seeded, spectral_points, top_eigenvectors
from cotrain.grouping.gains import FloatArray
from cotrain.grouping.geometry import IntArray
from cotrain.grouping.grouping import Status

__all__ = ["DensitySearch", "DensitySolver"]

DensitySolver: TypeAlias = Literal["auto", "exact", "splitting", "clarabel", "scs", "spectral"]

MOST_RELAXED = 2000
"""Tasks up to which "auto" solves the relaxation: beyond, a step takes seconds."""

RELAXATION_SHARE = 0.5
"""Share of the time limit for the relaxation; the rest is for rounding it."""

FINALISTS = 5
"""Partitions after moves, the densest first, that are searched for swaps too; a swap looks at all pairs of tasks."""


class DensitySearch:
    """The search for the densest partition of one similarity, by a policy of the number of tasks.

    It works on the centred similarity, whose rows sum to 0. Every partition loses the same by that, and no constant
    in the affinity takes digits from what distinguishes partitions.
    """

    def __init__(
        self, similarity: FloatArray, n_clusters: int | None, n_init: int, seed: int, started: float, time_limit: float
    ) -> None:
        self.similarity, self.n_clusters, self.n_init, self.seed = centred(similarity), n_clusters, n_init, seed
        self.constant = float(similarity.sum()) / len(similarity)
        self.free = n_clusters is None
        self.relax_until, self.deadline = started + RELAXATION_SHARE * time_limit, started + time_limit
        self.n_compared = 0  # partitions that were improved, or subsets
        self.bound = row_bound(self.similarity, n_clusters)  # without the constant

    def run(self, solver: DensitySolver) -> tuple[IntArray, Status, str]:
        """The labels, what is known of them, and how they were found."""
        n_tasks = len(self.similarity)
        if self.n_clusters in (1, n_tasks):
            only = np.zeros(n_tasks, dtype=np.intp) if self.n_clusters == 1 else np.arange(n_tasks)
            self.bound, self.n_compared = density(self.similarity, only), 1
            return only, "optimal", "the only partition"
        if solver == "auto":
            small, medium = n_tasks <= MOST_TASKS, n_tasks <= MOST_RELAXED
            solver = "exact" if small else "splitting" if medium else "spectral"
        if solver == "exact":
            exact = densest_partition(self.similarity, self.n_clusters, self.deadline)
            if exact is not None:
                labels, self.n_compared = exact
                self.bound = density(self.similarity, labels)
                return labels, "optimal", "dynamic programme over subsets"
            return self.rounded(None)[0], "time_limit", "local search"
        relaxed = self.relaxed(solver)
        labels, complete = self.rounded(relaxed)
        if is_proven(self.similarity, density(self.similarity, labels), self.bound):
            return labels, "optimal", f"{solver}, local search"
        complete &= relaxed.finished if relaxed is not None else solver == "spectral"
        return labels, "heuristic" if complete else "time_limit", f"{solver}, local search"

    def relaxed(self, solver: DensitySolver) -> Relaxed | None:
        """The relaxation, if the solver is one of it and there is time."""
        if solver == "spectral" or time.monotonic() >= self.relax_until:
            return None
        if solver in ("clarabel", "scs"):
            found = relax_by_cone(self.similarity, self.n_clusters, solver, self.relax_until)
        else:
            found = relax(self.similarity, self.n_clusters, self.relax_until)
        self.bound = min(self.bound, found.bound)
        return found

    def rounded(self, relaxed: Relaxed | None) -> tuple[IntArray, bool]:
        """The densest partition of all starts, and whether all of them were tried."""
        improved: list[tuple[float, IntArray]] = []
        seen: set[bytes] = set()
        complete = True
        for start in self.starts(relaxed):
            self.n_compared += 1
            labels = in_order(by_moves(self.similarity, start, free=self.free, deadline=self.deadline))
            key = labels.tobytes()
            if key not in seen:
                seen.add(key)
                improved.append((density(self.similarity, labels), labels))
            if time.monotonic() >= self.deadline:
                complete = False
                break
        improved.sort(key=lambda pair: -pair[0])
        best_value, best = improved[0]
        for _, labels in improved[:FINALISTS]:
            if time.monotonic() >= self.deadline:
                complete = False
                break
            labels = by_moves_and_swaps(self.similarity, labels, free=self.free, deadline=self.deadline)
            value = density(self.similarity, labels)
            if value > best_value:
                best_value, best = value, labels
        return best, complete

    def starts(self, relaxed: Relaxed | None) -> Iterator[IntArray]:
        """Partitions to improve; each is made when it is asked for."""
        n_tasks = len(self.similarity)
        rng = np.random.default_rng(self.seed)
        middle = self.n_clusters
        if middle is None:
            middle = round(math.sqrt(n_tasks)) if relaxed is None else round(float(relaxed.weights.trace()))
        counts = [middle] if not self.free else [k for k in (middle, middle - 1, middle + 1) if 1 <= k <= n_tasks]
        yield seeded(self.similarity, counts[0])
        if relaxed is not None:
            vectors = top_eigenvectors(relaxed.weights, max(counts))
            for k in counts:
                yield from rounded(vectors[:, -k:], k, n_init=self.n_init, rng=rng)
        for k in counts if relaxed is None else counts[:1]:
            if k < n_tasks:
                points = spectral_points(self.similarity, k)
                yield from rounded(points, k, n_init=self.n_init, rng=rng)
