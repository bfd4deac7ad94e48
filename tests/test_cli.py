"""The command line as a user has it: words in, an exit code, tables and sentences out."""

import errno
import gzip
import multiprocessing
import os
import random
import re
import resource
import shlex
import shutil
import signal
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml
from commands import sentence
from small_study import DESIGNED_FILES, TARGETS, results_of, write_table

from cotrain import cli
from cotrain.cli import main
from cotrain.errors import DataError
from cotrain.version import __version__

COMMANDS = ("run", "affinity", "groups", "train", "front", "report", "datasets")
SMALL = ("--epochs", "3", "--seeds", "2", "--batch_size", "16", "--learning_rate", "1e-2", "--width", "16")


@pytest.fixture
def table(tmp_path):
    return write_table(tmp_path / "table.csv")


def small(table, *more):
    return "run", table, "--targets", ",".join(TARGETS), *SMALL, *more


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A study that was run once, and its table."""
    folder = tmp_path_factory.mktemp("finished")
    table = write_table(folder / "table.csv")
    assert main([str(word) for word in small(table, "--out", folder / "study")]) == 0
    return folder / "study", table


@pytest.fixture
def study_table(cotrain, finished):
    """The table of the finished study, a copy of which is in the folder `study`."""
    shutil.copytree(finished[0], "study")
    return finished[1]


def test_run_leaves_a_study_and_says_what_came_out(cotrain, table):
    code, out, err = cotrain(*small(table, "--out", "study"))
    assert code == 0
    assert all(Path("study", name).exists() for name in (*DESIGNED_FILES, "report.html"))
    for words in ("What real trainings say", "random-1", "Test metrics", "95 % over 2 seeds", *TARGETS):
        assert words in out
    assert "Report: study/report.html" in out
    for step in ("Measure: all tasks", "Decide: groups", "Check: train every arm, seed 2 of 2"):
        assert step in err


def test_the_steps_one_by_one_are_the_whole(cotrain, study_table):
    code, out, _ = cotrain("affinity", *small(study_table, "--out", "stepwise")[1:])
    assert code == 0
    assert "of 12 affinities" in out
    assert "Next: cotrain groups stepwise" in out
    assert not Path("stepwise/grouping.json").exists()
    code, out, _ = cotrain("groups", "stepwise")
    assert code == 0
    assert "Next: cotrain train stepwise" in out
    assert not Path("stepwise/metrics.json").exists()
    code, out, _ = cotrain("train", "stepwise")
    assert code == 0
    assert "Report: stepwise/report.html" in out
    assert results_of(Path("stepwise")) == results_of(Path("study"))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(cotrain, command):
    code, out, _ = cotrain(command, "--help")
    assert code == 0
    assert f"usage: cotrain [options] {command}" in out


def test_the_program_names_its_commands_and_version(cotrain):
    code, out, _ = cotrain("--help")
    assert code == 0
    assert all(command in out for command in COMMANDS)
    assert cotrain("--version")[1].split() == ["cotrain", __version__]


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("nonsense",),
        ("run",),
        ("run", "digits", "--no-such-option"),
        ("run", "digits", "--budget", "many"),
        ("run", "digits", "--check", "some"),
        ("run", "--config", "no-such-file.yaml"),
        ("datasets", "remove"),
        ("train",),
        ("front",),
        ("front", "digits", "--form", "round"),
        ("front", "digits", "--left_out", "is_0"),
    ],
)
def test_words_that_are_not_understood_are_bad_arguments(cotrain, words):
    code, _, err = cotrain(*words)
    assert code == 2
    assert "error: " in err
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("run", "digits", "--budget", "0"), "budget must be at least 1. Got 0."),
        (("run", "digits", "--seeds", "-1"), "seeds must be at least 1. Got -1."),
        (("run", "digits", "--seed", "-1"), "seed must not be negative. Got -1."),
        (("run", "digits", "--learning_rate", "0"), "learning_rate must be positive. Got 0.0."),
        (("run", "digits", "--targets", "is_0"), "at least 2 targets"),
        (("run", "digits", "--network", "cnn", "--resume"), "add --out FOLDER"),
        (("groups", "table.csv"), "needs --budget"),
        (("groups", "table.csv", "--budget", "2", "--features", "raw"), "--features belongs to clusters"),
        (("datasets", "get"), "Name the data set"),
        (("front", "digits"), "There are 15 targets"),
        (("front", "digits", "--groups", "is_0+is_1,odd"), "Missing, or in several groups"),
        (("front", "digits", "--targets", "is_0,odd", "--groups", "is_0,even"), "Unknown: ['even']"),
        (("front", "digits", "--targets", "is_0,odd", "--preferences", "1"), "preferences must be at least 2"),
        (("front", "digits", "--rank", "2"), "rank belongs to --form lora"),
        (("front", "digits", "--resume"), "add --out FOLDER"),
        (("front", "digits", "--minimize", "odd", "--maximize", "is_0"), "Give one of --minimize"),
        (("front", "digits", "--subject_to", "odd >= 0.5"), "which --subject_to then limits"),
        (("front", "digits", "--targets", "is_0,odd", "--maximize", "even"), "There is no 'even'"),
        (("front", "digits", "--targets", "is_0,odd", "--minimize", "odd", "--subject_to", "even >= 1"), "no 'even'"),
        (("front", "digits", "--targets", "is_0,odd", "--preference", "is_0=0.5,odd=0.7"), "sum"),
    ],
)
def test_arguments_out_of_range_are_bad_arguments(cotrain, words, reason):
    code, _, err = cotrain(*words)
    assert code == 2
    assert reason in sentence(err)
    assert not list(Path().iterdir())


def bad_tables():
    """(change of a good table, what the user is told)."""

    def with_column(name, values):
        return lambda frame: frame.assign(**{name: values})

    return {
        "no such target": (lambda frame: frame.drop(columns="positive"), "There is no target column of table.csv"),
        "one class": (with_column("positive", 1), "Target 'positive' has only the value"),
        "all missing": (with_column("positive", None), "Target 'positive' has no value in any of the 240 rows"),
        "infinite": (lambda frame: frame.assign(amount=frame.amount.where(frame.index != 3, float("inf"))),
                     "Target 'amount' has 1 infinite values"),
        "NaN inputs": (lambda frame: frame.assign(x=frame.x.where(frame.index > 4), z=frame.z.where(frame.index != 9)),
                       "Input columns have missing (NaN) values: x (5), z (1)"),
        "infinite inputs": (lambda frame: frame.assign(w=frame.w.where(frame.index != 3, float("inf"))),
                            "Input columns have infinite values: w (1)"),
        "no rows": (lambda frame: frame.head(0), "no value in any of the 0 rows"),
        "too few rows": (lambda frame: frame.head(2), "there is nothing to learn"),
    }  # fmt: skip


@pytest.mark.parametrize("case", bad_tables())
def test_a_table_that_cannot_be_trained_on_is_told_in_one_sentence(cotrain, table, case):
    change, reason = bad_tables()[case]
    change(pd.read_csv(table)).to_csv(table, index=False)
    code, _, err = cotrain(*small(table, "--out", "study"))
    assert code == (2 if case == "no such target" else 1)
    assert reason in sentence(err)
    assert not Path("study").exists()


def test_a_regression_target_that_is_text_is_refused(cotrain, table):
    frame = pd.read_csv(table)
    frame["amount"] = [f"{value} kg" for value in frame["amount"]]
    frame.to_csv(table, index=False)
    code, _, err = cotrain(*small(table, "--out", "study", "--kinds", '{"amount": "regression"}'))
    assert code == 1
    assert "Target 'amount' cannot be a regression target" in sentence(err)
    assert not Path("study").exists()


def test_a_target_without_labels_in_a_split_is_refused(cotrain, table):
    frame = pd.read_csv(table)
    frame["positive"] = frame["positive"].where(frame.index < 2)
    frame.to_csv(table, index=False)
    code, _, err = cotrain(*small(table, "--out", "study"))
    assert code == 1
    assert "'positive'" in sentence(err)
    assert not Path("study").exists()


@pytest.mark.parametrize("suffix", [".csv.gz", ".parquet"])
def test_a_truncated_file_is_named(cotrain, table, suffix):
    file = table.with_name(f"cut{suffix}")
    if suffix == ".parquet":
        pd.read_csv(table).to_parquet(file)
    else:
        file.write_bytes(gzip.compress(table.read_bytes()))
    file.write_bytes(file.read_bytes()[:-500])
    code, _, err = cotrain(*small(file, "--out", "study"))
    assert code == 1
    assert f"{file} could not be read as a table" in sentence(err)
    assert not Path("study").exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("run", "nothing-like-it"), "There is no data called 'nothing-like-it'"),
        (("run", "missing.csv", "--targets", "a,b"), "There is no file missing.csv"),
        (("run", "digits", "--targets", "is_0,is_11"), "There is no target of digits called 'is_11'"),
        (("run", "digits", "--task_set", "ten"), "digits has no option 'task_set'"),
        (("train", "nowhere"), "nowhere holds no study"),
        (("report", "nowhere"), "nowhere holds no study"),
        (("front", "nowhere"), "There is no data called 'nowhere'"),
        (("groups", "nowhere"), "nowhere holds no study"),
        (("groups", "missing.csv", "--budget", "2"), "missing.csv"),
        (("datasets", "get", "mnist"), "There is no built-in data set called 'mnist'"),
    ],
)
def test_what_is_not_there_is_told(cotrain, words, reason):
    code, _, err = cotrain(*words)
    assert code == (2 if words[0] in ("run", "front", "datasets") else 1)
    assert reason in err.strip().splitlines()[-1]
    assert not list(Path().iterdir())


def test_a_table_without_named_targets_is_refused(cotrain, table):
    code, _, err = cotrain("run", table)
    assert code == 2
    assert "Name at least one target column" in sentence(err)


def test_a_study_is_neither_overwritten_nor_mixed_with_another(cotrain, table):
    words = ("affinity", *small(table, "--out", "study")[1:])
    assert cotrain(*words)[0] == 0
    before = {file: file.read_bytes() for file in Path("study").rglob("*") if file.is_file()}

    code, _, err = cotrain(*words)
    assert code == 1
    assert "study holds this study already. Add --resume to go on" in sentence(err)
    code, _, err = cotrain(*words, "--resume", "--budget", "2")
    assert code == 1
    assert "another configuration (budget: 3 there, 2 now)" in sentence(err)
    assert {file: file.read_bytes() for file in Path("study").rglob("*") if file.is_file()} == before

    assert cotrain(*words, "--resume")[0] == 0
    assert Path("study/affinity.csv").read_bytes() == before[Path("study/affinity.csv")]


def test_without_out_the_next_free_folder_is_taken(cotrain, table):
    for _ in range(2):
        assert cotrain("affinity", *small(table)[1:])[0] == 0
    assert Path("cotrain-table/affinity.csv").exists()
    assert Path("cotrain-table-2/affinity.csv").exists()


def test_a_loss_that_becomes_nan_names_task_epoch_and_step(cotrain, table):
    code, _, err = cotrain(*small(table, "--out", "study", "--learning_rate", "1e30"))
    assert code == 1
    last = err.strip().splitlines()[-1]
    assert last.startswith("cotrain: The loss of [")
    assert "became NaN or infinite at epoch 0, step " in last
    assert "Traceback" not in err
    assert Path("study/study.yaml").exists()


@pytest.fixture
def small_disk():
    """No file can grow beyond so many bytes, which is told as a full disk is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_on_a_full_disk_the_old_report_survives(cotrain, study_table, small_disk):
    before = Path("study/report.html").read_bytes()
    small_disk(100_000)
    code, _, err = cotrain("report", "study")
    small_disk(resource.RLIM_INFINITY)
    assert code == 1
    assert os.strerror(errno.EFBIG) in sentence(err)
    assert Path("study/report.html").read_bytes() == before
    assert not list(Path("study").rglob("*.part"))


