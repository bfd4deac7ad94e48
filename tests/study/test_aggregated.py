"""`cotrain train STUDY --aggregation NAME`: the study's networks again, with their gradients combined."""

import importlib
import json
import shutil
from contextlib import nullcontext

import pytest
import torch
from safetensors.torch import load_file
from small_study import TARGETS, run_silently, small_config, write_table

from cotrain.cli import main
from cotrain.progress import silent
from cotrain.study import StudyFolder
from cotrain.study.aggregated import aggregation_file, train_aggregated
from cotrain.study.setting import Setting


def combine(copied, name, listener=silent):
    folder, config = StudyFolder.existing(copied)
    train_aggregated(config, folder, name, bar=lambda words: nullcontext(listener))
    return folder


def networks(folder, file):
    return {tuple(record["trains"]): record for record in folder.read_json(file)["networks"]}


def test_the_plain_sum_gives_the_networks_of_the_check(copied):
    """Same weights to begin with, same samples in the same order, no label but those of the network's tasks."""
    folder = combine(copied, "sum")
    groups = folder.read_json("metrics.json")["arms"]["grouped"]["groups"]
    chosen = {tuple(group["trains"]) for group in groups if len(group["trains"]) > 1}
    assert chosen
    for seed in (0, 1):
        plain = networks(folder, f"check/seed-{seed}.json")
        combined = networks(folder, f"aggregation/sum/seed-{seed}.json")
        assert set(combined) == {TARGETS, *chosen}
        for trains, record in combined.items():
            assert record["loss"] == pytest.approx(plain[trains]["loss"], rel=1e-4)
            assert record["best_epoch"] == plain[trains]["best_epoch"]
    found = folder.read_json(aggregation_file("sum"))
    assert set(found["relative_loss"]) == {"all-in-one", "grouped"}
    for loss in found["relative_loss"].values():
        assert loss["per_seed"] == pytest.approx([1, 1], rel=1e-4)
    for network in found["networks"]:
        tensors = load_file(copied / network["model"])
        (number,) = (n for n, t in enumerate(plain) if list(t) == network["trains"])
        for name, value in load_file(copied / f"models/network-{number:02d}.safetensors").items():
            torch.testing.assert_close(tensors[name], value, rtol=1e-3, atol=1e-4)


def test_heads_of_other_tasks_stay_as_they_begin(copied):
    folder = combine(copied, "upgrad")
    setting = Setting.load(StudyFolder.existing(copied)[1])
    torch.manual_seed(0)
    fresh = setting.make_network().state_dict()
    (group,) = (n for n in folder.read_json(aggregation_file("upgrad"))["networks"] if len(n["trains"]) < 4)
    tensors = load_file(copied / group["model"])
    tasks = setting.data.tasks
    for name in tasks.names:
        same = torch.equal(tensors["heads.weight"][tasks.slices[name]], fresh["heads.weight"][tasks.slices[name]])
        assert same == (name not in group["trains"])


def test_what_transference_chose_is_kept_with_every_network(copied):
    folder = combine(copied, "transference")
    first = networks(folder, "aggregation/transference/seed-0.json")
    for network in folder.read_json(aggregation_file("transference"))["networks"]:
        choices = network["choices"]
        assert choices == first[tuple(network["trains"])]["choices"]
        assert set(network["trains"]) == {task for task, share in choices["share"].items() if share[0] is not None}
        assert sum(sum(counts) for counts in choices["picked"].values()) > 0


def test_resumed_is_uninterrupted(finished, copied, tmp_path):
    whole = combine(shutil.copytree(finished, tmp_path / "whole"), "gradnorm")

    class StoppedError(Exception):
        pass

    def stop(done, total, note):
        if "epoch 3" in note and "2 of" in note:
            raise StoppedError

    with pytest.raises(StoppedError):
        combine(copied, "gradnorm", stop)
    resumed = combine(copied, "gradnorm")
    for file in ("aggregation/gradnorm.json", "aggregation/gradnorm/seed-0.json", "aggregation/gradnorm/seed-1.json"):
        assert resumed.read_json(file) == whole.read_json(file)
    before = (copied / "events.jsonl").read_text()
    combine(copied, "GradNorm")
    assert (copied / "events.jsonl").read_text() == before  # nothing was run again


