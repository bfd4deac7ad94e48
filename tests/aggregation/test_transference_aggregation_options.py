import copy
import itertools
import math

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam
from transference_cases import MIXED, Net, aggregated, conflicting, gradients, mixed_batch, quadratics

from cotrain import Batch, SharedTrunk, Task, TaskSet
from cotrain.aggregation.aggregation import Choice
from cotrain.aggregation.transference_aggregation import TransferenceAggregation
from cotrain.aggregation.transference_candidates import JOINT, proposals
from cotrain.aggregation.transference_losses import RunningLosses
from cotrain.aggregation.transference_record import MOST_STRETCHES, RECENT, STRETCH, Choices, LeftOut
from cotrain.files import read_state, write_state
from cotrain.lookahead import losses_at


def trained(model, aggregation, optimizer, batches, tasks=MIXED):
    for batch in batches:
        optimizer.zero_grad()
        aggregation.backward(model, tasks, batch)
        optimizer.step()


def test_a_resumed_training_ends_as_an_uninterrupted_one(tmp_path, assert_same):
    def start():
        torch.manual_seed(0)
        model = Net()
        optimizer = Adam(model.parameters(), lr=0.02)
        options = {"candidates": ["closed-form", "pcgrad"], "every": 2, "min_rate": 0.995, "hysteresis": 0}
        return model, optimizer, TransferenceAggregation(optimizer=optimizer, score="difference", **options)

    whole = start()
    trained(whole[0], whole[2], whole[1], [mixed_batch(k) for k in range(9)])

    part = start()
    trained(part[0], part[2], part[1], [mixed_batch(k) for k in range(5)])
    write_state(tmp_path / "state", {"now": part[2].state_dict(), "random": torch.get_rng_state()})
    rest = start()
    rest[0].load_state_dict(part[0].state_dict())
    rest[1].load_state_dict(part[1].state_dict())
    saved = read_state(tmp_path / "state")
    torch.set_rng_state(saved["random"])
    rest[2].load_state_dict(saved["now"])
    at_load = copy.deepcopy(rest[2].state_dict())
    trained(rest[0], rest[2], rest[1], [mixed_batch(k) for k in range(5, 9)])

    assert_same(at_load, part[2].state_dict())  # what was saved is not changed by going on
    assert_same(rest[2].state_dict(), whole[2].state_dict())
    assert_same(rest[0].state_dict(), whole[0].state_dict())


def test_between_decisions_the_weights_are_kept():
    told = []
    model, tasks, batches = conflicting(seed=1)
    aggregation = TransferenceAggregation(every=3, hysteresis=0, lr=0.05, on_choice=told.append)
    optimizer = SGD(model.parameters(), lr=0.05)
    steps = [batches(k) for k in range(6)]
    steps[1].targets[:, 0] = torch.nan
    trained(model, aggregation, optimizer, steps, tasks)
    weights = torch.stack([choice.weights for choice in told])
    assert told[0].norm_ratio is not None
    assert [choice.cosine is None for choice in told] == [False, True, True, False, True, True]
    assert torch.equal(weights[2], weights[0])
    assert torch.equal(weights[1, 1:], weights[0, 1:])
    assert weights[1, 0] == 0
    assert sum(int(counts.sum()) for counts in aggregation.record().picked.values()) == 6


def test_a_task_absent_at_a_decision_is_in_until_the_next():
    told = []
    model, tasks, batches = conflicting()
    aggregation = TransferenceAggregation(every=2, on_choice=told.append)
    first = batches(0)
    first.targets[:, 2] = torch.nan
    trained(model, aggregation, SGD(model.parameters(), lr=0.05), [first, batches(1)], tasks)
    assert [float(choice.weights[2]) for choice in told] == [0, 1]


@pytest.mark.parametrize("options", [{}, {"exact": False}, {"candidates": "singletons"}, {"score": "difference"}])
def test_an_absent_task_is_as_if_it_were_not_there(options):
    model, tasks, batches = conflicting(seed=1)
    batch = batches(0)
    batch.targets[:, 1] = torch.nan
    found, told, aggregation = aggregated(model, tasks, batch, hysteresis=0, **options)

    rest = [0, 2, 3, 4, 5]
    small = TaskSet(tasks[row] for row in rest)
    twin = SharedTrunk(copy.deepcopy(model.trunk), small, 3)
    twin.heads.load_state_dict({"weight": model.heads.weight[rest], "bias": model.heads.bias[rest]})
    expected, others, _ = aggregated(
        twin, small, Batch(batch.index, batch.inputs, batch.targets[:, rest]), hysteresis=0, **options
    )

    torch.testing.assert_close(told[0].weights[rest], others[0].weights)
    assert told[0].weights[1] == 0
    for name in ("trunk.0.weight", "trunk.0.bias"):
        torch.testing.assert_close(found[name], expected[name])
    assert torch.equal(found["heads.weight"][1], torch.zeros(3))
    assert not aggregation.state_dict()["losses"]["weight"][1]
    assert math.isnan(aggregation.record().share[0, 1])


