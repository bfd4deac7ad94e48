"""One training: rounds of episodes with updates in between, scores on the way, and a checkpoint after every round."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from replay import Replay
from sac import Aggregations, Learner, SacSettings
from suites import Suite, seed_of

from cotrain.aggregation.described import described
from cotrain.files import read_state, write_state

__all__ = ["Curve", "train"]

CAPACITY = 100_000
"""Transitions per task that are kept."""

TRAIN, TEST = 0, 1
"""Kinds of episodes: their seeds have nothing in common."""


@dataclass(frozen=True)
class Curve:
    """How well the tasks were solved on the way.

    Args:
        names: The tasks.
        steps: [K] actions per row of environments at which was scored.
        rewards: [K, T] mean reward per step, 0 to 1, of test episodes without noise.
        success: [K, T] share of those episodes in which the task reported a success; 0 where tasks report none.
        seconds: That the updates took, in all parts of a resumed training together.
        updates: Number of updates.
    """

    names: tuple[str, ...]
    steps: list[int]
    rewards: list[list[float]]
    success: list[list[float]]
    seconds: float
    updates: int

    @property
    def milliseconds(self) -> float:
        """Per update."""
        return 1e3 * self.seconds / max(self.updates, 1)


def train(
    suite: Suite,
    aggregations: Aggregations,
    *,
    steps: int,
    random_steps: int,
    score_every: int,
    settings: SacSettings,
    seed: int,
    checkpoint: Path | None = None,
    max_seconds: float = float("inf"),
    progress: Callable[[Curve], None] = lambda _: None,
) -> tuple[Curve, Learner]:
    """Train on all tasks at once: at every step an action in every row of environments, then one update.

    Args:
        suite: The tasks.
        aggregations: How the tasks' gradients are combined; new ones.
        steps: Actions per row in all; rounded up to whole episodes, of which a round has one per row.
        random_steps: Actions per row before the first update, drawn uniformly; rounded up likewise.
        score_every: Rounds between two scores; the last round is scored too.
        settings: How to learn.
        seed: Of everything random.
        checkpoint: A file for the state after every round. If it is there the training goes on from it, and ends as
            it would have without an interruption.
        max_seconds: Stop after the round in which so much time has passed; with a checkpoint it can go on later.
        progress: Called with the curve so far whenever there is a new score.

    Raises:
        ValueError: If the checkpoint belongs to a training with other settings.
        StudyError: If the checkpoint is damaged.
    """
    began = time.perf_counter()
    about = {
        **asdict(settings), "names": list(suite.names), "copies": suite.copies, "seed": seed,
        "random_steps": random_steps, "score_every": score_every,
        "aggregations": [described(aggregations.critic), described(aggregations.actor)],
    }  # fmt: skip
    learner = Learner(suite.names, suite.n_observations, suite.n_actions, aggregations, settings, seed)
    replay = Replay(len(suite.names), suite.copies, suite.n_observations, suite.n_actions, CAPACITY)
    generator = torch.Generator().manual_seed(seed_of(seed, TRAIN))
    curve, done = Curve(suite.names, [], [], [], 0.0, 0), 0
    if checkpoint is not None and checkpoint.exists():
        state = read_state(checkpoint)
        if state["about"] != about:
            raise ValueError(
                f"{checkpoint} belongs to another training. It was {state['about']}, this is {about}."
                " Give another file."
            )
        learner.load_state_dict(state["learner"])
        replay.load_state_dict(state["replay"])
        generator.set_state(state["generator"])
        curve, done = Curve(**{**state["curve"], "names": suite.names}), state["rounds"]
    rounds = -(-steps // suite.horizon)
    while done < rounds:
        learns = done * suite.horizon >= random_steps
        seconds = _round(suite, learner, replay, generator, seed_of(seed, TRAIN, done), learns=learns)
        done += 1
        curve = replace(curve, seconds=curve.seconds + seconds, updates=curve.updates + learns * suite.horizon)
        if done % score_every == 0 or done == rounds:
            curve = _scored(curve, done * suite.horizon, *_scores(suite, learner, seed_of(seed, TEST)))
            progress(curve)
        if checkpoint is not None:
            state = {"about": about, "rounds": done, "learner": learner.state_dict(), "replay": replay.state_dict()}
            write_state(checkpoint, {**state, "generator": generator.get_state(), "curve": asdict(curve)})
        if time.perf_counter() - began > max_seconds:
            break
    return curve, learner


def _scored(curve: Curve, step: int, rewards: list[float], success: list[float]) -> Curve:
    return replace(
        curve, steps=[*curve.steps, step], rewards=[*curve.rewards, rewards], success=[*curve.success, success]
    )


def _round(
    suite: Suite, learner: Learner, replay: Replay, generator: torch.Generator, seed: int, *, learns: bool
) -> float:
    """One episode in every row, with an update after every step once it learns; the seconds of the updates."""
    task = torch.arange(len(suite.names)).repeat_interleave(suite.copies)
    seconds = 0.0
    observations = torch.from_numpy(suite.reset(seed))
    for _ in range(suite.horizon):
        actions = learner.act(observations, task, explore=True) if learns else learner.random_actions(len(task))
        following, rewards, _ = suite.step(actions.numpy())
        replay.add(observations, actions, torch.from_numpy(rewards), torch.from_numpy(following))
        observations = torch.from_numpy(following)
        if learns:
            before = time.perf_counter()
            learner.update(replay.sample(learner.settings.batch_size, generator))
            seconds += time.perf_counter() - before
    return seconds


def _scores(suite: Suite, learner: Learner, seed: int) -> tuple[list[float], list[float]]:
    """By task the mean reward per step, and the share of successful episodes, without noise; always the same starts."""
    task = torch.arange(len(suite.names)).repeat_interleave(suite.copies)
    observations = suite.reset(seed, test=True)
    total, ever = np.zeros(len(task)), np.zeros(len(task), dtype=bool)
    for _ in range(suite.horizon):
        actions = learner.act(torch.from_numpy(observations), task, explore=False)
        observations, rewards, success = suite.step(actions.numpy())
        total += rewards
        ever |= success

    def by_task(values: Any) -> list[float]:
        return [float(value) for value in np.asarray(values, dtype=float).reshape(-1, suite.copies).mean(1)]

    return by_task(total / suite.horizon), by_task(ever)
