"""One actor and one critic for all tasks, as modules whose outputs cotrain takes: a column, or two, per task."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cotrain import SharedTrunk, Task, TaskSet

__all__ = ["Acting", "Actor", "ActorObjective", "Critic", "Situations", "actor_tasks", "critic_tasks"]

LOG_STD = -5.0, 2.0
"""Between which the logarithm of the actor's standard deviation lies, as in common implementations of SAC."""

TWINS = 2
"""Critics, of which the lower one counts (Fujimoto et al. 2018)."""


@dataclass(frozen=True, eq=False)
class Situations:
    """Rows of several tasks.

    Args:
        observations: [B, n_observations].
        task: [B] the number of each row's task.
        n_tasks: T.
    """

    observations: Tensor
    task: Tensor
    n_tasks: int

    @property
    def inputs(self) -> Tensor:
        """[B, n_observations + T], the observation and which task it is."""
        return torch.cat([self.observations, F.one_hot(self.task, self.n_tasks).to(self.observations)], dim=1)

    def of_own_task(self, packed: Tensor) -> Tensor:
        """[B, k] of each row's own task, from a head of k numbers per task [B, T * k]."""
        by_task = packed.unflatten(1, (self.n_tasks, -1))
        own: Tensor = by_task.gather(1, self.task[:, None, None].expand(-1, 1, by_task.shape[2])).squeeze(1)
        return own


class Critic(nn.Module):
    """Twin critics, each a trunk for all tasks with a head per task.

    Called with situations and actions, it gives the twins' values of every task's head, packed [B, T * 2].

    Args:
        n_tasks: T.
        n_observations: Numbers in an observation.
        n_actions: Numbers in an action.
        width: Units in each of the two hidden layers.
    """

    def __init__(self, n_tasks: int, n_observations: int, n_actions: int, width: int) -> None:
        super().__init__()
        one_each = [Task(str(number), "regression") for number in range(n_tasks)]
        self.twins = nn.ModuleList(
            SharedTrunk(_trunk(n_observations + n_tasks + n_actions, width), one_each, width) for _ in range(TWINS)
        )

    def forward(self, inputs: tuple[Situations, Tensor]) -> Tensor:
        """Packed values [B, T * 2]: of the first task by both twins, then of the next."""
        situations, actions = inputs
        together = torch.cat([situations.inputs, actions], dim=1)
        return torch.stack([twin(together) for twin in self.twins], dim=2).flatten(1)

    def lowest(self, situations: Situations, actions: Tensor) -> Tensor:
        """[B] the lower of the twins' values for each row's own task."""
        first, second = situations.of_own_task(self((situations, actions))).unbind(1)
        return torch.minimum(first, second)


class Actor(nn.Module):
    """A Gaussian that is squashed to [-1, 1], from a trunk for all tasks with a head per task.

    Args:
        n_tasks: T.
        n_observations: Numbers in an observation.
        n_actions: Numbers in an action.
        width: Units in each of the two hidden layers.
    """

    def __init__(self, n_tasks: int, n_observations: int, n_actions: int, width: int) -> None:
        super().__init__()
        heads = [Task(str(number), "regression", 2 * n_actions) for number in range(n_tasks)]
        self.body = SharedTrunk(_trunk(n_observations + n_tasks, width), heads, width)

    def forward(self, situations: Situations, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Actions [B, n_actions] for standard normal noise of their shape, and their log density [B]."""
        mean, spread = situations.of_own_task(self.body(situations.inputs)).chunk(2, dim=1)
        low, high = LOG_STD
        log_std = low + (high - low) / 2 * (1 + torch.tanh(spread))
        raw = mean + log_std.exp() * noise
        normal = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
        # log(1 - tanh(x)^2), without the rounding of tanh near 1.
        squashed = 2 * (math.log(2) - raw - F.softplus(-2 * raw))
        return torch.tanh(raw), (normal - squashed).sum(1)

    def most_likely(self, situations: Situations) -> Tensor:
        """[B, n_actions] the actions without noise."""
        mean, _ = situations.of_own_task(self.body(situations.inputs)).chunk(2, dim=1)
        return torch.tanh(mean)


@dataclass(frozen=True, eq=False)
class Acting:
    """What an actor is asked at an update. The noise is given, so the same question always has the same answer.

    Args:
        situations: The rows.
        noise: [B, n_actions] standard normal.
        temperature: [B] what a unit of log density costs in each row's task.
    """

    situations: Situations
    noise: Tensor
    temperature: Tensor


class ActorObjective(nn.Module):
    """What the actor minimises, a column per task: the temperature times the log density, less the action's value.

    Args:
        actor: What is trained.
        value: From situations and actions to values [B], such as `critic.lowest`: a function, so that the critic's
            parameters are none of this module.
    """

    def __init__(self, actor: Actor, value: Callable[[Situations, Tensor], Tensor]) -> None:
        super().__init__()
        self.actor, self._value = actor, value

    def forward(self, acting: Acting) -> Tensor:
        """[B, T]: each row's cost in the column of its task, 0 in the others."""
        situations = acting.situations
        actions, density = self.actor(situations, acting.noise)
        costs = acting.temperature * density - self._value(situations, actions)
        own = F.one_hot(situations.task, situations.n_tasks).bool()
        return torch.where(own, costs[:, None], 0)


def critic_tasks(names: tuple[str, ...]) -> TaskSet:
    """The critic's tasks: the mean squared error of the twins, for targets that are constants."""
    return TaskSet(Task(name, "custom", TWINS, loss=_squared_error) for name in names)


def actor_tasks(names: tuple[str, ...]) -> TaskSet:
    """The actor's tasks: what `ActorObjective` gives is the loss. It may be negative."""
    return TaskSet(Task(name, "custom", loss=_cost) for name in names)


def _squared_error(values: Tensor, targets: Tensor) -> Tensor:
    return (values - targets[:, None]).square().mean(1)


def _cost(costs: Tensor, targets: Tensor) -> Tensor:  # noqa: ARG001 - a target only says which rows are the task's
    return costs[:, 0]


def _trunk(n_inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(n_inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
