"""Studies that train groups to learn which ones to choose."""

import json
from contextlib import nullcontext
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
from small_study import TARGETS, give_data, results_of, run_silently, small_config, write_table

from cotrain.data import make_planted_tasks
from cotrain.errors import ArgumentsError
from cotrain.study import run_study
from cotrain.study.folder import StudyFolder
from cotrain.study.gain_models import predicted_gains, trained_table


class PowerCutError(BaseException):
    """Ends a study as a kill would: nothing may catch it."""


@pytest.fixture(scope="module")
def search(tmp_path_factory):
    table = write_table(tmp_path_factory.mktemp("data") / "table.csv")
    return small_config(table, method="search", trainings=8, seeds=1)


@pytest.fixture(scope="module")
def searched(search, tmp_path_factory):
    return run_silently(search, tmp_path_factory.mktemp("searched") / "study")


def trainings(folder):
    return json.loads((folder / "trainings.json").read_text())


def steps(folder):
    lines = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    return [line["step"] for line in lines if line["event"] == "step-finished"]


def test_a_search_trains_the_tasks_alone_and_no_more_than_allowed(searched):
    record = trainings(searched)
    groups = [set(entry["loss"]) for entry in record["losses"]]
    assert all({task} in groups for task in TARGETS)
    assert len(groups) <= record["limit"] == 8
    assert [set(group) for done in record["rounds"] for group in done["trained"]] == groups
    assert steps(searched) == ["measure", "search", "decide", "check-0", "compare"]


def test_what_is_chosen_was_trained_and_valued_by_its_validation_losses(searched, search):
    decision = json.loads((searched / "grouping.json").read_text())
    groups = [set(group["trains"]) for group in decision["grouping"]["groups"]]
    losses = {frozenset(entry["loss"]): entry["loss"] for entry in trainings(searched)["losses"]}
    assert all(frozenset(group) in losses for group in groups)
    saved = sum(
        losses[frozenset([task])][task] - losses[frozenset(group["trains"])][task]
        for group in decision["grouping"]["groups"]
        for task in group["serves"]
    )
    assert decision["grouping"]["value"] == pytest.approx(saved)
    assert "trained groups, each left out in turn" in decision["prediction"]
    folder = StudyFolder(searched)
    model, table = predicted_gains(folder, search), trained_table(folder)
    assert model.measured(table.groups).all()


@pytest.mark.parametrize("cut_after", [1, 6])
def test_a_search_that_was_killed_goes_on_to_the_same_result(searched, search, tmp_path, monkeypatch, cut_after):
    really, writes = Path.replace, 0

    def sometimes(path, target):
        nonlocal writes
        if Path(target).name.startswith("stack-"):
            writes += 1
            if writes == cut_after:
                raise PowerCutError
        return really(path, target)

    out = tmp_path / "study"
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", sometimes)
        with pytest.raises(PowerCutError):
            run_silently(search, out)
    told = []

    def bar(title):
        return nullcontext(lambda done, total, note: told.append(done / total) if title.startswith("Search") else None)

    run_study(search, out, bar=bar, resume=True)
    assert results_of(out) == results_of(searched)
    assert trainings(out) == trainings(searched)
    assert max(told, default=0) <= 1
    assert list(out.rglob("*.jsonl"))  # events; what the search left is gone with its step
    assert not list((out / ".steps").rglob("*.jsonl"))


def test_all_pairs_are_trained_and_predict(search, tmp_path):
    out = run_silently(replace(search, method="pairs", trainings=None, check="none"), tmp_path / "study")
    groups = {frozenset(entry["loss"]) for entry in trainings(out)["losses"]}
    assert groups == {frozenset(g) for size in (1, 2) for g in combinations(TARGETS, size)}
    assert "each really trained" in json.loads((out / "grouping.json").read_text())["prediction"]


def test_gains_of_the_linearised_network_choose_without_any_training(search, tmp_path):
    out = run_silently(replace(search, method="linearized", trainings=None, check="none"), tmp_path / "study")
    assert not (out / "trainings.json").exists()
    decision = json.loads((out / "grouping.json").read_text())
    assert "unverified" in decision["prediction"]
    assert not all(group["measured"] for group in decision["grouping"]["groups"] if len(group["trains"]) > 1)
    assert steps(out) == ["measure", "decide", "predict"]


def test_the_densest_clusters_are_a_method_of_their_own(search, tmp_path):
    wishes = {"method": "affinity-clusters", "trainings": None, "check": "none", "budget": 2}
    out = run_silently(replace(search, **wishes), tmp_path / "study")
    groups = json.loads((out / "grouping.json").read_text())["grouping"]["groups"]
    assert len(groups) == 2
    assert sorted(task for group in groups for task in group["serves"]) == sorted(TARGETS)


def test_noise_is_not_trained_to_learn_from(tmp_path, monkeypatch):
    data = make_planted_tasks(3, 1, n_samples=600, label_noise=[0.0, 0.0, 0.5], seed=0)
    give_data(monkeypatch, data)
    out = run_silently(small_config("planted", targets=None, method="search", check="none", epochs=6), tmp_path / "out")
    learnable = [task["name"] for task in json.loads((out / "measure.json").read_text())["tasks"] if task["learnable"]]
    assert set(trainings(out)["tasks"]) == set(learnable)
    assert {task for entry in trainings(out)["losses"] for task in entry["loss"]} <= set(learnable)


def test_trainings_belong_to_a_search(search):
    with pytest.raises(ArgumentsError, match="trainings belong to --method search"):
        replace(search, method="transference")
    with pytest.raises(ArgumentsError, match="affinity-clusters makes clusters"):
        replace(search, method="affinity-clusters", trainings=None, max_size=2)
