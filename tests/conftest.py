"""What all tests share: one thread, repeatable examples, small tasks with data."""

from collections.abc import Callable, Mapping, Sequence

import hypothesis
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cotrain import Task, TaskSet
from cotrain.cli import main

torch.set_num_threads(1)
hypothesis.settings.register_profile("cotrain", deadline=None, derandomize=True, max_examples=30)
hypothesis.settings.load_profile("cotrain")

Pair = tuple[Tensor, Tensor]


class Rows(Dataset[tuple[Tensor, Tensor]]):
    """A plain map-style dataset, whose samples are collated one by one."""

    def __init__(self, inputs: Tensor, targets: Tensor | Mapping[str, Tensor]) -> None:
        self.inputs, self.targets = inputs, targets

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, number: int):
        if isinstance(self.targets, Mapping):
            return self.inputs[number], {name: target[number] for name, target in self.targets.items()}
        return self.inputs[number], self.targets[number]


@pytest.fixture
def as_dataset() -> Callable[..., Rows]:
    return Rows


@pytest.fixture
def mixed_tasks() -> TaskSet:
    """Three kinds; the regression target is in units of its own."""
    return TaskSet([Task("yes", "binary"), Task("which", "multiclass", 3), Task("much", "regression")])


@pytest.fixture
def mixed_data() -> Callable[[int, int], Pair]:
    """(n, seed) -> inputs [n, 4] and targets [n, 3] of `mixed_tasks`; every tenth label or so is missing."""

    def make(n: int, seed: int) -> Pair:
        generator = torch.Generator().manual_seed(seed)
        inputs = torch.randn(n, 4, generator=generator)
        noise = torch.randn(n, 3, generator=generator)
        yes = (inputs[:, 0] + 0.5 * noise[:, 0] > 0).float()
        which = inputs[:, :3].argmax(1).float()
        much = 100 + 20 * (inputs @ torch.tensor([1.0, -1.0, 0.5, 0.0]) + 0.3 * noise[:, 2])
        targets = torch.stack([yes, which, much], dim=1)
        return inputs, targets.masked_fill(torch.rand(n, 3, generator=generator) < 0.1, torch.nan)

    return make


@pytest.fixture
def assert_same() -> Callable[[object, object], None]:
    """Bit for bit equality of nested dicts, lists and tuples of tensors and plain values."""

    def check(first: object, second: object) -> None:
        if isinstance(first, Tensor):
            assert isinstance(second, Tensor)
            assert first.dtype == second.dtype
            assert first.shape == second.shape
            assert torch.equal(torch.isnan(first), torch.isnan(second))
            assert torch.equal(first.nan_to_num(), second.nan_to_num())
        elif isinstance(first, Mapping):
            assert isinstance(second, Mapping)
            assert list(first) == list(second)
            for key in first:
                check(first[key], second[key])
        elif isinstance(first, Sequence) and not isinstance(first, str):
            assert type(first) is type(second)
            assert len(first) == len(second)
            for one, other in zip(first, second, strict=True):
                check(one, other)
        else:
            assert type(first) is type(second)
            assert first == second or (first != first and second != second)

    return check


@pytest.fixture
def cotrain(capsys, monkeypatch, tmp_path):
    """Run a command in an empty folder: (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "90")  # narrower than most sentences

    def run(*words):
        try:
            code = main([str(word) for word in words])
        except SystemExit as stop:  # how the parser ends
            code = stop.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
