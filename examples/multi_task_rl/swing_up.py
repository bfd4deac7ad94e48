"""Pendulums and cart-poles of different lengths and masses, to be swung up and held: all tasks step as one array.

A pendulum is Gymnasium's (a uniform rod on a driven pivot), a cart-pole is that of its classic control (Barto, Sutton
and Anderson, 1983), here with a continuous force and started from anywhere. Both are without friction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

Array = NDArray[np.float64]

GRAVITY = 9.81
INTERVAL = 0.05
"""Seconds between two actions, as in Gymnasium's Pendulum."""

SUBSTEPS = 2
"""Runge-Kutta steps per action."""

HORIZON = 200
"""Actions per episode."""

TRACK = 2.4
"""Metres from the middle of the cart's track to its ends, which stop it."""

MAX_SPEED = 15.0
"""Radians per second of a rod, metres per second of a cart: above what falling and one push along the track give."""

UNITS = np.array([1.0, 1.0, 8.0, TRACK, 4.0])
"""What observations are divided by, so that they are of the size of 1."""


@dataclass(frozen=True)
class Rod:
    """A rod and what drives it.

    Args:
        length: Metres, end to end.
        mass: Kilograms.
        drive: Newton metres at the pivot of a pendulum, or newtons on the cart: the force of action 1.
        cart: Kilograms of the cart; 0 for a pendulum, whose pivot is fixed.
    """

    length: float
    mass: float
    drive: float
    cart: float = 0.0


RODS: Mapping[str, Rod] = {
    "pendulum": Rod(length=1.0, mass=1.0, drive=2.0),
    "pendulum-short": Rod(length=0.7, mass=1.0, drive=1.5),
    "pendulum-heavy": Rod(length=1.0, mass=1.6, drive=3.0),
    "cartpole": Rod(length=1.0, mass=0.1, drive=10.0, cart=1.0),
    "cartpole-long": Rod(length=1.5, mass=0.3, drive=12.0, cart=1.0),
}
"""The five tasks. No pendulum is strong enough to be lifted at once: gravity pulls with 4.9, 3.4 and 7.8 N m."""


class SwingUpVector(VectorEnv[Array, Array, NDArray[Any]]):
    """Some rods at once. All episodes have the same length and end together; `reset` starts the next ones.

    Observations are [cos angle, sin angle, angular speed, position, speed] in `UNITS`, the angle measured from
    upright; actions in [-1, 1]; rewards in [0, 1], see `reward`. `reset(options={"hanging": True})` starts all rods
    hanging still but for a little noise, otherwise they start anywhere.

    Args:
        names: A name of `RODS` for every row.
    """

    metadata = {"autoreset_mode": AutoresetMode.DISABLED}  # noqa: RUF012 - Gymnasium declares it so

    def __init__(self, names: Sequence[str]) -> None:
        self.num_envs = len(names)
        rods = [RODS[name] for name in names]
        self.physics = {
            field.name: np.array([getattr(rod, field.name) for rod in rods], dtype=np.float64) for field in fields(Rod)
        }
        bounds = np.array([1.0, 1.0, MAX_SPEED, TRACK, MAX_SPEED]) / UNITS
        self.single_observation_space = Box(-bounds, bounds, dtype=np.float64)
        self.single_action_space = Box(-1.0, 1.0, (1,), np.float64)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.state = np.zeros((4, self.num_envs))
        self._steps = 0

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Start all episodes; with a seed their starts are a function of it alone."""
        super().reset(seed=seed if seed is None or isinstance(seed, int) else seed[0])
        spread = (
            np.array([[0.1], [0.1], [0.1], [0.1]])
            if (options or {}).get("hanging")
            else np.array([[np.pi], [1.0], [0.5 * TRACK], [0.5]])
        )
        self.state = spread * self.np_random.uniform(-1, 1, (4, self.num_envs))
        self.state[0] += np.pi
        self.state[2:] *= self.physics["cart"] > 0
        self._steps = 0
        return observed(self.state), {}

    def step(self, actions: Array) -> tuple[Array, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """One action [n, 1] for every row."""
        drive = np.clip(np.asarray(actions, dtype=np.float64)[:, 0], -1, 1) * self.physics["drive"]
        for _ in range(SUBSTEPS):
            self.state = stopped(advanced(self.state, drive, self.physics, INTERVAL / SUBSTEPS))
        self._steps += 1
        over = np.full(self.num_envs, self._steps >= HORIZON)
        return observed(self.state), reward(self.state), np.zeros_like(over), over, {}


class SwingUp(gymnasium.Env[Array, Array]):
    """One rod: a row of `SwingUpVector`.

    Args:
        name: One of `RODS`.
    """

    def __init__(self, name: str) -> None:
        self._rows = SwingUpVector([name])
        self.observation_space = self._rows.single_observation_space
        self.action_space = self._rows.single_action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Start an episode."""
        super().reset(seed=seed)
        observations, info = self._rows.reset(seed=seed, options=options)
        return observations[0], info

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """One action [1]."""
        observations, rewards, _, over, info = self._rows.step(np.asarray(action)[None])
        return observations[0], float(rewards[0]), False, bool(over[0]), info


