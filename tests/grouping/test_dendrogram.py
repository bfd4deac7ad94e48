import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, is_valid_linkage, linkage

from cotrain.grouping.agreement import adjusted_rand_index
from cotrain.grouping.dendrogram import cut_tree, task_dendrogram

NAMES = tuple("abcdefghij")


@given(seed=st.integers(0, 999), method=st.sampled_from(["average", "ward"]), n_clusters=st.integers(1, 10))
def test_it_is_the_hierarchy_of_the_features(seed, method, n_clusters):
    features = np.random.default_rng(seed).normal(size=(10, 4))
    tree = task_dendrogram(features, NAMES, method=method)
    reference = linkage(features, method)
    assert is_valid_linkage(tree.linkage)
    np.testing.assert_allclose(tree.heights, reference[:, 2], atol=1e-9)
    expected = fcluster(reference, n_clusters, "maxclust")
    assert adjusted_rand_index(tree.cut(n_clusters), expected) == 1
    assert sorted(tree.leaves) == sorted(NAMES)


@given(seed=st.integers(0, 999), data=st.data())
def test_the_tree_does_not_depend_on_the_order_of_the_tasks(seed, data):
    rng = np.random.default_rng(seed)
    features = rng.integers(3, size=(10, 2)).astype(float)  # full of ties and duplicates
    order = data.draw(st.permutations(range(10)))
    one, other = task_dendrogram(features, NAMES), task_dendrogram(features[order], [NAMES[t] for t in order])
    np.testing.assert_array_equal(one.heights, other.heights)
    for n_clusters in range(1, 11):
        if n_clusters == 1 or one.heights[10 - n_clusters] > 0:  # else duplicates are torn apart: which, is free
            np.testing.assert_array_equal(one.cut(n_clusters)[order], other.cut(n_clusters))


@given(st.lists(st.integers(0, 2), min_size=2, max_size=9), st.integers(1, 9))
def test_a_cut_has_exactly_so_many_clusters(values, n_clusters):
    features = np.array(values, dtype=float)[:, None]
    n_clusters = min(n_clusters, len(values))
    labels = task_dendrogram(features, NAMES[: len(values)]).cut(n_clusters)
    assert set(labels) == set(range(n_clusters))


def test_clusters_are_numbered_from_left_to_right():
    tree = task_dendrogram(np.random.default_rng(1).normal(size=(10, 3)), NAMES)
    labels = tree.cut(4)
    along = [labels[NAMES.index(leaf)] for leaf in tree.leaves]
    assert along == sorted(along)
    assert tree.cut(1).tolist() == [0] * 10


def test_a_cut_follows_the_merges():
    tree = np.array([[0, 2, 0.5, 2], [1, 4, 1.0, 3], [3, 5, 2.0, 4]])
    assert cut_tree(tree, 3)[0] == cut_tree(tree, 3)[2]
    assert len(set(cut_tree(tree, 3))) == 3
    assert len(set(cut_tree(tree, 2)[:3])) == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: task_dendrogram(np.ones((2, 2)), "ab", method="single"), "Got 'single'"),
        (lambda: task_dendrogram(np.array([[1.0], [np.nan]]), "ab"), r"Tasks \['b'\] have NaN features"),
        (lambda: task_dendrogram(np.ones((3, 2)), "ab"), r"Got \[3, 2\]"),
        (lambda: task_dendrogram(np.arange(4.0).reshape(2, 2), "ab").cut(3), "Got 3 clusters and 2 tasks"),
        (lambda: task_dendrogram(np.arange(4.0).reshape(2, 2), "ab").cut(0), "Got 0 clusters"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
