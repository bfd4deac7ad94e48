"""What an aggregation was made with, in JSON values: by this a checkpoint is told from one of another aggregation."""

import re
from collections.abc import Collection, Mapping
from dataclasses import fields, is_dataclass
from inspect import signature
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

__all__ = ["described"]

ADDRESS = re.compile(r" at 0x[0-9a-f]+")
"""What Python prints of a function that changes from run to run."""


@runtime_checkable
class _HasOptions(Protocol):
    """An aggregation or weighting that tells what it was made with."""

    def options(self) -> dict[str, Any]: ...


def described(value: object) -> Any:
    """An aggregation, or one of its options, as nested lists and dicts of JSON values.

    Args:
        value: A number, a text, None, a tensor, a collection of such, a function (its name), or an object: its type
            with its `options()`, the fields of a dataclass, or what a TorchJD module was constructed with. Of any
            other object the type alone.

    Returns:
        Equal for equal options, and the same before and after training.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): described(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(described(item) for item in value)
    if isinstance(value, Collection):
        return [described(item) for item in value]
    return _made_with(value)


def _made_with(value: object) -> Any:
    kind = type(value)
    if isinstance(value, nn.Module):
        printed = ADDRESS.sub("", repr(value))
        return [printed, {name: described(getattr(value, name, None)) for name in signature(kind).parameters}]
    if isinstance(value, _HasOptions):
        return [kind.__name__, described(value.options())]
    if is_dataclass(value):
        return [kind.__name__, {field.name: described(getattr(value, field.name)) for field in fields(value)}]
    return getattr(value, "__qualname__", kind.__name__)