def test_on_the_command_line(copied, capsys):
    assert main(["train", str(copied), "--aggregation", "Transference"]) == 0
    out = capsys.readouterr().out
    assert "Gradients combined by transference" in out
    assert "all-in-one" in out
    events = [json.loads(line) for line in (copied / "events.jsonl").read_text().splitlines()]
    finished = [event["step"] for event in events if event["event"] == "step-finished"]
    assert finished[-3:] == ["aggregation-transference-0", "aggregation-transference-1", "aggregation-transference"]
    assert list((copied / "models" / "transference").glob("network-*.safetensors"))
    report = (copied / "report.html").read_text()
    assert "Gradients combined in other ways" in report
    assert ">transference</th>" in report


def test_what_is_compared_by_task_is_what_the_networks_reached(copied):
    folder = combine(copied, "upgrad")
    found, metrics = folder.read_json(aggregation_file("upgrad")), folder.read_json("metrics.json")
    assert found["checked"] == folder.digests(["metrics.json"])["metrics.json"]
    for arm, record in found["arms"].items():
        groups = metrics["arms"][arm]["groups"]
        assert record["networks"] == sum(len(group["trains"]) > 1 for group in groups)
        for plain, result in zip(metrics["arms"][arm]["results"], record["results"], strict=True):
            combined = networks(folder, f"aggregation/upgrad/seed-{result['seed']}.json")
            assert set(result["metric"]) == set(result["loss"]) == set(plain["loss"])
            for group in groups:
                for task in group["serves"]:
                    trained = combined.get(tuple(group["trains"]))
                    expected = trained["loss"][task] if trained else plain["loss"][task]
                    assert result["loss"][task] == expected
            learnable = [task["name"] for task in metrics["tasks"] if task["learnable"]]
            ratio = sum(result["loss"][t] for t in learnable) / sum(plain["loss"][t] for t in learnable)
            assert found["relative_loss"][arm]["per_seed"][result["seed"]] == pytest.approx(ratio)
    names = {task["name"]: task["metric"] for task in metrics["tasks"]}
    everything = combined[TARGETS]
    last = found["arms"]["all-in-one"]["results"][-1]["metric"]
    for task, name in names.items():
        assert last[task] == {**everything["metrics"][task], "loss": everything["loss"][task]}[name]


def test_a_name_that_is_none_is_a_bad_argument_before_anything_is_trained(copied, capsys):
    before = (copied / "events.jsonl").read_text()
    assert main(["train", str(copied), "--aggregation", "adam"]) == 2
    err = capsys.readouterr().err.strip()
    assert err.startswith("cotrain: There is no aggregation 'adam'. There are aligned-mtl, cagrad, ")
    assert "\n" not in err
    assert (copied / "events.jsonl").read_text() == before


def test_a_missing_extra_is_one_sentence(copied, capsys, monkeypatch):
    real = importlib.import_module

    def without(module, package=None):
        if module.partition(".")[0] == "torchjd":
            raise ModuleNotFoundError("No module named 'torchjd'", name="torchjd")
        return real(module, package)

    monkeypatch.setattr(importlib, "import_module", without)
    assert main(["train", str(copied), "--aggregation", "imtl-g"]) == 1
    err = capsys.readouterr().err.strip()
    assert err == (
        'cotrain: This needs torchjd, which is not installed. Install it with: pip install "cotrain[torchjd]"'
    )


def test_groups_of_single_tasks_have_nothing_to_combine(tmp_path, capsys):
    table = write_table(tmp_path / "table.csv")
    copied = run_silently(small_config(table, check="quick", max_size=1, budget=4, seeds=1), tmp_path / "copied")
    assert main(["train", str(copied), "--aggregation", "sum"]) == 0
    found = StudyFolder(copied).read_json(aggregation_file("sum"))
    assert set(found["relative_loss"]) == {"all-in-one"}
    assert "one seed cannot tell" in capsys.readouterr().out
