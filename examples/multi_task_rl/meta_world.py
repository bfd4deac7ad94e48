"""Meta-World's MT10 (Yu et al. 2019, arXiv 1910.10897): ten tasks of one robot arm, simulated by MuJoCo."""

from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from cotrain.extras import require

__all__ = ["mt10", "side_by_side"]

GOALS_SEED = 0
"""Of the 50 positions of object and goal per task, which are the same for all trainings."""

Episodes = tuple[tuple[str, ...], SyncVectorEnv, int]
"""Names of the tasks, their episodes (as many rows for the first task, then for the next), and the episodes' length."""


def mt10(copies: int) -> Episodes:
    """The ten tasks; making them takes a quarter of a minute.

    Args:
        copies: Episodes per task side by side.

    Raises:
        ImportError: If metaworld is not installed, with the pip command.
    """
    return side_by_side(require("metaworld", extra="rl").MT10(seed=GOALS_SEED), copies)


def side_by_side(benchmark: Any, copies: int) -> Episodes:
    """The training tasks of one of Meta-World's benchmarks, such as `metaworld.MT1("reach-v3")`."""
    names = tuple(benchmark.train_classes)
    goals = {name: [goal for goal in benchmark.train_tasks if goal.env_name == name] for name in names}

    def episode(name: str) -> gymnasium.Env[Any, Any]:
        return _ChosenGoal(benchmark.train_classes[name](), goals[name])

    makers = [partial(episode, name) for name in names for _ in range(copies)]
    horizon = int(benchmark.train_classes[names[0]].max_path_length)
    return names, SyncVectorEnv(makers, autoreset_mode=AutoresetMode.DISABLED), horizon


class _ChosenGoal(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Chooses the positions of an episode by the seed of its `reset`, which Meta-World's own reset does not look at."""

    def __init__(self, environment: gymnasium.Env[Any, Any], goals: list[Any]) -> None:
        super().__init__(environment)
        self._goals = goals

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode; its positions are a function of the seed."""
        chosen = np.random.default_rng(seed).integers(len(self._goals))
        self.unwrapped.set_task(self._goals[chosen])  # type: ignore[attr-defined]
        return super().reset(seed=seed, options=options)
