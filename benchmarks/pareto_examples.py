"""Small problems that a Pareto manifold must solve: BatchNorm, three tasks, fifteen tasks in four groups; over seeds.

batchnorm: two digits side by side on one canvas, overlapping; a network with BatchNorm. Accuracy of each digit at its
own corner and at the middle, with statistics learnt at every preference, and with one shared set (a running mean over
random preferences, as published code keeps it).
three: three overlaid Fashion-MNIST images. fifteen: the digits' fifteen tasks in four groups by label correlation.
For these two: the hypervolume of accuracies (of the groups' means), that of one network with equal weights, and in how
many names' corners the name's own loss is the lowest of all corners.
Use: python benchmarks/pareto_examples.py [--cases batchnorm three fifteen] [--seeds 0 1 2 3 4] [--json FILE]
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from pareto_methods import Problem, run_epochs
from scipy import stats
from sklearn.datasets import load_digits as sklearn_digits
from torch import Tensor, nn

from cotrain import SharedTrunk, Task, TaskSet
from cotrain.affinity import label_correlation
from cotrain.data import load_digits, load_multi_fashion
from cotrain.grouping import cluster_affinity
from cotrain.pareto import Front, ParetoManifold, ParetoObjective, SeparateNetworks, hypervolume

Results = dict[str, float]
GROUPS = 4
MOMENTUM = 0.1
SHARED_STEPS = 200


def main() -> None:
    """Train, print a table per case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--json", type=Path, default=None)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, list[Results]] = {}
    for case in chosen.cases:
        found[case] = [CASES[case](seed) for seed in chosen.seeds]
        print(f"\n{case}, {len(chosen.seeds)} seeds\n\n| measure | mean (95 %) | range |\n|---|---|---|")
        for name in found[case][0]:
            values = np.array([one[name] for one in found[case]])
            half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values) if len(values) > 1 else np.nan
            print(
                f"| {name} | {values.mean():.4f} ± {half:.4f} | {values.min():.4f} to {values.max():.4f} |", flush=True
            )
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n")


