"""Does it help? Every way to combine gradients against equal weights, at equal epochs and at equal time.

Every method trains the same network from the same weights on the same batches, with the same optimizer (Adam);
methods have their default options; nothing is tuned. A seed draws the training rows, the
weights and the batches. The epoch is chosen by the mean accuracy on validation samples, for every method alike, among
all epochs (equal epochs), or among those within the time of the whole training with plain steps (equal time). That
time is counted in plain steps: a method's cost in them is measured beside them, and its training is cut accordingly.
"single-tasks" is a network of its own for every task.

Results are kept in a folder, one file per data set, method and seed, so that a run that was stopped goes on.

Use: python benchmarks/aggregation_quality.py [--minutes 5]        train what is missing
     python benchmarks/aggregation_quality.py --table              print the tables
"""

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from conflicting_tasks import DATA, Network, Problem
from quality_tables import SINGLE_TASKS, print_tables
from torch import Tensor

from cotrain import Batch, TaskSet
from cotrain.aggregation import Aggregation, TransferenceAggregation, aggregation_names, named
from cotrain.data import MultiTaskData, Split
from cotrain.evaluation import packed_outputs
from cotrain.optimizers import adam

VALID_ROWS, TEST_ROWS = 2000, 5000
UNGUARDED = {"transference-unguarded": "fixed", "transference-unguarded-stepped-heads": "stepped"}
"""IT-MTL that leaves the joint step for any gain, by the heads of its score. Trained only if `--methods` names them."""

COST_STEPS = 20
GRADIENTS_EVERY = 10
"""Steps from one look at the tasks' gradients to the next, in the training with equal weights."""


