import copy
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD, Adam
from transference_cases import MIXED, Net, aggregated, conflicting, gradients, mixed_batch, plain_gradients, quadratics

from cotrain import Batch, SharedTrunk, Task, TaskSet
from cotrain.aggregation.gradients import training_pass
from cotrain.aggregation.split import split_parameters
from cotrain.aggregation.transference_aggregation import TransferenceAggregation
from cotrain.aggregation.transference_candidates import JOINT, proposals
from cotrain.aggregation.transference_directions import FromPasses, FromRows, Replay
from cotrain.aggregation.transference_scores import Trial
from cotrain.lookahead import losses_at
from cotrain.model import random_state_kept


def both_ways(model, tasks, batch):
    """The same step from backward passes of sums and from all rows."""
    split = split_parameters(model, tasks, batch, None)
    replay = Replay.before(model, tasks, batch)
    run = training_pass(model, tasks, batch)
    return FromPasses(run, split, replay), FromRows.of(run, split)


def relative_slopes(passes, rows):
    losses = passes.run.losses.double()
    weights = torch.where(passes.run.present, 1 / losses, 0)
    return passes.slopes(weights), rows.slopes(weights), weights


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_slopes_by_two_passes_are_those_of_all_gradients(seed, training):
    torch.manual_seed(seed)
    model = Net().train(training)
    passes, rows = both_ways(model, MIXED, mixed_batch(seed))

    by_passes, by_rows, weights = relative_slopes(passes, rows)

    torch.testing.assert_close(by_passes, by_rows, rtol=1e-5, atol=1e-5 * float(by_rows.abs().max()))
    torch.testing.assert_close(rows.gramian @ weights[passes.run.present], by_rows[passes.run.present])
    one, other = passes.direction(weights), rows.direction(weights)
    assert one.square == pytest.approx(other.square, rel=1e-5)
    for name, value in one.values.items():
        torch.testing.assert_close(value, other.values[name], rtol=1e-4, atol=1e-5)


class NoForwardRule(torch.autograd.Function):
    @staticmethod
    def forward(ctx, inputs):
        ctx.save_for_backward(inputs)
        return inputs.tanh()

    @staticmethod
    def backward(ctx, sent):
        return sent * (1 - ctx.saved_tensors[0].tanh() ** 2)


class WrongForwardRule(NoForwardRule):
    @staticmethod
    def jvp(ctx, tangent):
        return -3 * tangent


class Wrong(nn.Module):
    def forward(self, inputs):
        return WrongForwardRule.apply(inputs)


class Odd(nn.Module):
    def forward(self, inputs):
        return NoForwardRule.apply(inputs)


TWO = TaskSet([Task("yes", "binary"), Task("no", "binary"), Task("much", "regression", location=0.0, scale=1.0)])


@pytest.mark.parametrize("middle", [Odd, Wrong])
def test_without_right_forward_rules_slopes_come_from_a_difference(middle):
    torch.manual_seed(0)
    model = SharedTrunk(nn.Sequential(nn.Linear(6, 8), middle(), nn.Linear(8, 8)), TWO, 8)
    targets = torch.stack([torch.rand(32) > 0.5, torch.rand(32) > 0.5, torch.randn(32)], 1).float()
    passes, rows = both_ways(model, TWO, Batch(torch.arange(32), torch.randn(32, 6), targets))
    by_passes, by_rows, _ = relative_slopes(passes, rows)
    torch.testing.assert_close(by_passes, by_rows, rtol=1e-3, atol=1e-4)


def test_forward_mode_layers_have_all_their_parts():
    torch.manual_seed(0)
    conv = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding="same"), nn.ReLU(), nn.Conv2d(4, 4, 3, bias=False, stride=2, groups=2), nn.Tanh()
    )
    conv[0].weight.requires_grad_(False)  # only its bias moves
    trunk = nn.Sequential(conv, nn.Flatten(), nn.Linear(4 * 9, 8), nn.ReLU(), nn.Linear(8, 8, bias=False))
    trunk[2].bias.requires_grad_(False)
    model = SharedTrunk(trunk, TWO, 8)
    targets = torch.stack([torch.rand(16) > 0.5, torch.rand(16) > 0.5, torch.randn(16)], 1).float()
    passes, rows = both_ways(model, TWO, Batch(torch.arange(16), torch.randn(16, 1, 8, 8), targets))
    by_passes, by_rows, _ = relative_slopes(passes, rows)
    torch.testing.assert_close(by_passes, by_rows, rtol=1e-5, atol=1e-6)


