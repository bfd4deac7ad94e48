"""What two real processes do: observe different batches, and train one network together."""

import os
import warnings
from pathlib import Path

import torch
import torch.distributed as dist
from small_transference import MIXED, Net, mixed_batch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Adam

from cotrain import SharedTrunk
from cotrain.affinity import Transference

WAYS = {
    "lookahead": {"estimator": "lookahead"},
    "gram": {"estimator": "gram", "calibrate": 3},
    "sketch": {"estimator": "sketch"},
    "tasks": {"estimator": "sketch", "along": "tasks", "last_module": "exact"},
}
BATCHES = 12


def observe(transference: Transference, steps: range) -> None:
    """Every second batch counts as seen elsewhere, so that a batch has the same seed in every process."""
    for step in range(BATCHES):
        transference._counts["calls"] = step
        if step in steps:
            transference.observe(mixed_batch(step))


def watching(name: str) -> Transference:
    torch.manual_seed(0)
    return Transference(Net(MIXED), MIXED, lr=0.05, every=1, **WAYS[name])


def trained(rank: int, observed: bool) -> dict[str, object]:
    """A few steps of a network in all processes; each measures its own batches."""
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 8))
    model = DistributedDataParallel(SharedTrunk(trunk, MIXED, 8))
    optimizer = Adam(model.parameters(), lr=0.01)
    torch.manual_seed(100 + rank)
    transferences = [
        Transference(model.module, MIXED, optimizer=optimizer, every=1, **options) for options in WAYS.values()
    ]
    for step in range(4):
        batch = mixed_batch(10 * step + rank)
        optimizer.zero_grad()
        MIXED.losses(model(batch.inputs), batch.targets).sum().backward()
        if observed:
            for transference in transferences:
                transference.observe(batch)
        optimizer.step()
    return {
        "state": dict(model.module.state_dict()),
        "random": torch.get_rng_state(),
        "measured": [t.result().n_observations for t in transferences] if observed else [],
    }


def run(rank: int, folder: str) -> None:
    """Entry of a process; the first writes what all found."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    try:
        states = {}
        for name in WAYS:
            transference = watching(name)
            observe(transference, range(rank * BATCHES // 2, (rank + 1) * BATCHES // 2))
            states[name] = transference.state_dict()
        found = {"states": states, "plain": trained(rank, False), "observed": trained(rank, True)}
        gathered: list[object] = [None, None]
        dist.all_gather_object(gathered, found)
        if rank == 0:
            torch.save(gathered, Path(folder) / "found.pt")
    finally:
        dist.destroy_process_group()
