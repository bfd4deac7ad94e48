"""How close every estimator of transference comes to the exact one, and at what cost, on Fashion-MNIST.

200 steps of training at batch 128. The truth is the exact lookahead averaged over all these steps; every estimator
watches the same training. Printed are the Pearson correlation of the entries off the diagonal with the truth, mean and
range over seeds, and the cost of a measurement in plain training steps, timed in the same run.
Use: python benchmarks/transference_accuracy.py [--seeds 5] [--tasks 15 100] [--json FILE]
"""

import argparse
import json
import statistics
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from bench_fleet import _cnn
from torch import Tensor

from cotrain import Batch, SharedTrunk, Task, TaskSet
from cotrain.affinity import Transference
from cotrain.data import load_fashion_mnist

STEPS, BATCH = 200, 128
SETTINGS = {
    "Adam 0.001, lookahead 0.01": (lambda p: torch.optim.Adam(p, 1e-3), 0.01),
    "SGD 0.05, lookahead 0.05": (lambda p: torch.optim.SGD(p, 0.05), 0.05),
}
ESTIMATORS = {
    "exact, every step": {"estimator": "lookahead"},
    "exact, every 5th": {"estimator": "lookahead", "every": 5},
    "exact, every 10th": {"estimator": "lookahead", "every": 10},
    "exact, every 20th": {"estimator": "lookahead", "every": 20},
    "gram": {"estimator": "gram"},
    "gram, every 10th also exact": {"estimator": "gram", "calibrate": 10},
    "sketch, 4 directions": {"estimator": "sketch", "directions": 4},
    "sketch, 8": {"estimator": "sketch", "directions": 8},
    "sketch, 16 (default)": {"estimator": "sketch", "directions": 16},
    "sketch, 16, every 10th also exact": {"estimator": "sketch", "directions": 16, "calibrate": 10},
    "sketch, 16, 10 sources every 10th also exact": {"estimator": "sketch", "calibrate": 10, "calibration_sources": 10},
    "sketch, 16, last module exact": {"estimator": "sketch", "last_module": "exact"},
    "sketch, 16 random signs of tasks": {"estimator": "sketch", "along": "tasks"},
    "sketch, 32": {"estimator": "sketch", "directions": 32},
    "sketch, 16, every 2nd": {"estimator": "sketch", "directions": 16, "every": 2},
}


def main() -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tasks", type=int, nargs="+", default=[15, 100])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, default=None)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    warnings.simplefilter("ignore")
    found = []
    for n_tasks in chosen.tasks:
        for setting in SETTINGS:
            if n_tasks > 15 and not setting.startswith("Adam"):
                continue
            rows = [_compared(n_tasks, setting, seed) for seed in range(chosen.seeds)]
            print(f"\n{n_tasks} tasks, {setting}\n")
            print("| estimator | plain steps per measurement | per training step | Pearson with exact (range) |")
            print("|---|---|---|---|")
            for name, options in list(ESTIMATORS.items())[1:]:
                costs = [row[name]["cost"] for row in rows]
                pearson = [row[name]["pearson"] for row in rows]
                cost, every = statistics.median(costs), options.get("every", 1)
                spread = f"{np.mean(pearson):.2f} ({min(pearson):.2f} to {max(pearson):.2f})"
                print(f"| {name} | {cost:.1f} | {cost / every:.1f} | {spread} |", flush=True)
                found.append(
                    {"tasks": n_tasks, "setting": setting, "estimator": name, "cost": cost, "pearson": pearson}
                )
            if chosen.json:
                chosen.json.write_text(json.dumps(found, indent=1) + "\n")


def _compared(n_tasks: int, setting: str, seed: int) -> dict[str, dict[str, float]]:
    inputs, tasks, targets = _data(n_tasks, seed)
    torch.manual_seed(seed)
    model = SharedTrunk(_cnn(), tasks, 64)
    make, lr = SETTINGS[setting]
    optimizer = make(model.parameters())
    watching = {
        name: Transference(model, tasks, lr=lr, seed=seed, **{"every": 1, **o}) for name, o in ESTIMATORS.items()
    }
    times: dict[str, list[float]] = {name: [] for name in ("plain", *watching)}
    generator = torch.Generator().manual_seed(seed)
    for step in range(STEPS):
        index = torch.randint(len(inputs), (BATCH,), generator=generator)
        batch = Batch(index, inputs[index], targets[index])
        for name, transference in watching.items():
            started = time.perf_counter()
            transference.observe(batch)
            if step % ESTIMATORS[name].get("every", 1) == 0:
                times[name].append(time.perf_counter() - started)
        started = time.perf_counter()
        optimizer.zero_grad()
        tasks.losses(model(batch.inputs), batch.targets).sum().backward()
        optimizer.step()
        times["plain"].append(time.perf_counter() - started)
    matrices = {name: transference.result().matrix for name, transference in watching.items()}
    off = ~torch.eye(n_tasks, dtype=torch.bool)
    truth = matrices["exact, every step"][off]
    return {
        name: {
            "cost": statistics.mean(times[name]) / statistics.mean(times["plain"]),
            "pearson": float(torch.corrcoef(torch.stack([matrix[off], truth]))[0, 1]),
        }
        for name, matrix in matrices.items()
    }


def _data(n_tasks: int, seed: int) -> tuple[Tensor, TaskSet, Tensor]:
    """The 15 tasks of the library, or so many random sets of 1 to 5 classes."""
    data = load_fashion_mnist()
    inputs, targets = data.train.pair
    if n_tasks == 15:
        return inputs, data.tasks, targets
    classes = targets[:, :10].argmax(1)
    generator = torch.Generator().manual_seed(1000 + seed)
    members = torch.zeros(n_tasks, 10)
    for row in members:
        size = int(torch.randint(1, 6, (1,), generator=generator))
        row[torch.randperm(10, generator=generator)[:size]] = 1
    return inputs, TaskSet(Task(f"set_{n}", "binary") for n in range(n_tasks)), members.T[classes]


if __name__ == "__main__":
    main()