def test_without_any_label_nothing_happens(assert_same):
    model, tasks, batches = conflicting()
    aggregation = TransferenceAggregation()
    aggregation.backward(model, tasks, batches(0))
    state, before = aggregation.state_dict(), gradients(model)
    batch = batches(1)
    with pytest.warns(UserWarning, match="No task has a label"):
        aggregation.backward(model, tasks, Batch(batch.index, batch.inputs, torch.full_like(batch.targets, torch.nan)))
    assert_same(aggregation.state_dict(), state)
    assert_same(gradients(model), before)


class Spoiling(torch.autograd.Function):
    """Its value is as it should be, and its derivative infinite."""

    @staticmethod
    def forward(ctx, inputs):
        return inputs.clone()

    @staticmethod
    def backward(ctx, sent):
        return torch.where(sent == 0, 0, torch.inf)

    @staticmethod
    def jvp(ctx, tangent):
        return tangent.clone()


class Spoilt(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk, self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 1), nn.Linear(3, 2)

    def forward(self, inputs):
        features = self.trunk(inputs)
        return torch.cat([self.first(Spoiling.apply(features)), self.second(features)], 1)


@pytest.mark.parametrize("options", [{}, {"exact": False, "equal_norm": False}, {"candidates": "power-set"}])
def test_a_gradient_that_is_not_finite_is_named_and_the_step_skipped(options, assert_same):
    tasks = TaskSet([Task("bad", "binary"), Task("good", "binary"), Task("fine", "binary")])
    aggregation, model = TransferenceAggregation(**options), Spoilt()
    batch = Batch(torch.arange(4), torch.randn(4, 3), torch.ones(4, 3))
    with pytest.warns(UserWarning, match=r"\['bad'\] is NaN or infinite"):
        aggregation.backward(model, tasks, batch)
    assert aggregation.skipped_steps == 1
    assert all(value.grad is None for value in model.parameters())
    assert not aggregation.state_dict()["losses"]["weight"].any()


def test_weights_that_are_not_finite_are_not_applied():
    model, tasks, batches = conflicting()
    aggregation = TransferenceAggregation(candidates=[lambda gramian: gramian[0] * torch.nan])
    with pytest.warns(UserWarning, match="The combined gradient is NaN or infinite"):
        aggregation.backward(model, tasks, batches(0))
    assert model.trunk[0].weight.grad is None


def test_losses_below_zero_need_differences():
    model, tasks, batch, *_ = quadratics(3, offset=-5.0)
    for score in ("relative", "log"):
        with pytest.raises(ValueError, match=r"needs losses that are not negative. Got -.* 't\d'. Use score="):
            TransferenceAggregation(score=score).backward(model, tasks, batch)
    aggregated(model, tasks, batch, score="difference")


def test_scores_by_log_ratios_and_on_another_batch():
    torch.manual_seed(0)
    model, batch, other = Net().eval(), mixed_batch(1), mixed_batch(2, missing=False)
    other.targets[:, 1] = torch.nan  # a task without labels there does not count
    asked = []

    def second():
        asked.append(1)
        return other

    _, _, aggregation = aggregated(model, MIXED, batch, lr=0.1, score="log", score_batch=second)
    before = losses_at(model, MIXED, other, {}, seed=0)[0].detach()
    plain = copy.deepcopy(model)
    shared = dict(plain.named_parameters())
    MIXED.losses(plain(batch.inputs), batch.targets).sum().backward()
    with torch.no_grad():
        for name, value in shared.items():
            if value.grad is not None and not name.startswith("heads"):
                value -= 0.1 * value.grad
    after = losses_at(plain, MIXED, other, {}, seed=0)[0].detach()
    there = torch.tensor([True, False, True, True])
    assert aggregation.decision.scores[JOINT] == pytest.approx(float((before / after).log()[there].sum()), abs=1e-5)
    assert asked == [1]


