"""The main job from end to end, undisturbed, interrupted and damaged."""

import csv
import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_study import DESIGNED_FILES, TARGETS, give_data, results_of, run_silently, small_config

from cotrain.affinity import Affinity
from cotrain.data import Split, make_planted_tasks
from cotrain.errors import StudyError, TrainingDivergedError
from cotrain.progress import silent
from cotrain.report import write_report
from cotrain.study import StudyConfig, run_study
from cotrain.terminal import outcome_tables

STEPS = ["measure", "decide", "check-0", "check-1", "compare"]


def read(folder, name):
    return json.loads((folder / name).read_text())


def rows_of(file):
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def shown(folder):
    """The terminal and the report can show it; its metrics."""
    assert outcome_tables(folder)
    assert write_report(folder).stat().st_size > 0
    return read(folder, "metrics.json")


def test_the_folder_holds_every_file_of_the_design(finished, steps_run):
    assert all((finished / name).stat().st_size > 0 for name in DESIGNED_FILES)
    assert steps_run(finished) == STEPS
    networks = {group["model"] for arm in read(finished, "metrics.json")["arms"].values() for group in arm["groups"]}
    saved = {f"models/{file.name}" for file in (finished / "models").iterdir()}
    assert saved == (networks - {None}) | {"models/all-in-one.safetensors"}


def test_nothing_unfinished_is_left(finished):
    assert not list(finished.rglob("*.part"))
    assert not list(finished.rglob("*.state"))


def test_metrics_hold_every_arm_per_task_and_seed(finished):
    metrics = read(finished, "metrics.json")
    assert [task["name"] for task in metrics["tasks"]] == list(TARGETS)
    assert [task["metric"] for task in metrics["tasks"]] == ["auroc", "auroc", "accuracy", "mae"]
    assert [task["better"] for task in metrics["tasks"]] == ["higher", "higher", "higher", "lower"]
    assert {"single", "all-in-one", "grouped", "random-1"} <= set(metrics["arms"])
    for name, arm in metrics["arms"].items():
        assert [result["seed"] for result in arm["results"]] == metrics["seeds"] == [0, 1]
        for result in arm["results"]:
            served = {task for group in arm["groups"] for task in group["serves"]}
            assert set(result["loss"]) == set(result["metric"]) == served
            assert all(value > 0 for value in result["loss"].values())
            if name in ("single", "all-in-one"):
                assert served == set(TARGETS)
        first, second = arm["results"]
        assert first["loss"] != second["loss"]


def test_totals_are_relative_to_single_tasks(finished):
    metrics = read(finished, "metrics.json")
    learnable = [task["name"] for task in metrics["tasks"] if task["learnable"]]
    assert metrics["relative_loss"]["single"]["per_seed"] == [1.0, 1.0]
    for name, arm in metrics["arms"].items():
        expected = [
            sum(result["loss"][task] for task in learnable) / sum(alone["loss"][task] for task in learnable)
            for result, alone in zip(arm["results"], metrics["arms"]["single"]["results"], strict=True)
        ]
        relative = metrics["relative_loss"][name]
        assert relative["per_seed"] == pytest.approx(expected)
        assert relative["mean"] == pytest.approx(sum(expected) / 2)
        assert relative["low"] <= relative["mean"] <= relative["high"]


def test_gains_and_front_agree_with_the_metrics(finished):
    metrics = read(finished, "metrics.json")
    alone = {result["seed"]: result["loss"] for result in metrics["arms"]["single"]["results"]}
    together = {result["seed"]: result["loss"] for result in metrics["arms"]["all-in-one"]["results"]}
    gains = [row for row in rows_of(finished / "gains.csv") if row["arm"] == "all-in-one"]
    assert len(gains) == len(TARGETS) * 2
    for row in gains:
        seed, task = int(row["seed"]), row["task"]
        assert float(row["realised"]) == pytest.approx(1 - together[seed][task] / alone[seed][task], rel=1e-6)
    front = rows_of(finished / "front.csv")
    assert [row["arm"] for row in front] == list(metrics["arms"])
    points = {row["arm"]: (int(row["networks"]), float(row["relative_loss"])) for row in front}
    for row in front:
        cost, loss = points[row["arm"]]
        better = any(c <= cost and q <= loss and (c, q) != (cost, loss) for c, q in points.values())
        assert row["dominated"] == str(better).lower()
        assert int(row["parameters"]) == cost * read(finished, "measure.json")["parameters_per_network"]


