"""`cotrain groups` by every method: what it answers is what the library answers."""

import itertools
import math
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import sentence
from small_study import TARGETS, write_table

from cotrain.affinity import Affinity
from cotrain.grouping import (
    DEFAULT_BACKENDS,
    CalibratedGains,
    Constraints,
    GainTable,
    Grouping,
    HammingProcess,
    MembershipRidge,
    PairMean,
    StackedGains,
    TaskMean,
    cluster_affinity,
    partition_tasks,
    select_groups,
)
from cotrain.study import StudyFolder
from cotrain.study.gain_models import affinity_scores, backends, predicted_gains, trained_table

TASKS = ("a", "b", "c", "d", "e")
MODELS = {
    "measured": lambda table: table,
    "pairs": PairMean.from_pairs,
    "task-mean": TaskMean,
    "ridge": MembershipRidge,
    "process": HammingProcess,
    "stacked": StackedGains,
}


def measured(path, seed=0, largest=3):
    """Losses of the tasks alone, all pairs and most triples; kin help each other, so that groups differ."""
    rng = np.random.default_rng(seed)
    effect = rng.normal(0.05, 0.15, (5, 5))
    lines = ["group,task,test_loss"]
    for size in range(1, largest + 1):
        for group in itertools.islice(itertools.combinations(range(5), size), 9 if size > 2 else None):
            for task in group:
                gain = sum(effect[i, task] for i in group if i != task) / max(1, size - 1) + 0.05 * (size - 1)
                loss = (1 + task) * (1 - gain + (0.02 * rng.normal() if size > 1 else 0))
                lines.append(f"{'+'.join(TASKS[i] for i in group)},{TASKS[task]},{loss}")
    path.write_text("\n".join(lines) + "\n")
    return path


def affinities(path):
    rng = np.random.default_rng(1)
    matrix = torch.from_numpy(rng.normal(0, 0.1, (5, 5)))
    Affinity(matrix, torch.full((5, 5), 0.02).double(), TASKS, "lookahead", 50, torch.full((5, 5), 50)).to_csv(path)
    return path


def written(path="groups.json"):
    """The answer as the file has it, without what only the command says."""
    return plain(Grouping.from_json(Path(path).read_text()))


def plain(grouping):
    return replace(grouping, seconds=0.0, basis="")


@pytest.mark.parametrize("method", MODELS)
@pytest.mark.parametrize("budget", [2, 4])
def test_a_method_of_a_table_is_the_gain_model_of_the_library(cotrain, method, budget):
    table = GainTable.from_csv(measured(Path("table.csv")))
    code, out, err = cotrain(
        "groups", "table.csv", "--budget", budget, "--method", method, "--out", "groups.json", "--kappa", "0"
    )
    assert code == 0, err
    assert written() == plain(select_groups(MODELS[method](table), budget=budget, kappa=0))
    assert "unverified" not in out
    assert "Groups: groups.json" in out


def test_without_a_method_the_best_measured_groups_are_taken(cotrain):
    measured(Path("table.csv"))
    assert (
        cotrain("groups", "table.csv", "--budget", "2")[1]
        == (cotrain("groups", "table.csv", "--budget", "2", "--method", "measured")[1])
    )


def test_predictions_reach_groups_that_nobody_trained_and_say_what_they_rest_on(cotrain):
    table = GainTable.from_csv(measured(Path("table.csv")))
    said = {}
    for method in ("pairs", "ridge", "stacked"):
        code, out, err = cotrain("groups", "table.csv", "--budget", "1", "--method", method)
        assert code == 0, err
        assert "1 of the networks predicted" in out
        said[method] = out.strip().splitlines()[-1]
    assert said["pairs"] == "Predictions: mean of the gains of all pairs, each really trained once"
    assert said["stacked"] == f"Predictions: {StackedGains(table)}"
    error = StackedGains(table, {"ridge": MembershipRidge}).errors["ridge"]
    assert f"Error {error:.3g} on 19 trained groups, each left out in turn" in said["ridge"]
    code, _, err = cotrain("groups", "table.csv", "--budget", "1")  # all five together were not trained
    assert code == 2
    assert "within --budget 1" in sentence(err)


