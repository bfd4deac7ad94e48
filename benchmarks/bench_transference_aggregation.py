"""What a training step with TransferenceAggregation costs in plain training steps, for any number of tasks.

A plain step is forward, one backward pass of the summed losses, and Adam. The worst case is timed: the tasks pull in
different directions, so that the joint sum and another one are both formed and both tried. The ways: "the pick alone"
takes the best subset to first order; "default" tries it against the joint step by lookahead.
"""

import argparse
from collections.abc import Callable

import torch
from bench_transference import BATCH, TRUNKS
from side_by_side import Comparison, arguments, compare, finish

from cotrain import Batch, SharedTrunk, Task, TaskSet
from cotrain.aggregation.transference_aggregation import TransferenceAggregation

LR = 1e-7
"""So low that the situation stays as it is from round to round."""

MOST_ENUMERATED = 10

PLAIN = "a plain training step"


def main() -> None:
    """Time every network and number of tasks, or those that are asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--networks", nargs="+", default=list(TRUNKS), choices=list(TRUNKS))
    parser.add_argument("--tasks", nargs="+", type=int, default=[2, 10, 40, 100, 1000], help="numbers of tasks")
    chosen = arguments(__doc__, parser)
    # Blocks below the largest that was ever freed are kept by the C library: as in any process that has loaded data.
    torch.ones(2**22).sum()
    found: list[Comparison] = []
    for name in chosen.networks:
        for n_tasks in chosen.tasks:
            found += _one(name, n_tasks, chosen.rounds)
    finish(found, chosen)


def _one(name: str, n_tasks: int, rounds: int) -> list[Comparison]:
    model, tasks, batch = _situation(name, n_tasks)
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)

    def plain() -> None:
        optimizer.zero_grad()
        tasks.losses(model(batch.inputs), batch.targets).sum().backward()
        optimizer.step()

    def combined(**options: object) -> Callable[[], None]:
        aggregation = TransferenceAggregation(optimizer=optimizer, min_rate=0, **options)  # type: ignore[arg-type]

        def step() -> None:
            optimizer.zero_grad()
            aggregation.backward(model, tasks, batch)
            optimizer.step()
            decision = aggregation.decision
            assert decision is not None
            assert len(decision.scores) > 1, "nothing but the joint sum was tried, which is not the worst case"

        return step

    ways = {
        "the pick alone": combined(exact=False, equal_norm=False),
        "default": combined(),
    }
    if n_tasks <= MOST_ENUMERATED:
        ways["singletons and all"] = combined(candidates="singletons")
    found = []
    for way, step in ways.items():
        found += compare(f"{name}, T = {n_tasks}", {way: step, PLAIN: plain}, rounds)
        print(f"    {way}: {1 / found[-1].ratio:.2f} plain steps, {1000 * found[-1].seconds:.1f} ms", flush=True)
    return found


def _situation(name: str, n_tasks: int) -> tuple[SharedTrunk, TaskSet, Batch]:
    trunk, width = TRUNKS[name]
    torch.manual_seed(0)
    tasks = TaskSet(Task(f"t{n}", "binary") for n in range(n_tasks))
    model = SharedTrunk(trunk(), tasks, width)
    targets = (torch.rand(BATCH, 1) > 0.5).float().repeat(1, n_tasks)
    with torch.no_grad():  # heads that are alike, a quarter of them with the opposite labels
        model.heads.weight[:] = model.heads.weight[:1]
        model.heads.bias.zero_()
        opposed = max(n_tasks // 4, 1)
        targets[:, -opposed:] = 1 - targets[:, -opposed:]
    return model, tasks, Batch(torch.arange(BATCH), torch.rand(BATCH, 1, 28, 28), targets)


if __name__ == "__main__":
    main()
