"""Soft actor-critic for several tasks (Haarnoja et al. 2018, arXiv 1812.05905), with any combination of gradients.

One actor and one critic serve all tasks; every task has a temperature of its own. Both updates go through
`Aggregation.backward`: the critic's tasks are the squared errors against targets that are constants, the actor's
tasks are the costs of its actions, which may be negative.
"""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from networks import Acting, Actor, ActorObjective, Critic, Situations, actor_tasks, critic_tasks
from replay import Transitions
from torch import Tensor

from cotrain import Batch
from cotrain.aggregation import Aggregation, TransferenceAggregation

__all__ = ["Aggregations", "Learner", "SacSettings"]


@dataclass(frozen=True)
class SacSettings:
    """How the actor and the critic learn.

    Args:
        batch_size: Transitions of every task per update.
        width: Units in each hidden layer.
        learning_rate: Of Adam, for actor, critic and temperatures.
        discount: Of the reward one step later.
        averaging: Share of the critic in its running average, the target network, at every update.
        temperature: Of every task to begin with; rewards are at most 1, and 1 would drown them for 1,000 updates.
    """

    batch_size: int = 64
    width: int = 128
    learning_rate: float = 1e-3
    discount: float = 0.98
    averaging: float = 0.01
    temperature: float = 0.1


@dataclass(frozen=True)
class Aggregations:
    """How the tasks' gradients are combined: a new one for each, since they may remember what they saw.

    Args:
        critic: Losses are positive.
        actor: Losses may be negative: `TransferenceAggregation` needs `score="difference"`.
    """

    critic: Aggregation
    actor: Aggregation


class Learner:
    """An actor and a critic for T tasks.

    Args:
        names: The tasks.
        n_observations: Numbers in an observation.
        n_actions: Numbers in an action.
        aggregations: How the tasks' gradients are combined.
        settings: How to learn.
        seed: Of the initial networks and of all noise.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        n_observations: int,
        n_actions: int,
        aggregations: Aggregations,
        settings: SacSettings,
        seed: int,
    ) -> None:
        sizes = len(names), n_observations, n_actions, settings.width
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.actor, self.critic = Actor(*sizes), Critic(*sizes)
        self.target = copy.deepcopy(self.critic).requires_grad_(False)
        self.log_temperature = torch.full((len(names),), math.log(settings.temperature), requires_grad=True)
        self.aggregations, self.settings = aggregations, settings
        self._n_actions = n_actions
        self._objective = ActorObjective(self.actor, self.critic.lowest)
        self._critic_tasks, self._actor_tasks = critic_tasks(names), actor_tasks(names)
        self._critic_optimizer, self._actor_optimizer, self._temperature_optimizer = (
            torch.optim.Adam(parameters, lr=settings.learning_rate, fused=True)
            for parameters in (self.critic.parameters(), self.actor.parameters(), [self.log_temperature])
        )
        for aggregation, optimizer in (
            (aggregations.critic, self._critic_optimizer),
            (aggregations.actor, self._actor_optimizer),
        ):
            if isinstance(aggregation, TransferenceAggregation):
                aggregation.follow(optimizer)
        self._generator = torch.Generator().manual_seed(seed)

    @property
    def n_tasks(self) -> int:
        """T."""
        return len(self._critic_tasks)

    @torch.no_grad()
    def act(self, observations: Tensor, task: Tensor, *, explore: bool) -> Tensor:
        """Actions [B, n_actions] in situations of the tasks with numbers [B]: drawn, or the most likely ones."""
        situations = Situations(observations, task, self.n_tasks)
        if not explore:
            return self.actor.most_likely(situations)
        actions: Tensor = self.actor(situations, self._noise(len(task)))[0]
        return actions

    def random_actions(self, n_rows: int) -> Tensor:
        """Uniform actions [n_rows, n_actions], to begin with."""
        return 2 * torch.rand(n_rows, self._n_actions, generator=self._generator) - 1

    def update(self, transitions: Transitions) -> tuple[Tensor, Tensor]:
        """One step of the critic, of the actor and of the temperatures.

        Args:
            transitions: Rows of all tasks.

        Returns:
            The critic's and the actor's losses, [T] each.
        """
        rows = torch.arange(len(transitions.task))
        here = Situations(transitions.observations, transitions.task, self.n_tasks)
        own = torch.full((len(rows), self.n_tasks), torch.nan)  # NaN: the row is none of this task's
        critic_targets = own.scatter(1, transitions.task[:, None], self._critic_targets(transitions)[:, None])
        questions: Any = here, transitions.actions  # a model of cotrain may take anything
        self._critic_optimizer.zero_grad()
        critic_losses = self.aggregations.critic.backward(
            self.critic, self._critic_tasks, Batch(rows, questions, critic_targets)
        )
        self._critic_optimizer.step()

        acting: Any = Acting(here, self._noise(len(rows)), self._temperature(transitions.task))
        actor_targets = own.scatter(1, transitions.task[:, None], 0.0)
        self._actor_optimizer.zero_grad()
        actor_losses = self.aggregations.actor.backward(
            self._objective, self._actor_tasks, Batch(rows, acting, actor_targets)
        )
        self._actor_optimizer.step()
        self._step_temperatures(acting)
        self._step_target()
        return critic_losses, actor_losses

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed training needs."""
        return {
            **{name: part.state_dict() for name, part in self._parts().items()},
            "log_temperature": self.log_temperature.detach().clone(),
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state, exactly as if there had been no interruption."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        with torch.no_grad():
            self.log_temperature.copy_(state["log_temperature"])
        self._generator.set_state(state["generator"])

    def _parts(self) -> dict[str, Any]:
        return {
            "actor": self.actor,
            "critic": self.critic,
            "target": self.target,
            "critic_optimizer": self._critic_optimizer,
            "actor_optimizer": self._actor_optimizer,
            "temperature_optimizer": self._temperature_optimizer,
            "critic_aggregation": self.aggregations.critic,
            "actor_aggregation": self.aggregations.actor,
        }

    def _noise(self, n_rows: int) -> Tensor:
        return torch.randn(n_rows, self._n_actions, generator=self._generator)

    def _temperature(self, task: Tensor) -> Tensor:
        return self.log_temperature.detach().exp()[task]

    @torch.no_grad()
    def _critic_targets(self, transitions: Transitions) -> Tensor:
        """[B] rewards and the discounted value of the next situation: its action's value and what its entropy is worth.

        No episode ends by itself, so none of them has a last value of 0.
        """
        then = Situations(transitions.following, transitions.task, self.n_tasks)
        actions, density = self.actor(then, self._noise(len(transitions.task)))
        value: Tensor = self.target.lowest(then, actions) - self._temperature(transitions.task) * density
        return transitions.rewards + self.settings.discount * value

    def _step_temperatures(self, acting: Acting) -> None:
        """Towards an entropy of minus the number of actions, task by task."""
        with torch.no_grad():
            _, density = self.actor(acting.situations, acting.noise)
        surplus = self._n_actions - density
        self._temperature_optimizer.zero_grad()
        (self.log_temperature[acting.situations.task] * surplus).mean().mul(self.n_tasks).backward()
        self._temperature_optimizer.step()

    @torch.no_grad()
    def _step_target(self) -> None:
        pairs = zip(self.target.parameters(), self.critic.parameters(), strict=True)
        for average, value in pairs:
            average.lerp_(value, self.settings.averaging)
