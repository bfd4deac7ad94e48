import errno
import json
from dataclasses import replace
from pathlib import Path

import pytest

from cotrain.errors import StudyError
from cotrain.study import StudyConfig, StudyFolder

CONFIG = StudyConfig("digits")


@pytest.fixture
def folder(tmp_path):
    return StudyFolder.open(tmp_path / "deep" / "study", CONFIG, resume=False)


def test_a_new_folder_holds_the_configuration_first(folder):
    assert [file.name for file in folder.path.iterdir()] == ["study.yaml"]
    assert StudyFolder.existing(folder.path)[1] == CONFIG


def test_a_study_is_gone_on_with_only_if_asked(folder):
    with pytest.raises(StudyError, match=r"holds this study already. Add --resume to go on"):
        StudyFolder.open(folder.path, CONFIG, resume=False)
    assert StudyFolder.open(folder.path, CONFIG, resume=True).path == folder.path


@pytest.mark.parametrize("resume", [True, False])
def test_another_configuration_is_refused_with_what_differs(folder, resume):
    other = replace(CONFIG, budget=5, targets=("a", "b"))
    with pytest.raises(StudyError) as caught:
        StudyFolder.open(folder.path, other, resume=resume)
    assert "another configuration (targets: None there, ['a', 'b'] now; budget: 3 there, 5 now)" in str(caught.value)
    assert StudyFolder.existing(folder.path)[1] == CONFIG


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StudyError, match=r"is a file\. Give a folder"):
        StudyFolder.open(tmp_path / "file", CONFIG, resume=False)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_without_a_study_is_named(tmp_path):
    with pytest.raises(StudyError, match=r"holds no study \(no study.yaml\)"):
        StudyFolder.existing(tmp_path)


def test_what_a_kill_left_half_written_is_removed(folder):
    for part in (folder.path / ".metrics.json.abc.part", folder.path / "models" / ".network.safetensors.xyz.part"):
        part.parent.mkdir(exist_ok=True)
        part.write_text("half")
    (folder.path / "own.part").write_text("mine")
    StudyFolder.open(folder.path, CONFIG, resume=True)
    assert [file.name for file in folder.path.rglob("*.part")] == ["own.part"]


class Step:
    """Writes its outputs and counts how often."""

    def __init__(self, folder, *, outputs=("one", "two")):
        self.folder, self.outputs, self.runs = folder, outputs, 0

    def __call__(self, depends="same"):
        return self.folder.step("work", depends, self.outputs, self._write)

    def _write(self):
        self.runs += 1
        for name in self.outputs:
            (self.folder.path / name).write_text("content")


def test_a_step_is_run_once(folder):
    step = Step(folder)
    assert [step(), step(), step()] == [True, False, False]
    assert step.runs == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: (path / "one").unlink(),
        lambda path: (path / "two").write_text("other content"),
        lambda path: (path / ".steps" / "work.json").unlink(),
        lambda path: (path / ".steps" / "work.json").write_text("{"),
        lambda path: (path / ".steps" / "work.json").write_bytes(b"\xff"),
        lambda path: (path / ".steps" / "work.json").write_text("[]"),
    ],
)
def test_a_step_whose_files_are_gone_or_changed_is_run_again(folder, damage):
    step = Step(folder)
    step()
    damage(folder.path)
    assert [step(), step()] == [True, False]
    assert (folder.path / "two").read_text() == "content"


def test_a_step_is_run_again_when_what_it_follows_from_changes(folder):
    step = Step(folder)
    step()
    assert [step("other"), step("other"), step("same")] == [True, False, True]


def test_a_step_that_fails_is_not_done_and_keeps_its_checkpoint(folder):
    checkpoint = folder.checkpoint("work")

    def fail():
        checkpoint.mkdir(parents=True)
        (checkpoint / "part").write_text("half")
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        folder.step("work", "same", ["one", "two"], fail)
    assert (checkpoint / "part").exists()
    assert Step(folder)() is True
    assert not checkpoint.exists()


def test_a_checkpoint_may_be_a_file(folder):
    folder.checkpoint("work").parent.mkdir()
    folder.checkpoint("work").write_text("half")
    Step(folder)()
    assert not folder.checkpoint("work").exists()


def test_the_log_tells_what_was_run(folder):
    Step(folder)()
    events = [json.loads(line) for line in (folder.path / "events.jsonl").read_text().splitlines()]
    assert [(event["event"], event["step"]) for event in events] == [
        ("step-started", "work"),
        ("step-finished", "work"),
    ]
    assert events[1]["seconds"] >= 0


def test_a_full_disk_leaves_no_part_of_a_line(folder, monkeypatch):
    folder.log("first")
    before = (folder.path / "events.jsonl").read_text()
    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(OSError, match="No space left"):
        folder.log("second")
    assert (folder.path / "events.jsonl").read_text() == before


def full_disk(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("content", [None, b"{", b"", b"\xff\xfe"])
def test_a_damaged_file_is_named_with_what_to_do(folder, content):
    if content is not None:
        (folder.path / "some.json").write_bytes(content)
    with pytest.raises(StudyError, match=r"some.json is missing or damaged .* Run the study again with --resume"):
        folder.read_json("some.json")
