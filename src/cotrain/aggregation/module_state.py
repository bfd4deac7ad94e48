"""All of a module's state, also where its `state_dict` leaves some out, and its rows for the tasks that are present."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

__all__ = ["Place", "absent_rows_left_out", "empty_places", "full_state", "load_full_state"]

Place = tuple[str, str]
"""A part of a module and the name of one of its values."""

STANDARD = frozenset(vars(nn.Module()))


@runtime_checkable
class _Resettable(Protocol):
    """A part of a module that can be set back to having no state."""

    def reset(self) -> None: ...


def full_state(module: nn.Module) -> dict[str, Any]:
    """Parameters, buffers and all plain attributes of a module and its parts, by part and name."""
    state: dict[str, dict[str, Any]] = {}
    for slot in _slots(module):
        encoded = _encoded(slot.value)
        if encoded is not _LEFT_OUT:
            state.setdefault(slot.part, {})[slot.name] = encoded
    return state


def load_full_state(module: nn.Module, state: Mapping[str, Any]) -> None:
    """Go on from `full_state` of a module that was made alike."""
    for slot in list(_slots(module)):
        if slot.name in state.get(slot.part, {}):
            slot.store[slot.name] = _decoded(state[slot.part][slot.name], slot.value)


def empty_places(module: nn.Module) -> frozenset[Place]:
    """Where a module has None while it has no state: the size of a state is kept in such a place, if anywhere."""
    fresh = deepcopy(module)
    for part in fresh.modules():
        if isinstance(part, _Resettable):
            part.reset()
    return frozenset((slot.part, slot.name) for slot in _slots(fresh) if slot.value is None)


@contextmanager
def absent_rows_left_out(
    module: nn.Module, present: Tensor, *, square: bool, sizes: Collection[Place]
) -> Iterator[None]:
    """Let a module work on the present tasks alone: its tensors with a row per task lose those of absent tasks.

    On leaving the rows are put in their places, and absent tasks have theirs as before. A task that is seen for the
    first time after others starts at 0 where it has a whole row, and at the mean of the others where it has one
    number: a weight, or a scale, of which 0 would be an extreme one.

    Args:
        module: Its tensors whose first dimension is T have a row per task; no parameter is changed inside.
        present: [T] booleans.
        square: Whether [T, T] tensors have a column per task too.
        sizes: Where T, or a tuple that begins with T, is the size of the state (see `empty_places`): a module that
            finds another one there would forget everything.
    """
    if bool(present.all()):
        yield
        return
    n_tasks, rows = len(present), present.cpu().nonzero().flatten()
    before = {(slot.part, slot.name): slot.value for slot in _slots(module)}
    for slot in list(_slots(module)):
        sized = (slot.part, slot.name) in sizes and _resized(slot.value, n_tasks, len(rows))
        slot.store[slot.name] = sized or _selected(slot.value, n_tasks, rows, square)
    after: dict[tuple[str, str], Any] = {}
    try:
        yield
        after = {(slot.part, slot.name): slot.value for slot in _slots(module)}
    finally:
        for slot in list(_slots(module)):
            key = slot.part, slot.name
            old = before[key]
            new = after.get(key, old)
            sized = key in sizes and _resized(new, len(rows), n_tasks)
            slot.store[slot.name] = old if new is old else sized or _put_back(new, old, n_tasks, rows, square)


class _Slot(NamedTuple):
    """One named value of a part of a module, and the dictionary that holds it."""

    part: str
    name: str
    value: Any
    store: dict[str, Any]


def _slots(module: nn.Module) -> Iterator[_Slot]:
    for part, inner in module.named_modules():
        plain = {name: value for name, value in vars(inner).items() if name not in STANDARD}
        for store, names in ((inner._parameters, None), (inner._buffers, None), (vars(inner), plain)):
            for name in list(store if names is None else names):
                yield _Slot(part, name, store[name], store)


_LEFT_OUT = object()


def _encoded(value: Any) -> Any:
    if isinstance(value, Tensor):
        return {"tensor": value.detach().clone()}
    if isinstance(value, torch.dtype | torch.device):
        return {type(value).__name__: str(value).removeprefix("torch.")}
    if isinstance(value, list | tuple):
        items = [_encoded(item) for item in value]
        return _LEFT_OUT if _LEFT_OUT in items else {type(value).__name__: items}
    if value is None or isinstance(value, bool | int | float | str):
        return {"value": value}
    return _LEFT_OUT


def _decoded(saved: Mapping[str, Any], present: Any) -> Any:
    kind, content = next(iter(saved.items()))
    if kind == "tensor":
        return nn.Parameter(content.clone()) if isinstance(present, nn.Parameter) else content.clone()
    if kind == "dtype":
        return getattr(torch, content)
    if kind == "device":
        return torch.device(content)
    if kind in ("list", "tuple"):
        items = [_decoded(item, None) for item in content]
        return items if kind == "list" else tuple(items)
    return content


def _selected(value: Any, n_tasks: int, rows: Tensor, square: bool) -> Any:
    if not isinstance(value, Tensor) or value.dim() == 0 or len(value) != n_tasks:
        return value
    rows = rows.to(value.device)
    some = value.detach()[rows]
    if square and value.shape == (n_tasks, n_tasks):
        some = some[:, rows]
    return nn.Parameter(some) if isinstance(value, nn.Parameter) else some


def _put_back(value: Any, old: Any, n_tasks: int, rows: Tensor, square: bool) -> Any:
    if isinstance(old, nn.Parameter):
        return old
    if not isinstance(value, Tensor) or value.dim() == 0 or len(value) != len(rows):
        return value
    rows = rows.to(value.device)
    is_square = square and value.shape == (len(rows), len(rows))
    shape = (n_tasks, n_tasks) if is_square else (n_tasks, *value.shape[1:])
    if isinstance(old, Tensor) and old.shape == shape:
        everywhere = old.detach().clone()
    else:
        everywhere = value.new_zeros(shape) if value.dim() > 1 else value.mean().expand(shape).clone()
    everywhere[(rows[:, None], rows) if is_square else rows] = value.detach()
    return everywhere


def _resized(size: Any, old: int, new: int) -> Any:
    """The size of a state after a change of the number of rows; None for what is no such size."""
    if isinstance(size, int) and size == old:
        return new
    return (new, *size[1:]) if isinstance(size, tuple) and size[:1] == (old,) else None
