"""What recording data maps costs: beside a plain training, against a loop over tasks, and in memory with a history.

The plain loop is what a user would write: torch.optim.Adam as it comes, no checks. The share is the time that passes
in `record` and `end_epoch` within such a loop, over the time of the rest of it: the difference of two epochs' times is
smaller than the noise of most machines. The reference way holds [T, N] and loops over the tasks of every batch.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from bench_fleet import _cnn
from side_by_side import Comparison, arguments, compare, finish
from torch import Tensor, nn

from cotrain import SharedTrunk, Task
from cotrain.affinity import DataMap

BATCH = 128


def main() -> None:
    """Time the cases of the data maps' documentation."""
    chosen = arguments(__doc__)
    found: list[Comparison] = []
    for case in CASES:
        found += case(chosen.rounds)
    finish(found, chosen)


def beside_training(rounds: int) -> list[Comparison]:
    """A plain epoch, and the same with a recorder."""
    found = []
    for name, (trunk, width), n_tasks, steps in TRAININGS:
        n_samples = steps * BATCH
        tasks = _binary(n_tasks)
        data = torch.randn(n_samples, 1, 28, 28), (torch.rand(n_samples, n_tasks) > 0.5).float()
        recorder = DataMap(n_samples, tasks)
        model = SharedTrunk(trunk(), tasks, width)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        shares: list[float] = []

        def plain(model=model, optimizer=optimizer, data=data) -> None:
            _epoch(model, optimizer, data, None)

        def recorded(model=model, optimizer=optimizer, data=data, recorder=recorder, shares=shares) -> None:
            shares.append(_epoch(model, optimizer, data, recorder))

        found += compare(f"{name}, T = {n_tasks}", {"with DataMap": recorded, "a plain epoch": plain}, rounds)
        later = [100 * share for share in shares[1:]]
        print(
            f"    time in DataMap: {statistics.median(later):.1f} % of the rest of the epoch"
            f" ({min(later):.1f} to {max(later):.1f} %)",
            flush=True,
        )
    return found


def against_a_loop_over_tasks(rounds: int) -> list[Comparison]:
    """An epoch of batches through `record`, and through one update per task and batch."""
    found = []
    for n_tasks in (15, 100, 500):
        n_samples = 40 * BATCH
        targets = (torch.rand(n_samples, n_tasks) > 0.5).float()
        outputs = torch.randn(n_samples, n_tasks)
        recorder = DataMap(n_samples, _binary(n_tasks))
        reference = _LoopOverTasks(n_samples, n_tasks)

        def epoch(record: Callable[..., None], end: Callable[[], object], outputs=outputs, targets=targets) -> None:
            for index in torch.randperm(len(outputs)).split(BATCH):
                record(index, outputs[index], targets[index])
            end()

        def vectorised(epoch=epoch, recorder=recorder) -> None:
            epoch(recorder.record, recorder.end_epoch)

        def looped(epoch=epoch, reference=reference) -> None:
            epoch(reference.record, lambda: None)

        found += compare(f"record, T = {n_tasks}", {"DataMap": vectorised, "a loop over tasks": looped}, rounds)
    return found


def memory_of_the_history(rounds: int) -> list[Comparison]:  # noqa: ARG001 - memory is the same in every round
    """Resident memory of 20 epochs of 50,000 samples and 100 tasks on disk, with the result."""
    n_samples, n_tasks, epochs = 50_000, 100, 20
    targets = (torch.rand(n_samples, n_tasks, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    outputs = torch.randn(2 * BATCH, n_tasks)
    with tempfile.TemporaryDirectory() as folder:
        before = _resident()
        recorder = DataMap(n_samples, _binary(n_tasks), storage="disk", folder=Path(folder))
        most, started = before, time.perf_counter()
        for _ in range(epochs):
            for number, index in enumerate(torch.randperm(n_samples).split(BATCH)):
                recorder.record(index, outputs[number % BATCH :][: len(index)], targets[index])
            most = max(most, _resident())
            recorder.end_epoch()
        recording = time.perf_counter() - started
        maps = recorder.result()
        most = max(most, _resident())
        took = time.perf_counter() - started - recording
    assert maps.visits.eq(epochs).all()
    print(
        f"history on disk, {n_tasks} tasks x {n_samples} samples x {epochs} epochs: resident memory grows by"
        f" {(most - before) / 2**20:.0f} MiB; {recording:.1f} s of recording, result() {took:.1f} s",
        flush=True,
    )
    return []


class _LoopOverTasks:
    """What a straightforward script does: Welford's update, task by task."""

    def __init__(self, n_samples: int, n_tasks: int) -> None:
        self._visits, self._mean, self._squares, self._correct = (torch.zeros(n_tasks, n_samples) for _ in range(4))

    def record(self, index: Tensor, outputs: Tensor, targets: Tensor) -> None:
        for task in range(len(self._mean)):
            probability = torch.sigmoid(outputs[:, task])
            confidence = 1 - (targets[:, task] - probability).abs()
            n = self._visits[task][index] + 1
            mean = self._mean[task][index]
            delta = confidence - mean
            mean = mean + delta / n
            self._visits[task][index] = n
            self._mean[task][index] = mean
            self._squares[task][index] = self._squares[task][index] + delta * (confidence - mean)
            self._correct[task][index] = self._correct[task][index] + (confidence > 0.5)


def _epoch(model: nn.Module, optimizer: torch.optim.Optimizer, data, recorder: DataMap | None) -> float:
    """Train one epoch; the time spent in the recorder over that of the rest."""
    inputs, targets = data
    recording, started = 0.0, time.perf_counter()
    for index in torch.randperm(len(inputs)).split(BATCH):
        outputs, labels = model(inputs[index]), targets[index]
        loss = F.binary_cross_entropy_with_logits(outputs, labels, reduction="none").mean(0).sum()
        optimizer.zero_grad()
        loss.backward()
        if recorder is not None:
            before = time.perf_counter()
            recorder.record(index, outputs, labels)
            recording += time.perf_counter() - before
        optimizer.step()
    if recorder is not None:
        before = time.perf_counter()
        recorder.end_epoch()
        recording += time.perf_counter() - before
    return recording / (time.perf_counter() - started - recording)


def _binary(n_tasks: int) -> list[Task]:
    return [Task(f"task-{number}", "binary") for number in range(n_tasks)]


def _resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096


def _stg_mtl_cnn() -> nn.Sequential:
    """The network of STG-MTL (arXiv 2307.03374) up to its heads, for one channel of 28 x 28."""
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 5, padding=2), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU()),
        *(nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Dropout(0.2), nn.Flatten(), nn.Linear(3136, 128), nn.ReLU(), nn.Dropout(0.2)),
    )


SMALL, PUBLISHED = (_cnn, 64), (_stg_mtl_cnn, 128)
TRAININGS = [
    ("small CNN", SMALL, 15, 40),
    ("small CNN", SMALL, 1000, 40),
    ("STG-MTL's CNN", PUBLISHED, 15, 10),
    ("STG-MTL's CNN", PUBLISHED, 1000, 10),
]
CASES = [beside_training, against_a_loop_over_tasks, memory_of_the_history]

if __name__ == "__main__":
    main()
