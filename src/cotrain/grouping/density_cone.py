"""The same relaxation by general cone solvers, Clarabel and SCS: independent references for `density_relaxation`."""

from __future__ import annotations

import time
from typing import Any, Literal, TypeAlias

import numpy as np
from scipy import sparse

from cotrain.extras import require
from cotrain.grouping.density_bound import relaxation_bound
from cotrain.grouping.density_relaxation import Relaxed
from cotrain.grouping.gains import FloatArray
from cotrain.grouping.geometry import IntArray

__all__ = ["ConeSolver", "relax_by_cone"]

ConeSolver: TypeAlias = Literal["clarabel", "scs"]

PRECISION = 1e-4
"""Of SCS, a first-order method; the bound is safe for rough multipliers and equal to three digits."""


def relax_by_cone(similarity: FloatArray, n_clusters: int | None, solver: ConeSolver, deadline: float) -> Relaxed:
    """`relax`, by a solver that is installed with the extra `sdp`.

    Args:
        similarity: [T, T] symmetric.
        n_clusters: K, or None for any number.
        solver: "clarabel", an interior point method whose time grows fast (seconds at 40 tasks), or "scs".
        deadline: Of `time.monotonic`, passed on to the solver.

    Returns:
        Its X, and the bound that `relaxation_bound` makes of its multipliers.

    Raises:
        ImportError: If the solver is not installed; the message holds the command.
    """
    program = _Program(similarity, n_clusters, lower=solver == "scs")
    limit = max(deadline - time.monotonic(), 1e-3)
    solution, duals, finished = _SOLVERS[solver](program, limit)
    weights, multipliers = program.matrix(solution), program.multipliers(duals)
    usable = bool(np.isfinite(weights).all() and np.isfinite(multipliers).all())
    if not usable:  # Stopped before its first iterate.
        weights, multipliers = np.full_like(similarity, 1 / len(similarity)), np.zeros_like(similarity)
    return Relaxed(weights, relaxation_bound(similarity, multipliers, n_clusters), finished and usable)


class _Program:
    """`min c x` with `A x + s = b`: first equalities, then X >= 0 off the diagonal, then X positive semidefinite.

    x holds one triangle of X, column by column: the lower one for SCS, the upper one for Clarabel.
    """

    def __init__(self, similarity: FloatArray, n_clusters: int | None, *, lower: bool) -> None:
        self.n_tasks = n_tasks = len(similarity)
        minor, major = np.tril_indices(n_tasks)[::-1] if not lower else np.triu_indices(n_tasks)[::-1]
        self.rows, self.columns = minor, major
        count = len(minor)
        twice = np.where(minor == major, 1.0, 2.0)
        self.cost = -twice * similarity[minor, major]
        self.pairs: IntArray = np.flatnonzero(minor != major)
        entry = np.arange(count)
        sums = sparse.csr_array((np.ones(count), (minor, entry)), shape=(n_tasks, count)) + sparse.csr_array(
            (np.ones(len(self.pairs)), (major[self.pairs], self.pairs)), shape=(n_tasks, count)
        )
        equalities, right = [sums], [np.ones(n_tasks)]
        if n_clusters is not None:
            equalities.append(sparse.csr_array((twice == 1.0).astype(np.float64)[None]))
            right.append(np.array([float(n_clusters)]))
        signs = sparse.csr_array(
            (-np.ones(len(self.pairs)), (np.arange(len(self.pairs)), self.pairs)), shape=(len(self.pairs), count)
        )
        cone = sparse.diags_array(-np.sqrt(twice))
        self.left = sparse.csc_matrix(sparse.vstack([*equalities, signs, cone]))
        self.n_equal = sum(map(len, right))
        self.right = np.concatenate([*right, np.zeros(len(self.pairs) + count)])

    def matrix(self, triangle: FloatArray) -> FloatArray:
        """[T, T] symmetric from the entries of x."""
        full = np.empty((self.n_tasks, self.n_tasks))
        full[self.rows, self.columns] = full[self.columns, self.rows] = triangle
        return full

    def multipliers(self, duals: FloatArray) -> FloatArray:
        """[T, T], those of X >= 0: an entry of x stands for two of X."""
        triangle = np.zeros(len(self.cost))
        triangle[self.pairs] = duals[self.n_equal : self.n_equal + len(self.pairs)] / 2
        return self.matrix(triangle)


def _clarabel(program: _Program, limit: float) -> tuple[FloatArray, FloatArray, bool]:
    clarabel: Any = require("clarabel", extra="sdp")
    settings = clarabel.DefaultSettings()
    settings.verbose, settings.time_limit = False, limit
    cones = [
        clarabel.ZeroConeT(program.n_equal),
        clarabel.NonnegativeConeT(len(program.pairs)),
        clarabel.PSDTriangleConeT(program.n_tasks),
    ]
    quadratic = sparse.csc_matrix((len(program.cost), len(program.cost)))
    solver = clarabel.DefaultSolver(quadratic, program.cost, program.left, program.right, cones, settings)
    found = solver.solve()
    return np.array(found.x), np.array(found.z), found.status != clarabel.SolverStatus.MaxTime


def _scs(program: _Program, limit: float) -> tuple[FloatArray, FloatArray, bool]:
    scs: Any = require("scs", extra="scs")
    found = scs.SCS(
        {"A": program.left, "b": program.right, "c": program.cost},
        {"z": program.n_equal, "l": len(program.pairs), "s": [program.n_tasks]},
        eps_abs=PRECISION,
        eps_rel=PRECISION,
        time_limit_secs=limit,
        verbose=False,
    ).solve()
    return found["x"], found["y"], found["info"]["status"] == "solved"


_SOLVERS = {"clarabel": _clarabel, "scs": _scs}
