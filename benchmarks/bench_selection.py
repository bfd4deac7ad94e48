"""Seconds to select groups and to partition tasks exactly, and what is proven when the time is short.

The gains of a group grow with the mean of random pair effects and have noise of their own, so no structure can be
used. Absolute seconds are the claim here: 9 tasks at any budget within 1 s, 12 tasks (4,095 groups) within 60 s, a
disjoint partition of 14 tasks within 5 s, each proven; and an answer with a valid bound in any time.
"""

import json
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from itertools import combinations

import numpy as np
from side_by_side import arguments

from cotrain.grouping import GainTable, Grouping, PairMean, select_groups
from cotrain.grouping.constraints import Constraints, Resource
from cotrain.grouping.partition import partition_tasks


def main() -> None:
    """Time each case on several random instances."""
    chosen = arguments(__doc__)
    seeds = range(min(chosen.rounds, 3))
    memory = Constraints(resources=[Resource("memory", 20.0, lambda group: 2.0 + len(group))])
    floor = Constraints(min_gain=0.0, cannot_link=[("t00", "t01")], must_link=[("t02", "t03")])
    rows = Constraints(resources=[Resource("memory", 24.0, lambda group: 2.0 + len(group))])
    cases = [
        *(("select", 9, f"budget {budget}", _selecting(9, budget)) for budget in range(1, 10)),
        *(("select", 12, f"budget {budget}", _selecting(12, budget)) for budget in (2, 4, 8)),
        ("select", 9, "budget 4, memory row", _selecting(9, 4, constraints=memory)),
        ("select", 9, "budget 4, floor and links", _selecting(9, 4, constraints=floor)),
        ("select", 9, "budget 4, exactly 4", _selecting(9, 4, constraints=Constraints(n_networks=4))),
        ("select", 12, "budget 4, limit 0.001 s", _selecting(12, 4, time_limit=1e-3)),
        ("select, pair mean", 30, "budget 4, limit 20 s", _pairs(30, 4, time_limit=20)),
        *(("partition", n_tasks, "any number", _partitioning(n_tasks)) for n_tasks in (10, 12, 14, 15)),
        ("partition", 14, "exactly 4", _partitioning(14, n_groups=4)),
        ("partition", 14, "limit 0.001 s", _partitioning(14, time_limit=1e-3)),
        ("partition", 12, "memory row", _partitioning(12, constraints=rows)),
        ("partition, pair mean", 30, "any number, limit 20 s", _splitting(30, time_limit=20)),
    ]
    records = [_timed(what, n_tasks, case, seeds, solve) for what, n_tasks, case, solve in cases]
    if chosen.json is not None:
        record = {
            "machine": {"processor": platform.processor() or platform.machine(), "system": platform.platform()},
            "threads": chosen.threads,
            "versions": {name: version(name) for name in ("cotrain", "numpy", "scipy")},
            "selections": records,
        }
        chosen.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _timed(
    what: str, n_tasks: int, case: str, seeds: range, solve: Callable[[int], Callable[[], Grouping]]
) -> dict[str, object]:
    """The times of one case and how far its answers are proven, printed and returned."""
    seconds, gaps, statuses = [], [], set()
    for seed in seeds:
        run = solve(seed)
        started = time.perf_counter()
        grouping = run()
        seconds.append(time.perf_counter() - started)
        gaps.append(grouping.pool_gap)
        statuses.add(grouping.status)
    record = {
        "what": what,
        "tasks": n_tasks,
        "case": case,
        "seconds": [round(value, 3) for value in seconds],
        "status": sorted(statuses),
        "largest gap": round(max(gaps), 6),
        "solver": grouping.solver,
    }
    print(
        f"{what:22s} T={n_tasks:3d} {case:28s} {max(seconds):7.2f} s at most, gap {max(gaps):.2g},"
        f" {', '.join(sorted(statuses))} ({grouping.solver})",
        flush=True,
    )
    return record


def _tasks(n_tasks: int) -> list[str]:
    return [f"t{number:02d}" for number in range(n_tasks)]


def _effects(n_tasks: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.0, 0.1, (n_tasks, n_tasks))


def _table(n_tasks: int, seed: int) -> GainTable:
    """All groups, measured: the mean pair effect on each member, and noise."""
    rng = np.random.default_rng(seed)
    effects, tasks = _effects(n_tasks, seed), _tasks(n_tasks)
    sizes = range(1, n_tasks + 1)
    places = [list(group) for size in sizes for group in combinations(range(n_tasks), size)]
    gains = np.full((len(places), n_tasks), np.nan)
    for row, group in enumerate(places):
        block = effects[np.ix_(group, group)]
        mean = (block.sum(axis=0) - block.diagonal()) / max(len(group) - 1, 1)
        gains[row, group] = mean + rng.normal(0.0, 0.03, len(group)) if len(group) > 1 else 0.0
    return GainTable(tasks, [tuple(tasks[j] for j in group) for group in places], gains)


def _selecting(n_tasks: int, budget: int, **options: object) -> Callable[[int], Callable[[], Grouping]]:
    def prepared(seed: int) -> Callable[[], Grouping]:
        table = _table(n_tasks, seed)
        return lambda: select_groups(table, budget=budget, **options)

    return prepared


def _partitioning(n_tasks: int, **options: object) -> Callable[[int], Callable[[], Grouping]]:
    def prepared(seed: int) -> Callable[[], Grouping]:
        rng, tasks = np.random.default_rng(seed), _tasks(n_tasks)
        worth = {
            group: rng.normal() * len(group) ** 0.5
            for size in range(1, n_tasks + 1)
            for group in combinations(tasks, size)
        }
        return lambda: partition_tasks(worth.__getitem__, tasks, **options)

    return prepared


def _model(n_tasks: int, seed: int) -> PairMean:
    return PairMean(_effects(n_tasks, seed), _tasks(n_tasks), np.full((n_tasks, n_tasks), 0.02))


def _pairs(n_tasks: int, budget: int, **options: object) -> Callable[[int], Callable[[], Grouping]]:
    return lambda seed: lambda: select_groups(_model(n_tasks, seed), budget=budget, **options)


def _splitting(n_tasks: int, **options: object) -> Callable[[int], Callable[[], Grouping]]:
    return lambda seed: lambda: partition_tasks(_model(n_tasks, seed), **options)


if __name__ == "__main__":
    main()
