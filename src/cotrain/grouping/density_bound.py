"""No partition is denser than this: bounds that hold whatever the multipliers they are computed from."""

from __future__ import annotations

import numpy as np

from cotrain.grouping.gains import FloatArray

__all__ = ["centred", "relaxation_bound", "row_bound"]


def relaxation_bound(similarity: FloatArray, multipliers: FloatArray, n_clusters: int | None) -> float:
    """The bound of the semidefinite relaxation (Peng and Wei, 2007), safe for any multipliers.

    A partition is `X = sum_C v_C v_C^T / |C|`, v_C the indicator of cluster C, and its density is `<S, X>`. As X >= 0,
    `<S, X> <= <M, X>` with `M = S + N` for any N >= 0. As X e = e, `X = e e^T / T + W` with W between 0 and I on the
    space orthogonal to e, of trace K - 1. So `<M, X>` is at most `e^T M e / T` plus the sum of the K - 1 largest
    eigenvalues of M on that space (for any number of clusters: of the positive ones). In the published form,
    `sum(y) + sum of the K largest eigenvalues of M - (y e^T + e y^T) / 2`, this is the minimum over y.

    Args:
        similarity: [T, T] symmetric.
        multipliers: [T, T] symmetric, N. Negative entries count as 0. The closer to the dual solution, the tighter.
        n_clusters: K, or None for any number.

    Returns:
        A number that no partition's density exceeds. A margin for the rounding of the eigenvalues is in it.
    """
    raised = similarity + np.maximum(multipliers, 0.0)
    n_tasks = len(raised)
    inner = centred(raised)
    size = float(np.linalg.norm(inner))
    # Pushes the eigenvalue of e, which is 0, below all others.
    values = np.linalg.eigvalsh(inner - 2 * size / n_tasks)[1:]
    chosen = np.maximum(values, 0.0) if n_clusters is None else values[n_tasks - n_clusters :]
    rounding = 4 * n_tasks**2 * np.finfo(np.float64).eps * (size + float(np.abs(raised).max()))
    return float(raised.sum() / n_tasks + chosen.sum() + rounding)


def row_bound(similarity: FloatArray, n_clusters: int | None) -> float:
    """A loose bound that takes one sort: every task in the cluster that is best for it alone.

    A task's share of the density is the mean of its row over its cluster, so it is at most the largest mean of its
    diagonal and its s - 1 highest other entries, over the possible sizes s.

    Args:
        similarity: [T, T] symmetric.
        n_clusters: K, or None for any number.

    Returns:
        A number that no partition's density exceeds.
    """
    n_tasks = len(similarity)
    largest = n_tasks - (n_clusters or 1) + 1
    ranked = similarity.copy()
    np.fill_diagonal(ranked, np.inf)
    ranked = -np.sort(-ranked, axis=1)[:, :largest]
    ranked[:, 0] = similarity.diagonal()
    means = ranked.cumsum(axis=1) / np.arange(1, largest + 1)
    rounding = 4 * n_tasks**2 * np.finfo(np.float64).eps * float(np.abs(similarity).max())
    return float(means.max(axis=1).sum() + rounding)


def centred(matrix: FloatArray) -> FloatArray:
    """`P M P` with P the projection onto what is orthogonal to e, for a symmetric M."""
    means = matrix.mean(axis=0)
    return np.asarray(matrix - means - means[:, None] + means.mean())