def test_on_a_full_disk_a_study_stops_and_goes_on_later(cotrain, study_table, small_disk):
    words = small(study_table, "--out", "later")
    small_disk(4_000)
    code, _, err = cotrain(*words)
    small_disk(resource.RLIM_INFINITY)
    assert code == 1
    assert err.strip().splitlines()[-1].startswith("cotrain: ")
    assert "Traceback" not in err
    assert not list(Path("later").rglob("*.part"))
    assert cotrain(*words, "--resume")[0] == 0
    assert results_of(Path("later")) == results_of(Path("study"))


def test_an_interruption_says_how_to_go_on(cotrain, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "run_study", interrupted)
    code, _, err = cotrain("run", "digits")
    assert code == 1
    assert "go on with --resume" in sentence(err)


def test_a_printed_configuration_gives_the_same_study(cotrain, table):
    flags = small(table, "--kinds", '{"level": "regression"}', "--missing_inputs", "impute", "--seed", "5")
    code, out, _ = cotrain(*flags, "--print_config")
    assert code == 0
    assert not Path("study").exists()
    Path("options.yaml").write_text(out)
    assert cotrain("affinity", *flags[1:], "--out", "by-flags")[0] == 0
    assert cotrain("affinity", "--config", "options.yaml", "--out", "by-yaml")[0] == 0
    assert cotrain("affinity", "--config", "by-flags/study.yaml", "--out", "by-study")[0] == 0
    for other in ("by-yaml", "by-study"):
        assert Path(other, "study.yaml").read_bytes() == Path("by-flags/study.yaml").read_bytes()
        assert Path(other, "affinity.csv").read_bytes() == Path("by-flags/affinity.csv").read_bytes()