def _batchnorm(seed: int) -> Results:
    train, test = _overlapping_digits(seed)
    tasks = TaskSet([Task("left", "multiclass", 10), Task("right", "multiclass", 10)])
    problem = Problem(tasks, train, lambda _: _normed(tasks), "auto", epochs=20, batch_size=256, rate=3e-3)
    manifold = _trained(problem, seed)
    manifold.calibrate(train)
    known = manifold.front(test, 11)
    shared = _shared_statistics(manifold, train[0], seed)
    found = {}
    for words, front in (("per preference", known), ("one shared set", _with_statistics(manifold, shared, test))):
        middle = front.metrics[len(front) // 2]
        found |= {
            f"{words}: least corner less middle": float(
                min(front.metrics[0, 0] - middle[0], front.metrics[-1, 1] - middle[1])
            ),
            f"{words}: accuracy at own corner": float((front.metrics[0, 0] + front.metrics[-1, 1]) / 2),
            f"{words}: hypervolume": front.hypervolume(0.0),
        }
    return found


def _three(seed: int) -> Results:
    data = load_multi_fashion(n_images=3)
    train = tuple(part[:12_000] for part in data.train.pair)
    problem = Problem(data.tasks, train, lambda _: _lenet(data.tasks), "auto", epochs=6, batch_size=256, rate=1e-3)
    manifold = _trained(problem, seed)
    return _against_equal_weights(problem, manifold.front(data.test.pair), data.test.pair, seed)


def _fifteen(seed: int) -> Results:
    data = load_digits(seed=seed)
    likeness = label_correlation(data.tasks, data.train.targets).abs().nan_to_num(0.0).numpy()
    groups = cluster_affinity(likeness, data.tasks.names, GROUPS, seed=seed).grouping
    problem = Problem(
        data.tasks, data.train.pair, lambda _: _small(data.tasks), "auto", epochs=60, batch_size=64, rate=3e-3
    )
    manifold = _trained(problem, seed, groups=groups)
    return _against_equal_weights(problem, manifold.front(data.test.pair), data.test.pair, seed)


def _against_equal_weights(problem: Problem, front: Front, test: tuple[Tensor, Tensor], seed: int) -> Results:
    torch.manual_seed(seed)
    network = problem.make(0)
    tasks = problem.tasks
    run_epochs(problem, network, lambda b: tasks.losses(network(b.inputs), b.targets).sum().backward(), seed)
    equal = torch.full((1, len(tasks)), 1 / len(tasks))
    single = SeparateNetworks([network], tasks, equal).front(test, equal)
    own = front.corners_in_order().values()
    volume, equal_volume = _volume(front, front.shares), _volume(single, front.shares)
    return {
        "hypervolume": volume,
        "hypervolume, equal weights": equal_volume,
        "the difference": volume - equal_volume,
        "hypervolume of the middle alone": _volume(front, front.shares, _middle(front)),
        "least range of a name's loss, relative to the middle": float(_ranges(front).min()),
        "share of names best at their own corner": sum(one.of_corners for one in own) / len(own),
    }


def _volume(front: Front, shares: Tensor, point: int | None = None) -> float:
    """Of each name's mean accuracy, at all points or at one."""
    metrics = front.metrics if point is None else front.metrics[point : point + 1]
    return hypervolume(metrics @ shares.T.to(metrics), torch.zeros(len(shares)))


def _middle(front: Front) -> int:
    return int((front.preferences - 1 / len(front.names)).abs().sum(1).argmin())


def _ranges(front: Front) -> Tensor:
    losses = front.knob_losses()
    return (losses.amax(0) - losses.amin(0)) / losses[_middle(front)]


def _trained(problem: Problem, seed: int, **options) -> ParetoManifold:
    torch.manual_seed(seed)
    manifold = ParetoManifold(problem.make(0), problem.tasks, seed=seed, **options)
    run_epochs(problem, manifold, ParetoObjective(manifold, seed=seed).backward, seed)
    return manifold


def _shared_statistics(manifold: ParetoManifold, inputs: Tensor, seed: int) -> dict[str, Tensor]:
    """Running means over batches at random preferences, as a wrapped BatchNorm layer would keep them in training."""
    generator = torch.Generator().manual_seed(seed)
    shares = torch.rand(SHARED_STEPS, 1, generator=generator)
    learnt = manifold.statistics.learnt(manifold, torch.cat([shares, 1 - shares], dim=1), (inputs, inputs), most=512)
    found = {name: value.clone() for name, value in learnt[0].items()}
    for one in learnt[1:]:
        for name, value in one.items():
            if value.is_floating_point():
                found[name].lerp_(value, MOMENTUM)
    return found


def _with_statistics(manifold: ParetoManifold, statistics: dict[str, Tensor], test: tuple[Tensor, Tensor]) -> Front:
    """The front with one set of statistics for all preferences."""
    points = torch.stack([torch.linspace(1, 0, 11), torch.linspace(0, 1, 11)], dim=1)
    networks = []
    for point in points:
        network = manifold.export(point)
        network.load_state_dict({**network.state_dict(), **statistics})
        networks.append(network)
    return SeparateNetworks(networks, manifold.tasks, points).front(test, points)


def _overlapping_digits(seed: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    images, labels = sklearn_digits(return_X_y=True)
    images = torch.from_numpy(images.reshape(-1, 8, 8)).float() / 16
    labels = torch.from_numpy(labels).float()
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(images), generator=generator)
    parts = []
    for rows, number in ((order[:1300], 8000), (order[1300:], 2000)):
        left, right = (rows[torch.randint(len(rows), (number,), generator=generator)] for _ in range(2))
        canvas = torch.zeros(number, 1, 8, 12)
        canvas[:, 0, :, :8] = images[left]
        canvas[:, 0, :, 4:] = torch.maximum(canvas[:, 0, :, 4:], images[right])
        parts.append((canvas, torch.stack([labels[left], labels[right]], dim=1)))
    return parts[0], parts[1]


def _normed(tasks: TaskSet) -> nn.Module:
    trunk = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1),
        nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 4 * 6, 32), nn.BatchNorm1d(32), nn.ReLU(),
    )  # fmt: skip
    return SharedTrunk(trunk, tasks, 32)


def _lenet(tasks: TaskSet) -> nn.Module:
    trunk = nn.Sequential(
        nn.Conv2d(1, 10, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(10, 20, 5), nn.MaxPool2d(2), nn.ReLU(),
        nn.Flatten(), nn.Linear(320, 50), nn.ReLU(),
    )  # fmt: skip
    return SharedTrunk(trunk, tasks, 50)


def _small(tasks: TaskSet) -> nn.Module:
    trunk = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU())
    return SharedTrunk(trunk, tasks, 16)


CASES: dict[str, Callable[[int], Results]] = {"batchnorm": _batchnorm, "three": _three, "fifteen": _fifteen}

if __name__ == "__main__":
    main()
