"""Fronts of MultiFashion (or the paper's MultiMNIST, given MNIST's files), by every method, over seeds.

LeNet of 27,450 parameters, batches of 256, ten epochs, Adam at .001, the last epoch; accuracies on the test images at
11 preferences, hypervolume above (0, 0). Members hold the trunk, heads are shared, but for the methods of the paper,
which mix the whole network. The seed draws weights, batches and rays; the images are one file.
Use: python benchmarks/pareto_multifashion.py --folder FOLDER [--rows 12000] [--minutes 5]     train what is missing
     python benchmarks/pareto_multifashion.py --folder FOLDER --table                          print the table
     ... --mnist FOLDER_OF_MNIST                                                             the paper's digits
"""

import argparse
from functools import cache
from pathlib import Path

import torch
from pareto_methods import AGGREGATION, Problem
from pareto_results import Samples, add_arguments, run
from torch import Tensor, nn

from cotrain.data import MultiTaskData, load_multi_fashion, load_multi_mnist

DEFAULT = [
    "manifold", "equal weights", "COSMOS", "full rays (4)", "hypernetwork", "manifold, mixed heads",
    "manifold, independent members", "manifold, residual", "manifold, low rank", f"{AGGREGATION}pcgrad",
    f"{AGGREGATION}nash-mtl", f"{AGGREGATION}transference",
]  # fmt: skip


class LeNet(nn.Module):
    """Two convolutions and a hidden layer for both images, a hidden layer and ten logits for each."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(channels, 10, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(10, 20, 5), nn.MaxPool2d(2), nn.ReLU(),
            nn.Flatten(), nn.Linear(320, 50), nn.ReLU(),
        )  # fmt: skip
        self.heads = nn.ModuleList(nn.Sequential(nn.Linear(50, 50), nn.ReLU(), nn.Linear(50, 10)) for _ in range(2))

    def forward(self, inputs: Tensor) -> Tensor:
        """Packed logits [B, 20]."""
        features = self.trunk(inputs)
        return torch.cat([head(features) for head in self.heads], dim=1)


def main() -> None:
    """Train, or print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", type=Path, default=None, help="folder of MNIST's four files: digits instead")
    parser.add_argument("--rows", type=int, default=None, help="training images, the first ones (default: all 50,000)")
    parser.add_argument("--rate", type=float, default=1e-3, help="of Adam; another one needs another folder")
    chosen = add_arguments(parser, DEFAULT).parse_args()

    def load(seed: int, epochs: int) -> tuple[Problem, Samples]:
        del seed  # the images are one file, as published
        data = _data(chosen.mnist)
        train = tuple(part[: chosen.rows] for part in data.train.pair)
        problem = Problem(data.tasks, train, lambda more: LeNet(1 + more), "^trunk", epochs, 256, chosen.rate)
        return problem, data.test.pair

    run(chosen, load)


@cache
def _data(mnist: Path | None) -> MultiTaskData:
    return load_multi_fashion() if mnist is None else load_multi_mnist(mnist)


if __name__ == "__main__":
    main()