def test_flags_go_before_yaml(cotrain, table):
    Path("options.yaml").write_text(yaml.safe_dump({"data": str(table), "epochs": 3, "budget": 2, "seed": 4}))
    code, out, _ = cotrain("run", "--config", "options.yaml", "--budget", "5", "--print_config")
    assert code == 0
    options = yaml.safe_load(out)
    assert (options["data"], options["epochs"], options["budget"], options["seed"]) == (str(table), 3, 5, 4)


@pytest.mark.parametrize("given", ["is_0,odd", "is_0, odd", "[is_0, odd]", '["is_0", "odd"]'])
def test_targets_may_be_given_with_commas_or_as_a_list(cotrain, monkeypatch, given):
    asked = []

    def refuse(config, *_, **__):
        asked.append(config.targets)
        raise DataError("stop here")

    monkeypatch.setattr(cli, "run_study", refuse)
    assert cotrain("run", "digits", "--targets", given)[0] == 1
    assert asked == [("is_0", "odd")]


def test_targets_may_be_called_anything(cotrain, table):
    names = ("a, b", 'o "q" ü/x', "[red]level[/bold]", "two words")
    frame = pd.read_csv(table).rename(columns=dict(zip(TARGETS, names, strict=True)))
    frame.to_csv(table, index=False)
    words = ("run", table, "--targets", yaml.safe_dump(list(names), default_flow_style=True), *SMALL)
    code, out, err = cotrain("affinity", *words[1:], "--out", "[bold]study")
    assert (code, "Traceback" in err) == (0, False)
    assert "Next: cotrain groups [bold]study" in out
    code, out, _ = cotrain("train", "[bold]study")
    assert code == 0
    assert all(name in out for name in names)
    assert "Report: [bold]study/report.html" in out