def test_losses_count_as_a_hundredth_of_their_running_mean():
    seen = RunningLosses.none(3)
    present = torch.tensor([True, True, False])
    history = [torch.tensor([2.0, -1.0, 7.0], dtype=torch.float64) * k for k in range(1, 40)]
    for losses in history:
        seen = seen.after(losses, present)
    weights = torch.tensor([0.99 ** (39 - k) for k in range(1, 40)], dtype=torch.float64)
    values = torch.stack(history)[:, 0]
    mean = (weights * values).sum() / weights.sum()
    spread = ((weights * (values - mean).square()).sum() / weights.sum()).sqrt()
    torch.testing.assert_close(seen.mean[0], mean)
    assert seen.units(torch.zeros(3), "relative")[0] == pytest.approx(0.01 * float(mean))
    assert seen.units(torch.full((3,), 5.0), "log")[0] == 5
    torch.testing.assert_close(seen.units(torch.zeros(3), "difference")[0], spread)
    torch.testing.assert_close(seen.units(torch.zeros(3), "difference")[1], spread / 2)
    assert (seen.units(torch.zeros(3), "difference") > 0).all()
    once = RunningLosses.none(1).after(torch.tensor([-4.0]), torch.tensor([True]))
    assert once.units(torch.tensor([-4.0]), "difference") == 4


def test_a_task_left_out_for_too_long_is_forced_in():
    left_out = LeftOut(3)
    taken, present = torch.tensor([False, False, True]), torch.tensor([True, False, True])
    for step in range(RECENT):
        assert left_out.starved(0.1).tolist() == [step > 90, False, False]
        left_out.add(taken, present)
    for step in range(RECENT):
        assert left_out.starved(0.1).tolist() == [step < 10, False, step > 90]
        left_out.add(~taken, present)

    model, tasks, batches = conflicting(seed=1)
    aggregation = TransferenceAggregation(lr=0.05, hysteresis=0, min_rate=0.995, equal_norm=False, exact=False)
    told = []
    aggregation.on_choice = told.append
    for _ in range(2):
        aggregation.backward(model, tasks, batches(0))
    assert (told[0].weights == 0).any()
    assert (told[1].weights == 1).all()
    out = {name for name, weight in zip(tasks.names, told[0].weights.tolist(), strict=True) if not weight}
    assert set(aggregation.decision.forced) == out


def test_the_joint_step_is_only_left_for_a_sure_gain():
    model, tasks, batches = conflicting(seed=1)
    decisions = [
        aggregated(model, tasks, batches(0), candidates=["log-sum"], lr=0.05, hysteresis=h)[2].decision
        for h in (0, 1, 1e3)
    ]
    first = decisions[0]
    assert first.gain > first.gain_stderr > 0
    assert [decision.picked for decision in decisions] == ["log-sum", "log-sum", JOINT]

    # The error bar is that of the mean over samples: a batch repeated four times is as sure as four times a half of it.
    batch = batches(0)
    again = Batch(batch.index.repeat(4), batch.inputs.repeat(4, 1), batch.targets.repeat(4, 1))
    many = aggregated(model, tasks, again, candidates=["log-sum"], lr=0.05)[2].decision
    assert many.gain == pytest.approx(first.gain, rel=1e-3)
    n = len(batch.index)
    assert many.gain_stderr == pytest.approx(first.gain_stderr / 2 * ((n - 1) / (n - 0.25)) ** 0.5, rel=1e-3)

    single = Batch(batch.index[:1], batch.inputs[:1], batch.targets[:1])
    alone = aggregated(model, tasks, single, candidates=["log-sum"], lr=0.05)[2].decision
    assert alone.gain_stderr == math.inf
    assert alone.picked == JOINT


def test_a_step_after_which_a_loss_is_not_finite_is_never_better():
    loss = lambda outputs, targets: torch.where(outputs[:, 0] > 0.5, torch.nan, (outputs[:, 0] - 1) ** 2)  # noqa: E731
    tasks = TaskSet(
        [Task("a", "custom", loss=loss), Task("b", "regression", location=0.0, scale=1.0), Task("c", "binary")]
    )
    model = SharedTrunk(nn.Linear(2, 2), tasks, 2)
    with torch.no_grad():
        for value in model.parameters():
            value.fill_(0.1)
    batch = Batch(torch.arange(2), torch.ones(2, 2), torch.zeros(2, 3))
    *_, aggregation = aggregated(model, tasks, batch, candidates=[["a"], ["b"]], lr=30.0, equal_norm=False)
    assert aggregation.decision.scores["a"] == -math.inf
    assert aggregation.decision.scores[aggregation.decision.picked] > -math.inf