@given(st.integers(1, 10), st.integers(0, 10**6))
def test_the_closed_form_is_the_best_of_all_subsets_to_first_order(m, seed):
    g = np.random.default_rng(seed)
    rows = torch.from_numpy(g.normal(size=(m, 4)) * 10 ** g.uniform(-3, 3, size=(m, 1)))
    gramian, losses = rows @ rows.T, torch.from_numpy(10 ** g.uniform(-3, 3, size=m))
    slopes = gramian @ (1 / losses)

    found = proposals(
        ["closed-form", "power-set"],
        names=[f"t{i}" for i in range(m)],
        present=torch.ones(m, dtype=torch.bool),
        forced=torch.zeros(m, dtype=torch.bool),
        relative=1 / losses,
        slopes=slopes,
        gramian=gramian,
        generator=torch.Generator(),
    )

    chosen = found.get("closed-form", found[JOINT])  # the same combination is proposed once
    best = max(
        float(slopes[list(subset)].sum()) for k in range(1, m + 1) for subset in itertools.combinations(range(m), k)
    )
    assert float(chosen @ slopes) == pytest.approx(best, rel=1e-9)
    assert len(found) == 2**m - 1


@pytest.mark.parametrize("make", [None, SGD, Adam])
@pytest.mark.parametrize("heads", ["fixed", "stepped"])
def test_scores_are_those_of_really_made_steps(make, heads):
    """Every subset is applied to a copy by the optimizer itself, and the losses are counted again."""
    model, batch = Net(), mixed_batch(1, missing=False)
    optimizer = make(model.parameters(), lr=0.05) if make else None
    if make:
        plain = plain_gradients(model, MIXED, batch)
        for value, other in zip(model.parameters(), plain.parameters(), strict=True):
            value.grad = other.grad
        optimizer.step()
    model.eval()
    options = {"optimizer": optimizer} if make else {"lr": 0.05}
    _, _, aggregation = aggregated(
        model, MIXED, batch, candidates="power-set", equal_norm=False, heads=heads, hysteresis=0, **options
    )
    _, rows = both_ways(model, MIXED, batch)
    own = plain_gradients(model, MIXED, batch)
    before = losses_at(model, MIXED, batch, {}, seed=0)[0].detach()
    for name, score in aggregation.decision.scores.items():
        chosen = torch.tensor([float(name == JOINT or task in name.split("+")) for task in MIXED.names])
        direction = rows.direction(chosen.double()).values
        copies = {}
        moved = copy.deepcopy(model, copies)
        stepper = copy.deepcopy(optimizer, copies) if make else SGD(moved.parameters(), lr=0.05)
        for key, value in moved.named_parameters():
            head = dict(own.named_parameters())[key].grad if heads == "stepped" else None
            value.grad = direction.get(key, head)
        stepper.step()
        after = losses_at(moved, MIXED, batch, {}, seed=0)[0].detach()
        assert score == pytest.approx(float((1 - after / before).sum()), abs=1e-5)


@pytest.mark.parametrize("seed", range(6))
def test_on_quadratics_scores_have_a_closed_form_and_small_steps_pick_the_first_order_best(seed):
    model, tasks, batch, centres, curvatures = quadratics(5, seed=seed)
    theta = model.theta.detach()
    away = theta - centres
    gradient = torch.einsum("tij,tj->ti", curvatures, away)
    losses = 1 + torch.einsum("ti,ti->t", away, gradient) / 2
    slopes = gradient @ (gradient / losses[:, None]).sum(0)

    for lr in (0.3, 1e-7):
        *_, aggregation = aggregated(
            model, tasks, batch, candidates="power-set", equal_norm=False, lr=lr, hysteresis=0, min_rate=0
        )
        for name, score in aggregation.decision.scores.items():
            chosen = torch.tensor([name == JOINT or task in name.split("+") for task in tasks.names])
            step = -lr * gradient[chosen].sum(0)
            after = losses + gradient @ step + torch.einsum("i,tij,j->t", step, curvatures, step) / 2
            assert score == pytest.approx(float((1 - after / losses).sum()), abs=1e-12)
    picked = aggregation.decision.picked
    assert [picked == JOINT or task in picked.split("+") for task in tasks.names] == (slopes > 0).tolist()


@pytest.mark.parametrize("candidates", [["closed-form", "log-sum", ["binary", "own"]], ["power-set", "pcgrad"]])
def test_candidates_have_the_norm_of_the_joint_gradient(candidates, monkeypatch):
    squares = []
    of = Trial.of

    def watched(trial, direction):
        squares.append(sum(float(value.double().square().sum()) for value in direction.values()))
        return of(trial, direction)

    monkeypatch.setattr(Trial, "of", watched)
    torch.manual_seed(3)
    model = Net()
    _, told, _ = aggregated(model, MIXED, mixed_batch(3), candidates=candidates, hysteresis=0)
    assert len(squares) > 2
    assert squares == pytest.approx([squares[0]] * len(squares), rel=2e-6)
    assert told[0].norm_ratio == pytest.approx(1, abs=1e-6)

    squares.clear()
    aggregated(model, MIXED, mixed_batch(3), candidates=candidates, equal_norm=False)
    assert max(squares) > 1.1 * min(squares)


