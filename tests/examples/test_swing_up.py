"""The pendulums and cart-poles obey mechanics, and step as one array as they do one by one."""

import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium", reason='needs gymnasium: pip install "cotrain[rl]"')

from gymnasium.utils.env_checker import check_env  # noqa: E402 - after the check that it is there
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from swing_up import (  # noqa: E402
    HORIZON,
    RODS,
    TRACK,
    UNITS,
    SwingUpVector,
    advanced,
    energy,
    registered,
    reward,
    slope,
    stopped,
)

NAMES = tuple(RODS)
SEEDS = st.integers(0, 2**32 - 1)
STEP = 1e-6


def some_state(seed: int) -> np.ndarray:
    """[4, 5] one state of every task, a cart near the middle of its track."""
    spread = np.array([[np.pi], [4.0], [0.2], [0.5]])
    state = np.random.default_rng(seed).uniform(-1, 1, (4, len(NAMES))) * spread
    state[2:] *= SwingUpVector(NAMES).physics["cart"] > 0
    return state


@given(SEEDS)
def test_without_a_drive_energy_is_conserved_to_the_order_of_the_method(seed: int) -> None:
    physics = SwingUpVector(NAMES).physics
    start = some_state(seed)
    before = energy(start, physics)

    def largest_error(steps: int) -> float:
        state, largest = start, 0.0
        for _ in range(steps):
            state = advanced(state, np.zeros(len(NAMES)), physics, 1.0 / steps)
            largest = max(largest, float(np.abs(energy(state, physics) - before).max()))
        return largest

    coarse, fine = largest_error(20), largest_error(40)
    assert fine < 1e-3
    assert fine < coarse / 8


@given(SEEDS, st.floats(-10, 10))
def test_energy_changes_by_the_power_of_the_drive_alone(seed: int, force: float) -> None:
    physics = SwingUpVector(NAMES).physics
    state = some_state(seed)
    drive = np.full(len(NAMES), force)
    rate = slope(state, drive, physics)
    ahead, behind = (energy(state + way * STEP * rate, physics) for way in (1, -1))
    power = drive * np.where(physics["cart"] > 0, state[3], state[1])
    np.testing.assert_allclose((ahead - behind) / (2 * STEP), power, atol=1e-6, rtol=1e-6)


@given(SEEDS, st.floats(-1, 1))
def test_what_is_mirrored_moves_as_in_a_mirror(seed: int, action: float) -> None:
    left, right = SwingUpVector(NAMES), SwingUpVector(NAMES)
    left.state = some_state(seed)
    right.state = -left.state
    actions = np.full((len(NAMES), 1), action)
    for _ in range(5):
        seen, rewards, *_ = left.step(actions)
        mirrored, the_same, *_ = right.step(-actions)
    np.testing.assert_allclose(mirrored, seen * [1, -1, -1, -1, -1], atol=1e-9)
    np.testing.assert_allclose(the_same, rewards, atol=1e-9)


@given(SEEDS)
def test_a_batched_step_is_that_of_each_row_by_itself(seed: int) -> None:
    rows = [*NAMES, "pendulum"]
    together = SwingUpVector(rows)
    together.reset(seed=seed)
    alone = [SwingUpVector([name]) for name in rows]
    for number, one in enumerate(alone):
        one.state = together.state[:, [number]]
    draws = np.random.default_rng(seed)
    for _ in range(5):
        actions = draws.uniform(-1, 1, (len(rows), 1))
        seen, rewards, *_ = together.step(actions)
        single = [one.step(actions[[number]]) for number, one in enumerate(alone)]
        np.testing.assert_allclose(seen, np.concatenate([step[0] for step in single]), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(rewards, np.concatenate([step[1] for step in single]), rtol=1e-12, atol=1e-12)


def test_actions_beyond_the_bounds_are_those_at_the_bounds() -> None:
    one, other = SwingUpVector(NAMES), SwingUpVector(NAMES)
    one.reset(seed=0)
    other.reset(seed=0)
    seen, *_ = one.step(np.full((5, 1), 7.0))
    bounded, *_ = other.step(np.full((5, 1), 1.0))
    np.testing.assert_array_equal(seen, bounded)


def test_the_end_of_the_track_stops_the_cart() -> None:
    carts = SwingUpVector(["cartpole"])
    carts.reset(seed=0)
    for _ in range(HORIZON):
        seen, *_ = carts.step(np.ones((1, 1)))
    assert carts.state[2, 0] == TRACK
    assert carts.state[3, 0] == 0
    assert abs(seen[0, 3] * UNITS[3]) == TRACK


@given(SEEDS)
def test_rewards_lie_between_hanging_and_standing_still(seed: int) -> None:
    state = stopped(some_state(seed) * [[2], [5], [20], [20]])
    assert ((reward(state) >= 0) & (reward(state) < 1)).all()
    assert reward(np.zeros((4, 1))) == 1
    assert reward(np.array([[np.pi], [0.0], [0.0], [0.0]])) == pytest.approx(0)


def test_starts_follow_from_the_seed_alone_and_may_be_hanging() -> None:
    rods = SwingUpVector(NAMES)
    first, _ = rods.reset(seed=3)
    rods.step(np.ones((5, 1)))
    again, _ = rods.reset(seed=3)
    other, _ = rods.reset(seed=4)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any(1).all()
    hanging, _ = rods.reset(seed=3, options={"hanging": True})
    assert (hanging[:, 0] < -0.99).all()


@pytest.mark.parametrize("name", registered())
def test_gymnasium_finds_nothing_wrong(name: str) -> None:
    environment = gymnasium.make(name)
    check_env(environment.unwrapped, skip_render_check=True)
    environment.reset(seed=0)
    steps = [environment.step(np.zeros(1)) for _ in range(HORIZON)]
    assert [truncated for *_, truncated, _ in steps] == [False] * (HORIZON - 1) + [True]
    assert not any(terminated for _, _, terminated, *_ in steps)
