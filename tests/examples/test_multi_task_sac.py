"""The multi-task SAC of the examples: exact against a plain reference, any aggregation, resumed as uninterrupted."""

import copy
import json
import math
import runpy
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("gymnasium", reason='needs gymnasium: pip install "cotrain[rl]"')
pytest.importorskip("matplotlib", reason='needs matplotlib: pip install "cotrain[rl]"')

import numpy as np
from comparison import Outcome, aggregations_of, table
from meta_world import side_by_side
from networks import Acting, Situations
from picture import draw_curves
from replay import Replay, Transitions
from sac import Aggregations, Learner, SacSettings
from suites import Suite, make_suite
from training import Curve, train

from cotrain import Batch, shared_parameters
from cotrain.aggregation import Sum, TransferenceAggregation
from cotrain.files import read_state

EXAMPLE = Path(__file__).parents[2] / "examples" / "multi_task_rl"
THREE = ("sum", "pcgrad", "transference")
NAMES = ("first", "second", "third")
SMALL = SacSettings(batch_size=4, width=8)
AT_ONCE = {"random_steps": 0, "score_every": 1, "settings": SMALL, "seed": 0}


def some_transitions(n_per_task: int = 6, seed: int = 0) -> Transitions:
    generator = torch.Generator().manual_seed(seed)
    n = len(NAMES) * n_per_task
    return Transitions(
        observations=torch.randn(n, 4, generator=generator),
        actions=2 * torch.rand(n, 2, generator=generator) - 1,
        rewards=torch.rand(n, generator=generator),
        following=torch.randn(n, 4, generator=generator),
        task=torch.arange(len(NAMES)).repeat_interleave(n_per_task),
    )


def some_learner(name: str = "sum", seed: int = 0) -> Learner:
    return Learner(NAMES, 4, 2, aggregations_of(name), SMALL, seed)


@pytest.fixture
def suite() -> Suite:
    """The light tasks with episodes of a few steps."""
    return replace(make_suite("swing-up", copies=2), horizon=6)


def test_an_update_by_the_plain_sum_is_that_of_sac_written_down_task_by_task() -> None:
    learner = some_learner()
    learner.target.load_state_dict({name: value / 2 for name, value in learner.target.state_dict().items()})
    plain = copy.deepcopy(learner)
    transitions = some_transitions()
    critic_losses, actor_losses = learner.update(transitions)

    noise = torch.Generator()
    noise.set_state(plain._generator.get_state())
    rows = len(transitions.task)
    first, second = (torch.randn(rows, 2, generator=noise) for _ in range(2))
    temperature = plain.log_temperature.detach().exp()
    expected_critic, expected_actor = [], []
    for number in range(len(NAMES)):
        mine = transitions.task == number
        here, then = (
            Situations(observations[mine], transitions.task[mine], len(NAMES))
            for observations in (transitions.observations, transitions.following)
        )
        with torch.no_grad():
            action, density = plain.actor(then, first[mine])
            twins = plain.target((then, action))[:, 2 * number : 2 * number + 2]
            wanted = transitions.rewards[mine] + 0.98 * (twins.min(1).values - temperature[number] * density)
        values = plain.critic((here, transitions.actions[mine]))[:, 2 * number : 2 * number + 2]
        expected_critic.append(((values - wanted[:, None]) ** 2).mean())
    torch.stack(expected_critic).sum().backward()
    torch.optim.Adam(plain.critic.parameters(), lr=1e-3).step()
    densities = []
    for number in range(len(NAMES)):
        mine = transitions.task == number
        here = Situations(transitions.observations[mine], transitions.task[mine], len(NAMES))
        action, density = plain.actor(here, second[mine])
        value = plain.critic((here, action))[:, 2 * number : 2 * number + 2].min(1).values
        expected_actor.append((temperature[number] * density - value).mean())
    torch.stack(expected_actor).sum().backward()
    torch.optim.Adam(plain.actor.parameters(), lr=1e-3).step()
    for number in range(len(NAMES)):
        mine = transitions.task == number
        here = Situations(transitions.observations[mine], transitions.task[mine], len(NAMES))
        densities.append(plain.actor(here, second[mine])[1].mean().detach())
    cost = sum(log * (2 - density) for log, density in zip(plain.log_temperature, densities, strict=True))
    cost.backward()
    torch.optim.Adam([plain.log_temperature], lr=1e-3).step()

    torch.testing.assert_close(critic_losses, torch.stack(expected_critic).detach())
    torch.testing.assert_close(actor_losses, torch.stack(expected_actor).detach())
    for part in ("actor", "critic"):
        torch.testing.assert_close(getattr(learner, part).state_dict(), getattr(plain, part).state_dict())
    torch.testing.assert_close(learner.log_temperature, plain.log_temperature)
    for average, value, before in zip(
        learner.target.parameters(), learner.critic.parameters(), plain.target.parameters(), strict=True
    ):
        torch.testing.assert_close(average, before + 0.01 * (value - before))


