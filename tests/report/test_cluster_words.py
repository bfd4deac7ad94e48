import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cotrain.grouping import adjusted_rand_index, between_share
from cotrain.report.cluster_words import (
    MAX_NAMED,
    absent_sentences,
    cluster_sentences,
    control_rows,
    cut_agreement,
    named_clusters,
)
from cotrain.report.clusters import Clusters
from cotrain.report.contents import Study


def said(study: Study, what: str, **changes: object) -> str:
    assert study.clusters is not None
    return dict(cluster_sentences(study, replace(study.clusters, **changes)))[what]  # type: ignore[arg-type]


def test_stability_is_that_of_the_file_and_one_run_has_none(clustered: Study) -> None:
    assert "clusters of 3 measuring runs with different seeds agree" in said(clustered, "Between runs")
    assert "ARI) of 0.88:" in said(clustered, "Between runs")
    alone = said(clustered, "Between runs", runs=1, stability=math.nan)
    assert "one measuring run" in alone
    assert "0.88" not in alone


def test_restarts(clustered: Study) -> None:
    assert "ARI of 0.77:" in said(clustered, "Between restarts")
    assert "a single restart" in said(clustered, "Between restarts", restart_agreement=math.nan)


def test_fuzziness_is_calibrated_given_or_absent(clustered: Study, clusters: Clusters) -> None:
    largest = np.mean([max(row) for row in clusters.memberships[:5]])
    assert said(clustered, "Fuzziness").startswith("1.699, calibrated")
    assert f"is {largest:.2f} in the mean" in said(clustered, "Fuzziness")
    given_by_hand = replace(clustered, configuration={"fuzziness": 1.07})
    assert said(given_by_hand, "Fuzziness", fuzziness=1.07).startswith("1.07, given by hand")
    assert "every membership is 0 or 1" in said(clustered, "Fuzziness", fuzziness=math.nan)


def test_difficulty_is_set_beside_what_chance_gives(clustered: Study, clusters: Clusters) -> None:
    assert said(clustered, "Difficulty").startswith("65% of the variance")
    rng = np.random.default_rng(0)
    labels, difficulty = clusters.labels, rng.normal(size=len(clustered.names))
    shares = [between_share(difficulty, np.append(rng.permutation(labels[:5]), (-1, -1))) for _ in range(2000)]
    chance = float(said(clustered, "Difficulty").partition("by chance ")[2].partition("%")[0]) / 100
    assert chance == pytest.approx(np.mean(shares), abs=0.03)
    assert "is not defined" in said(clustered, "Difficulty", difficulty_share=math.nan)
    one = np.array([0, -1, -1, -1, -1, -1, -1])
    assert "by chance 0%" in said(clustered, "Difficulty", labels=one)


def test_every_task_outside_the_clusters_is_named_once_with_its_reason(clustered: Study, clusters: Clusters) -> None:
    labels = clusters.labels.copy()
    labels[4] = -1
    absent = absent_sentences(clustered, replace(clusters, labels=labels))
    assert [(reason.split()[0], tasks) for reason, tasks in absent] == [
        ("Left", "noise"),
        ("Learned", "known"),
        ("Left", "e"),
    ]
    assert "chance" in absent[0][0]
    assert "data maps" in absent[2][0]
    assert absent_sentences(clustered, replace(clusters, labels=np.zeros(7), noise=(), universal=())) == []


def test_controls_show_their_clusters_agreement_and_loss(clustered: Study, clusters: Clusters) -> None:
    chosen, by_difficulty, by_labels, matched = control_rows(clustered, clusters)
    assert chosen.clusters == ("a, d", "b, e", "c")
    assert chosen.loss == "0.940 [0.910, 0.970]"
    assert (by_labels.title, by_labels.clusters) == ("Groups by label correlation", chosen.clusters)
    assert (by_labels.agreement, by_labels.loss) == ("1.00", "1.310 [1.290, 1.330]")
    assert by_difficulty.clusters == ("a", "b", "c, d, e")
    expected = adjusted_rand_index([0, 1, 2, 0, 1], [0, 1, 2, 2, 2])
    assert by_difficulty.agreement == f"{expected:.2f}".replace("-", "−")
    assert (matched.clusters, matched.agreement) == (("drawn anew for every seed",), "–")
    assert matched.loss == "1.210 [1.190, 1.230]"


def test_without_a_check_controls_have_no_loss(clustered: Study, clusters: Clusters) -> None:
    rows = control_rows(replace(clustered, check=None), clusters)
    assert [row.title for row in rows] == ["Chosen groups", "Groups by difficulty", "Groups by label correlation"]
    assert {row.loss for row in rows} == {"–"}


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 60))
def test_long_clusters_say_how_many_tasks_they_do_not_name(n_tasks: int) -> None:
    (text,) = named_clusters(np.zeros(n_tasks, dtype=np.intp), [f"t{t}" for t in range(n_tasks)])
    named, _, rest = text.partition(" and ")
    hidden = int(rest.split()[0]) if rest else 0
    assert len(named.split(", ")) + hidden == n_tasks
    assert len(named.split(", ")) <= MAX_NAMED


def test_the_cut_of_the_tree_is_compared_with_the_clusters(clustered: Study, clusters: Clusters) -> None:
    assert clusters.tree is not None
    expected = adjusted_rand_index(clusters.tree.cut(3), clusters.labels[:5])
    assert cut_agreement(clusters, clustered.names) == f"{expected:.2f}".replace("-", "−")
    assert cut_agreement(replace(clusters, tree=None), clustered.names) == "–"
    wide = np.zeros((7, 6))
    assert cut_agreement(replace(clusters, memberships=wide), clustered.names) == "–"
