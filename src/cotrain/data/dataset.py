"""Inputs and the targets of many tasks, split into training, validation and test samples."""

import difflib
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cotrain.errors import DataError, UnknownNameError
from cotrain.task import TaskSet

__all__ = ["MultiTaskData", "Split", "choose_names"]


@dataclass(frozen=True, eq=False)
class Split:
    """Samples that are used together.

    Args:
        inputs: [N, ...] float32.
        targets: [N, T] float32 in task order; a class is its number, a regression target is in its own units,
            NaN = no label.

    Raises:
        DataError: If the shapes do not agree or a tensor is not float32.
    """

    inputs: Tensor
    targets: Tensor

    def __post_init__(self) -> None:
        if self.targets.dim() != 2 or self.inputs.dim() < 2 or len(self.inputs) != len(self.targets):
            raise DataError(
                "Inputs must have shape [N, ...] and targets [N, T], with the same N."
                f" Got inputs {list(self.inputs.shape)} and targets {list(self.targets.shape)}."
            )
        if self.inputs.dtype != torch.float32 or self.targets.dtype != torch.float32:
            raise DataError(
                f"Inputs and targets must be float32. Got {self.inputs.dtype} and {self.targets.dtype}."
                " Convert them with .float()."
            )

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def pair(self) -> tuple[Tensor, Tensor]:
        """Inputs and targets, as `fit`, `fit_fleet` and `evaluate` take them."""
        return self.inputs, self.targets


@dataclass(frozen=True, eq=False)
class MultiTaskData:
    """A data set with several prediction targets per sample.

    Args:
        name: Of the data set, for the report.
        tasks: What is predicted, in the order of the targets' columns.
        train: Samples to learn from.
        valid: Samples for early stopping and every choice.
        test: Samples for the figures that are reported.
        notes: Per task: what the target is, and its base rate (or mean and standard deviation) in training.
        input_names: One per input column, for messages; empty for images.
        groups: The group each task was planted in, where that is known; empty otherwise.

    Raises:
        DataError: If the splits do not have one target column per task.
    """

    name: str
    tasks: TaskSet
    train: Split
    valid: Split
    test: Split
    notes: Mapping[str, str] = field(default_factory=dict)
    input_names: tuple[str, ...] = ()
    groups: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for part, split in self.splits.items():
            if split.targets.shape[1] != len(self.tasks):
                raise DataError(
                    f"{self.name} has {len(self.tasks)} tasks but its {part} targets have"
                    f" {split.targets.shape[1]} columns. Give one column per task."
                )

    @property
    def splits(self) -> dict[str, Split]:
        """The three splits by the name that messages call them by."""
        return {"training": self.train, "validation": self.valid, "test": self.test}

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample's input."""
        return tuple(self.train.inputs.shape[1:])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over names, kinds and every value: equal exactly for equal data, on any machine."""
        digest = hashlib.sha256(repr((self.name, self.input_names, self.groups)).encode())
        for task in self.tasks:
            digest.update(repr((task.name, task.kind, task.n_outputs)).encode())
        for split in self.splits.values():
            for tensor in (split.inputs, split.targets):
                digest.update(repr(tuple(tensor.shape)).encode())
                digest.update(_canonical(tensor).data)
        return digest.hexdigest()

    def select(self, targets: Iterable[str]) -> "MultiTaskData":
        """The same samples with only the named tasks, in the order given; the inputs are not changed.

        Raises:
            DataError: If a name is not among the tasks, is given twice, or no name is given.
        """
        chosen = choose_names(targets, self.tasks.names, what=f"target of {self.name}")
        columns = [self.tasks.names.index(name) for name in chosen]
        train, valid, test = (
            Split(part.inputs, part.targets[:, columns]) for part in (self.train, self.valid, self.test)
        )
        return MultiTaskData(
            self.name,
            self.tasks.select(chosen),
            train,
            valid,
            test,
            notes={name: self.notes[name] for name in chosen if name in self.notes},
            input_names=self.input_names,
            groups=tuple(self.groups[column] for column in columns) if self.groups else (),
        )


def choose_names(chosen: Iterable[str], known: Iterable[str], *, what: str) -> list[str]:
    """The chosen names, checked: each must be known and given once.

    Args:
        chosen: What the user asked for.
        known: What there is.
        what: How the message calls one of them, for example "target of digits".

    Raises:
        UnknownNameError: If a name is unknown (near names are suggested), given twice, or none is given.
    """
    names, known = [chosen] if isinstance(chosen, str) else list(chosen), list(known)
    if not names:
        raise UnknownNameError(f"Name at least one {what}. There are: {', '.join(known)}.")
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise UnknownNameError(f"There is no {what} called {name!r}.{hint} There are: {', '.join(known)}.")
        if names.count(name) > 1:
            raise UnknownNameError(f"The {what} {name!r} is named {names.count(name)} times. Name it once.")
    return names


def _canonical(tensor: Tensor) -> NDArray[Any]:
    """The values as one block of little-endian floats, the same bytes on any machine."""
    return np.ascontiguousarray(tensor.numpy(), dtype="<f4")