def test_short_trainings_are_said_to_be_cut_short(finished):
    sentences = read(finished, "metrics.json")["verdict"]["sentences"]
    assert any("still improving in their last epoch" in s and "more than --epochs 3" in s for s in sentences)
    assert any(s.startswith("Intervals are 95 % over 2 seeds") for s in sentences)


def test_a_finished_study_is_not_run_again(copied, config, steps_run):
    before = results_of(copied)
    run_silently(config, copied, resume=True)
    assert steps_run(copied) == []
    assert results_of(copied) == before


def test_the_same_study_in_another_folder_gives_the_same_bytes(finished, config, tmp_path):
    assert results_of(run_silently(config, tmp_path / "again")) == results_of(finished)


@pytest.mark.parametrize(
    ("name", "again"),
    [
        ("metrics.json", ["compare"]),
        ("gains.csv", ["compare"]),
        ("front.csv", ["compare"]),
        ("grouping.json", ["decide"]),
        ("linearized.safetensors", ["measure"]),
        ("affinity.csv", ["measure"]),
        ("measure.json", ["measure"]),
        ("data_maps.safetensors", ["measure"]),
        ("models/all-in-one.safetensors", ["measure"]),
        ("models/network-00.safetensors", ["check-0"]),
        ("check/seed-1.json", ["check-1"]),
    ],
)
@pytest.mark.parametrize("damage", ["gone", "cut short"])
def test_what_is_gone_or_damaged_is_made_again(finished, copied, config, steps_run, name, again, damage):
    file = copied / name
    file.unlink() if damage == "gone" else file.write_bytes(file.read_bytes()[:50])
    run_silently(config, copied, resume=True)
    assert steps_run(copied) == again
    assert file.read_bytes() == (finished / name).read_bytes()
    assert results_of(copied) == results_of(finished)


class Killed(BaseException):
    """Stands for the end of the process: nothing handles it."""


@pytest.mark.parametrize("seed", range(3))
def test_interrupted_at_any_write_a_study_goes_on_to_the_same_result(finished, config, tmp_path, monkeypatch, seed):
    out, writes, really = tmp_path / "study", 0, Path.replace
    gaps = torch.randint(1, 15, (100,), generator=torch.Generator().manual_seed(seed)).tolist()

    def sometimes(path, target):
        nonlocal writes
        writes += 1
        if writes == limit:
            raise Killed
        return really(path, target)

    monkeypatch.setattr(Path, "replace", sometimes)
    kills = 0
    for gap in gaps:
        limit = writes + gap
        try:
            run_silently(config, out, resume=True)
            break
        except Killed:
            kills += 1
    assert kills >= 3
    assert results_of(out) == results_of(finished)


@pytest.mark.parametrize(
    ("state", "words"), [("run-0.safetensors", "Measure"), ("stack-0.safetensors", "Check: train every arm, seed 1")]
)
def test_an_interrupted_training_goes_on_from_its_last_epoch(config, tmp_path, monkeypatch, state, words):
    really, done = Path.replace, []

    def once(path, target):
        really(path, target)
        if Path(target).name == state:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", once)
        with pytest.raises(Killed):
            run_silently(config, tmp_path / "study")

    def bar(title):
        return nullcontext(lambda steps, total, note: done.append(steps / total) if title.startswith(words) else None)

    run_study(config, tmp_path / "study", bar=bar, resume=True)
    assert done[0] > 1 / 3  # the first of three epochs was saved


def test_stopping_after_a_step_and_going_on_changes_nothing(finished, config, tmp_path, steps_run):
    out = tmp_path / "study"
    for last, steps in (("measure", ["measure"]), ("decide", ["decide"]), ("compare", STEPS[2:])):
        run_silently(config, out, resume=True, last=last)
        assert steps_run(out) == steps
    assert results_of(out) == results_of(finished)


