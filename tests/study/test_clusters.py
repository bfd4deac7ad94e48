"""Groups by data maps, from the measured files to the arms of the check."""

import json
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from small_study import give_data, results_of, run_silently, small_config

from cotrain.data import make_planted_tasks
from cotrain.errors import ArgumentsError
from cotrain.grouping import adjusted_rand_index
from cotrain.study import StudyConfig, StudyFolder, run_study
from cotrain.study.check import arms_of
from cotrain.study.clusters import CONTROL_WORDS, cluster_grouping, cluster_study, control_groupings, read_memberships
from cotrain.study.decide import choose_groups, read_grouping
from cotrain.study.features import FEATURE_FILE, labels_of, read_features, write_pair_matrices
from cotrain.study.setting import Setting
from cotrain.terminal import cluster_tables, outcome_tables

STEPS = ["measure", "decide", "check-0", "memberships-0", "check-1", "memberships-1", "compare"]
VARIANTS = [
    *(("soft", by) for by in ("logits", "probabilities", "best")),
    *(("sparse", by) for by in ("logits", "probabilities", "best")),
    ("wider", None),
]
N_TASKS = 8


@pytest.fixture(scope="module")
def planted():
    """Two groups of four tasks; the last task of each is a coin flip."""
    noise = [0.0] * (N_TASKS - 2) + [0.5] * 2
    return make_planted_tasks(N_TASKS, 2, n_samples=600, n_features=4, label_noise=noise, seed=1)


@pytest.fixture(scope="module")
def options():
    return small_config("planted", targets=None, method="data-maps", budget=2, epochs=6, runs=2, check="quick")


@pytest.fixture(scope="module")
def studied(options, planted, tmp_path_factory):
    """The folder of a finished study by data maps; to be read only."""
    with pytest.MonkeyPatch.context() as patch:
        give_data(patch, planted)
        yield run_silently(options, tmp_path_factory.mktemp("clusters") / "study")


def read(folder, name):
    return json.loads((folder / name).read_text())


def test_the_steps_are_those_of_any_study_and_the_memberships(studied, steps_run):
    assert steps_run(studied) == STEPS
    assert not list(studied.rglob("*.part"))
    assert not list(studied.rglob("*.state"))


def test_noise_is_flagged_and_the_planted_groups_are_found(studied, planted):
    record = read(studied, "clusters.json")
    noise = planted.tasks.names[-2:]
    assert set(record["noise"]) <= set(noise)
    assert all(record["labels"][record["tasks"].index(task)] == -1 for task in record["noise"])
    found, truth = np.array(record["labels"]), np.array(planted.groups)
    kept = np.array([name not in noise for name in planted.tasks.names])
    assert adjusted_rand_index(found[kept], truth[kept]) == 1.0
    assert record["stability"] == 1.0
    assert read(studied, "grouping.json")["noise"] == record["noise"]


def test_the_groups_are_the_clusters(studied):
    record, grouping = read(studied, "clusters.json"), read_grouping(StudyFolder(studied))
    for group in grouping.groups:
        labels = {record["labels"][record["tasks"].index(task)] for task in group.trains}
        assert len(labels) == 1
        assert group.serves == group.trains
    assert set(grouping.tasks) == set(record["tasks"]) - set(record["noise"])


def test_memberships_are_shares_and_noise_has_none(studied):
    record = read(studied, "clusters.json")
    memberships = read_memberships(StudyFolder(studied))
    sums = memberships.sum(axis=1)
    noise = np.array([task in record["noise"] for task in record["tasks"]])
    np.testing.assert_allclose(sums, np.where(noise, 0.0, 1.0), atol=1e-9)


def test_controls_have_the_sizes_of_the_clusters(studied, options, planted):
    folder = StudyFolder(studied)
    sizes = sorted(len(group.trains) for group in read_grouping(folder).groups)
    controls = control_groupings(folder, seed=0)
    assert set(controls) == {"by-difficulty", "difficulty-matched", "label-correlation"}
    for name in ("by-difficulty", "difficulty-matched"):
        assert sorted(len(group.trains) for group in controls[name].groups) == sizes
    assert all(set(control.tasks) == set(read_grouping(folder).tasks) for control in controls.values())
    names = [arm.name for arm in arms_of(folder, Setting(options, planted), 0)]
    assert names[:3] == ["single", "all-in-one", "grouped"]
    assert set(names[3:]) >= set(controls)


def test_difficulty_matched_groups_are_drawn_anew_for_every_seed(studied):
    folder = StudyFolder(studied)
    drawn = {str(control_groupings(folder, seed)["difficulty-matched"].groups) for seed in range(20)}
    assert len(drawn) > 1
    assert control_groupings(folder, 3)["by-difficulty"] == control_groupings(folder, 4)["by-difficulty"]