def test_the_actors_density_is_that_of_its_actions() -> None:
    """Against PyTorch's own transformed distribution."""
    learner, transitions = some_learner(), some_transitions()
    situations = Situations(transitions.observations, transitions.task, len(NAMES))
    noise = torch.randn(len(transitions.task), 2, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        actions, density = learner.actor(situations, noise)
        mean, spread = situations.of_own_task(learner.actor.body(situations.inputs)).chunk(2, dim=1)
        normal = torch.distributions.Normal(mean, (-1.5 + 3.5 * torch.tanh(spread)).exp())
        squashed = torch.distributions.TransformedDistribution(
            normal, [torch.distributions.TanhTransform(cache_size=1)]
        )
        torch.testing.assert_close(density, squashed.log_prob(actions).sum(1), atol=1e-3, rtol=1e-3)


def test_trunks_are_shared_and_heads_are_not() -> None:
    learner, transitions = some_learner(), some_transitions()
    rows = torch.arange(len(transitions.task))
    here = Situations(transitions.observations, transitions.task, len(NAMES))
    no_targets = torch.full((len(rows), len(NAMES)), torch.nan)
    acting = Acting(here, torch.zeros(len(rows), 2), torch.ones(len(rows)))
    for model, tasks, inputs in (
        (learner.critic, learner._critic_tasks, (here, transitions.actions)),
        (learner._objective, learner._actor_tasks, acting),
    ):
        shared = set(shared_parameters(model, tasks, Batch(rows, inputs, no_targets)))
        assert shared == {name for name, _ in model.named_parameters() if "trunk" in name}


@pytest.mark.parametrize("name", THREE)
def test_a_task_without_rows_keeps_its_heads(name: str) -> None:
    learner = some_learner(name)
    everything = some_transitions()
    here = everything.task != 1
    learner.update(Transitions(**{key: value[here] for key, value in vars(everything).items()}))
    fresh = some_learner(name)
    for part, width in (("actor", 4), ("critic", 1)):
        for key, value in getattr(learner, part).state_dict().items():
            before = getattr(fresh, part).state_dict()[key]
            if "heads" in key:
                unchanged = (value == before).flatten(1).all(1) if value.dim() > 1 else value == before
                assert unchanged.tolist() == [False] * width + [True] * width + [False] * width
            else:
                assert not torch.equal(value, before)


@pytest.mark.parametrize("name", THREE)
def test_all_noise_is_from_the_learners_own_generator(name: str) -> None:
    before = torch.get_rng_state()
    once, twice = some_learner(name), some_learner(name)
    once.update(some_transitions())
    torch.rand(3)
    twice.update(some_transitions())
    torch.set_rng_state(before)
    some_learner(name).update(some_transitions())
    assert torch.equal(torch.get_rng_state(), before)
    for key, value in once.actor.state_dict().items():
        assert torch.equal(value, twice.actor.state_dict()[key])


def test_the_lookahead_tries_the_step_of_the_own_optimizer() -> None:
    """The score of the joint step is what the losses really lose by it, shared parameters alone."""
    seen = []
    critic = TransferenceAggregation(candidates="log-sum", on_choice=lambda _: seen.append(critic.decision))
    learner = Learner(NAMES, 4, 2, Aggregations(critic, Sum()), SMALL, 0)
    transitions = some_transitions()
    before = copy.deepcopy(learner)
    losses, _ = learner.update(transitions)
    scores = seen[0].scores
    stepped = {
        name: learner.critic.state_dict()[name] if "trunk" in name else value
        for name, value in before.critic.state_dict().items()
    }
    before.critic.load_state_dict(stepped)
    before.aggregations = Aggregations(Sum(), Sum())
    after, _ = before.update(transitions)  # draws the noise of the first update again
    assert float((1 - after / losses).sum()) == pytest.approx(scores[seen[0].picked], rel=1e-3)


@pytest.mark.parametrize("name", THREE)
def test_a_resumed_training_ends_as_an_uninterrupted_one(
    name: str, suite: Suite, tmp_path: Path, assert_same: Callable[[object, object], None]
) -> None:
    settings = {**AT_ONCE, "random_steps": 6}
    train(suite, aggregations_of(name), steps=24, checkpoint=tmp_path / "whole", **settings)
    for steps in (12, 24):
        curve, _ = train(suite, aggregations_of(name), steps=steps, checkpoint=tmp_path / "parts", **settings)
    whole, parts = read_state(tmp_path / "whole"), read_state(tmp_path / "parts")
    assert whole["curve"].pop("seconds") > 0
    assert parts["curve"].pop("seconds") == curve.seconds > 0
    assert_same(whole, parts)
    assert curve.updates == 18
    assert curve.steps == [6, 12, 18, 24]


def test_time_that_is_up_ends_a_training_after_its_round(suite: Suite, tmp_path: Path) -> None:
    begun = {"steps": 18, "checkpoint": tmp_path / "state", **AT_ONCE}
    steps = [train(suite, aggregations_of("sum"), max_seconds=1e-9, **begun)[0].steps for _ in range(4)]
    assert steps == [[6], [6, 12], [6, 12, 18], [6, 12, 18]]


def test_a_checkpoint_of_another_training_is_refused(suite: Suite, tmp_path: Path) -> None:
    train(suite, aggregations_of("sum"), steps=6, checkpoint=tmp_path / "state", **AT_ONCE)
    with pytest.raises(ValueError, match="belongs to another training"):
        train(suite, aggregations_of("pcgrad"), steps=6, checkpoint=tmp_path / "state", **AT_ONCE)


def test_seeds_differ_and_scores_do_not_disturb(suite: Suite) -> None:
    ends = []
    for changed in ({}, {"score_every": 3}, {"seed": 1}):
        _, learner = train(suite, aggregations_of("sum"), steps=18, **{**AT_ONCE, **changed})
        ends.append(learner.actor.body.heads.weight)
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


@given(st.integers(1, 3), st.integers(1, 7), st.integers(1, 12))
def test_a_replay_holds_the_latest_transitions_of_each_task(copies: int, rounds: int, capacity: int) -> None:
    replay = Replay(2, copies, 1, 1, capacity * copies)
    for step in range(rounds):
        rows = torch.arange(2.0).repeat_interleave(copies)[:, None] * 100 + step
        replay.add(rows, rows, rows[:, 0], rows)
    drawn = replay.sample(200, torch.Generator().manual_seed(0))
    assert torch.equal(drawn.task, torch.arange(2).repeat_interleave(200))
    held = set(range(max(rounds - capacity, 0), rounds))
    for task in (0, 1):
        assert {int(value) - 100 * task for value in drawn.rewards[drawn.task == task]} == held
    assert torch.equal(drawn.observations, drawn.following)
    again = Replay(2, copies, 1, 1, capacity * copies)
    again.load_state_dict(replay.state_dict())
    assert torch.equal(again.sample(200, torch.Generator().manual_seed(0)).rewards, drawn.rewards)


def outcome(rewards: list[float], seconds: float = 1.0) -> Outcome:
    """Two tasks that are both rewarded by these."""
    curve = Curve(("a", "b"), [10, 20], [[0.0, 0.0], rewards], [[0.0, 0.0], [1.0, 0.0]], seconds, 100)
    return Outcome(curve, None)


def test_the_table_gives_means_and_students_intervals() -> None:
    base = [outcome([0.2, 0.4]), outcome([0.4, 0.6])]
    other = [outcome([0.4, 0.6]), outcome([0.6, 0.8])]
    lines = table({"sum": base, "other": other}, with_success=True).splitlines()
    # Means over the two scores and the two tasks: .15 and .25 against .25 and .35; t of one degree of freedom is 12.7.
    half = 12.706 * math.sqrt(0.005) / math.sqrt(2)
    assert (
        lines[2]
        == f"| sum | 0.200 ± {half:.3f} |  | 0.150 ± {half:.3f} | 0.200 ± {half:.3f} | 0.250 ± 0.000 | 10 ± 0 |  |"
    )
    assert lines[3].split(" | ")[2] == "0.100 ± 0.000"
    assert "±" not in table({"sum": base[:1]}, with_success=False)


def test_the_curves_are_drawn(tmp_path: Path) -> None:
    draw_curves({"sum": [outcome([0.2, 0.4]).curve], "other": [outcome([0.5, 0.4]).curve]}, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_an_unknown_suite_is_refused() -> None:
    with pytest.raises(ValueError, match="swing-up, mt10"):
        make_suite("mt11", 1)


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--steps", "200", "--random-steps", "0", "--seeds", "0", "--aggregations", "sum", "--out"]
    monkeypatch.setattr(sys, "argv", ["multi_task_rl", *arguments, str(tmp_path)])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert "| sum | 0." in capsys.readouterr().out
    assert (tmp_path / "curves.png").exists()
    assert json.loads((tmp_path / "sum-0.json").read_text())["curve"]["updates"] == 200


def test_episodes_of_meta_world_follow_from_the_seed_of_their_reset() -> None:
    """Shown on one of the ten tasks, since making all of them takes long."""
    metaworld = pytest.importorskip("metaworld", reason='needs metaworld: pip install "cotrain[rl]"')
    names, episodes, horizon = side_by_side(metaworld.MT1("push-v3", seed=0), copies=2)
    suite = Suite(names, episodes, 2, horizon, reports_success=True, reward_unit=10.0)
    assert (suite.names, suite.n_observations, suite.n_actions, suite.horizon) == (("push-v3",), 39, 4, 500)
    actions = np.random.default_rng(0).uniform(-1, 1, (20, 2, 4)).astype(np.float32)

    def episode(seed: int) -> np.ndarray:
        start = suite.reset(seed)
        steps = [suite.step(action) for action in actions]
        assert all(((rewards >= 0) & (rewards <= 1)).all() for _, rewards, _ in steps)
        return np.stack([start, *(observations for observations, _, _ in steps)])

    first, other, again = episode(1), episode(2), episode(1)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any((0, 2)).all()


def test_mt10_without_meta_world_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "metaworld", None)
    with pytest.raises(ImportError, match=r'pip install "cotrain\[rl\]"'):
        make_suite("mt10", 1)
