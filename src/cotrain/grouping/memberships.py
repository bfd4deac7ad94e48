"""How much a task belongs to each cluster, and what that weighs in the losses of the clusters' networks."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from cotrain.grouping.gains import FloatArray
from cotrain.grouping.geometry import IntArray

__all__ = ["calibrated_fuzziness", "fuzzy_memberships", "loss_weights", "sparse_memberships"]

LEAST_FUZZINESS, MOST_FUZZINESS = 1.001, 101.0
"""Beyond them memberships are all but one-hot, or all but equal."""

TOLERANCE = 1e-6
"""By how much a row's sum may differ from 1."""


def fuzzy_memberships(distances: ArrayLike, fuzziness: float) -> FloatArray:
    """Memberships of fuzzy c-means: `w_tk = d_tk^(-2/(m-1)) / sum_l d_tl^(-2/(m-1))`, m the fuzziness.

    Computed from logarithms, so that no power overflows for any m > 1. A row without contrast, all distances equal,
    gives 1/K; centres at distance 0 share the row equally and leave nothing to the others.
    Source: Bezdek (1981); with m = 1.07 after k-means, Sherif et al., arXiv 2307.03374.

    Args:
        distances: [T, K], of every task to every centre, finite and >= 0; float32 or float64.
        fuzziness: m > 1. Towards 1 memberships become one-hot, for large m equal.

    Returns:
        [T, K] float64, rows sum to 1.

    Raises:
        ValueError: If a distance is negative or not finite, there is no centre, or m is not above 1.
    """
    values = _distances(distances)
    if not 1 < fuzziness < math.inf:
        raise ValueError(f"fuzziness must be a finite number above 1. Got {fuzziness}.")
    return _memberships(values, fuzziness)


def calibrated_fuzziness(distances: ArrayLike, mean_membership: float = 0.7) -> float:
    """The fuzziness m at which the mean over the tasks of the largest membership has a wanted value.

    That mean falls as m grows, so bisection finds m, between 1.001 and 101. A value that is not reached there gives
    the end that is nearest to it: 101 if too many tasks sit on a centre (d = 0 is one-hot for every m; with one
    cluster all are), 1.001 if too many are as far from two centres. The choice concerns how memberships look and
    weigh; the largest of a row is the same for every m.

    Args:
        distances: [T, K], as in `fuzzy_memberships`.
        mean_membership: Between 0 and 1. 0.7 leaves a task mostly in one cluster and lets the others be seen.

    Returns:
        m.

    Raises:
        ValueError: If there is no task, a distance is negative or not finite, or the wanted value is not in (0, 1).
    """
    values = _distances(distances)
    if not 0 < mean_membership < 1:
        raise ValueError(f"mean_membership must be between 0 and 1. Got {mean_membership}.")
    if not len(values):
        raise ValueError("Fuzziness is calibrated on the distances of at least one task. Got none.")
    low, high = math.log(LEAST_FUZZINESS - 1), math.log(MOST_FUZZINESS - 1)
    for _ in range(50):
        middle = (low + high) / 2
        if _memberships(values, 1 + math.exp(middle)).max(axis=1).mean() > mean_membership:
            low = middle
        else:
            high = middle
    return 1 + math.exp((low + high) / 2)


def sparse_memberships(memberships: ArrayLike, top: int = 2, threshold: float = 0.15) -> tuple[FloatArray, IntArray]:
    """Drop the small memberships, which make a cluster's network spend most of its loss on tasks of other clusters.

    A task keeps its largest membership, and of its `top` largest those of at least `threshold`; what it keeps is
    scaled to sum to 1. Clusters that nobody belongs to any more are dropped.

    Args:
        memberships: [T, K], rows sum to 1, or are 0 for tasks that were left out. Of equal ones the first counts as
            larger.
        top: How many clusters a task may belong to, at least 1.
        threshold: Between 0 and 1.

    Returns:
        [T, K'] sparse memberships, and [K'] the columns that were kept.

    Raises:
        ValueError: If the memberships are no memberships, or an option is out of its range.
    """
    weights = _checked(memberships)
    if top < 1:
        raise ValueError(f"top must be at least 1, as a task keeps its largest membership. Got {top}.")
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold must be between 0 and 1. Got {threshold}.")
    order = np.argsort(-weights, axis=1, kind="stable")
    place = np.argsort(order, axis=1)
    stays = (place == 0) | ((place < top) & (weights >= threshold))
    weights = np.where(stays, weights, 0.0)
    total = weights.sum(axis=1, keepdims=True)
    weights = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
    kept = np.flatnonzero(weights.any(axis=0))
    return weights[:, kept], kept


def loss_weights(memberships: ArrayLike) -> FloatArray:
    """Memberships as the task weights of one network per cluster: rows for the `weights` of `fit_fleet`.

    `V[k, t] = W[t, k] / sum_t W[t, k] * members_k`, members_k the number of non-zero entries of column k: a member
    weighs 1 on average, as in an ordinary training. So a cluster's training does not depend on the scale of its
    column, which would otherwise act as its learning rate against weight decay and gradient clipping.

    Args:
        memberships: [T, K], rows sum to 1, or are 0 for tasks that were left out, which then weigh 0 everywhere.

    Returns:
        [K, T] float64.

    Raises:
        ValueError: If the memberships are no memberships, or a cluster has no member.
    """
    weights = _checked(memberships)
    total = weights.sum(axis=0)
    if (total == 0).any():
        raise ValueError(
            f"Cluster {int((total == 0).argmax())} has no member, so its network would learn nothing."
            " Drop its column, as sparse_memberships does."
        )
    return np.ascontiguousarray((weights / total * (weights > 0).sum(axis=0)).T)


def _distances(distances: ArrayLike) -> FloatArray:
    values = np.asarray(distances, dtype=np.float64)
    if values.ndim != 2 or not values.shape[1]:
        raise ValueError(f"distances must be [T, K] with at least one centre. Got {list(values.shape)}.")
    if not (np.isfinite(values) & (values >= 0)).all():
        raise ValueError("Every distance must be a finite number, at least 0. Got others. Leave those tasks out.")
    return values


def _memberships(distances: FloatArray, fuzziness: float) -> FloatArray:
    farthest = distances.max(axis=1, keepdims=True)
    share = np.divide(distances, farthest, out=np.zeros_like(distances), where=farthest > 0)
    at_centre = share == 0
    # A distance of 0 is infinitely near: its row is decided without the logarithm, exactly and for every m.
    power = np.where(at_centre, 0.0, -2 / (fuzziness - 1) * np.log(np.where(at_centre, 1.0, share)))
    power -= power.max(axis=1, keepdims=True)
    weights = np.where(at_centre.any(axis=1, keepdims=True), at_centre, np.exp(power))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float64)


def _checked(memberships: ArrayLike) -> FloatArray:
    weights = np.asarray(memberships, dtype=np.float64)
    if weights.ndim != 2 or not weights.size:
        raise ValueError(f"memberships must be [T, K]. Got {list(weights.shape)}.")
    if not (weights >= 0).all():
        t, k = np.argwhere(~(weights >= 0))[0]
        raise ValueError(f"A membership is at least 0. Got {weights[t, k]} for task {t} in cluster {k}.")
    total = weights.sum(axis=1)
    wrong = (np.abs(total - 1) > TOLERANCE) & (total != 0)
    if wrong.any():
        t = int(wrong.argmax())
        raise ValueError(f"A task's memberships sum to 1, or to 0 if it was left out. Got {total[t]} for task {t}.")
    return weights