def test_candidates_are_what_they_say():
    g = torch.Generator().manual_seed(0)
    rows = torch.randn(4, 3, generator=g, dtype=torch.float64)
    present = torch.tensor([True, True, False, True, True])
    common = {
        "names": list("abcde"), "present": present, "forced": torch.tensor([False, True, False, False, False]),
        "relative": torch.ones(5, dtype=torch.float64) / 2, "slopes": torch.tensor([1.0, -1, 0, -1, -1]),
        "gramian": rows @ rows.T, "generator": g,
    }  # fmt: skip

    found = proposals(["closed-form", "log-sum", "singletons", ("c",), ("c", "d", "e")], **common)
    assert {name: weights.tolist() for name, weights in found.items()} == {
        JOINT: [1, 1, 0, 1, 1],
        "closed-form": [1, 1, 0, 0, 0],  # "a" alone is the same, b is forced in, and c has no label
        "b": [0, 1, 0, 0, 0],
        "d": [0, 1, 0, 1, 0],
        "e": [0, 1, 0, 0, 1],
        "c+d+e": [0, 1, 0, 1, 1],
        "log-sum": [0.5, 0.5, 0, 0.5, 0.5],
    }
    none = proposals(["closed-form"], **{**common, "slopes": -torch.ones(5)})
    assert list(none) == [JOINT]


def test_pcgrad_stands_beside_every_sum():
    g = torch.Generator().manual_seed(1)
    rows = torch.tensor([[1.0, 0], [-1, 1]], dtype=torch.float64)
    common = {
        "names": ["a", "b"], "present": torch.ones(2, dtype=torch.bool), "forced": torch.zeros(2, dtype=torch.bool),
        "relative": torch.ones(2), "slopes": None, "gramian": rows @ rows.T, "generator": g,
    }  # fmt: skip
    found = proposals([("a",), "pcgrad"], **common)
    assert list(found) == [JOINT, "a", "pcgrad of joint", "pcgrad of a"]
    torch.testing.assert_close(found["pcgrad of a"] @ rows, torch.tensor([0.5, 0.5], dtype=torch.float64))
    torch.testing.assert_close(found["pcgrad of joint"] @ rows, torch.tensor([0.5, 1.5], dtype=torch.float64))


def test_other_weightings_are_candidates_and_rows_serve_all():
    model, tasks, batches = conflicting(seed=1)

    def steepest(gramian):
        return torch.eye(len(gramian), dtype=torch.float64)[gramian.diagonal().argmax()]

    _, told, aggregation = aggregated(model, tasks, batches(0), candidates=[steepest, "closed-form"], hysteresis=0)
    assert list(aggregation.decision.scores)[-1] == "steepest"
    by_passes = aggregated(model, tasks, batches(0), hysteresis=0)
    for name, score in by_passes[2].decision.scores.items():
        assert aggregation.decision.scores[name] == pytest.approx(score, rel=1e-4)
    assert isinstance(told[0], Choice)


def test_a_sum_of_no_length_is_no_candidate():
    model, tasks, batches = conflicting()
    *_, aggregation = aggregated(model, tasks, batches(0), candidates=[lambda gramian: 0 * gramian[0]])
    assert list(aggregation.decision.scores) == [JOINT]

    with torch.no_grad():
        model.heads.weight.zero_()
    found, told, _ = aggregated(model, tasks, batches(0))
    assert not found["trunk.0.weight"].any()
    assert told[0].norm_ratio == 0


def test_first_order_scores_at_equal_norm_are_cosines():
    model, tasks, batches = conflicting(seed=1)
    *_, free = aggregated(model, tasks, batches(0), candidates="power-set", exact=False, equal_norm=False)
    _, told, equal = aggregated(model, tasks, batches(0), candidates="power-set", exact=False)
    best = max(free.decision.scores, key=free.decision.scores.get)
    assert free.decision.picked == best
    assert free.decision.gain_stderr is None
    assert told[0].norm_ratio == pytest.approx(1, abs=1e-6)
    assert equal.decision.scores[equal.decision.picked] >= equal.decision.scores[JOINT]
    assert equal.decision.scores[JOINT] == pytest.approx(free.decision.scores[JOINT])


def test_the_rule_is_that_of_the_training_unless_one_was_given():
    model, tasks, batches = conflicting()
    scores = []
    for options, followed in (({}, None), ({"lr": 0.01}, None), ({}, 0.5), ({"lr": 0.01}, 0.5)):
        aggregation = TransferenceAggregation(candidates=["log-sum"], **options)
        if followed:
            aggregation.follow(SGD(model.parameters(), lr=followed))
        assert aggregation.decision is None
        aggregation.backward(model, tasks, batches(0))
        scores.append(aggregation.decision.scores[JOINT])
    assert scores[0] == scores[1] == scores[3] != scores[2]

    strange = TransferenceAggregation(optimizer=SGD([nn.Parameter(torch.zeros(1))], lr=0.1), candidates=["log-sum"])
    with pytest.raises(ValueError, match="SGD holds none of the model's shared parameters"):
        strange.backward(model, tasks, batches(0))


