"""A model without weights whose outputs move from one task's solution to the other's with the preference."""

import torch

from cotrain import Task, TaskSet
from cotrain.pareto.front import Front
from cotrain.pareto.front_evaluation import evaluate_front
from cotrain.pareto.preference import preference_grid


def binary_tasks(count):
    return TaskSet([Task(f"t{number}", "binary") for number in range(count)])


def binary_data(count, n, seed=0, missing=0.1):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(n, count, generator=generator)
    targets = (inputs + 0.5 * torch.randn(n, count, generator=generator) > 0).float()
    return inputs, targets.masked_fill(torch.rand(n, count, generator=generator) < missing, torch.nan)


def blend(inputs, preferences):
    """[K, B, G]: each task sees its own feature by its share, and the mean of all for the rest."""
    own = preferences[:, None, :]
    return 4 * (own.sqrt() * inputs + (1 - own) * inputs.mean(1, keepdim=True))


def blend_front(count=2, n=300, seed=0, preferences=None, **options):
    tasks = binary_tasks(count)
    grid = preference_grid(preferences, tasks.names)
    return evaluate_front(blend, tasks, binary_data(count, n, seed), grid, tasks.names, **options)


def analytic_front(first, second, metric_names=("accuracy", "accuracy"), points=11):
    """A front over (age, edu) whose metrics and losses are functions of the share of age."""
    share = torch.linspace(1, 0, points, dtype=torch.float64)
    metrics = torch.stack([first(share), second(share)], dim=1)
    losses = torch.stack([1 - share, share], dim=1) ** 2
    return Front(
        ("age", "edu"),
        ("age", "edu"),
        torch.stack([share, 1 - share], dim=1).float(),
        losses,
        metrics,
        metric_names,
        torch.eye(2),
    )