def registered() -> list[str]:
    """Make the tasks known to `gymnasium.make`, once; their ids."""
    ids = [f"cotrain/{name}-v0" for name in RODS]
    for environment, name in zip(ids, RODS, strict=True):
        if environment not in gymnasium.registry:
            gymnasium.register(environment, entry_point=partial(SwingUp, name))
    return ids


def advanced(state: Array, drive: Array, physics: Mapping[str, Array], seconds: float) -> Array:
    """One step of the classical Runge-Kutta method.

    Args:
        state: [4, n] angle from upright, angular speed, position and speed of the cart.
        drive: [n] torque or force.
        physics: [n] by the fields of `Rod`.
        seconds: The step.
    """
    first = slope(state, drive, physics)
    second = slope(state + seconds / 2 * first, drive, physics)
    third = slope(state + seconds / 2 * second, drive, physics)
    fourth = slope(state + seconds * third, drive, physics)
    return state + seconds / 6 * (first + 2 * second + 2 * third + fourth)


def slope(state: Array, drive: Array, physics: Mapping[str, Array]) -> Array:
    """[4, n] time derivatives: of a pendulum by the torque at its pivot, of a cart-pole by the force on its cart."""
    angle, spin, _, speed = state
    half, mass, cart = physics["length"] / 2, physics["mass"], physics["cart"]
    sine, cosine = np.sin(angle), np.cos(angle)
    pendulum = (mass * GRAVITY * half * sine + drive) / (4 / 3 * mass * half**2)
    push = (drive + mass * half * spin**2 * sine) / (cart + mass)
    on_cart = (GRAVITY * sine - cosine * push) / (half * (4 / 3 - mass * cosine**2 / (cart + mass)))
    moves = cart > 0
    turning = np.where(moves, on_cart, pendulum)
    return np.stack([spin, turning, speed, moves * (push - mass * half * turning * cosine / (cart + mass))])


def stopped(state: Array) -> Array:
    """The state after the ends of the track have stopped the cart, and nothing is faster than it may be."""
    angle, spin, position, speed = state
    inside = np.abs(position) < TRACK
    return np.stack([
        (angle + np.pi) % (2 * np.pi) - np.pi,
        np.clip(spin, -MAX_SPEED, MAX_SPEED),
        np.clip(position, -TRACK, TRACK),
        np.where(inside, np.clip(speed, -MAX_SPEED, MAX_SPEED), 0.0),
    ])  # fmt: skip


def observed(state: Array) -> Array:
    """[n, 5] observations."""
    angle, spin, position, speed = state
    observations: Array = np.stack([np.cos(angle), np.sin(angle), spin, position, speed], axis=1) / UNITS
    return observations


def reward(state: Array) -> Array:
    """[n] in [0, 1]: 1 for a rod that stands still in the middle, 0 for one that hangs.

    A product, so that spinning through the top and standing at the end of the track are worth little.
    """
    angle, spin, position, _ = state
    rewards: Array = (1 + np.cos(angle)) / 2 / (1 + spin**2 / 10) * (1 - 0.5 * (position / TRACK) ** 2)
    return rewards


def energy(state: Array, physics: Mapping[str, Array]) -> Array:
    """[n] joules; constant without a drive and away from the ends of the track."""
    angle, spin, _, speed = state
    half, mass = physics["length"] / 2, physics["mass"]
    turning = 2 / 3 * mass * half**2 * spin**2 + mass * half * speed * spin * np.cos(angle)
    total: Array = turning + (physics["cart"] + mass) / 2 * speed**2 + mass * GRAVITY * half * np.cos(angle)
    return total
