"""What two real processes do: train one manifold together, and meet a loss that is not finite in one of them."""

import torch
import torch.distributed as dist
from wrapped_modules import PAIR, apart, mlp

from cotrain import Batch
from cotrain.errors import TrainingDivergedError
from cotrain.pareto import ParetoManifold, ParetoObjective

WAYS = {"full": {"split": False}, "lora": {"split": False}, "residual": {"split": True}}


def batch_of(step, rank):
    """8 of 16 samples; the second process has no label of the second task in its second step."""
    generator = torch.Generator().manual_seed(step)
    inputs, targets = torch.randn(16, 4, generator=generator), torch.randn(16, 2, generator=generator)
    if step == 1:
        targets[8:, 1] = torch.nan
    part = slice(8 * rank, 8 * rank + 8)
    return Batch(torch.arange(16)[part], inputs[part].double(), targets[part].double())


def problem(form, group=None):
    manifold = apart(ParetoManifold(mlp().double(), PAIR, form, rank=1))
    objective = ParetoObjective(manifold, rays=2, balance="none", seed=3, process_group=group, **WAYS[form])
    return manifold, objective, torch.optim.SGD(manifold.parameters(), lr=0.1)


def train(form, rank):
    """Parameters after three steps on this process's part."""
    manifold, objective, optimizer = problem(form, dist.group.WORLD)
    for step in range(3):
        optimizer.zero_grad()
        objective.backward(batch_of(step, rank))
        optimizer.step()
    return dict(manifold.named_parameters()), objective.state_dict()["means"]


def diverged(rank):
    """One process has an infinite target: both refuse, and nothing is written."""
    manifold, objective, _ = problem("full", dist.group.WORLD)
    batch = batch_of(0, rank)
    batch.targets[0, 0] = torch.inf if rank == 1 else 0.0
    try:
        objective.backward(batch)
    except TrainingDivergedError as error:
        return str(error), all(value.grad is None for value in manifold.parameters())
    return "", False


def few_samples(rank):
    """The last batch of an epoch: the second process has fewer samples than rays."""
    manifold, objective, _ = problem("residual", dist.group.WORLD)
    whole, size = batch_of(0, rank), 8 if rank == 0 else 1
    losses = objective.backward(Batch(*(part[:size] for part in (whole.index, whole.inputs, whole.targets))))
    return losses, objective.state_dict()["means"], [value.grad for value in manifold.parameters()]


def work(rank):
    """All that one of the two processes does."""
    return {**{form: train(form, rank) for form in WAYS}, "diverged": diverged(rank), "few": few_samples(rank)}
