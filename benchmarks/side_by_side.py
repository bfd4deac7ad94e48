"""What all benchmarks share: two or more ways timed in turn in one run, reported as ratios with their spread."""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import torch

__all__ = ["Comparison", "arguments", "compare", "finish"]


@dataclass(frozen=True)
class Comparison:
    """How much faster one way is than another, measured in turn.

    Args:
        case: What was done.
        way: The way that is judged.
        against: The way that it is compared with.
        ratio: Median over the rounds of time(against) / time(way): above 1, the way is faster.
        low: Smallest ratio of a round.
        high: Largest ratio of a round.
        seconds: Median time of the way.
        rounds: How many rounds.
    """

    case: str
    way: str
    against: str
    ratio: float
    low: float
    high: float
    seconds: float
    rounds: int

    def __str__(self) -> str:
        spread = f"({self.low:.2f} to {self.high:.2f}, {self.rounds} rounds)"
        return f"{self.case:34s} {self.way} is {self.ratio:.2f}x as fast as {self.against} {spread}"


def arguments(description: str | None, parser: argparse.ArgumentParser | None = None) -> argparse.Namespace:
    """The options that every benchmark has, beside those that `parser` has already."""
    parser = parser or argparse.ArgumentParser()
    parser.description = description
    parser.add_argument("--json", type=Path, default=None, help="also write the figures to this file")
    parser.add_argument("--threads", type=int, default=1, help="processor threads (default: 1)")
    parser.add_argument("--rounds", type=int, default=7, help="how often each way is timed (default: 7)")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    return chosen


def compare(case: str, ways: Mapping[str, Callable[[], object]], rounds: int) -> list[Comparison]:
    """Time the ways in turn, so that a slow moment of the machine hits all of them.

    Args:
        case: What is done.
        ways: By name; the first is compared with each of the others, after one round to warm up.
        rounds: How often.
    """
    times: dict[str, list[float]] = {name: [] for name in ways}
    for round_number in range(rounds + 1):
        for name, run in ways.items():
            started = time.perf_counter()
            run()
            if round_number > 0:
                times[name].append(time.perf_counter() - started)
    way, *others = ways
    found = []
    for other in others:
        ratios = [slow / fast for slow, fast in zip(times[other], times[way], strict=True)]
        comparison = Comparison(
            case, way, other, statistics.median(ratios), min(ratios), max(ratios), statistics.median(times[way]), rounds
        )
        print(comparison, flush=True)
        found.append(comparison)
    return found


def finish(found: Sequence[Comparison], chosen: argparse.Namespace) -> None:
    """Write the figures with the machine and the versions, if --json was given."""
    if chosen.json is None:
        return
    record = {
        "machine": {"processor": platform.processor() or platform.machine(), "system": platform.platform()},
        "threads": chosen.threads,
        "versions": {name: version(name) for name in ("cotrain", "torch", "numpy", "scipy")},
        "comparisons": [asdict(comparison) for comparison in found],
    }
    chosen.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
