"""What every way to combine gradients costs in plain training steps, and what its parts cost against others' parts.

A plain step is forward, one backward pass of the summed losses, Adam. TorchJD by itself is its `mtl_backward` at the
features and `jac_to_grad`, with chunks of one task, which is its fastest way on a CPU. quadprog (GPL) is only measured
where it happens to be installed.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec

import torch
from bench_transference import BATCH, TRUNKS
from side_by_side import Comparison, arguments, compare, finish
from torch import Tensor, nn
from torchjd.aggregation import IMTLG, Aggregator, AlignedMTL, Mean, UPGradWeighting
from torchjd.autojac import jac_to_grad, mtl_backward
from torchjd.linalg import QuadprogProjector

from cotrain import Batch, SharedTrunk, Task, TaskSet
from cotrain.aggregation.aggregation import Aggregation
from cotrain.aggregation.names import aggregation_names, named
from cotrain.aggregation.nash import NashMTL
from cotrain.aggregation.torchjd_adapter import from_torchjd
from cotrain.aggregation.upgrad import UPGrad

PARTS = "methods", "adapter", "solvers"


def main() -> None:
    """Time every network, number of tasks and method, and the solvers by themselves; or the parts asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--networks", nargs="+", default=list(TRUNKS), choices=list(TRUNKS))
    parser.add_argument("--tasks", nargs="+", type=int, default=[2, 10, 40, 100], help="numbers of tasks")
    parser.add_argument("--methods", nargs="+", default=list(aggregation_names()), choices=aggregation_names())
    chosen = arguments(__doc__, parser)
    found: list[Comparison] = []
    for network in chosen.networks:
        trunk, width = TRUNKS[network]
        for n_tasks in chosen.tasks:
            if "methods" in chosen.parts:
                for name in chosen.methods:
                    found += _cost(network, trunk, width, n_tasks, name, chosen.rounds)
            if "adapter" in chosen.parts:
                found += _adapter(network, trunk, width, n_tasks, chosen.rounds)
    if "solvers" in chosen.parts:
        for n_tasks in chosen.tasks:
            found += _solvers(n_tasks, chosen.rounds)
    finish(found, chosen)


def _cost(
    network: str, trunk: Callable[[], nn.Module], width: int, n_tasks: int, name: str, rounds: int
) -> list[Comparison]:
    model, tasks, batch, optimizer = _training(trunk, width, n_tasks)
    aggregation = named(name)
    found = compare(
        f"{network}, T = {n_tasks}",
        {
            name: _step(aggregation, model, tasks, batch, optimizer),
            "a plain step": _plain(model, tasks, batch, optimizer),
        },
        rounds,
    )
    print(f"    {name} costs {1 / found[0].ratio:.2f} plain steps, {1000 * found[0].seconds:.1f} ms")
    return found


def _adapter(network: str, trunk: Callable[[], nn.Module], width: int, n_tasks: int, rounds: int) -> list[Comparison]:
    found = []
    for kind in (Mean, IMTLG, AlignedMTL):
        model, tasks, batch, optimizer = _training(trunk, width, n_tasks)
        torchjd = _torchjd(model.trunk, width, batch, kind())
        adapted = _step(from_torchjd(kind()), model, tasks, batch, optimizer)
        found += compare(
            f"{network}, T = {n_tasks}, {kind.__name__}", {"the adapter": adapted, "TorchJD by itself": torchjd}, rounds
        )
    return found


def _torchjd(trunk: nn.Module, width: int, batch: Batch, aggregator: Aggregator) -> Callable[[], None]:
    """As its own examples do it: a head and a loss per task."""
    assert isinstance(batch.targets, Tensor)
    columns = batch.targets.unbind(1)
    heads = nn.ModuleList(nn.Linear(width, 1) for _ in columns)
    shared, own = list(trunk.parameters()), [list(head.parameters()) for head in heads]
    optimizer = torch.optim.Adam([*shared, *heads.parameters()], lr=1e-3)
    loss = nn.BCEWithLogitsLoss()

    def step() -> None:
        optimizer.zero_grad()
        features = trunk(batch.inputs)
        losses = [loss(head(features).squeeze(1), column) for head, column in zip(heads, columns, strict=True)]
        mtl_backward(losses, features, tasks_params=own, shared_params=shared, parallel_chunk_size=1)
        jac_to_grad(shared, aggregator)
        optimizer.step()

    return step


def _solvers(n_tasks: int, rounds: int) -> list[Comparison]:
    jacobian = torch.randn(n_tasks, 10_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    gramian = jacobian @ jacobian.T + 0.1 * 10_000
    gramian[: n_tasks // 2, n_tasks // 2 :] -= 0.2 * 10_000  # two halves that conflict
    gramian[n_tasks // 2 :, : n_tasks // 2] -= 0.2 * 10_000
    nash, upgrad = NashMTL(), UPGrad()
    times = []
    for _ in range(rounds + 1):  # the first to warm up
        started = time.perf_counter()
        nash(gramian)
        times.append(1000 * (time.perf_counter() - started))
    print(f"T = {n_tasks}: Nash-MTL's solve takes {statistics.median(times[1:]):.2f} ms")
    if find_spec("quadprog") is None or find_spec("qpsolvers") is None:
        return []
    # Its regularisation of the Gram matrix, 1e-4 by default, moves the weights by as much as 1e-4.
    theirs = UPGradWeighting(projector=QuadprogProjector(reg_eps=1e-10))
    apart = float((theirs(gramian) - upgrad(gramian)).abs().max())
    print(f"T = {n_tasks}: weights of UPGrad and of the quadprog solver are at most {apart:.1e} apart")
    ways: dict[str, Callable[[], Tensor]] = {
        "UPGrad by nnls": lambda: upgrad(gramian),
        "by quadprog": lambda: theirs(gramian),
    }
    return compare(f"UPGrad's solve, T = {n_tasks}", ways, rounds)


def _training(
    trunk: Callable[[], nn.Module], width: int, n_tasks: int
) -> tuple[SharedTrunk, TaskSet, Batch, torch.optim.Optimizer]:
    torch.manual_seed(0)
    tasks = TaskSet(Task(f"t{n}", "binary") for n in range(n_tasks))
    model = SharedTrunk(trunk(), tasks, width)
    targets = (torch.rand(BATCH, n_tasks) > 0.5).float()
    batch = Batch(torch.arange(BATCH), torch.rand(BATCH, 1, 28, 28), targets)
    return model, tasks, batch, torch.optim.Adam(model.parameters(), lr=1e-3)


def _plain(model: nn.Module, tasks: TaskSet, batch: Batch, optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    def step() -> None:
        optimizer.zero_grad()
        tasks.losses(model(batch.inputs), batch.targets).sum().backward()
        optimizer.step()

    return step


def _step(
    aggregation: Aggregation, model: nn.Module, tasks: TaskSet, batch: Batch, optimizer: torch.optim.Optimizer
) -> Callable[[], None]:
    def step() -> None:
        optimizer.zero_grad()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            aggregation.backward(model, tasks, batch)
        optimizer.step()

    return step


if __name__ == "__main__":
    main()
