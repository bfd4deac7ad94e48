"""Files that are written whole or not at all, and nested state without pickle."""

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cotrain.errors import StudyError

__all__ = ["read_state", "write_atomically", "write_json", "write_state", "write_text"]


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in its place in one step.

    A reader sees the old file or the new one, never a part; a crash, a kill or a full disk leaves the old
    file as it was.

    Args:
        path: The file to make or replace; its folder is made if need be.
        write: Called with the path of the temporary file.

    Raises:
        OSError: If the file cannot be written, for example on a full disk. `path` is then unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    part = Path(name)
    try:
        write(part)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.chmod(0o644)
        part.replace(path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, SafetensorError):  # what safetensors makes of a full disk
            raise OSError(f"{path} could not be written: {error}.") from error
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file (UTF-8), whole or not at all."""
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON, whole or not at all; NaN and infinity are refused (not JSON)."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Save nested dictionaries and lists of tensors and JSON values as one safetensors file.

    Args:
        path: The file to make or replace.
        state: Nested dict, list or tuple with tensors, numbers, strings, booleans and None as leaves, such as a
            `state_dict` of a module or an optimizer. Keys may be strings or integers.

    Raises:
        TypeError: If a leaf or a key is none of these.
    """
    tensors: dict[str, Tensor] = {}
    layout = _flatten(state, tensors)
    write_atomically(path, lambda part: save_file(tensors, part, metadata={"layout": json.dumps(layout)}))


def read_state(path: Path) -> dict[str, Any]:
    """Read what `write_state` saved; nothing in the file is executed.

    Raises:
        StudyError: If the file is not one of ours or is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            layout = json.loads(file.metadata()["layout"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        state: dict[str, Any] = _unflatten(layout, tensors)
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise StudyError(f"{path} is not a saved state, or is damaged ({error}). Delete it and run again.") from error
    return state


def _flatten(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Replace every tensor by its number in `tensors`, and every dict by its items (keys keep their type)."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        # A copy: safetensors refuses tensors that share memory, which stacked or tied parameters do.
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        return {"tensor": name}
    if isinstance(value, Mapping):
        wrong = [key for key in value if not isinstance(key, str | int)]
        if wrong:
            raise TypeError(f"Only strings and integers can be saved as keys. Got {wrong[0]!r}.")
        return {"dict": [[key, _flatten(item, tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return {"tuple" if isinstance(value, tuple) else "list": [_flatten(item, tensors) for item in value]}
    if value is None or isinstance(value, bool | int | float | str):
        return {"value": value}
    raise TypeError(f"Only tensors, numbers, strings, None and their dicts and lists can be saved. Got {type(value)}.")


def _unflatten(layout: Any, tensors: Mapping[str, Tensor]) -> Any:
    kind, content = next(iter(layout.items()))
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _unflatten(item, tensors) for key, item in content}
    if kind in ("list", "tuple"):
        items = [_unflatten(item, tensors) for item in content]
        return tuple(items) if kind == "tuple" else items
    return content
