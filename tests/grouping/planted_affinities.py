"""Affinities whose clusters are known, and the slow plain ways that the fast ones are compared with."""

import numpy as np


def planted(n_tasks, n_clusters, seed=0, strength=0.5, noise=0.5):
    """The instance of the specification: `strength` within a cluster plus normal noise; and the true labels."""
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.arange(n_tasks) % n_clusters)
    return strength * (truth[:, None] == truth) + rng.normal(0, noise, (n_tasks, n_tasks)), truth


def random_similarity(n_tasks, seed=0):
    values = np.random.default_rng(seed).normal(size=(n_tasks, n_tasks))
    return (values + values.T) / 2


def names(n_tasks):
    return [f"task {t:04d}" for t in range(n_tasks)]


def partitions(n_tasks):
    """All of them, as labels in the order of the first task of a cluster."""
    labels = [[0]]
    for _ in range(n_tasks - 1):
        labels = [[*part, k] for part in labels for k in range(max(part) + 2)]
    return np.array(labels)


def plain_density(similarity, labels):
    total = 0.0
    for k in set(labels):
        members = [t for t, label in enumerate(labels) if label == k]
        total += sum(similarity[i][j] for i in members for j in members) / len(members)
    return total


def indicator(labels):
    """The matrix X of a partition: 1 / size within a cluster."""
    labels = np.asarray(labels)
    together = (labels[:, None] == labels).astype(float)
    return together / together.sum(axis=1)


def as_sets(clusters):
    return {frozenset(group.serves) for group in clusters.grouping.groups}
