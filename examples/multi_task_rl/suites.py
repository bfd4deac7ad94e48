"""The sets of tasks: vectors of Gymnasium environments whose episodes all begin and end together."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv
from meta_world import mt10
from numpy.typing import NDArray
from swing_up import HORIZON, RODS, SwingUpVector

__all__ = ["SUITES", "Suite", "make_suite", "seed_of"]

SUITES = ("swing-up", "mt10")


@dataclass(frozen=True, eq=False)
class Suite:
    """Several tasks that are trained together.

    The state of an environment at the start of an episode follows from the seed of its `reset` alone, so a training
    that is stopped between two rounds of episodes needs to remember nothing of them.

    Args:
        names: The T tasks.
        environments: Their episodes side by side, `copies` rows for the first task, then for the next. No episode
            ends by itself: the horizon cuts all of them off.
        copies: Episodes per task.
        horizon: Actions per episode.
        reports_success: Whether the environments say which step solved the task.
        reward_unit: What rewards are divided by to lie between 0 and 1.
        test_options: Of the `reset` that starts the episodes which are scored.
    """

    names: tuple[str, ...]
    environments: VectorEnv[Any, Any, Any]
    copies: int
    horizon: int
    reports_success: bool = False
    reward_unit: float = 1.0
    test_options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def n_observations(self) -> int:
        """Numbers in an observation, equal for all tasks."""
        return int(np.prod(self.environments.single_observation_space.shape or ()))

    @property
    def n_actions(self) -> int:
        """Numbers in an action, each between -1 and 1."""
        return int(np.prod(self.environments.single_action_space.shape or ()))

    def reset(self, seed: int, *, test: bool = False) -> NDArray[np.float32]:
        """Start an episode in every row; observations [T * copies, n_observations]."""
        options = dict(self.test_options) if test else {}
        observations, _ = self.environments.reset(seed=seed, options=options)
        return np.asarray(observations, dtype=np.float32)

    def step(self, actions: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
        """One action in every row: observations, rewards in [0, 1], and whether the task reports a success."""
        observations, rewards, _, _, info = self.environments.step(actions)
        success = np.asarray(info.get("success", np.zeros(len(rewards))), np.float32) > 0
        return np.asarray(observations, np.float32), np.asarray(rewards / self.reward_unit, np.float32), success


def make_suite(name: str, copies: int) -> Suite:
    """A set of tasks by its name.

    Args:
        name: "swing-up", five pendulums and cart-poles, or "mt10", the ten robot-arm tasks of Meta-World.
        copies: Episodes per task that run side by side.

    Raises:
        ValueError: If there is no such set.
        ImportError: If Meta-World is not installed, with the pip command.
    """
    if name == "swing-up":
        rows = [task for task in RODS for _ in range(copies)]
        return Suite(tuple(RODS), SwingUpVector(rows), copies, HORIZON, test_options={"hanging": True})
    if name == "mt10":
        names, environments, horizon = mt10(copies)
        return Suite(names, environments, copies, horizon, reports_success=True, reward_unit=10.0)
    raise ValueError(f"There is no set of tasks {name!r}. There are {', '.join(SUITES)}.")


def seed_of(*parts: int) -> int:
    """One seed of 31 bits from several numbers, such as a training's seed and the number of its episode."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0] >> 1)
