import json
import math
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from cotrain.errors import StudyError
from cotrain.files import read_state, write_atomically, write_json, write_state, write_text


@contextmanager
def full_disk(after: int) -> Iterator[None]:
    """No file can grow beyond so many bytes: the write fails as on a full disk."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (after, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, ignored)


def test_a_file_is_made_with_its_folder_and_replaced(tmp_path):
    path = tmp_path / "a" / "b" / "note.txt"
    write_text(path, "one ä")
    assert path.read_text(encoding="utf-8") == "one ä"
    write_text(path, "two")
    assert path.read_text(encoding="utf-8") == "two"
    assert os.listdir(path.parent) == ["note.txt"]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    "write",
    [
        lambda path: write_text(path, "x" * 100_000),
        lambda path: write_json(path, ["x" * 100_000]),
        lambda path: write_state(path, {"x": torch.zeros(50_000)}),
    ],
)
def test_on_a_full_disk_the_old_file_survives(tmp_path, write):
    path = tmp_path / "file"
    write_text(path, "old")
    with full_disk(after=10_000), pytest.raises(OSError, match=r"File too large|could not be written"):
        write(path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_after_an_error_in_the_middle_the_old_file_survives(tmp_path, error):
    path = tmp_path / "file"
    write_text(path, "old")

    def half(part: Path) -> None:
        part.write_text("ne")
        raise error

    with pytest.raises(error):
        write_atomically(path, half)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "file"
    write_text(path, "old")

    def slowly(part: Path) -> None:
        part.write_text("new")
        assert path.read_text() == "old"

    write_atomically(path, slowly)
    assert path.read_text() == "new"


def test_after_a_kill_in_the_middle_the_old_file_survives(tmp_path):
    path = tmp_path / "file"
    write_text(path, "old")
    program = (
        "import os, signal, sys, pathlib\n"
        "from cotrain.files import write_atomically\n"
        "def half(part):\n"
        "    part.write_text('ne')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_atomically(pathlib.Path(sys.argv[1]), half)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    write_text(path, "new")
    assert path.read_text() == "new"


def test_json_is_strict(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": [1, None, "ä"]})
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": [1, None, "ä"]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": math.nan})
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": [1, None, "ä"]}


DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool)
TENSORS = st.builds(
    lambda shape, dtype: torch.arange(math.prod(shape)).reshape(shape).to(dtype),
    st.lists(st.integers(0, 3), max_size=3),
    st.sampled_from(DTYPES),
)
LEAVES = st.one_of(TENSORS, st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5))
KEYS = st.one_of(st.text(max_size=5), st.integers())
STATES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.lists(inner, max_size=3).map(tuple), st.dictionaries(KEYS, inner, max_size=3)
    ),
    max_leaves=12,
)


@given(state=st.dictionaries(KEYS, STATES, max_size=4))
def test_any_nested_state_comes_back(tmp_path_factory, state, request):
    path = tmp_path_factory.mktemp("state") / "state.safetensors"
    write_state(path, state)
    request.getfixturevalue("assert_same")(read_state(path), state)


def test_the_state_of_an_optimizer_with_tied_and_strided_tensors_comes_back(tmp_path, assert_same):
    weight = torch.randn(3, 4, requires_grad=True)
    optimizer = torch.optim.Adam([weight])
    weight.sum().backward()
    optimizer.step()
    state = {"optimizer": optimizer.state_dict(), "tied": [weight, weight], "strided": weight.t(), "row": weight[1]}
    write_state(tmp_path / "s", state)
    found = read_state(tmp_path / "s")
    assert_same(found["optimizer"], optimizer.state_dict())
    assert_same(found["tied"], [weight.detach(), weight.detach()])
    assert_same([found["strided"], found["row"]], [weight.detach().t(), weight.detach()[1]])


def test_what_cannot_be_saved_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(TypeError, match=r"Only tensors, numbers.*Got <class 'object'>"):
        write_state(tmp_path / "s", {"a": [object()]})
    with pytest.raises(TypeError, match=r"Only strings and integers can be saved as keys. Got \(1, 2\)"):
        write_state(tmp_path / "s", {"a": {(1, 2): 3}})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("keep", [0.0, 0.01, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_state_is_an_error_with_what_to_do(tmp_path, keep):
    path = tmp_path / "s"
    write_state(path, {"a": torch.zeros(1000), "b": "text"})
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(StudyError, match=r"is not a saved state, or is damaged.*Delete it and run again"):
        read_state(path)


@pytest.mark.parametrize("metadata", [None, {}, {"layout": "{"}, {"layout": "[1]"}, {"layout": '{"tensor": "7"}'}])
def test_a_foreign_file_is_an_error_with_what_to_do(tmp_path, metadata):
    path = tmp_path / "s"
    save_file({"a": torch.zeros(2)}, path, metadata=metadata)
    with pytest.raises(StudyError, match="is not a saved state"):
        read_state(path)
    path.write_text("just some text, and rather more of it than eight bytes")
    with pytest.raises(StudyError, match="is not a saved state"):
        read_state(path)