@pytest.mark.parametrize("candidates", ["closed-form", "singletons", ["power-set", "pcgrad"], ["log-sum"]])
@pytest.mark.parametrize("score", ["relative", "log", "difference"])
def test_the_pick_is_never_below_the_joint_step(candidates, score):
    model, tasks, batches = conflicting(seed=1)
    optimizer = SGD(model.parameters(), lr=0.05)
    aggregation = TransferenceAggregation(candidates=candidates, score=score, optimizer=optimizer, hysteresis=0.1)
    left = 0
    for step in range(6):
        optimizer.zero_grad()
        aggregation.backward(model, tasks, batches(step))
        optimizer.step()
        decision = aggregation.decision
        assert next(iter(decision.scores)) == JOINT
        assert decision.scores[decision.picked] >= decision.scores[JOINT]
        if decision.picked != JOINT:
            left += 1
            assert decision.gain > 0.1 * decision.gain_stderr
            assert decision.gain == pytest.approx(decision.scores[decision.picked] - decision.scores[JOINT])
    assert left or candidates == "singletons"  # one of five alike tasks is a poor guide


def test_one_task_is_plain_training_bit_for_bit(assert_same):
    task = TaskSet([MIXED[0]])
    torch.manual_seed(0)
    first = Net(task)
    second = copy.deepcopy(first)
    ends = []
    for model, combined in ((first, True), (second, False)):
        torch.manual_seed(1)
        optimizer = Adam(model.parameters(), lr=0.01)
        aggregation = TransferenceAggregation(optimizer=optimizer)
        for step in range(4):
            batch = mixed_batch(step)
            batch = Batch(batch.index, batch.inputs, batch.targets[:, :1])
            optimizer.zero_grad()
            if combined:
                aggregation.backward(model, task, batch)
            else:
                task.losses(model(batch.inputs), batch.targets).sum().backward()
            optimizer.step()
        ends.append([model.state_dict(), torch.get_rng_state()])
    assert_same(ends[0], ends[1])


def test_a_joint_step_is_plain_training_bit_for_bit(assert_same):
    """Whatever is tried at it: buffers, dropout and the random state go on as in a plain step."""
    torch.manual_seed(0)
    model, batch = Net(), mixed_batch(2)
    with random_state_kept():
        plain = plain_gradients(model, MIXED, batch)
    with random_state_kept():
        MIXED.losses(MIXED.pack(copy.deepcopy(model)(batch.inputs)), batch.targets)
        after = torch.get_rng_state()
    found, _, aggregation = aggregated(model, MIXED, batch, hysteresis=1e9, candidates=["closed-form", "log-sum"])
    assert len(aggregation.decision.scores) >= 2
    assert_same(found, gradients(plain))
    assert_same(dict(model.named_buffers()), dict(plain.named_buffers()))
    assert torch.equal(torch.get_rng_state(), after)


def test_heads_get_their_own_gradients_and_the_sum_is_added():
    torch.manual_seed(5)
    model, batch = Net(), mixed_batch(5)
    plain = gradients(plain_gradients(model, MIXED, batch))
    before = torch.get_rng_state()
    found, *_ = aggregated(model, MIXED, batch, candidates=[["own"]], hysteresis=0, exact=False)
    torch.set_rng_state(before)
    TransferenceAggregation(candidates=[["own"]], hysteresis=0, exact=False).backward(model, MIXED, batch)
    for name, value in model.named_parameters():
        if name.startswith("heads"):
            torch.testing.assert_close(found[name], plain[name])
        if found[name] is not None:
            torch.testing.assert_close(value.grad, 2 * found[name])
    assert found["unused.weight"] is None
    assert found["frozen.weight"] is None


def test_small_steps_are_picked_alike_by_the_closed_form_and_the_power_set():
    model, tasks, batches = conflicting(4)
    optimizer = SGD(model.parameters(), lr=0.05)
    exact = TransferenceAggregation(
        candidates="power-set", equal_norm=False, hysteresis=0, min_rate=0, lr=1e-4, on_choice=lambda c: picks.append(c)
    )
    closed = TransferenceAggregation(exact=False, equal_norm=False, min_rate=0, on_choice=lambda c: picks.append(c))
    same = left = 0
    for step in range(80):
        picks = []
        for aggregation in (exact, closed):
            optimizer.zero_grad()
            aggregation.backward(model, tasks, batches(step))
        same += torch.equal(picks[0].weights, picks[1].weights)
        left += bool((picks[1].weights == 0).any())
        optimizer.step()
    assert same >= 76
    assert left >= 8