def main() -> None:
    """Train what is missing, seed by seed, or print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("cotrain-aggregation-quality"))
    parser.add_argument("--data", nargs="+", default=list(DATA), choices=list(DATA))
    parser.add_argument("--methods", nargs="+", default=[*aggregation_names(), SINGLE_TASKS])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=None, help="begin no training after so many minutes")
    parser.add_argument("--table", action="store_true", help="print the tables instead of training")
    chosen = parser.parse_args()
    if chosen.table:
        there = [name for name in chosen.data if (chosen.folder / name).exists()]
        print_tables(chosen.folder, {name: DATA[name].title for name in there})
        return
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # skipped steps are counted instead
    stop = time.monotonic() + 60 * chosen.minutes if chosen.minutes else float("inf")
    for seed in range(chosen.seeds):
        for data_name in chosen.data:
            missing = [name for name in chosen.methods if not _path(chosen.folder, data_name, name, seed).exists()]
            if missing and time.monotonic() < stop:
                _train_all(chosen.folder, data_name, missing, seed, stop)


def _train_all(folder: Path, data_name: str, methods: Sequence[str], seed: int, stop: float) -> None:
    problem = DATA[data_name]
    data = _drawn(problem, _loaded(data_name), seed)
    for name in methods:
        if time.monotonic() > stop:
            return
        started = time.perf_counter()
        cost_path = folder / data_name / f"cost-{name}.json"
        if not cost_path.exists():
            _write(cost_path, {"cost": _cost(problem, data, name)})
        cost = float(json.loads(cost_path.read_text(encoding="utf-8"))["cost"])
        result = _train(problem, data, name, seed, cost)
        _write(_path(folder, data_name, name, seed), result)
        print(
            f"{data_name} {name} seed {seed}: {statistics.mean(result['epochs']['accuracy']):.4f}, cost {cost:.2f},"
            f" {time.perf_counter() - started:.1f} s",
            flush=True,
        )


def _train(problem: Problem, data: MultiTaskData, name: str, seed: int, cost: float) -> dict[str, Any]:
    network, aggregation, step = _training(problem, data, name, seed)
    best: tuple[float, int, dict[str, Tensor]] = (-1.0, 0, {})
    results: dict[str, Any] = {}
    conflicts = []
    order = _batches(data, problem.batch, seed)
    per_epoch = _steps_per_epoch(data, problem.batch)
    n_steps = problem.epochs * per_epoch
    in_time = max(1, int(n_steps / max(cost, 1.0)))
    for number in range(1, n_steps + 1):
        batch = next(order)
        if name == "sum" and number % GRADIENTS_EVERY == 0:
            conflicts.append(_conflict(network, data.tasks, batch))
        step(batch)
        if number % per_epoch == 0 or number == in_time:
            valid = statistics.mean(_accuracies(network, data.tasks, data.valid))
            if valid > best[0]:
                weights = {key: value.clone() for key, value in network.state_dict().items()}
                best = valid, number, weights
        for budget, last in (("time", in_time), ("epochs", n_steps)):
            if number == last:
                results[budget] = _chosen(network, data, best)
    results |= {"cost": cost, "steps": n_steps, "skipped": getattr(aggregation, "skipped_steps", 0)}
    if conflicts:
        results["conflict"] = statistics.mean(conflicts)
    return results


def _chosen(network: Network, data: MultiTaskData, best: tuple[float, int, dict[str, Tensor]]) -> dict[str, Any]:
    """Test accuracies of the weights that were best in validation; the network goes on from its own."""
    valid, number, weights = best
    now = {key: value.clone() for key, value in network.state_dict().items()}
    network.load_state_dict(weights)
    accuracy = _accuracies(network, data.tasks, data.test)
    network.load_state_dict(now)
    return {"step": number, "valid": valid, "accuracy": accuracy}


def _training(
    problem: Problem, data: MultiTaskData, name: str, seed: int
) -> tuple[Network, Aggregation | None, Callable[[Batch], None]]:
    """A network, what combines the gradients (None: the plain sum, without any help), and a step."""
    torch.manual_seed(seed)
    network = Network(problem, data.tasks, apart=name == SINGLE_TASKS)
    aggregation = None if name in ("", SINGLE_TASKS) else _made(name)
    optimizer = adam(problem.rate)(network.parameters())
    if isinstance(aggregation, TransferenceAggregation):
        aggregation.follow(optimizer)

    def step(batch: Batch) -> None:
        optimizer.zero_grad()
        if aggregation is None:
            data.tasks.losses(network(batch.inputs), batch.targets).sum().backward()
        else:
            aggregation.backward(network, data.tasks, batch)
        optimizer.step()

    return network, aggregation, step


def _made(name: str) -> Aggregation:
    if name in UNGUARDED:
        return named("transference", hysteresis=0.0, heads=UNGUARDED[name])
    return named(name, features="trunk") if name == "mgda-ub" else named(name)


def _cost(problem: Problem, data: MultiTaskData, name: str) -> float:
    """In plain steps: two trainings, a step of one and a step of the other, medians of their times."""
    *_, plain = _training(problem, data, "", 0)
    *_, combined = _training(problem, data, name, 0)
    order = _batches(data, problem.batch, 0)
    times: dict[Callable[[Batch], None], list[float]] = {plain: [], combined: []}
    for _ in range(COST_STEPS):
        batch = next(order)
        for step, seen in times.items():
            started = time.perf_counter()
            step(batch)
            seen.append(time.perf_counter() - started)
    return statistics.median(times[combined][3:]) / statistics.median(times[plain][3:])


def _conflict(network: Network, tasks: TaskSet, batch: Batch) -> float:
    """The share of pairs of tasks whose gradients on the trunk have a negative product."""
    losses = tasks.losses(network(batch.inputs), batch.targets)
    shared = list(network.trunk.parameters())
    rows = torch.stack(
        [
            torch.cat([part.flatten() for part in torch.autograd.grad(loss, shared, retain_graph=True)])
            for loss in losses
        ]
    )
    gramian = rows @ rows.T
    first, second = torch.triu_indices(len(tasks), len(tasks), 1)
    return float((gramian[first, second] < 0).float().mean())


def _accuracies(network: Network, tasks: TaskSet, split: Split) -> list[float]:
    outputs = packed_outputs(network, tasks, split.pair)
    found = []
    for task, target in zip(tasks, split.targets.T, strict=True):
        own = outputs[:, tasks.slices[task.name]]
        guess = own.argmax(1) if task.kind == "multiclass" else own.squeeze(1) > 0
        found.append(float((guess == target).double().mean()))
    return found


@cache
def _loaded(data_name: str) -> MultiTaskData:
    return DATA[data_name].load()


def _drawn(problem: Problem, data: MultiTaskData, seed: int) -> MultiTaskData:
    """The seed's training rows, and the same validation and test rows for all seeds."""
    splits = [
        Split(part.inputs[rows], part.targets[rows])
        for part, size, stream in (
            (data.train, problem.rows, seed + 1), (data.valid, VALID_ROWS, 0), (data.test, TEST_ROWS, 0)
        )
        for rows in [np.random.default_rng(stream).permutation(len(part))[:size]]
    ]  # fmt: skip
    return MultiTaskData(data.name, data.tasks, *splits)


def _batches(data: MultiTaskData, size: int, seed: int) -> Iterator[Batch]:
    """Epoch after epoch in a new order, the last incomplete batch left out."""
    random = np.random.default_rng((seed, 1))
    while True:
        order = torch.from_numpy(random.permutation(len(data.train)))
        for rows in order.split(size)[: _steps_per_epoch(data, size)]:
            yield Batch(rows, data.train.inputs[rows], data.train.targets[rows])


def _steps_per_epoch(data: MultiTaskData, size: int) -> int:
    return len(data.train) // size


def _path(folder: Path, data_name: str, method: str, seed: int) -> Path:
    return folder / data_name / f"{method}-{seed}.json"


def _write(path: Path, values: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
