"""What one measurement of transference costs in plain training steps, and against a plain loop over tasks.

The loop is what published scripts do: for every task a backward pass, a copy of the model moved by its gradient, and a
forward pass with all losses. A plain step is the training step itself: forward, one backward pass, Adam.
"""

import argparse
import copy
from collections.abc import Callable, Collection

import torch
from bench_fleet import _cnn
from side_by_side import Comparison, arguments, compare, finish
from torch import nn

from cotrain import Batch, SharedTrunk, Task, TaskSet
from cotrain.affinity import Transference

ESTIMATORS = ("sketch", "lookahead", "gram")
BATCH, LR = 256, 0.01
MOST_FOR_LOOP = 100


def main() -> None:
    """Time every network and number of tasks."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--networks", nargs="+", choices=list(TRUNKS), default=list(TRUNKS), help="default: all")
    parser.add_argument("--estimators", nargs="+", choices=ESTIMATORS, default=ESTIMATORS, help="default: all")
    chosen = arguments(__doc__, parser)
    found: list[Comparison] = []
    for name in chosen.networks:
        trunk, width = TRUNKS[name]
        for n_tasks in (10, 40, 100, 1000):
            found += _one(f"{name}, T = {n_tasks}", trunk, width, n_tasks, chosen.rounds, chosen.estimators)
        if "sketch" in chosen.estimators:
            found += _epoch(name, trunk, width, chosen.rounds)
    finish(found, chosen)


def _one(
    case: str, trunk: Callable[[], nn.Module], width: int, n_tasks: int, rounds: int, estimators: Collection[str]
) -> list[Comparison]:
    model, tasks, batch, step = _training(trunk, width, n_tasks)

    def observe(estimator: str) -> Callable[[], None]:
        transference = Transference(model, tasks, estimator=estimator, lr=LR, every=1)
        return lambda: transference.observe(batch)

    found: list[Comparison] = []
    if "sketch" in estimators:
        ways = {"sketch, 16 directions": observe("sketch"), "a plain training step": step}
        found = compare(case, ways, rounds)
        print(f"    a measurement costs {1 / found[0].ratio:.1f} plain steps, {1000 * found[0].seconds:.1f} ms")
    if n_tasks <= MOST_FOR_LOOP:

        def loop() -> None:
            _plain_loop(model, tasks, batch)

        for estimator in [name for name in ("lookahead", "gram") if name in estimators]:
            found += compare(case, {estimator: observe(estimator), "a loop over tasks": loop}, max(rounds // 2, 3))
    return found


def _epoch(name: str, trunk: Callable[[], nn.Module], width: int, rounds: int) -> list[Comparison]:
    model, tasks, batch, step = _training(trunk, width, 100)
    transference = Transference(model, tasks, estimator="sketch", lr=LR, every=10)

    def measured() -> None:
        for _ in range(20):
            transference.observe(batch)
            step()

    def plain() -> None:
        for _ in range(20):
            step()

    return compare(f"{name}, T = 100, every=10", {"training with sketches": measured, "training": plain}, rounds)


def _training(
    trunk: Callable[[], nn.Module], width: int, n_tasks: int
) -> tuple[nn.Module, TaskSet, Batch, Callable[[], None]]:
    torch.manual_seed(0)
    tasks = TaskSet(Task(f"t{n}", "binary") for n in range(n_tasks))
    model = SharedTrunk(trunk(), tasks, width)
    targets = (torch.rand(BATCH, n_tasks) > 0.5).float()
    batch = Batch(torch.arange(BATCH), torch.rand(BATCH, 1, 28, 28), targets)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        tasks.losses(model(batch.inputs), batch.targets).sum().backward()
        optimizer.step()

    return model, tasks, batch, step


def _plain_loop(model: nn.Module, tasks: TaskSet, batch: Batch) -> torch.Tensor:
    losses = tasks.losses(model(batch.inputs), batch.targets)
    shared = [value for name, value in model.named_parameters() if name.startswith("trunk")]
    rows = []
    for loss in losses:
        gradients = torch.autograd.grad(loss, shared, retain_graph=True)
        moved = copy.deepcopy(model)
        with torch.no_grad():
            own = [value for name, value in moved.named_parameters() if name.startswith("trunk")]
            for value, gradient in zip(own, gradients, strict=True):
                value -= LR * gradient
            rows.append(1 - tasks.losses(moved(batch.inputs), batch.targets) / losses)
    return torch.stack(rows)


TRUNKS = {
    "small CNN": (_cnn, 64),
    "MLP 784-128-64": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU()),
        64,
    ),
}

if __name__ == "__main__":
    main()