@pytest.mark.parametrize(("method", "said"), [("search", "Not checked:"), ("transference", "A prediction only:")])
def test_check_none_says_that_nothing_was_checked(cotrain, table, method, said):
    words = small(table, "--out", "study", "--check", "none", "--method", method)
    code, out, _ = cotrain(*words)
    assert code == 0
    assert said in out
    assert "What real trainings say" not in out
    assert Path("study/report.html").exists()
    code, _, err = cotrain("train", "study")
    assert code == 2
    assert "started with --check none" in sentence(err)


@pytest.mark.parametrize(("check", "covers"), [("quick", "one random grouping"), ("full", "3 random groupings")])
def test_check_quick_and_full_compare_with_random_groups(cotrain, table, check, covers):
    code, out, _ = cotrain(*small(table, "--out", "study", "--check", check, "--budget", "2"))
    assert code == 0
    assert out.count("│ random-") == {"quick": 1, "full": 3}[check]
    assert f"{covers} of the same sizes" in " ".join(out.split())


def test_groups_for_another_budget_leave_the_study_as_it_is(cotrain, table):
    cotrain("affinity", *small(table, "--out", "study", "--max_size", "2")[1:])
    cotrain("groups", "study")
    before = Path("study/grouping.json").read_bytes()
    code, out, _ = cotrain("groups", "study", "--budget", "2")
    assert code == 0
    assert out.startswith("2 networks for ")
    assert "Next" not in out
    assert Path("study/grouping.json").read_bytes() == before


def test_groups_of_a_study_by_every_method(cotrain, table):
    cotrain(*small(table, "--out", "study", "--check", "none", "--method", "pairs", "--budget", "2"))
    before = Path("study/grouping.json").read_bytes()
    for method, words in {
        "search": "all measured; proven best",
        "pairs": "proven best",
        "linearized": "Predictions: linearised network, unverified: no group was trained for it",
        "transference": "Predictions: pair mean of the lookahead affinity, unverified: no group was trained for it",
        "affinity-clusters": "density",
        "data-maps": "Memberships",
    }.items():
        code, out, err = cotrain("groups", "study", "--method", method)
        assert code == 0, err
        assert words in " ".join(out.split()), (method, out)
        assert "network" in out
    assert Path("study/grouping.json").read_bytes() == before


