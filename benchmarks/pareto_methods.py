"""The ways to a front that the Pareto benchmarks compare, each from the same network, batches and optimizer.

A training is `epochs` passes over the training samples in the order of its seed, with Adam; the last epoch counts, and
nothing is tuned. "averaged" trainings end with the running mean of the weights over about 1,000 steps instead of the
last weights. "manifold" is this library's default; "full rays" is Pareto Manifold Learning as its paper states it;
"as released" is that with the sign of the ordering penalty as in its published code, which is reversed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cotrain import Batch, TaskSet
from cotrain.aggregation import named
from cotrain.batches import batches, epoch_order
from cotrain.optimizers import adam
from cotrain.pareto import (
    ConditionedObjective,
    Cosmos,
    ParetoHypernetwork,
    ParetoManifold,
    ParetoObjective,
    PreferenceModel,
    SeparateNetworks,
    ordering_penalty,
    ray_losses,
)

__all__ = ["AGGREGATION", "METHODS", "Problem", "run_epochs", "trained"]

AGGREGATION = "single point: "
GRID = 11
"""Networks of the method that trains one per preference."""
PUBLISHED_ORDERING = 5.0
AVERAGE_DECAY = 0.999


@dataclass(frozen=True)
class Problem:
    """What is trained.

    Args:
        tasks: The tasks.
        train: Training inputs and targets.
        make: Makes the network; its argument is how many columns or channels the preference adds to the inputs.
        members: Which parameters follow the preference (see `ParetoManifold`).
        epochs: Passes over the training samples.
        batch_size: Samples per step.
        rate: Of Adam.
    """

    tasks: TaskSet
    train: tuple[Tensor, Tensor]
    make: Callable[[int], nn.Module]
    members: str
    epochs: int
    batch_size: int
    rate: float


def trained(problem: Problem, method: str, seed: int) -> PreferenceModel:
    """Train a network by one of `METHODS`, or by `AGGREGATION` and the name of an aggregation."""
    torch.manual_seed(seed)
    if method.startswith(AGGREGATION):
        return _single_point(problem, method.removeprefix(AGGREGATION), seed)
    return METHODS[method](problem, seed)


def _manifold(
    problem: Problem, seed: int, *, init: str = "copy", form: str = "full", mixed_heads: bool = False,
    averaged: bool = False, **options: Any,
) -> PreferenceModel:  # fmt: skip
    members = "all" if mixed_heads else problem.members
    manifold = ParetoManifold(problem.make(0), problem.tasks, form, members=members, init=init, seed=seed)
    objective = ParetoObjective(manifold, seed=seed, **options)
    run_epochs(problem, manifold, objective.backward, seed, averaged=averaged)
    return manifold


def _full_rays(problem: Problem, seed: int, rays: int, **options: Any) -> PreferenceModel:
    """Pareto Manifold Learning as published: whole networks drawn anew, every ray on the whole batch."""
    published = {"split": False, "corners": 0.0, "stratified": False, "balance": "none"}
    return _manifold(problem, seed, init="independent", mixed_heads=True, rays=rays, **published, **options)


def _as_released(problem: Problem, seed: int) -> PreferenceModel:
    """Two full rays, and the penalty with its sign reversed, while it is smaller than the loss."""
    manifold = ParetoManifold(problem.make(0), problem.tasks, members="all", init="independent", seed=seed)
    generator = torch.Generator().manual_seed(seed)

    def backward(batch: Batch) -> None:
        first = torch.rand(2, generator=generator)
        preferences = torch.stack([first, 1 - first], dim=1)
        rows = [ray_losses(manifold, problem.tasks, [ray], batch)[0] for ray in manifold.weights_at(preferences)]
        losses = torch.cat(rows)
        total = (preferences * losses).sum()
        penalty = PUBLISHED_ORDERING * ordering_penalty(-losses, preferences)
        (total + penalty if penalty < total else total).backward()

    run_epochs(problem, manifold, backward, seed)
    return manifold


def _cosmos(problem: Problem, seed: int) -> PreferenceModel:
    model = Cosmos(problem.make(len(problem.tasks)), problem.tasks)
    run_epochs(problem, model, ConditionedObjective(model, similarity=8.0, seed=seed).backward, seed)
    return model


def _hypernetwork(problem: Problem, seed: int) -> PreferenceModel:
    model = ParetoHypernetwork(problem.make(0), problem.tasks)
    run_epochs(problem, model, ConditionedObjective(model, seed=seed).backward, seed)
    return model


def _one_per_preference(problem: Problem, seed: int) -> PreferenceModel:
    grid = torch.linspace(1, 0, GRID)
    preferences = torch.stack([grid, 1 - grid], dim=1)
    networks = []
    for row in preferences:
        torch.manual_seed(seed)
        networks.append(_weighted(problem, row, seed))
    return SeparateNetworks(networks, problem.tasks, preferences)


def _equal_weights(problem: Problem, seed: int, *, averaged: bool = False) -> PreferenceModel:
    equal = torch.full((len(problem.tasks),), 1 / len(problem.tasks))
    network = _weighted(problem, equal, seed, averaged=averaged)
    return SeparateNetworks([network], problem.tasks, equal.unsqueeze(0))


def _weighted(problem: Problem, weights: Tensor, seed: int, *, averaged: bool = False) -> nn.Module:
    network = problem.make(0)

    def backward(batch: Batch) -> None:
        (problem.tasks.losses(network(batch.inputs), batch.targets) * weights).sum().backward()

    run_epochs(problem, network, backward, seed, averaged=averaged)
    return network


def _single_point(problem: Problem, name: str, seed: int) -> PreferenceModel:
    network, aggregation = problem.make(0), named(name)
    run_epochs(problem, network, lambda batch: aggregation.backward(network, problem.tasks, batch), seed)
    equal = torch.full((1, len(problem.tasks)), 1 / len(problem.tasks))
    return SeparateNetworks([network], problem.tasks, equal)


def run_epochs(
    problem: Problem, model: nn.Module, backward: Callable[[Batch], object], seed: int, *, averaged: bool = False
) -> None:
    """Train in place, in the order of the seed; `backward` fills `.grad` from a batch."""
    optimizer = adam(problem.rate)(model.parameters())
    mean = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(AVERAGE_DECAY)) if averaged else None
    model.train()
    for epoch in range(problem.epochs):
        order = epoch_order(len(problem.train[0]), seed, epoch)
        for batch in batches(problem.train, problem.batch_size, order):
            optimizer.zero_grad()
            backward(batch)
            optimizer.step()
            if mean is not None:
                mean.update_parameters(model)
    if mean is not None:
        model.load_state_dict(mean.module.state_dict())
    model.eval()


METHODS: Mapping[str, Callable[[Problem, int], PreferenceModel]] = {
    "manifold": lambda problem, seed: _manifold(problem, seed),
    "manifold, averaged": lambda problem, seed: _manifold(problem, seed, averaged=True),
    "equal weights, averaged": lambda problem, seed: _equal_weights(problem, seed, averaged=True),
    "manifold, no corner rays": lambda problem, seed: _manifold(problem, seed, corners=0.0),
    "manifold, independent members": lambda problem, seed: _manifold(problem, seed, init="independent"),
    "manifold, mixed heads": lambda problem, seed: _manifold(problem, seed, mixed_heads=True),
    "manifold, residual": lambda problem, seed: _manifold(problem, seed, form="residual"),
    "manifold, low rank": lambda problem, seed: _manifold(problem, seed, form="lora"),
    "manifold, independent, not balanced": lambda problem, seed: _manifold(
        problem, seed, init="independent", balance="none"
    ),
    "manifold, losses not balanced": lambda problem, seed: _manifold(problem, seed, balance="none"),
    "full rays (2)": lambda problem, seed: _full_rays(problem, seed, 2),
    "full rays (4)": lambda problem, seed: _full_rays(problem, seed, 4),
    "full rays (2), right ordering": lambda problem, seed: _full_rays(problem, seed, 2, ordering=PUBLISHED_ORDERING),
    "as released": _as_released,
    "COSMOS": _cosmos,
    "hypernetwork": _hypernetwork,
    "equal weights": _equal_weights,
    "one network per preference": _one_per_preference,
}  # fmt: skip
