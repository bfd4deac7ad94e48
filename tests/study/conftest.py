"""A finished study, made once, and copies of it to damage."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from small_study import run_silently, small_config, write_table

from cotrain.study import StudyConfig


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory) -> StudyConfig:
    return small_config(write_table(tmp_path_factory.mktemp("data") / "table.csv"))


@pytest.fixture(scope="session")
def finished(config: StudyConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished study; to be read only."""
    return run_silently(config, tmp_path_factory.mktemp("studies") / "finished")


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished study, to be changed."""
    return Path(shutil.copytree(finished, tmp_path / "copied"))


@pytest.fixture
def steps_run() -> Callable[[Path], list[str]]:
    """The steps that were run since the last start, as events.jsonl has them."""

    def read(folder: Path) -> list[str]:
        events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
        last = max(number for number, event in enumerate(events) if event["event"] == "run")
        return [event["step"] for event in events[last:] if event["event"] == "step-finished"]

    return read