LIMITS = {
    "--together a+b,c+d": Constraints(must_link=[("a", "b"), ("c", "d")]),
    "--apart a+b+c": Constraints(cannot_link=[("a", "b", "c")]),
    "--alone a,c": Constraints(served_alone=["a", "c"]),
    "--max_size 2": Constraints(max_size=2),
    "--at_least 0": Constraints(min_gain=0),
    "--at_least -0.02": Constraints(min_gain=-0.02),
    '--at_least "a >= 0, d >= -0.1"': Constraints(min_gain={"a": 0, "d": -0.1}),
    "--at_least a=0.0": Constraints(min_gain={"a": 0}),
    "--networks 4": Constraints(n_networks=4),
    "--kappa 2 --objective mean_gain": None,
}


@pytest.mark.parametrize("words", LIMITS)
@pytest.mark.parametrize("disjoint", [False, True])
@pytest.mark.parametrize("method", ["measured", "ridge"])
def test_limits_are_those_of_the_library(cotrain, words, disjoint, method):
    model = MODELS[method](GainTable.from_csv(measured(Path("table.csv"))))
    more = ["--partition"] if disjoint else []
    given = ("groups", "table.csv", "--budget", "4", "--method", method, *shlex.split(words), *more)
    code, _, err = cotrain(*given, "--out", "groups.json")
    assert code == 0, err
    options = {"kappa": 2, "objective": "mean_gain"} if LIMITS[words] is None else {}
    choose = partition_tasks if disjoint else select_groups
    expected = choose(model, budget=4, constraints=LIMITS[words], **options)
    assert written() == plain(expected)


def test_the_number_of_networks_is_a_budget_and_a_partition_needs_none(cotrain):
    table = GainTable.from_csv(measured(Path("table.csv")))
    assert cotrain("groups", "table.csv", "--networks", "3", "--out", "groups.json")[0] == 0
    assert written() == plain(select_groups(table, budget=3, constraints=Constraints(n_networks=3)))
    assert cotrain("groups", "table.csv", "--partition", "--out", "groups.json")[0] == 0
    assert written() == plain(partition_tasks(table))


def test_noise_of_the_measurements_is_deducted_if_its_column_is_named(cotrain):
    table = GainTable.from_csv(measured(Path("losses.csv")))
    noisy = GainTable(table.tasks, table.groups, table.gains, np.where(np.isnan(table.gains), np.nan, 0.05))
    noisy.to_csv("gains.csv")
    words = ("groups", "gains.csv", "--budget", "3", "--column", "gain", "--out", "groups.json")
    for more, kappa in (((), 1), (("--kappa", "0.5"), 0.5)):
        assert cotrain(*words, "--std_column", "std", *more)[0] == 0
        found, expected = written(), plain(select_groups(noisy, budget=3, kappa=kappa))
        assert found.groups == expected.groups
        assert found.value == pytest.approx(expected.value)
    assert cotrain(*words)[0] == 0
    assert math.isclose(written().value, written().value_at_mean)


def test_a_table_of_affinities_is_read_as_scores(cotrain):
    affinity = Affinity.from_csv(affinities(Path("affinity.csv")))
    code, out, err = cotrain("groups", "affinity.csv", "--budget", "2", "--out", "groups.json")
    assert code == 0, err
    assert written().groups == select_groups(PairMean(affinity), budget=2).groups
    assert "score (which is no gain)" in out
    assert "unverified" in out
    words = ("groups", "affinity.csv", "--budget", "2", "--method", "affinity-clusters", "--out", "groups.json")
    code, out, err = cotrain(*words)
    assert code == 0, err
    assert written().groups == cluster_affinity(affinity, n_clusters=2).grouping.groups
    assert "unverified" in out
    words = ("groups", "affinity.csv", "--partition", "--together", "a+e", "--out", "groups.json")
    assert cotrain(*words)[0] == 0
    together = Constraints(must_link=[("a", "e")])
    assert written().groups == partition_tasks(PairMean(affinity), constraints=together).groups


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("table.csv --budget 2 --method data-maps", "There are measured, pairs, task-mean, ridge, process, stacked."),
        ("affinity.csv --budget 2 --method ridge", "There are transference, affinity-clusters."),
        ("affinity.csv --budget 2 --column gain", "--column belongs to tables of measured groups. Leave it out."),
        ("affinity.csv --budget 2 --method affinity-clusters --alone a --kappa 0", "Leave out --alone and --kappa"),
        ("table.csv --networks 4 --budget 3", "--networks 4 and --budget 3 contradict each other"),
        ("table.csv --budget 3 --together a+b --alone a", "--together a+b and --alone a contradict each other"),
        ("table.csv --budget 3 --together a+b --apart a+b+c", "--together a+b and --apart a+b contradict each other"),
        ("table.csv --budget 3 --together a", "--together holds groups of 2 or more"),
        ("table.csv --budget 3 --together a+x", "unknown task 'x'. Known tasks: a, b, c, d, e"),
        ("table.csv --budget 2 --max_size 2", "within --budget 2. The smallest budget that does is 3"),
        ("table.csv --budget 5 --at_least a=9", "--at_least 9 of task a cannot be met"),
        ("table.csv --budget 5 --at_least 'a <= 1'", "--at_least must be written as"),
        ("table.csv --budget 5 --at_least nan", "--at_least must be finite"),
        ("table.csv --networks 0", "--networks must be a whole number"),
        ("table.csv --budget 2 --kappa -1", "0 or more. Got -1.0"),
        ("singles.csv --budget 2 --method ridge", "No group of two or more tasks was trained"),
        ("singles.csv --budget 2 --method stacked", "No group of two or more tasks was trained"),
    ],
)
def test_what_does_not_go_together_is_told_by_the_names_of_the_options(cotrain, words, reason):
    measured(Path("table.csv"))
    measured(Path("singles.csv"), largest=1)
    affinities(Path("affinity.csv"))
    code, out, err = cotrain("groups", *shlex.split(words))
    assert code == 2
    assert out == ""
    assert reason in sentence(err)