def test_groups_by_data_maps_of_a_study_that_measured_transference(cotrain, table):
    cotrain(*small(table, "--out", "study", "--check", "none"))
    before = {file.name: file.read_bytes() for file in Path("study").iterdir() if file.suffix in (".json", ".csv")}
    code, out, _ = cotrain("groups", "study", "--method", "data-maps", "--features", "signed", "--fuzziness", "1.07")
    assert code == 0
    assert "Memberships" in out
    assert "one measuring run" in out
    assert "fuzziness 1.07" in out
    assert "Next:" not in out
    assert {name: Path("study", name).read_bytes() for name in before} == before


def test_a_study_by_data_maps(cotrain, table):
    code, out, _ = cotrain(*small(table, "--out", "study", "--method", "data-maps", "--runs", "2", "--budget", "2"))
    assert code == 0
    assert "Ways to use the clusters" in out
    assert "label-correlation" in out
    code, out, _ = cotrain("groups", "study")
    assert code == 0
    assert "stability between runs (ARI)" in out
    assert "Next: cotrain train study" in out
    code, out, _ = cotrain("groups", "study", "--method", "transference")
    assert code == 0
    assert "Memberships" not in out
    code, _, err = cotrain("groups", "study", "--method", "transference", "--features", "raw")
    assert code == 2
    assert "add --method data-maps" in sentence(err)


def test_groups_of_a_table_of_measured_losses(cotrain):
    losses = {
        "a": {"a": 1.0}, "b": {"b": 1.0}, "c": {"c": 1.0}, "a+b": {"a": 0.5, "b": 0.6},
        "a+c": {"a": 1.2, "c": 1.1}, "b+c": {"b": 1.3, "c": 1.4}, "a+b+c": {"a": 0.9, "b": 0.9, "c": 1.5},
    }  # fmt: skip
    lines = [f"{group},{task},{loss}" for group, members in losses.items() for task, loss in members.items()]
    Path("measured.csv").write_text("\n".join(["group,task,test_loss", *lines]))
    code, out, _ = cotrain("groups", "measured.csv", "--budget", "3")
    assert code == 0
    head, *groups = out.strip().splitlines()
    assert head.startswith("2 networks for 3 tasks; total loss saved over training alone 0.9")
    assert sorted(group.partition(". ")[2] for group in groups) == ["a + b", "c"]
    code, _, err = cotrain("groups", "measured.csv", "--budget", "3", "--column", "gain")
    assert code == 1
    assert "has no column 'gain'" in sentence(err)
    assert cotrain("groups", "measured.csv", "--budget", "0")[0] in (1, 2)


def test_report_is_written_again(cotrain, study_table):
    before = Path("study/report.html").read_bytes()
    Path("study/report.html").unlink()
    code, out, _ = cotrain("report", "study")
    assert (code, out) == (0, "Report: study/report.html\n")
    assert Path("study/report.html").read_bytes() == before


def test_report_of_a_damaged_study_names_the_file(cotrain, study_table):
    Path("study/metrics.json").write_text('{"arms": ')
    code, _, err = cotrain("report", "study")
    assert code == 1
    assert "metrics.json" in sentence(err)
    assert cotrain(*small(study_table, "--out", "study", "--resume"))[0] == 0


def test_datasets_says_what_is_built_in_and_where_it_is_looked_for(cotrain, monkeypatch, tmp_path):
    monkeypatch.setenv("COTRAIN_DATA", str(tmp_path / "own data"))
    code, out, _ = cotrain("datasets")
    assert code == 0
    assert all(name in out for name in ("digits", "fashion-mnist", "census-income"))
    assert "ships with an installed package" in out


def test_datasets_get_of_what_needs_no_file(cotrain):
    code, out, _ = cotrain("datasets", "get", "digits")
    assert (code, out) == (0, "digits needs no files: it ships with an installed package.\n")


def test_datasets_get_says_where_the_files_are(cotrain, monkeypatch):
    monkeypatch.setattr(cli, "get", lambda name, progress: Path("[somewhere]"))
    assert cotrain("datasets", "get", "fashion-mnist")[:2] == (0, "fashion-mnist is in [somewhere].\n")


