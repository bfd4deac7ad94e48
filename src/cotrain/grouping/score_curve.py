"""The curve from a score to a gain: a constant, a line or a natural spline, whichever predicts left-out groups best."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cotrain.grouping.gains import FloatArray

SPLINE_GROUPS = 30
"""With fewer groups the curve is at most a line: the entries of a group err together, so they are not as many as they
seem. From 8 or 15 groups of four sets of real trainings a line was in eight of eight cases as good as the spline or
up to .03 of correlation better."""

ENTRIES_PER_KNOT = 30
MAX_KNOTS = 6

BEND_PENALTIES = (1e3, 1e1, 1e-1)
"""On the bends of the spline, per entry; from nearly a line to nearly free."""

SLOPE_PENALTY = 1.0
"""In entries at one s.d. of the score: a slope seen on few entries is drawn to 0."""


@dataclass(frozen=True, eq=False)
class ScoreCurve:
    """A fitted curve, linear outside the scores it was fitted on.

    Attributes:
        shape: "constant", "line" or "spline".
        center: The mean score.
        scale: The s.d. of the scores.
        knots: [k], in standardised scores; empty unless it is a spline.
        coefficients: [p], of the constant, the line and the bends.
    """

    shape: str
    center: float
    scale: float
    knots: FloatArray
    coefficients: FloatArray

    def __call__(self, scores: FloatArray) -> FloatArray:
        """The gain at every score, same shape."""
        basis = _basis((scores.ravel() - self.center) / self.scale, self.knots)[:, : len(self.coefficients)]
        return np.asarray((basis @ self.coefficients).reshape(scores.shape))


def fit_score_curve(scores: FloatArray, gains: FloatArray, group: NDArray[np.intp]) -> ScoreCurve:
    """Fits gains on scores, entries of a group always left out together.

    A natural cubic spline (Hastie, Tibshirani and Friedman, section 5.2), so that scores outside the range seen lie
    on a line and not on a cubic.

    Args:
        scores: [N].
        gains: [N].
        group: [N], which group, 0 to G - 1, the entry belongs to.

    Returns:
        The curve; 0 everywhere if N is 0.
    """
    if not len(scores):
        return ScoreCurve("constant", 0.0, 1.0, np.empty(0), np.zeros(1))
    center, scale = float(scores.mean()), float(scores.std())
    scale = scale if scale > 0 else 1.0
    standard = (scores - center) / scale
    knots = np.empty(0)
    if group.max() + 1 >= SPLINE_GROUPS:
        count = min(MAX_KNOTS, 3 + len(scores) // ENTRIES_PER_KNOT)
        knots = np.unique(np.quantile(standard, np.linspace(0.05, 0.95, count)))
        knots = knots if len(knots) > 2 else np.empty(0)
    basis = _basis(standard, knots)
    shapes = [("constant", 1, 0.0), ("line", 2, 0.0)]
    shapes += [("spline", basis.shape[1], penalty * len(scores)) for penalty in BEND_PENALTIES if len(knots)]
    best, fitted = np.inf, ScoreCurve("constant", center, scale, np.empty(0), np.zeros(1))
    for shape, columns, bend in shapes:
        penalty = np.array([0.0, SLOPE_PENALTY] + [bend] * (columns - 2))[:columns]
        error, coefficients = _left_out_error(basis[:, :columns], gains, group, penalty)
        if error < best * (1 - 1e-9):
            kept = knots if shape == "spline" else np.empty(0)
            best, fitted = error, ScoreCurve(shape, center, scale, kept, coefficients)
    return fitted


def _basis(z: FloatArray, knots: FloatArray) -> FloatArray:
    """[N, 2 + k - 2]: 1, z and the natural cubic bends, each 0 with slope 0 before its knot."""
    columns = [np.ones_like(z), z]
    if len(knots):
        last = knots[-1]
        cubes = [
            (np.maximum(z - knot, 0.0) ** 3 - np.maximum(z - last, 0.0) ** 3) / (last - knot) for knot in knots[:-1]
        ]
        columns += [cube - cubes[-1] for cube in cubes[:-1]]
    return np.stack(columns, axis=1)


def _left_out_error(
    basis: FloatArray, gains: FloatArray, group: NDArray[np.intp], penalty: FloatArray
) -> tuple[float, FloatArray]:
    """Squared error over groups that were left out, and the coefficients of the fit on all of them."""
    count = int(group.max()) + 1
    grams, moments = np.zeros((count, *[basis.shape[1]] * 2)), np.zeros((count, basis.shape[1]))
    np.add.at(grams, group, basis[:, :, None] * basis[:, None, :])
    np.add.at(moments, group, basis * gains[:, None])
    ridge = np.diag(np.maximum(penalty, 1e-9))
    rest = np.linalg.solve(grams.sum(axis=0) - grams + ridge, (moments.sum(axis=0) - moments)[:, :, None])[:, :, 0]
    error = float(((gains - (basis * rest[group]).sum(axis=1)) ** 2).sum())
    return error, np.linalg.solve(grams.sum(axis=0) + ridge, moments.sum(axis=0))
