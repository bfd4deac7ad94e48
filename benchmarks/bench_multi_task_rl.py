"""What an update of the multi-task SAC in examples/multi_task_rl costs, by the way in which gradients are combined.

Each way against the plain sum, in turn, on random transitions of the size of each set of tasks.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from side_by_side import Comparison, arguments, compare, finish

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "multi_task_rl"))

from comparison import aggregations_of
from plans import PLANS
from replay import Transitions
from sac import Learner

SIZES = {"swing-up": (5, 5, 1), "mt10": (10, 39, 4)}
"""Tasks, and numbers in an observation and in an action, of each set."""

UPDATES = 5
"""Per timing: single ones are too short to be told apart on a busy machine."""


def main() -> None:
    """Time every set of tasks with every way."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--suites", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--aggregations", nargs="+", default=["pcgrad", "transference"], help="names known to cotrain")
    chosen = arguments(__doc__, parser)
    found: list[Comparison] = []
    for suite in chosen.suites:
        for name in chosen.aggregations:
            ways = {way: _updates(suite, way) for way in (name, "sum")}
            found += compare(f"{suite}, T = {SIZES[suite][0]}", ways, chosen.rounds)
            print(f"    an update with {name} takes {1 / found[-1].ratio:.1f} times as long as with the plain sum")
    finish(found, chosen)


def _updates(suite: str, way: str) -> Callable[[], None]:
    n_tasks, n_observations, n_actions = SIZES[suite]
    settings = PLANS[suite].settings
    names = tuple(f"task {number}" for number in range(n_tasks))
    learner = Learner(names, n_observations, n_actions, aggregations_of(way), settings, seed=0)
    generator = torch.Generator().manual_seed(0)
    rows = n_tasks * settings.batch_size
    transitions = Transitions(
        observations=torch.randn(rows, n_observations, generator=generator),
        actions=2 * torch.rand(rows, n_actions, generator=generator) - 1,
        rewards=torch.rand(rows, generator=generator),
        following=torch.randn(rows, n_observations, generator=generator),
        task=torch.arange(n_tasks).repeat_interleave(settings.batch_size),
    )

    def updates() -> None:
        for _ in range(UPDATES):
            learner.update(transitions)

    return updates


if __name__ == "__main__":
    main()