def test_without_a_check_gains_are_only_predicted(config, tmp_path, steps_run):
    out = run_silently(replace(config, check="none"), tmp_path / "study")
    assert steps_run(out) == ["measure", "decide", "predict"]
    assert not (out / "metrics.json").exists()
    rows = rows_of(out / "gains.csv")
    assert {row["arm"] for row in rows} == {"all-in-one", "grouped"}
    assert {row["realised"] for row in rows} == {""}
    assert outcome_tables(out)
    assert write_report(out).exists()


def test_a_quick_check_has_one_random_cover(monkeypatch, tmp_path):
    give_data(monkeypatch, make_planted_tasks(4, 2, n_samples=300))
    out = run_silently(small_config("planted", targets=None, budget=2, check="quick", epochs=5), tmp_path / "study")
    assert [name for name in shown(out)["arms"] if name.startswith("random")] in (["random-1"], [])


def test_digits_with_a_few_targets(tmp_path):
    targets = ("is_0", "closed_loop", "not_closed_loop", "coin_flip")
    out = run_silently(small_config("digits", targets=targets, seed=1, batch_size=64, budget=2), tmp_path / "study")
    metrics = shown(out)
    learnable = {task["name"]: task["learnable"] for task in metrics["tasks"]}
    assert learnable == {"is_0": True, "closed_loop": True, "not_closed_loop": True, "coin_flip": False}
    assert read(out, "grouping.json")["noise"] == ["coin_flip"]
    for name, arm in metrics["arms"].items():
        groups = [group for group in arm["groups"] if "coin_flip" in group["trains"]]
        assert len(groups) == (name in ("single", "all-in-one"))
        assert arm["networks"] == len([group for group in arm["groups"] if group["trains"] != ["coin_flip"]])


def test_one_learnable_task(monkeypatch, tmp_path):
    give_data(monkeypatch, make_planted_tasks(3, 3, n_samples=400, label_noise=[0.0, 0.5, 0.5]))
    metrics = shown(run_silently(small_config("planted", targets=None, epochs=8), tmp_path / "study"))
    assert [task["learnable"] for task in metrics["tasks"]] == [True, False, False]
    assert metrics["arms"]["grouped"]["groups"][0]["trains"] == [metrics["tasks"][0]["name"]]
    assert list(metrics["arms"]) == ["single", "all-in-one", "grouped"]
    assert metrics["relative_loss"]["grouped"]["mean"] == 1.0


def test_no_learnable_task_is_an_error_that_keeps_what_was_measured(monkeypatch, tmp_path):
    give_data(monkeypatch, make_planted_tasks(2, 2, n_samples=200, label_noise=0.5))
    with pytest.raises(StudyError, match="No task could be told from chance"):
        run_silently(small_config("planted", targets=None), tmp_path / "study")
    assert (tmp_path / "study" / "affinity.csv").exists()


@pytest.mark.parametrize("budget", [1, 50])
def test_any_budget_will_do(monkeypatch, tmp_path, budget):
    give_data(monkeypatch, make_planted_tasks(3, 1, n_samples=300))
    metrics = shown(run_silently(small_config("planted", targets=None, budget=budget, epochs=5), tmp_path / "study"))
    assert 1 <= metrics["arms"]["grouped"]["networks"] <= min(budget, 3)


def test_forty_tasks(monkeypatch, tmp_path):
    give_data(monkeypatch, make_planted_tasks(40, 4, n_samples=400))
    config = small_config("planted", targets=None, epochs=3, seeds=1, check="quick", solver_seconds=2.0)
    metrics = shown(run_silently(config, tmp_path / "study"))
    assert len(metrics["tasks"]) == 40
    assert metrics["arms"]["grouped"]["networks"] <= 3


def test_kinds_may_be_mixed(monkeypatch, tmp_path):
    kinds = ["multiclass", "regression"] * 2
    give_data(monkeypatch, make_planted_tasks(4, 2, n_samples=300, relatedness=1.0, kinds=kinds))
    metrics = shown(run_silently(small_config("planted", targets=None), tmp_path / "study"))
    assert [task["kind"] for task in metrics["tasks"]] == kinds


