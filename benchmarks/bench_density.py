"""Clusters of an affinity: seconds, gap to the bound, and agreement with planted clusters, at many sizes.

The planted instance is A_ij = .5 [same cluster] + N(0, .5^2), with the options' defaults. Also our solver of the
relaxation against Clarabel and SCS (extra `sdp`, left out if not installed), and what choosing the number of clusters
does.
Use: python benchmarks/bench_density.py [--threads 1] [--rounds 3] [--seeds 5] [--most 1000] [--json FILE]
"""

import argparse
import json
import platform
import statistics
import time
from dataclasses import asdict
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from side_by_side import compare
from threadpoolctl import threadpool_limits

from cotrain.grouping import adjusted_rand_index
from cotrain.grouping.affinity_clusters import cluster_affinity
from cotrain.grouping.affinity_scale import similarity_of
from cotrain.grouping.density import density
from cotrain.grouping.density_cone import relax_by_cone
from cotrain.grouping.density_relaxation import relax

SIZES = ((10, 3), (14, 4), (16, 4), (20, 4), (40, 6), (60, 8), (100, 12), (300, 20), (1000, 50), (3000, 100))
"""Tasks and planted clusters."""

AIMS = {100: "10 s, gap 6 %, ARI .8", 1000: "60 s"}

COMPARED = ((20, 4, "clarabel"), (40, 6, "clarabel"), (20, 4, "scs"), (60, 8, "scs"), (100, 12, "scs"))
"""Tasks, clusters and the other solver of the relaxation; Clarabel only where it takes seconds."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--most", type=int, default=1000, help="tasks of the largest instance (default: 1000)")
    chosen = parser.parse_args()
    with threadpool_limits(chosen.threads):
        rows = _sizes(chosen.seeds, chosen.most)
        compared = [
            comparison for case in COMPARED if find_spec(case[2]) for comparison in _solvers(*case, chosen.rounds)
        ]
    if chosen.json:
        record = {
            "machine": {"processor": platform.processor() or platform.machine(), "system": platform.platform()},
            "threads": chosen.threads,
            "versions": {name: version(name) for name in ("cotrain", "numpy", "scipy")},
            "sizes": rows,
            "comparisons": [asdict(comparison) for comparison in compared],
        }
        chosen.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _sizes(seeds: int, most: int) -> list[dict[str, object]]:
    rows = []
    print("| tasks | clusters | given | found | seconds | gap, % | ARI | density / planted | status | aim |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for n_tasks, n_clusters in SIZES:
        for given in (n_clusters, None):
            if n_tasks <= most and (given or n_tasks <= 300):
                few = 1 if n_tasks >= 1000 else seeds
                rows.append(
                    _row(n_tasks, n_clusters, given, [_case(n_tasks, n_clusters, given, s) for s in range(few)])
                )
    return rows


def _case(n_tasks: int, n_clusters: int, given: int | None, seed: int) -> dict[str, float | str]:
    matrix, truth = planted(n_tasks, n_clusters, seed)
    started = time.perf_counter()
    found = cluster_affinity(matrix, [str(t) for t in range(n_tasks)], given)
    seconds = time.perf_counter() - started
    gap = found.grouping.relative_gap
    assert gap is not None
    return {
        "seconds": seconds,
        "gap": 100 * gap,
        "ari": adjusted_rand_index(found.labels, truth),
        "ratio": found.grouping.value / density(found.similarity, truth),
        "found": found.n_clusters,
        "status": found.grouping.status,
    }


def _row(n_tasks: int, n_clusters: int, given: int | None, cases: list[dict[str, float | str]]) -> dict[str, object]:
    """Print medians with smallest and largest value."""
    cells = {}
    for name, digits in (("found", 0), ("seconds", 2), ("gap", 1), ("ari", 2), ("ratio", 3)):
        values = [float(case[name]) for case in cases]
        cells[name] = f"{statistics.median(values):.{digits}f}"
        if len(values) > 1:
            cells[name] += f" ({min(values):.{digits}f} to {max(values):.{digits}f})"
    status = ", ".join(sorted({str(case["status"]) for case in cases}))
    aim = AIMS.get(n_tasks, "") if given else ""
    print(
        f"| {n_tasks:,} | {n_clusters} | {given or 'no'} | {cells['found']} | {cells['seconds']} | {cells['gap']} |"
        f" {cells['ari']} | {cells['ratio']} | {status} | {aim} |",
        flush=True,
    )
    return {"tasks": n_tasks, "clusters": n_clusters, "given": given, "aim": aim, "cases": cases}


def _solvers(n_tasks: int, n_clusters: int, solver: str, rounds: int) -> list:
    matrix, _ = planted(n_tasks, n_clusters, 0)
    similarity = similarity_of(matrix, None, standardise=True)
    bounds: dict[str, float] = {}

    def run(name: str, relaxed) -> None:
        bounds[name] = relaxed.bound

    found = compare(
        f"relaxation of {n_tasks} tasks",
        {
            "ours": lambda: run("ours", relax(similarity, n_clusters)),
            solver: lambda: run(solver, relax_by_cone(similarity, n_clusters, solver, time.monotonic() + 300)),
        },
        rounds,
    )
    print(f"    bounds: {', '.join(f'{name} {bound:.6g}' for name, bound in bounds.items())}", flush=True)
    return found


def planted(n_tasks: int, n_clusters: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The affinity of the specification and the true labels."""
    rng = np.random.default_rng(seed)
    truth = np.arange(n_tasks) % n_clusters
    return 0.5 * (truth[:, None] == truth) + rng.normal(0, 0.5, (n_tasks, n_tasks)), truth


if __name__ == "__main__":
    main()
