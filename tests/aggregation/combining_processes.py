"""What two real processes do: train one network together by several ways to combine gradients."""

import torch
from linear_losses import MIXED, Net, make
from torch.nn.parallel import DistributedDataParallel

from cotrain import Batch

WAYS = (
    "db-mtl",
    "dwa",
    "excess-mtl",
    "famo",
    "gradnorm",
    "graddrop",
    "imtl-g",
    "mgda-ub",
    "sum",
    "transference",
    "upgrad",
    "uw",
)
STEPS = 3


def batch_of(step, rank=None):
    """12 samples; the first process has 8 of them and most labels, and none of the last task's."""
    generator = torch.Generator().manual_seed(step)
    inputs, targets = torch.randn(12, 6, generator=generator), torch.rand(12, 4, generator=generator).round()
    targets[8:10, 0] = torch.nan
    targets[:8, 3] = torch.nan
    part = {None: slice(None), 0: slice(8), 1: slice(8, None)}[rank]
    return Batch(torch.arange(12)[part], inputs[part], targets[part])


def train(name, rank=None):
    """Parameters, losses and weights after a few steps of a network without dropout."""
    torch.manual_seed(0)
    net = Net(MIXED).eval()
    model = net if rank is None else DistributedDataParallel(net, find_unused_parameters=True)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    aggregation, choices, losses = make(name), [], []
    aggregation.on_choice = choices.append
    for step in range(STEPS):
        optimizer.zero_grad()
        losses.append(aggregation.backward(model, MIXED, batch_of(step, rank)))
        optimizer.step()
    weights = [torch.zeros(4) if choice.weights is None else choice.weights for choice in choices]
    return {"state": dict(net.state_dict()), "losses": torch.stack(losses), "weights": torch.stack(weights)}


def skipped(rank):
    """One process has a NaN: both skip."""
    torch.manual_seed(0)
    model, aggregation, batch = DistributedDataParallel(Net(MIXED).eval()), make("upgrad"), batch_of(0, rank)
    if rank == 1:
        batch.inputs[0] = torch.nan
    aggregation.backward(model, MIXED, batch)
    return aggregation.skipped_steps


def work(rank):
    """All that one of the two processes does."""
    return {**{name: train(name, rank) for name in WAYS}, "skipped": skipped(rank)}
