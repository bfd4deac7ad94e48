import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cotrain.errors import StudyError
from cotrain.report.clusters import Clusters
from cotrain.report.contents import read_study

Make = Callable[..., Path]
NAMES = ("a", "b", "c", "d", "e", "known", "noise")


def clusters_of(folder: Path) -> Clusters:
    clusters = read_study(folder).clusters
    assert clusters is not None
    return clusters


def record_of(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "clusters.json").read_text())
    return record


def test_clusters_are_numbered_as_the_networks(make_clustered: Make) -> None:
    folder = make_clustered(names=NAMES)
    study, stored = read_study(folder), record_of(folder)
    clusters = clusters_of(folder)
    for t, name in enumerate(NAMES):
        if clusters.labels[t] >= 0:
            assert name in study.groups[clusters.labels[t]].serves
            assert clusters.memberships[t, clusters.labels[t]] == stored["memberships"][t][stored["labels"][t]]
    assert (clusters.labels == -1).tolist() == [name in ("known", "noise") for name in NAMES]
    np.testing.assert_array_equal(np.sort(clusters.memberships), np.sort(stored["memberships"]))


def test_clusters_without_tasks_come_last(make_clustered: Make) -> None:
    folder = make_clustered(names=NAMES)
    stored = record_of(folder)
    wide = [[0.0, *row] for row in stored["memberships"]]
    labels = [label + 1 if label >= 0 else -1 for label in stored["labels"]]
    (folder / "clusters.json").write_text(json.dumps(stored | {"memberships": wide, "labels": labels}))
    clusters = clusters_of(folder)
    assert clusters.n_clusters == 4
    assert not clusters.memberships[:, 3].any()
    assert clusters.labels.max() == 2


def test_reads_what_was_written(make_clustered: Make) -> None:
    clusters = clusters_of(make_clustered(names=NAMES))
    assert (clusters.runs, clusters.fuzziness, clusters.stability) == (3, 1.69873, 0.87654)
    assert (clusters.restart_agreement, clusters.difficulty_share) == (0.76543, 0.654)
    assert (clusters.noise, clusters.universal) == (("noise",), ("known",))
    assert [size.n_clusters for size in clusters.sizes] == [2, 3, 4]
    assert np.isnan(clusters.certainty[-2:]).all()
    assert list(clusters.controls) == ["by-difficulty", "label-correlation"]
    assert clusters.tree is not None
    assert clusters.tree.tasks == ("a", "b", "c", "d", "e")


def test_what_is_not_defined_is_nan(make_clustered: Make) -> None:
    absent = {"fuzziness": None, "stability": None, "restart_agreement": None, "difficulty_share": None}
    clusters = clusters_of(make_clustered(names=NAMES, clusters=absent))
    values = [clusters.fuzziness, clusters.stability, clusters.restart_agreement, clusters.difficulty_share]
    assert np.isnan(values).all()


def test_one_task_has_no_tree(make_clustered: Make) -> None:
    clusters = clusters_of(make_clustered(names=NAMES, clusters={"tree": {"tasks": ["a"], "linkage": []}}))
    assert clusters.tree is None


def test_a_study_without_clusters_has_none(make_folder: Make) -> None:
    study = read_study(make_folder(names=NAMES))
    assert study.clusters is None
    assert study.thumbnails is None


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"tasks": ["a"]}, "its tasks are not those of measure.json"),
        ({"labels": [2, 1, 0, 2, 0, -1, -1]}, "its clusters are not the groups of grouping.json"),
        ({"labels": [1, 1, 0, 1, 1, -1, -1]}, "its clusters are not the groups of grouping.json"),
        ({"labels": [-1] * 7}, "no task is in a cluster"),
        ({"labels": [2, 1, 0]}, "labels are 7 whole numbers from -1 to 2"),
        ({"labels": [2, 1, 0, 2, 3, -1, -1]}, "labels are 7 whole numbers from -1 to 2"),
        ({"labels": [2, 1, 0, 2, -2, -1, -1]}, "labels are 7 whole numbers from -1 to 2"),
        ({"labels": [2, 1, 0, 2, 0.5, -1, -1]}, "labels are 7 whole numbers from -1 to 2"),
        ({"memberships": [[0.5, 0.6, 0.0]] * 7}, "memberships are shares of 1, or all 0"),
        ({"memberships": [[1.5, -0.5, 0.0]] * 7}, "memberships are shares of 1, or all 0"),
        ({"memberships": [[None, 1.0, 0.0]] * 7}, "memberships are shares of 1, or all 0"),
        ({"memberships": [[1.0, 0.0, 0.0]] * 6 + [[1.0]]}, "cannot be understood"),
        ({"certainty": [1.0]}, "1 values of certainty for 7 tasks"),
        ({"universal": ["known", "zebra"]}, "has no field or task 'zebra'"),
        ({"noise": ["zebra"]}, "has no field or task 'zebra'"),
        ({"tree": {"tasks": ["a", "b"], "linkage": []}}, "the tree does not merge 2 tasks step by step"),
        ({"tree": {"tasks": ["a", "b"], "linkage": [[0, 7, 1, 2]]}}, "the tree does not merge 2 tasks step by step"),
        ({"tree": {"tasks": ["a", "zebra"], "linkage": [[0, 1, 1, 2]]}}, "has no field or task 'zebra'"),
        ({"sizes": [{"n_clusters": 2}]}, "has no field or task 'stability'"),
        ({"controls": {"by-difficulty": [0, 1]}}, "labels are 7 whole numbers from -1 to 6"),
        ({"controls": None}, "cannot be understood"),
    ],
)
def test_damage_and_contradictions_name_the_file(make_clustered: Make, changes: dict[str, Any], complaint: str) -> None:
    folder = make_clustered(names=NAMES, clusters=changes)
    with pytest.raises(StudyError, match=rf"^clusters.json in .*{complaint}.* Delete the file and run the study again"):
        read_study(folder)


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_a_file_that_is_no_record_is_named(make_clustered: Make, content: str) -> None:
    folder = make_clustered(names=NAMES)
    (folder / "clusters.json").write_text(content)
    with pytest.raises(StudyError, match=r"^clusters.json in "):
        read_study(folder)