def test_every_way_to_use_memberships_is_compared(studied):
    rows = read(studied, "metrics.json")["memberships"]
    assert [(row["variant"], row["by"]) for row in rows] == VARIANTS
    for row in rows:
        assert len(row["per_seed"]) == 2
        assert all(value > 0 for value in row["per_seed"])
        assert row["low"] <= row["mean"] <= row["high"]
        assert row["networks"] == (1 if row["variant"] == "wider" else 2)
        assert row["cost"] == pytest.approx(2.0, rel=0.2)


def test_the_verdict_names_every_control_and_recommends_none(studied):
    metrics = read(studied, "metrics.json")
    verdict = " ".join(metrics["verdict"]["sentences"])
    for control, words in CONTROL_WORDS.items():
        assert words in verdict
        assert metrics["verdict"]["recommended"] != control
    assert "one wider network that costs as much" in verdict
    saved = {
        group["model"] for name in ("by-difficulty", "label-correlation") for group in metrics["arms"][name]["groups"]
    }
    assert saved == {None}


def test_an_interrupted_study_ends_as_an_undisturbed_one(studied, options, planted, tmp_path, monkeypatch):
    give_data(monkeypatch, planted)
    out = tmp_path / "interrupted"

    class Killed(Exception):  # noqa: N818 - a kill is no error
        pass

    def bar(words):
        if words.startswith("Memberships: soft and sparse, seed 2"):
            raise Killed
        return nullcontext(lambda *_: None)

    with pytest.raises(Killed):
        run_study(options, out, bar=bar)
    run_silently(options, out, resume=True)
    assert results_of(out) == results_of(studied)
    assert (out / "clusters.json").read_bytes() == (studied / "clusters.json").read_bytes()


@pytest.mark.parametrize("features", ["combined", "standardised", "signed", "raw"])
def test_other_features_are_clustered_without_training_again(studied, options, features):
    config = StudyConfig(**{**options.as_dict(), "features": features, "targets": None})
    clustering = cluster_study(StudyFolder(studied), config)
    assert set(clustering.groups[0]) | set(clustering.groups[1]) | set(clustering.noise) == set(clustering.tasks)
    assert choose_groups(StudyFolder(studied), config) == cluster_grouping(clustering)
    assert cluster_tables(clustering)


def test_a_larger_budget_than_tasks_makes_fewer_clusters(studied, options):
    config = StudyConfig(**{**options.as_dict(), "budget": 50, "targets": None})
    assert cluster_study(StudyFolder(studied), config).memberships.shape[1] <= N_TASKS


def test_tasks_that_everybody_learns_take_no_cluster_but_a_network(studied, options, tmp_path):
    folder = copy_with(studied, tmp_path, learned=("g0_t0",))
    clustering = cluster_study(folder, options)
    assert clustering.universal == ("g0_t0",)
    assert all("g0_t0" not in group for group in clustering.groups)
    grouping = cluster_grouping(clustering)
    assert "g0_t0" in grouping.tasks
    assert len(grouping.served_by("g0_t0").trains) == max(len(group.trains) for group in grouping.groups)


def test_where_everybody_learns_all_that_can_be_learned_it_is_clustered(studied, options, tmp_path):
    names = read(studied, "clusters.json")["tasks"]
    clustering = cluster_study(copy_with(studied, tmp_path, learned=names), options)
    assert clustering.universal == ()


def test_the_outcome_is_shown(studied):
    assert outcome_tables(studied)


def test_raw_features_need_all_labels(studied, tmp_path):
    names = tuple(read(studied, "clusters.json")["tasks"])
    features = read_features(studied / FEATURE_FILE, "raw", names, ())
    assert len(features) == 2
    assert not any(run.matrix.isnan().any() for run in features)
    stored = torch.ones(N_TASKS, N_TASKS)
    write_pair_matrices(tmp_path / "pairs", stored, [{"dynamics": stored, "predictions": stored}])
    assert labels_of(tmp_path / "pairs").shape == (N_TASKS, N_TASKS)
    with pytest.raises(ArgumentsError, match="Raw features need all labels"):
        read_features(tmp_path / "pairs", "raw", names, ())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fuzziness": 1.0}, "fuzziness must be above 1"),
        ({"max_size": 3}, "max_size limits"),
        ({"runs": 0}, "runs must"),
    ],
)
def test_bad_options(options, changes, message):
    with pytest.raises(ArgumentsError, match=message):
        StudyConfig(**{**options.as_dict(), "targets": None, **changes})


def copy_with(studied, tmp_path, learned):
    """The measured part of the study, with other tasks learned by everybody."""
    (tmp_path / FEATURE_FILE).write_bytes((studied / FEATURE_FILE).read_bytes())
    record = read(studied, "measure.json")
    for task in record["tasks"]:
        task["learned_by_everybody"] = task["name"] in learned
    (tmp_path / "measure.json").write_text(json.dumps(record))
    return StudyFolder(tmp_path)
