"""A study's folder: its whole state, written file by file, so that a killed study goes on where it was."""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cotrain.errors import StudyError
from cotrain.files import write_json, write_text
from cotrain.study.config import StudyConfig

__all__ = ["StudyFolder"]


class StudyFolder:
    """The folder of one study.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def open(cls, path: Path, config: StudyConfig, *, resume: bool) -> "StudyFolder":
        """Start a study in a folder, or go on with the one that is there.

        Args:
            path: The folder; made if need be.
            config: What the study is asked to do.
            resume: Whether a study that is there may be gone on with.

        Raises:
            StudyError: If the folder holds a study and `resume` is False, or one with another configuration.
        """
        folder = cls(path)
        if path.exists() and not path.is_dir():
            raise StudyError(f"{path} is a file. Give a folder for the study.")
        if folder.config_file.exists():
            before, now = StudyConfig.from_yaml(folder.config_file).as_dict(), config.as_dict()
            other = [f"{name}: {before[name]!r} there, {now[name]!r} now" for name in now if before[name] != now[name]]
            if other:
                raise StudyError(
                    f"{path} belongs to a study with another configuration ({'; '.join(other)})."
                    " Give another folder, or the same options."
                )
            if not resume:
                raise StudyError(f"{path} holds this study already. Add --resume to go on, or give another folder.")
            for part in path.rglob(".*.part"):  # what a kill left of a file that was being written
                part.unlink()
        else:
            path.mkdir(parents=True, exist_ok=True)
            write_text(folder.config_file, config.to_yaml())
        return folder

    @classmethod
    def existing(cls, path: Path) -> tuple["StudyFolder", StudyConfig]:
        """The study that is in a folder, and its configuration.

        Raises:
            StudyError: If there is none.
        """
        folder = cls(path)
        if not folder.config_file.exists():
            raise StudyError(f"{path} holds no study (no study.yaml). Start one with: cotrain run DATA --out {path}")
        return folder, StudyConfig.from_yaml(folder.config_file)

    @property
    def config_file(self) -> Path:
        """study.yaml, written first."""
        return self.path / "study.yaml"

    def checkpoint(self, step: str) -> Path:
        """Where a step keeps what it needs to go on; gone when the step is done."""
        return self.path / ".steps" / f"{step}.state"

    def step(self, name: str, depends: object, outputs: Iterable[str], run: Callable[[], None]) -> bool:
        """Run one step, unless its outputs are there and were made from the same.

        Args:
            name: Of the step.
            depends: All that the outputs follow from, as JSON values.
            outputs: The files that the step writes, relative to the folder.
            run: Writes them.

        Returns:
            Whether the step was run.
        """
        record_file = self.path / ".steps" / f"{name}.json"
        identity = hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()
        outputs = list(outputs)
        if _read_record(record_file) == {"depends": identity, "outputs": self.digests(outputs)}:
            return False
        started = time.monotonic()
        self.log("step-started", step=name)
        run()
        write_json(record_file, {"depends": identity, "outputs": self.digests(outputs)})
        _remove(self.checkpoint(name))
        self.log("step-finished", step=name, seconds=round(time.monotonic() - started, 3))
        return True

    def digests(self, names: Iterable[str]) -> dict[str, str | None]:
        """SHA-256 of files of the folder by name; None for a file that is not there."""
        found: dict[str, str | None] = {}
        for name in names:
            file = self.path / name
            found[name] = hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else None
        return found

    def log(self, event: str, **details: object) -> None:
        """Add a line to events.jsonl, whole or not at all: half a line would spoil the log for its readers."""
        entry = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **details}
        file = self.path / "events.jsonl"
        before = file.read_text(encoding="utf-8") if file.exists() else ""
        write_text(file, before + json.dumps(entry) + "\n")

    def read_json(self, name: str) -> Any:
        """A JSON file of the folder.

        Raises:
            StudyError: If it is missing or damaged.
        """
        file = self.path / name
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise StudyError(
                f"{file} is missing or damaged ({error}). Run the study again with --resume, which makes it anew."
            ) from error


def _read_record(file: Path) -> Mapping[str, Any] | None:
    try:
        record: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record


def _remove(path: Path) -> None:
    if path.is_dir():
        for child in path.iterdir():
            _remove(child)
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