def test_other_tasks_are_refused():
    model, tasks, batches = conflicting()
    aggregation = TransferenceAggregation()
    aggregation.backward(model, tasks, batches(0))
    with pytest.raises(ValueError, match="has begun with the tasks"):
        aggregation.backward(model, TaskSet(reversed(tasks)), batches(0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"candidates": "best"}, "no kind of candidates 'best'"),
        ({"candidates": [3]}, "no kind of candidates 3"),
        ({"score": "sum"}, "score must be one of"),
        ({"heads": "free"}, "heads must be one of"),
        ({"lr": 0.0}, "lr must be positive"),
        ({"lr": 0.1, "optimizer": SGD([nn.Parameter(torch.zeros(1))], lr=0.1)}, "not both"),
        ({"lr": math.inf}, "lr must be positive and finite"),
        ({"optimizer": "adam"}, "optimizer must be a torch.optim.Optimizer"),
        ({"every": 0}, "every must be at least 1"),
        ({"every": 1.5}, "every must be at least 1, a whole number"),
        ({"every": True}, "every must be at least 1, a whole number"),
        ({"min_rate": math.nan}, "min_rate must be between 0 and 1"),
        ({"hysteresis": math.nan}, "hysteresis must not be negative, and finite"),
        ({"hysteresis": math.inf}, "hysteresis must not be negative, and finite"),
        ({"hysteresis": "1"}, "hysteresis must not be negative, and finite"),
        ({"seed": 0.5}, "seed is a whole number"),
        ({"exact": "no"}, "exact must be one of"),
        ({"score_batch": 3}, "score_batch must be a function"),
        ({"min_rate": 1.5}, "min_rate must be between 0 and 1"),
        ({"hysteresis": -1.0}, "hysteresis must not be negative"),
        ({"exact": False, "heads": "stepped"}, "need exact=True"),
        ({"exact": False, "score_batch": list}, "need exact=True"),
    ],
)
def test_arguments_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        TransferenceAggregation(**options)


def test_candidates_that_do_not_fit_the_tasks():
    model, tasks, batches = conflicting()
    with pytest.raises(ValueError, match=r"names \['x'\], but the tasks are"):
        TransferenceAggregation(candidates=[["t0", "x"]]).backward(model, tasks, batches(0))
    model, tasks, batches = conflicting(11)
    with pytest.raises(ValueError, match=r"at most 10 tasks. Got 11, which have 2.05e\+03 subsets"):
        TransferenceAggregation(candidates="power-set").backward(model, tasks, batches(0))


def test_choices_are_counted_in_stretches_that_double():
    whole, present = Choices(2), torch.tensor([True, True])
    steps, half = STRETCH * (MOST_STRETCHES + 1), 3 * STRETCH // 2
    for step in range(steps):
        whole.add("a" if step < half else "b", torch.tensor([step < half, True]), present)
    record = whole.record(["x", "y"])
    assert len(record.start) == MOST_STRETCHES // 2 + 1
    assert record.start[:3].tolist() == [0, 2 * STRETCH, 4 * STRETCH]
    assert record.share[:2].tolist() == [[0.75, 1], [0, 1]]
    assert int(record.picked["a"].sum()) == half
    assert int(record.picked["b"].sum()) == steps - half


def test_choices_are_drawn():
    figure = pytest.importorskip("plotly.graph_objects")
    choices = Choices(2)
    for step, name in enumerate(itertools.islice(itertools.cycle("abcdefg<"), 3 * STRETCH)):
        choices.add(name, torch.tensor([step % 2 == 0, False]), torch.tensor([True, False]))
    drawn = choices.record(["one<", "two"]).plot()
    assert isinstance(drawn, figure.Figure)
    assert list(drawn.data[0].y) == ["one&lt;", "two"]
    assert drawn.data[0].z[0].tolist() == [0.5, 0.5, 0.5]
    assert [bar.name for bar in drawn.data[1:]][-1] == "others"
    assert sum(sum(bar.y) for bar in drawn.data[1:]) == 3 * STRETCH
    few = Choices(1)
    few.add("joint", torch.tensor([True]), torch.tensor([True]))
    assert [bar.name for bar in few.record(["one"]).plot().data[1:]] == ["joint"]