def test_killed_at_random_moments_it_goes_on_to_the_same_result(cotrain, monkeypatch):
    """SIGKILL of a real process, three times; benchmarks/kill_resume.py does it on a full study."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    words = ["run", "digits", "--targets", "is_0,closed_loop,odd", "--epochs", "3", "--seeds", "2", "--check", "quick"]
    started = time.monotonic()
    assert cotrain(*words, "--out", "undisturbed")[0] == 0
    work = time.monotonic() - started
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["cotrain.cli"])
    moments, exit_codes = random.Random(0), []
    for _ in range(3):
        process = server.Process(target=main, args=([*words, "--out", "killed", "--resume"],))
        process.start()
        while not Path("killed").exists():
            time.sleep(0.01)
        process.join(moments.uniform(0, work / 2))
        process.kill()
        process.join()
        exit_codes.append(process.exitcode)
    assert -signal.SIGKILL in exit_codes
    assert cotrain(*words, "--out", "killed", "--resume")[0] == 0
    assert results_of(Path("killed")) == results_of(Path("undisturbed"))
    assert not list(Path("killed").rglob("*.part"))


FRONT = ("--epochs", "2", "--width", "8", "--batch_size", "16", "--preferences", "3")


def test_a_front_says_what_came_out_and_a_preference_is_chosen_of_it(cotrain, table):
    code, out, err = cotrain("front", table, "--targets", "positive,amount", *FRONT)
    assert code == 0, err
    folder = Path("cotrain-front-table")
    for words in ("The front on validation samples", "equal weights", "single tasks", "Hypervolume on test samples"):
        assert words in out
    (command,) = re.findall(r"^Next: (cotrain front .*)$", out, re.MULTILINE)
    assert "Report: cotrain-front-table/front.html" in out
    assert all((folder / "pareto" / name).exists() for name in ("front.csv", "front.json", "manifold.safetensors"))
    before = (folder / "pareto/front.json").read_bytes()

    code, out, err = cotrain(*shlex.split(command)[1:])
    assert code == 0, err
    assert "At the chosen preference" in out
    assert (folder / "pareto/chosen.safetensors").exists()
    code, out, _ = cotrain("front", folder, "--maximize", "positive", "--subject_to", "amount <= 0, positive >= 2")
    assert code == 0
    assert out.startswith("No preference keeps every bound")
    assert cotrain("front", folder, "--preference", "positive=0.25,amount=0.75")[0] == 0
    code, _, err = cotrain("front", folder, "--maximize", "nonsense")
    assert code == 2
    assert "There is no 'nonsense'" in err.strip().splitlines()[-1]
    code, out, _ = cotrain("report", folder)
    assert (code, out) == (0, "Report: cotrain-front-table/front.html\n")
    assert (folder / "pareto/front.json").read_bytes() == before


def test_the_front_of_a_study_is_in_its_folder_and_its_report(cotrain, table):
    cotrain(*small(table, "--out", "study", "--check", "none", "--epochs", "1"))
    code, _, err = cotrain("front", "study", "--epochs", "2")
    assert code == 2
    assert "Leave out --epochs" in sentence(err)
    code, _, err = cotrain("front", "study", "--out", "elsewhere")
    assert code == 2
    assert "Leave out --out" in sentence(err)
    code, out, err = cotrain("front", "study", "--preferences", "5", "--form", "lora", "--rank", "1")
    assert code == 0, err
    assert "Report: study/report.html" in out
    assert "One network for every trade-off" in Path("study/report.html").read_text()
    code, _, err = cotrain("front", "study", "--preferences", "6")
    assert code == 1
    assert "preferences: 5 there, 6 now" in sentence(err)


def test_a_printed_configuration_gives_the_same_front(cotrain, table):
    words = ("front", table, "--groups", "positive+larger,level+amount", "--targets", ",".join(TARGETS), *FRONT)
    code, out, _ = cotrain(*words, "--print_config")
    assert code == 0
    Path("options.yaml").write_text(out)
    assert cotrain("front", "--config", "options.yaml", "--out", "by-yaml")[0] == 0
    assert cotrain("front", "--config", "by-yaml/pareto/front.yaml", "--out", "by-front")[0] == 0
    for name in ("front.yaml", "front.csv"):
        assert Path("by-yaml/pareto", name).read_bytes() == Path("by-front/pareto", name).read_bytes()


def test_the_front_of_a_study_without_groups_is_refused(cotrain, table):
    cotrain("affinity", *small(table, "--out", "study")[1:])
    code, _, err = cotrain("front", "study")
    assert code == 1
    assert "Choose them first: cotrain groups study" in sentence(err)
    assert not Path("study/pareto").exists()
