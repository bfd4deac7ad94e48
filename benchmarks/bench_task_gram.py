"""TaskGram with 1,000 and 10,000 tasks: memory and time of a step, beside a plain training step and a stored history.

The plain training step is that of an MLP 128-256-256 with a head per task, binary cross-entropy and fused Adam. The
stored history keeps every confidence (float32, float64 where they are centred) and calls numpy.corrcoef.
"""

import itertools
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from side_by_side import arguments, compare, finish
from torch import Tensor, nn

from cotrain import SharedTrunk, Task, TaskSet
from cotrain.affinity.confidence import Confidence
from cotrain.affinity.gram_sums import BlockTriangle
from cotrain.affinity.task_gram import TaskGram

BATCH, STEPS, EPOCHS = 256, 40, 2
MIB = 2**20


def main() -> None:
    """Measure memory first, then time the steps in turn."""
    chosen = arguments(__doc__)
    costs = [_cost(1_000), _cost(1_000, partial_labels=True), _cost(10_000)]
    found = []
    for n_tasks in (1_000, 10_000):
        found += compare(f"{n_tasks} tasks, a step", _steps(n_tasks), chosen.rounds)
    found += compare(f"1000 tasks, {STEPS * BATCH} samples, {EPOCHS} epochs", _epochs(1_000), chosen.rounds)
    finish(found, chosen)
    if chosen.json:
        record = json.loads(chosen.json.read_text(encoding="utf-8")) | {"costs": costs}
        chosen.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _cost(n_tasks: int, *, partial_labels: bool = False) -> dict[str, object]:
    """Growth of the resident memory and time of a step, of a recorder that ends an epoch and gives its result."""
    tasks, outputs, targets = _batch(n_tasks)
    Confidence(tasks)(outputs[:1], targets[:1])  # what PyTorch itself loads at the first call is not the recorder's
    before = _resident()
    recorder = TaskGram(tasks, partial_labels=partial_labels)
    index = torch.arange(BATCH)
    seconds, most = [], 0
    for _ in range(max(STEPS * 1_000 // n_tasks, 8)):
        started = time.perf_counter()
        recorder.record(index, outputs, targets)
        seconds.append(time.perf_counter() - started)
        most = max(most, _resident() - before)
    recorder.end_epoch()
    most = max(most, _resident() - before)
    started = time.perf_counter()
    result = recorder.result()
    result_seconds = time.perf_counter() - started
    with_result = _resident() - before
    step = float(np.median(seconds[2:]))
    cost = {
        "tasks": n_tasks,
        "partial_labels": partial_labels,
        "milliseconds per step": round(1e3 * step, 2),
        "GFlop/s": round(2 * _products(n_tasks, partial_labels) * BATCH / step / 1e9, 1),
        "MiB while recording": round(most / MIB),
        "MiB with the result": round(with_result / MIB),
        "seconds of the result": round(result_seconds, 3),
    }
    assert result.correlation.shape == (n_tasks, n_tasks)
    print(", ".join(f"{name}: {value}" for name, value in cost.items()), flush=True)
    return cost


def _products(n_tasks: int, partial_labels: bool) -> int:
    """Entries of the matrices that a step adds to: the recorder's blocks, and two whole squares for partial labels."""
    triangle = sum(block.numel() for _, block in BlockTriangle(n_tasks))
    return 2 * triangle + 2 * n_tasks**2 if partial_labels else triangle


def _resident() -> int:
    """Bytes of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _tasks(n_tasks: int) -> TaskSet:
    return TaskSet([Task(f"task-{number}", "binary") for number in range(n_tasks)])


def _batch(n_tasks: int, n_samples: int = BATCH) -> tuple[TaskSet, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(n_samples, n_tasks, generator=generator)
    targets = (torch.rand(n_samples, n_tasks, generator=generator) > 0.5).float()
    return _tasks(n_tasks), outputs, targets


def _steps(n_tasks: int) -> dict[str, Callable[[], object]]:
    tasks, outputs, targets = _batch(n_tasks)
    recorder, of_some = TaskGram(tasks), TaskGram(tasks, samples=torch.arange(0, BATCH, 12))
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(128, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU())
    model = SharedTrunk(trunk, tasks, 256)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    index, inputs = torch.arange(BATCH), torch.randn(BATCH, 128)

    def train() -> None:
        loss = F.binary_cross_entropy_with_logits(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return {
        "TaskGram.record": lambda: recorder.record(index, outputs, targets),
        "a plain training step": train,
        "that of every 12th sample": lambda: of_some.record(index, outputs, targets),
    }


def _epochs(n_tasks: int) -> dict[str, Callable[[], object]]:
    tasks, outputs, targets = _batch(n_tasks, BATCH * STEPS)
    batches = list(torch.arange(BATCH * STEPS).split(BATCH))

    def gram() -> None:
        recorder = TaskGram(tasks)
        for _ in range(EPOCHS):
            for index in batches:
                recorder.record(index, outputs[index], targets[index])
            recorder.end_epoch()
        recorder.result()

    def history() -> None:
        rate = Confidence(tasks)
        stored = torch.empty(EPOCHS, len(outputs), n_tasks)
        for epoch, index in itertools.product(range(EPOCHS), batches):
            stored[epoch, index] = rate(outputs[index], targets[index])[0]
        centred = stored.double()
        centred -= centred.mean(1, keepdim=True)
        np.corrcoef(centred.flatten(0, 1).T.numpy())

    return {"TaskGram": gram, "a stored history": history}


if __name__ == "__main__":
    main()
