"""Fronts of Census-Income's age and education (Pareto Manifold Learning's protocol), by every method, over seeds.

MLP 468-256 with two heads of two logits, batches of 256, ten epochs, Adam at .001, the last epoch; accuracies on the
official test set at 11 preferences, hypervolume above (0, 0). The seed draws weights, batches and rays.
Use: python benchmarks/pareto_census.py --folder FOLDER [--minutes 5]     train what is missing
     python benchmarks/pareto_census.py --folder FOLDER --table           print the table
"""

import argparse
from functools import cache

import torch
from pareto_methods import AGGREGATION, Problem
from pareto_results import Samples, add_arguments, run
from torch import Tensor, nn

from cotrain import Task, TaskSet
from cotrain.data import MultiTaskData, load_census_income

DEFAULT = [
    "manifold", "equal weights", "manifold, averaged", "equal weights, averaged", "COSMOS", "manifold, no corner rays",
    "full rays (2)", "as released", "hypernetwork", "manifold, independent members", "manifold, residual",
    "manifold, low rank", f"{AGGREGATION}pcgrad", f"{AGGREGATION}nash-mtl",
]  # fmt: skip


class Network(nn.Module):
    """One hidden layer, and a head of two logits per task."""

    def __init__(self, n_inputs: int) -> None:
        super().__init__()
        self.trunk = nn.Linear(n_inputs, 256)
        self.heads = nn.ModuleList(nn.Linear(256, 2) for _ in range(2))

    def forward(self, inputs: Tensor) -> Tensor:
        """Packed logits [B, 4]."""
        features = torch.relu(self.trunk(inputs))
        return torch.cat([head(features) for head in self.heads], dim=1)


def main() -> None:
    """Train, or print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    run(add_arguments(parser, DEFAULT).parse_args(), _load)


@cache
def _census() -> MultiTaskData:
    return load_census_income(task_set="pair")


def _load(seed: int, epochs: int) -> tuple[Problem, Samples]:
    del seed  # the rows are those of the publication
    data = _census()
    tasks = TaskSet([Task(name, "multiclass", 2) for name in data.tasks.names])
    n_inputs = data.train.inputs.shape[1]
    problem = Problem(tasks, data.train.pair, lambda more: Network(n_inputs + more), "all", epochs, 256, 1e-3)
    return problem, data.test.pair


if __name__ == "__main__":
    main()