@pytest.mark.parametrize(
    ("content", "more", "reason"),
    [
        (b"source,target\na,b\n", (), "is neither a table of measured groups, with columns group, task"),
        (b"\xff\xfe\x00\x81", (), "It has none."),
        (b"", (), "It has none."),
        (b"group,task,my_gain\na,a,0\n", (), "Name its losses or gains with --column. It has my_gain."),
        (b"group,task,x\na,a,0\n", ("--column", "x"), "has neither loss nor gain in its name"),
        (b"group,task,gain\na,a,0\nb,b,0\n", ("--column", "gain", "--method", "pairs"), "Pair a+b is not in the table"),
    ],
)
def test_a_file_that_is_no_such_table_is_told(cotrain, content, more, reason):
    Path("table.csv").write_bytes(content)
    code, out, err = cotrain("groups", "table.csv", "--budget", "2", *more)
    assert code == 1
    assert out == ""
    assert reason in sentence(err)


def test_a_study_that_trained_groups_has_every_method_of_a_table_too(cotrain):
    table = write_table(Path("data.csv"))
    names = ("--targets", ",".join(TARGETS), "--epochs", "3", "--batch_size", "16", "--learning_rate", "1e-2")
    words = ("run", table, *names, "--check", "none", "--trainings", "9", "--out", "study", "--max_size", "3")
    assert cotrain(*words)[0] == 0
    before = {file: file.read_bytes() for file in Path("study").iterdir() if file.suffix in (".json", ".csv", ".yaml")}
    folder, config = StudyFolder.existing(Path("study"))
    trained = trained_table(folder)
    models = {
        "measured": trained,
        "search": trained,
        "task-mean": TaskMean(trained),
        "ridge": MembershipRidge(trained),
        "process": HammingProcess(trained),
        "stacked": StackedGains(trained, backends(folder)),
        "transference": affinity_scores(folder),
        "transference-calibrated": CalibratedGains(trained, score=affinity_scores(folder)),
        "linearized-calibrated": CalibratedGains(
            trained, score=predicted_gains(folder, replace(config, method="linearized", trainings=None))
        ),
    }
    assert set(DEFAULT_BACKENDS) < set(models["stacked"].weights)
    for method, model in models.items():
        code, out, err = cotrain("groups", "study", "--method", method, "--networks", "2", "--out", "groups.json")
        assert code == 0, err
        exactly = Constraints(n_networks=2, max_size=3)
        assert written().groups == select_groups(model, budget=2, constraints=exactly).groups, method
        assert "Next" not in out
        assert ("unverified" in out) == (method == "transference"), out
    code, out, _ = cotrain("groups", "study", "--max_size", "1", "--budget", "9")
    assert (code, len(out.splitlines())) == (0, 1 + len(trained.tasks))
    assert cotrain("groups", "study", "--method", "data-maps")[0] == 0  # the limit of the study is none of clusters
    for more, reason in (
        (("--method", "nothing"), "A study has no method 'nothing'. There are search, pairs"),
        (("--method", "affinity-clusters", "--partition"), "Leave out --partition, or take another method"),
        (("--column", "gain"), "belongs to tables of measured groups"),
    ):
        code, _, err = cotrain("groups", "study", *more)
        assert code == 2
        assert reason in sentence(err)
    assert {file: file.read_bytes() for file in before} == before