def test_tasks_may_be_called_anything(monkeypatch, tmp_path):
    names = ("two words", "a, b", 'o "q"', "ünï/cödé", "[red]x[/bold]")
    data = make_planted_tasks(5, 2, n_samples=300)
    tasks = type(data.tasks)([replace(task, name=name) for task, name in zip(data.tasks, names, strict=True)])
    give_data(monkeypatch, replace(data, tasks=tasks))
    metrics = shown(run_silently(small_config("planted", targets=None, epochs=5), out := tmp_path / "study"))
    assert tuple(task["name"] for task in metrics["tasks"]) == names
    assert {row["task"] for row in rows_of(out / "gains.csv")} <= set(names)


def test_a_metric_that_the_test_labels_do_not_define_is_null(monkeypatch, tmp_path):
    data = make_planted_tasks(3, 1, n_samples=300)
    targets = data.test.targets.clone()
    targets[:, 1] = 1.0
    give_data(monkeypatch, replace(data, test=Split(data.test.inputs, targets)))
    metrics = shown(run_silently(small_config("planted", targets=None, epochs=5), tmp_path / "study"))
    results = metrics["arms"]["single"]["results"][0]
    assert results["metric"][data.tasks.names[1]] is None
    assert results["loss"][data.tasks.names[1]] > 0


@pytest.mark.parametrize("case", ["no test label", "a test input out of all range"])
def test_test_losses_that_are_not_finite_are_an_error(monkeypatch, tmp_path, case):
    data = make_planted_tasks(2, 1, n_samples=300, kinds="regression")
    inputs, targets = data.test.inputs.clone(), data.test.targets.clone()
    if case == "no test label":
        targets[:, 1] = torch.nan
    else:
        inputs[0] = 1e30
    give_data(monkeypatch, replace(data, test=Split(inputs, targets)))
    with pytest.raises(StudyError, match=r"The test loss of \['g0_.*is NaN or infinite"):
        run_silently(small_config("planted", targets=None, epochs=8), tmp_path / "study")


def test_a_training_that_diverges_names_task_epoch_and_step_and_keeps_what_was_saved(config, tmp_path):
    out = tmp_path / "study"
    with pytest.raises(TrainingDivergedError, match=r"The loss of \[.*'amount'.*\] became NaN or infinite at epoch 0"):
        run_silently(replace(config, learning_rate=1e30), out)
    assert (out / "study.yaml").exists()
    assert [event["event"] for event in map(json.loads, (out / "events.jsonl").read_text().splitlines())] == [
        "run", "step-started",
    ]  # fmt: skip


def test_another_table_under_the_same_name_is_measured_again(copied, tmp_path, config, steps_run):
    table = tmp_path / "table.csv"
    lines = Path(config.data).read_text().splitlines()
    table.write_text("\n".join(lines[:200]) + "\n")
    moved = replace(config, data=str(table))
    (copied / "study.yaml").write_text(moved.to_yaml())
    run_silently(moved, copied, resume=True)
    assert steps_run(copied) == STEPS


def test_on_digits_the_coin_flip_is_left_out_and_the_complement_is_found(tmp_path):
    out = tmp_path / "study"
    run_study(
        StudyConfig("digits", check="none", epochs=40, budget=4, max_size=4, trainings=18),
        out,
        bar=lambda _: nullcontext(silent),
    )
    decided = read(out, "grouping.json")
    assert "coin_flip" in decided["noise"]
    groups = decided["grouping"]["groups"]
    assert all("coin_flip" not in group["trains"] for group in groups)
    affinity = Affinity.from_csv(out / "affinity.csv")
    pair = [affinity.tasks.index(name) for name in ("closed_loop", "not_closed_loop")]
    matrix = affinity.matrix.clone().fill_diagonal_(-torch.inf)
    best = matrix.argmax(dim=0)[pair].tolist() == pair[::-1]
    assert best or any({"closed_loop", "not_closed_loop"} <= set(group["trains"]) for group in groups)


def test_steps_of_another_version_are_run_again(copied, config, steps_run, monkeypatch):
    monkeypatch.setattr("cotrain.study.run.__version__", "9.9.9")
    run_silently(config, copied, resume=True)
    assert steps_run(copied) == STEPS
