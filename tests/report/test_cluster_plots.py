import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import linkage

from cotrain.grouping import Dendrogram
from cotrain.report.cluster_plots import (
    MAX_LEAVES,
    MAX_TASKS,
    MAX_WRITTEN,
    cut_height,
    membership_figure,
    shown_members,
    size_figure,
    tree_figure,
)
from cotrain.report.clusters import Clusters, ClusterSize
from cotrain.report.contents import Study, read_study

Make = Callable[..., Path]


def random_tree(n_tasks: int, seed: int) -> Dendrogram:
    points = np.random.default_rng(seed).normal(size=(n_tasks, 3))
    return Dendrogram(tuple(f"t{t}" for t in range(n_tasks)), linkage(points, "average"))


def test_memberships_and_certainty_are_those_of_the_file(clustered: Study, clusters: Clusters) -> None:
    figure = membership_figure(clustered, clusters)
    shares, certainty = figure.data
    order = [clustered.names.index(name) for name in shares["y"]]
    np.testing.assert_allclose(shares["z"], clusters.memberships[order], rtol=1e-3)
    np.testing.assert_allclose(np.ravel(certainty["z"]), clusters.certainty[order], rtol=1e-3)
    assert certainty["y"] == shares["y"]
    assert shares["x"] == ["1", "2", "3"]
    assert (shares["zmin"], shares["zmax"]) == (0.0, 1.0)


def test_tasks_of_one_cluster_stand_together_between_lines(clustered: Study, clusters: Clusters) -> None:
    figure = membership_figure(clustered, clusters)
    labels = clusters.labels[[clustered.names.index(name) for name in figure.data[0]["y"]]]
    assert labels.tolist() == sorted(labels)
    assert len(labels) == 5
    assert [line["y0"] for line in figure.layout["shapes"]] == (np.flatnonzero(np.diff(labels)) + 0.5).tolist()


def test_many_clusters_have_no_numbers_in_their_cells(clustered: Study, clusters: Clusters) -> None:
    wide = np.zeros((len(clustered.names), MAX_WRITTEN + 1))
    wide[:, 0] = 1.0
    shares, certainty = membership_figure(clustered, replace(clusters, memberships=wide)).data
    assert "texttemplate" not in shares
    assert "texttemplate" in certainty
    assert "texttemplate" in membership_figure(clustered, replace(clusters, memberships=wide[:, :-1])).data[0]


def test_of_many_tasks_the_most_divided_are_shown(clustered: Study, clusters: Clusters) -> None:
    n_tasks = MAX_TASKS + 5
    shares = np.random.default_rng(0).dirichlet((1.0, 1.0), n_tasks)
    tasks = tuple(replace(clustered.tasks[0], name=f"t{t}") for t in range(n_tasks))
    labels = np.zeros(n_tasks, dtype=np.intp)
    labels[7] = -1
    clusters = replace(clusters, memberships=shares, labels=labels, certainty=np.ones(n_tasks))
    shown = shown_members(replace(clustered, tasks=tasks, groups=()), clusters)
    assert shown == sorted(shown)
    assert len(shown) == MAX_TASKS
    hidden = set(range(n_tasks)) - set(shown) - {7}
    assert 7 not in shown
    assert shares.max(axis=1)[list(hidden)].min() >= shares.max(axis=1)[shown].max()


def test_the_tree_is_drawn_at_its_heights(clustered: Study, clusters: Clusters) -> None:
    assert clusters.tree is not None
    figure = tree_figure(clusters, clustered.names)
    assert figure is not None
    heights = [x for x in figure.data[0]["x"] if x is not None]
    assert len(figure.data[0]["y"]) == len(figure.data[0]["x"]) == 5 * 4
    assert sorted(set(heights) - {0.0}) == pytest.approx(clusters.tree.heights)
    assert figure.layout["xaxis"]["range"][1] > max(heights)
    ticks = figure.layout["yaxis"]["ticktext"]
    assert sorted(ticks) == [f"{name} · {clusters.labels[t] + 1}" for t, name in enumerate(clustered.names[:5])]


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 30), st.integers(0, 1000))
def test_the_cut_crosses_as_many_branches_as_there_are_clusters(n_tasks: int, seed: int) -> None:
    tree = random_tree(n_tasks, seed)
    for n_clusters in range(1, n_tasks + 1):
        assert 1 + (tree.heights > cut_height(tree, n_clusters)).sum() == n_clusters
    assert cut_height(tree, n_tasks + 3) == cut_height(tree, n_tasks)


def test_a_large_tree_ends_in_leaves_that_say_how_many_tasks_they_are(clusters: Clusters) -> None:
    n_tasks = 3000
    steps = [[n_tasks + i - 1 if i else 0, i + 1, i + 1.0, i + 2] for i in range(n_tasks - 1)]
    tree = Dendrogram(tuple(f"t{t}" for t in range(n_tasks)), np.array(steps, dtype=np.float64))
    clusters = replace(clusters, tree=tree, labels=np.zeros(n_tasks, dtype=np.intp))
    figure = tree_figure(clusters, tree.tasks)
    assert figure is not None
    ticks = figure.layout["yaxis"]["ticktext"]
    assert len(ticks) == MAX_LEAVES
    assert f"{n_tasks - MAX_LEAVES + 1} tasks" in ticks
    assert f"t{n_tasks - 1} · 1" in ticks
    assert tree_figure(replace(clusters, tree=None), tree.tasks) is None


def test_curves_over_the_number_of_clusters(clusters: Clusters) -> None:
    figure = size_figure(clusters)
    assert figure is not None
    stability, silhouette = figure.data
    assert stability["x"] == silhouette["x"] == [2, 3, 4]
    assert stability["y"] == pytest.approx([0.7, 0.6, 0.5])
    assert silhouette["y"] == pytest.approx([0.2, 0.3, 0.4])
    assert figure.layout["shapes"][0]["x0"] == 3
    low, high = figure.layout["xaxis"]["range"]
    assert low < 2
    assert high > 4


def test_one_run_has_no_curve_of_stability(clusters: Clusters) -> None:
    figure = size_figure(replace(clusters, sizes=(ClusterSize(2, np.nan, 0.4), ClusterSize(3, np.nan, np.nan))))
    assert figure is not None
    assert [(trace["name"], trace["y"]) for trace in figure.data] == [("silhouette", [0.4, None])]
    assert size_figure(replace(clusters, sizes=())) is None


def test_names_of_leaves_are_no_markup(make_clustered: Make) -> None:
    study = read_study(make_clustered(names=("<b>&x", "b", "c", "d", "known", "noise")))
    assert study.clusters is not None
    figure = tree_figure(study.clusters, study.names)
    assert figure is not None
    assert "<b>" not in json.dumps(figure.layout)
    assert any(tick.startswith("&lt;b&gt;&amp;x · ") for tick in figure.layout["yaxis"]["ticktext"])
