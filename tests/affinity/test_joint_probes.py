import copy
import warnings
from functools import partial

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_transference import MIXED, Net, Point, mixed_batch, quadratic_tasks, some_batch, warm
from torch import nn
from torch.optim import SGD, Adam, AdamW

from cotrain import Batch, SharedTrunk, Task, TaskSet
from cotrain.affinity import Affinity, Transference
from cotrain.affinity.directions import seed_of
from cotrain.affinity.estimators import Place
from cotrain.affinity.joint_probes import JointProbes, probing_price
from cotrain.affinity.joint_steps import JointSteps
from cotrain.errors import StudyError
from cotrain.files import read_state, write_state
from cotrain.instrument import Step
from cotrain.training import fit

pytestmark = pytest.mark.filterwarnings("ignore:.*observed fewer than")

OPTIMIZERS = {
    "sgd": partial(SGD, lr=0.05),
    "momentum": partial(SGD, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": partial(Adam, lr=0.01, fused=True),
    "adamw": partial(AdamW, lr=0.01, weight_decay=0.1),
    "rmsprop": partial(torch.optim.RMSprop, lr=0.01, momentum=0.5),
}


def probed(model, tasks, batch, **options):
    probes = JointProbes(model, tasks, every=1, **options)
    probes.observe(batch)
    return probes.result()


def watched(steps, tasks=MIXED, **options):
    torch.manual_seed(0)
    probes = JointProbes(Net(tasks), tasks, lr=0.05, **{"every": 1, **options})
    for step in steps:
        probes.observe(mixed_batch(step))
    return probes


def real_steps(model, tasks, batch, optimizer, seed=0):
    """Deep copies of model and optimizer, the losses summed, sent backwards, stepped on, and read off again."""
    n = len(tasks)

    def loss_after(target, *rows):
        copies = {}
        twin, stepper = copy.deepcopy(model, copies), copy.deepcopy(optimizer, copies)
        stepper.zero_grad(set_to_none=True)
        torch.manual_seed(seed)
        tasks.losses(twin(batch.inputs), batch.targets)[list(rows)].sum().backward()
        stepper.step()
        torch.manual_seed(seed)
        with torch.no_grad():
            return tasks.losses(twin(batch.inputs), batch.targets)[target].double()

    own = [loss_after(j, j) for j in range(n)]
    rows = [[1 - (loss_after(j, i, j) if i != j else own[j]) / own[j] for j in range(n)] for i in range(n)]
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_probe_is_a_real_step_of_the_real_optimizer(name, missing):
    torch.manual_seed(1)
    model = Net(MIXED).double()
    optimizer = OPTIMIZERS[name](model.parameters())
    for step in range(4):
        batch = mixed_batch(step, missing=missing)
        batch = Batch(batch.index, batch.inputs.double(), batch.targets.double())
        if step < 3:
            optimizer.zero_grad()
            MIXED.losses(model(batch.inputs), batch.targets).sum().backward()
            optimizer.step()
    expected = real_steps(model, MIXED, batch, optimizer, seed_of(7, 0))
    found = probed(model, MIXED, batch, optimizer=optimizer, seed=7)
    torch.testing.assert_close(found.matrix, expected, rtol=1e-6, atol=1e-10)
    assert found.matrix.abs().max() > 1e-4
    assert found.matrix.diagonal().eq(0).all()
    assert found.rule.startswith(type(optimizer).__name__)


class Detached(nn.Module):
    """The adapter of the second task reaches the first one by its value alone; `still` reaches both only so."""

    def __init__(self):
        super().__init__()
        self.trunk, self.adapter, self.heads = nn.Linear(6, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.still = nn.Parameter(torch.ones(4))

    def forward(self, inputs):
        features = torch.tanh(self.trunk(inputs)) * self.still.detach()
        adapted = self.adapter(features)
        return torch.cat([self.heads(features + adapted.detach())[:, :1], self.heads(adapted)[:, 1:]], dim=1)


@pytest.mark.parametrize("name", ["momentum", "adam", "adamw"])
def test_what_gets_no_gradient_moves_as_in_a_real_step(name):
    torch.manual_seed(0)
    tasks = TaskSet([Task("a", "binary"), Task("b", "binary")])
    model = Detached()
    optimizer = OPTIMIZERS[name](model.parameters())
    for value in model.parameters():  # a history that would move every parameter again
        value.grad = torch.randn_like(value)
    optimizer.step()
    batch = Batch(torch.arange(16), torch.randn(16, 6), (torch.rand(16, 2) > 0.5).float())
    expected = real_steps(model, tasks, batch, optimizer)
    torch.testing.assert_close(probed(model, tasks, batch, optimizer=optimizer).matrix, expected, rtol=1e-3, atol=2e-6)


@settings(max_examples=15)
@given(n_tasks=st.integers(2, 5), dimension=st.integers(1, 5), seed=st.integers(0, 99), eta=st.floats(1e-3, 0.3))
def test_quadratic_losses_are_exact(n_tasks, dimension, seed, eta):
    tasks, centres, curvatures, _ = quadratic_tasks(n_tasks, dimension, torch.Generator().manual_seed(seed))
    torch.manual_seed(seed + 1000)  # with the same seed the point would be the first centre
    model = Point(tasks, dimension)
    away = model.theta.detach() - centres
    gradients = torch.einsum("tij,tj->ti", curvatures, away)

    def loss(j, step):
        rest = away[j] - eta * step
        return 1 + rest @ curvatures[j] @ rest / 2

    expected = torch.zeros(n_tasks, n_tasks, dtype=torch.float64)
    for i in range(n_tasks):
        for j in range(n_tasks):
            if i != j:
                expected[i, j] = 1 - loss(j, gradients[i] + gradients[j]) / loss(j, gradients[j])
    found = probed(model, tasks, some_batch(tasks), lr=eta)
    torch.testing.assert_close(found.matrix, expected, rtol=1e-9, atol=1e-9)
    products = gradients @ gradients.T
    norms = products.diagonal().sqrt()
    torch.testing.assert_close(found.cosine, products / (norms[:, None] * norms), rtol=1e-9, atol=1e-9)


def test_a_small_step_gives_the_inner_product_over_the_loss():
    """P_ij / rate -> <g_i, g_j> / L_j over the shared parameters: what the first order of transference is."""
    torch.manual_seed(0)
    model = Net(MIXED).double().eval()
    batch = mixed_batch()
    batch = Batch(batch.index, batch.inputs.double(), batch.targets.double())
    transference = Transference(model, MIXED, estimator="gram", lr=1.0)
    transference.observe(batch)
    off = ~torch.eye(4, dtype=torch.bool)
    limit = transference.result().matrix[off]
    errors = [(probed(model, MIXED, batch, lr=rate).matrix[off] / rate - limit).abs().max() for rate in (1e-4, 5e-5)]
    assert errors[0] < 0.01 * limit.abs().max()
    assert 1.9 < errors[0] / errors[1] < 2.1


@settings(max_examples=10)
@given(order=st.permutations(range(4)), training=st.booleans())
def test_permuting_tasks_permutes_rows_and_columns(order, training):
    torch.manual_seed(0)
    model, batch = Net(MIXED), mixed_batch()
    optimizer = warm(model, OPTIMIZERS["adam"])
    model.train(training)
    straight = probed(model, MIXED, batch, optimizer=optimizer)
    tasks = TaskSet([MIXED[i] for i in order])
    other = Batch(batch.index, batch.inputs, batch.targets[:, list(order)])
    permuted = probed(model, tasks, other, optimizer=optimizer)
    torch.testing.assert_close(permuted.matrix, straight.matrix[order][:, order], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(permuted.cosine, straight.cosine[order][:, order], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("pair", [(0, 1), (3, 2), (1, 3)])
def test_an_entry_depends_on_its_two_tasks_alone(pair):
    torch.manual_seed(0)
    model, batch = Net(MIXED), mixed_batch()
    optimizer = warm(model, OPTIMIZERS["adam"])
    whole = probed(model, MIXED, batch, optimizer=optimizer)
    two = TaskSet([MIXED[i] for i in pair])
    found = probed(model, two, Batch(batch.index, batch.inputs, batch.targets[:, list(pair)]), optimizer=optimizer)
    rows = list(pair)
    torch.testing.assert_close(found.matrix, whole.matrix[rows][:, rows], rtol=1e-4, atol=1e-6)


def test_heads_in_one_matrix_are_heads_one_by_one():
    tasks = TaskSet([Task(name, "binary") for name in "abc"])

    class Apart(nn.Module):
        def __init__(self, packed):
            super().__init__()
            self.trunk = packed.trunk
            self.heads = nn.ModuleList(nn.Linear(4, 1) for _ in range(3))
            for i, head in enumerate(self.heads):
                head.load_state_dict({"weight": packed.heads.weight[i : i + 1], "bias": packed.heads.bias[i : i + 1]})

        def forward(self, inputs):
            return torch.cat([head(self.trunk(inputs)) for head in self.heads], dim=1)

    torch.manual_seed(0)
    packed = SharedTrunk(nn.Sequential(nn.Linear(6, 4), nn.Tanh()), tasks, 4)
    batch = Batch(torch.arange(16), torch.randn(16, 6), (torch.rand(16, 3) > 0.5).float())
    apart = Apart(packed)
    found = [probed(model, tasks, batch, optimizer=Adam(model.parameters(), lr=0.05)) for model in (packed, apart)]
    torch.testing.assert_close(found[0].matrix, found[1].matrix, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found[0].cosine, found[1].cosine, rtol=1e-4, atol=1e-6)


def test_identical_tasks_help_and_opposed_tasks_hurt():
    torch.manual_seed(0)
    tasks = TaskSet([Task("a", "binary"), Task("same", "binary"), Task("opposed", "binary")])
    model = SharedTrunk(nn.Sequential(nn.Linear(6, 8), nn.Tanh()), tasks, 8)
    with torch.no_grad():  # one head for all: only the labels differ
        model.heads.weight[:] = model.heads.weight[0].clone()
        model.heads.bias.zero_()
    labels = (torch.rand(32) > 0.5).float()
    batch = Batch(torch.arange(32), torch.randn(32, 6), torch.stack([labels, labels, 1 - labels], dim=1))
    found = probed(model, tasks, batch, lr=0.05)
    assert found.matrix[0, 1] == found.matrix[1, 0] > 0 > found.matrix[0, 2]
    assert found.cosine[0, 1] > 0.99


def everything(model, optimizer):
    return {
        "parameters": {name: value.detach().clone() for name, value in model.named_parameters()},
        "buffers": {name: value.clone() for name, value in model.named_buffers()},
        "gradients": {name: None if v.grad is None else v.grad.clone() for name, v in model.named_parameters()},
        "optimizer": copy.deepcopy(optimizer.state_dict()),
        "random": torch.get_rng_state(),
        "modes": [module.training for module in model.modules()],
        "needs": [value.requires_grad for value in model.parameters()],
    }


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(sorted(OPTIMIZERS)),
    with_gradients=st.booleans(),
    training=st.booleans(),
    without_autograd=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_observing_changes_nothing(assert_same, name, with_gradients, training, without_autograd, seed):
    torch.manual_seed(seed)
    model = Net(MIXED)
    optimizer = warm(model, OPTIMIZERS[name])
    if not with_gradients:
        optimizer.zero_grad()
    model.train(training)
    before = everything(model, optimizer)
    probes = JointProbes(model, MIXED, optimizer=optimizer, every=1, seed=seed)
    with torch.set_grad_enabled(not without_autograd):
        probes.observe(mixed_batch(seed))
        probes.observe(mixed_batch(seed + 1))
    assert_same(everything(model, optimizer), before)
    assert probes.result().n_observations == 2


def test_a_seed_has_masks_of_its_own():
    first, again, other = (watched(range(2), seed=seed).result().matrix for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_every_call_has_masks_of_its_own():
    torch.manual_seed(0)
    probes = JointProbes(Net(MIXED), MIXED, lr=0.05, every=1)
    for _ in range(10):
        probes.observe(mixed_batch())
    off = ~torch.eye(4, dtype=torch.bool)
    assert probes.result().stderr[off].gt(0).all()


def test_gradients_by_the_heads_of_other_tasks_take_no_memory():
    torch.manual_seed(0)
    model = Net(MIXED)
    parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
    steps = JointSteps.at(Place(model, MIXED, mixed_batch(), parameters, 0.05, 0))
    for row, task in enumerate(MIXED.names):
        heads = {name for name in steps.gradients[row] if name.startswith("heads")}
        assert heads == {f"heads.{task}.weight", f"heads.{task}.bias"}


def test_resuming_equals_no_interruption(tmp_path, assert_same):
    torch.manual_seed(0)
    model = Net(MIXED)
    make = partial(JointProbes, model, MIXED, lr=0.05, every=2, seed=3)
    whole, first, second = make(), make(), make()
    for step in range(45):
        whole.observe(mixed_batch(step))
        (first if step < 23 else second).observe(mixed_batch(step))
        if step == 22:
            write_state(tmp_path / "state.safetensors", first.state_dict())
            second.load_state_dict(read_state(tmp_path / "state.safetensors"))
            kept = copy.deepcopy(first.state_dict())
    assert_same(second.state_dict(), whole.state_dict())
    assert_same(first.state_dict(), kept)  # going on from a state does not reach back into it
    found, expected = second.result(), whole.result()
    assert found.n_observations == 23
    assert_same(vars(found), vars(expected))


def test_processes_can_be_merged():
    one, other = watched(range(15)), watched(range(15, 40))
    expected = one.result(), other.result()
    one.merge(other.state_dict())
    found = one.result()
    n = [part.observations for part in expected]
    total = sum(part.matrix * count for part, count in zip(expected, n, strict=True))
    torch.testing.assert_close(found.matrix, total / (n[0] + n[1]))
    total = sum(part.cosine * count for part, count in zip(expected, n, strict=True))
    torch.testing.assert_close(found.cosine, total / (n[0] + n[1]))
    assert found.n_observations == 40
    assert torch.equal(found.observations, n[0] + n[1])
    assert found.cost == pytest.approx((15 * expected[0].cost + 25 * expected[1].cost) / 40)
    empty = JointProbes(Net(MIXED), MIXED)
    empty.merge(other.state_dict())
    assert empty.result().rule == expected[1].rule


def test_a_state_of_another_kind_is_refused():
    probes = JointProbes(Net(MIXED), MIXED)
    for take in (probes.merge, probes.load_state_dict):
        with pytest.raises(StudyError, match=r"is of joint probes on tasks \['binary', 'classes', 'number'\], not of"):
            take(JointProbes(Net(MIXED), MIXED[:3]).state_dict())
        with pytest.raises(StudyError, match="is of another instrument, not of joint probes"):
            take(Transference(Net(MIXED), MIXED).state_dict())


def test_an_absent_task_is_unknown_and_the_others_are_unchanged():
    torch.manual_seed(0)
    model, batch = Net(MIXED), mixed_batch()
    whole = probed(model, MIXED, batch)
    batch.targets[:, 1] = torch.nan
    absent = probed(model, MIXED, batch)
    rest = [0, 2, 3]
    assert absent.matrix[1].isnan().all()
    assert absent.matrix[:, 1].isnan().all()
    assert absent.cosine[1].isnan().all()
    assert absent.observations[1].eq(0).all()
    torch.testing.assert_close(absent.matrix[rest][:, rest], whole.matrix[rest][:, rest])
    # 3 backward passes at 2, and forward passes: one before, 3 alone, 3 pairs, one for all.
    assert absent.cost == pytest.approx((1 + 6 + 3 + 3 + 1) / 3)


def test_counts_are_kept_per_pair():
    torch.manual_seed(0)
    probes = JointProbes(Net(MIXED), MIXED, every=1)
    for step in range(12):
        batch = mixed_batch(step)
        if step % 2:
            batch.targets[:, 0] = torch.nan
        probes.observe(batch)
    with pytest.warns(UserWarning, match="7 of 16 pairs were observed fewer than 10 times"):
        found = probes.result()
    assert found.observations[0].eq(6).all()
    assert found.observations[1:, 1:].eq(12).all()
    assert found.stderr[0].isnan().all()
    assert found.stderr[1:, 1:].isfinite().all()
    assert found.effective[1:, 1:].isfinite().all()


def test_enough_observations_give_no_warning():
    probes = watched(range(10))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert probes.result().stderr.isfinite().all()


def test_a_batch_without_any_label_is_no_observation():
    batch = mixed_batch()
    batch.targets[:] = torch.nan
    probes = JointProbes(Net(MIXED), MIXED)
    probes.observe(batch)
    with pytest.raises(ValueError, match="Nothing was observed yet"):
        probes.result()


@pytest.mark.parametrize("where", ["loss", "infinite", "gradient"])
def test_nan_in_one_task_leaves_the_others_right_and_is_named(where):
    torch.manual_seed(0)
    spoilt = {
        "loss": lambda o, y: o.sum(1) * torch.nan,
        "infinite": lambda o, y: o.sum(1) + torch.inf,
        "gradient": lambda o, y: 1 + (o * 0).sum(1).sqrt(),
    }[where]
    model, batch = Net(MIXED), mixed_batch(missing=False)
    sound = probed(model, MIXED, batch)
    tasks = TaskSet([*MIXED[:3], Task("own", "custom", 2, loss=spoilt)])
    with pytest.warns(UserWarning, match=r"not finite.*own \(1\)"):
        found = probed(model, tasks, batch)
    torch.testing.assert_close(found.matrix[:3, :3], sound.matrix[:3, :3])
    assert found.matrix[3].isnan().all()
    assert found.matrix[:, 3].isnan().all()
    assert found.joint_descent == 1.0


class Line(nn.Module):
    """One shared number, at 0."""

    def __init__(self, n):
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.n = n

    def forward(self, inputs):
        return self.theta.expand(len(inputs), self.n)


def line_tasks():
    """The first loss is infinite below -1.5; all slopes are 1."""

    def cliff(outputs, targets):
        return torch.where(outputs < -1.5, torch.inf, 2 + outputs).sum(1) + 0 * targets

    def slope(outputs, targets):
        return 5 + outputs.sum(1) + 0 * targets

    return TaskSet([Task("cliff", "custom", loss=cliff), *(Task(n, "custom", loss=slope) for n in ("b", "c"))])


def test_a_joint_step_that_diverges_is_left_out_and_named():
    tasks = line_tasks()
    match = r"too high. Pairs \(number of batches\): b -> cliff \(1\), c -> cliff \(1\)\. Take a smaller"
    with pytest.warns(UserWarning, match=match):
        found = probed(Line(3), tasks, some_batch(tasks), lr=1.0)
    nan = torch.nan
    expected = torch.tensor([[0, 0.25, 0.25], [nan, 0, 0.25], [nan, 0.25, 0]], dtype=torch.float64)
    torch.testing.assert_close(found.matrix, expected, equal_nan=True)
    assert found.joint_descent == 0.0


@pytest.mark.parametrize(
    ("lr", "match"), [(1.0, r"b -> cliff \(3\), c -> cliff \(3\)"), (2.0, r"not finite.*cliff \(3\)")]
)
def test_troubles_are_counted_on_after_a_state(lr, match, assert_same):
    tasks = line_tasks()
    model = Line(3)
    first, second, whole = (JointProbes(model, tasks, lr=lr, every=1) for _ in range(3))
    first.observe(some_batch(tasks))
    kept = first.state_dict()
    second.load_state_dict(kept)
    first.observe(some_batch(tasks))  # what is observed later is not in the state
    second.observe(some_batch(tasks))
    for _ in range(2):
        whole.observe(some_batch(tasks))
    assert_same(second.state_dict(), whole.state_dict())
    second.merge(kept)
    with pytest.warns(UserWarning, match=match):
        assert second.result().n_observations == 3


def test_a_task_that_diverges_alone_is_left_out_and_named():
    tasks = line_tasks()
    with pytest.warns(UserWarning, match=r"not finite; they were left out there: cliff \(1\)"):
        found = probed(Line(3), tasks, some_batch(tasks), lr=2.0)
    assert found.matrix[0].isnan().all()
    assert found.matrix[:, 0].isnan().all()
    assert found.matrix[1:, 1:].isfinite().all()
    assert found.joint_descent == 0.0


def test_a_loss_near_zero_rests_on_the_floor():
    offsets = torch.tensor([1.0, 1.0], dtype=torch.float64)
    tasks, centres, *_ = quadratic_tasks(2, 3, torch.Generator().manual_seed(0), offsets)
    model = Point(tasks, 3)
    probes = JointProbes(model, tasks, lr=0.01, every=1)
    probes.observe(some_batch(tasks))
    offsets[1] = 0.0
    with torch.no_grad():
        model.theta.copy_(centres[1] + 1e-9)
    probes.observe(some_batch(tasks))
    with pytest.warns(UserWarning, match=r"below 1 % of its running mean.*t1 \(1\)"):
        found = probes.result()
    assert found.floored.tolist() == [0, 1]
    assert found.matrix.abs().max() < 100


def test_a_negative_loss_is_no_target_but_a_source():
    offsets = torch.tensor([1.0, -100.0], dtype=torch.float64)
    tasks, *_ = quadratic_tasks(2, 3, torch.Generator().manual_seed(0), offsets)
    with pytest.warns(UserWarning, match=r"loss below 0.*t1 \(1\)"):
        found = probed(Point(tasks, 3), tasks, some_batch(tasks), lr=0.01)
    assert found.matrix[:, 1].isnan().all()
    assert found.matrix[:, 0].isfinite().all()


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_a_task_outside_the_trunk_neither_gives_nor_takes_and_is_named(name):
    tasks = TaskSet([Task(name, "binary") for name in "abc"])

    class Apart(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk, self.heads, self.own = nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(3, 1)

        def forward(self, inputs):
            return torch.cat([self.heads(self.trunk(inputs)), self.own(inputs)], dim=1)

    batch, model = Batch(torch.arange(8), torch.randn(8, 3), torch.ones(8, 3)), Apart()
    with pytest.warns(UserWarning, match=r"no gradient by any shared parameter.*: c \(1\)\.$"):
        found = probed(model, tasks, batch, optimizer=OPTIMIZERS[name](model.parameters()))
    assert found.matrix[2].eq(0).all()
    assert found.matrix[:, 2].eq(0).all()
    assert found.matrix[0, 1] != 0
    assert found.cosine[2].isnan().all()


@pytest.mark.parametrize("name", ["momentum", "adam", "rmsprop"])
def test_losses_without_a_slope_stay_where_they_are(name):
    tasks = TaskSet([Task(n, "custom", loss=lambda outputs, targets: 2 + 0 * outputs.sum(1)) for n in "ab"])
    model = Line(2)
    optimizer = OPTIMIZERS[name](model.parameters())
    with pytest.warns(UserWarning, match=r"no gradient by any shared parameter.*: a \(1\), b \(1\)"):
        found = probed(model, tasks, some_batch(tasks), optimizer=optimizer)
    assert found.matrix.eq(0).all()
    assert found.cosine.isnan().all()


def test_every_nth_call_is_measured_and_the_price_is_what_it_costs():
    found = watched(range(9), every=4).result()
    assert found.n_observations == 3
    assert found.choice == ""
    assert found.cost == pytest.approx(3 * probing_price(4) / 9)


@pytest.mark.parametrize(
    ("budget", "every", "words"),
    [(2.0, 4, "probes on one in 4 steps; adds about 1.7"), (100.0, 1, "probes on every step; adds about 6.7")],
)
def test_without_an_interval_the_budget_is_kept(budget, every, words):
    found = watched(range(8), every=None, budget=budget).result()
    assert found.n_observations == 8 // every
    assert found.choice.startswith(words)
    assert found.cost <= budget


def test_a_step_that_is_too_long_is_told():
    torch.manual_seed(1)
    tasks, *_ = quadratic_tasks(3, 4, torch.Generator().manual_seed(0))
    model = Point(tasks, 4)
    assert probed(model, tasks, some_batch(tasks), lr=1e-3).joint_descent == 1.0
    assert probed(model, tasks, some_batch(tasks), lr=10.0).joint_descent == 0.0


def test_the_same_in_fit_and_in_a_plain_loop(assert_same):
    """Observing in fit changes nothing of the training, and finds what a hand-written loop finds."""
    tasks = TaskSet([Task("a", "binary"), Task("b", "binary"), Task("c", "regression")])
    torch.manual_seed(0)
    inputs = torch.randn(60, 6)
    targets = torch.stack([(inputs[:, 0] > 0).float(), (inputs[:, 1] > 0).float(), inputs[:, 2] * 3 + 5], dim=1)
    tasks = tasks.with_units(targets)
    model = SharedTrunk(nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2)), tasks, 8)
    start = copy.deepcopy(model.state_dict())
    batches = []

    class Watch(JointProbes):
        def on_step(self, step):
            batches.append(step.batch)

    options = {"epochs": 2, "batch_size": 20, "seed": 1, "optimizer": partial(Adam, lr=0.01)}
    data = ((inputs, targets), (inputs, targets))
    plain = copy.deepcopy(fit(model, tasks, *data, instruments=[Watch(model, tasks)], **options).model.state_dict())

    model.load_state_dict(start)
    probes = JointProbes(model, tasks, every=1)
    observed = fit(model, tasks, *data, instruments=[probes], **options).model.state_dict()
    assert_same(dict(observed), dict(plain))

    model.load_state_dict(start)
    model.train()
    optimizer = Adam(model.parameters(), lr=0.01)
    by_hand = JointProbes(model, tasks, optimizer=optimizer, every=1)
    torch.manual_seed(1)
    for batch in batches:
        by_hand.observe(batch)
        optimizer.zero_grad()
        tasks.losses(model(batch.inputs), batch.targets).sum().backward()
        optimizer.step()
    assert by_hand.result().rule == "Adam step, lr 0.01"
    torch.testing.assert_close(by_hand.result().matrix, probes.result().matrix, rtol=1e-3, atol=1e-6)


def test_a_result_is_an_affinity_that_can_be_kept(tmp_path, assert_same):
    found = watched(range(3)).result()
    found.save(tmp_path / "probes.json")
    assert_same(vars(Affinity.load(tmp_path / "probes.json")), vars(found))
    assert "joint probes (plain gradient step, lr 0.05), 3 observations" in str(found)


def test_a_parameter_that_is_frozen_later_steps_no_more():
    """Equal to probes of a network in which it was frozen from the start."""
    torch.manual_seed(0)
    model = Net(MIXED)
    probes = JointProbes(model, MIXED, lr=0.05, every=1)
    probes.observe(mixed_batch(0))
    model.first.requires_grad_(False)
    probes.observe(mixed_batch(1))
    early = JointProbes(model, MIXED, lr=0.05, every=1)
    early.observe(mixed_batch(0))
    early.observe(mixed_batch(1))
    assert not torch.equal(early.result().matrix, probes.result().matrix)
    one, two = watched([0]).result().matrix, probes.result().matrix
    last = JointProbes(model, MIXED, lr=0.05, every=1)
    last._counts["calls"] = 1  # the same seed
    last.observe(mixed_batch(1))
    torch.testing.assert_close(2 * two - one, last.result().matrix)
    optimizer = SGD(model.parameters(), lr=0.05)
    late = JointProbes(model, MIXED, optimizer=optimizer, every=1)
    late.load_state_dict(probes.state_dict())
    late.observe(mixed_batch(2))
    assert late.result().n_observations == 3
    model.requires_grad_(False)
    model.heads.requires_grad_(True)
    with pytest.raises(ValueError, match="check what is frozen"):
        late.observe(mixed_batch(3))


def test_bad_arguments():
    model = Net(MIXED)
    with pytest.raises(ValueError, match="not both"):
        JointProbes(model, MIXED, lr=0.1, optimizer=SGD(model.parameters(), lr=0.1))
    with pytest.raises(ValueError, match=r"lr must be positive\. Got 0"):
        JointProbes(model, MIXED, lr=0)
    with pytest.raises(ValueError, match="every must be at least 1"):
        JointProbes(model, MIXED, every=0)
    with pytest.raises(ValueError, match="budget must be positive"):
        JointProbes(model, MIXED, budget=0)


def test_what_cannot_be_measured_is_refused():
    tasks = TaskSet([Task("a", "binary"), Task("b", "regression")])
    batch = Batch(torch.arange(4), torch.randn(4, 3), torch.ones(4, 2))
    with pytest.raises(ValueError, match="No trainable parameter of the model serves two"):
        JointProbes(nn.Linear(3, 2), tasks).observe(batch)
    model = SharedTrunk(nn.Linear(3, 4), tasks, 4)
    with pytest.raises(ValueError, match="SGD holds none of the model's shared parameters"):
        probed(model, tasks, batch, optimizer=SGD(model.heads.parameters(), lr=0.1))
    with pytest.raises(ValueError, match="LBFGS cannot be tried out"):
        probed(model, tasks, batch, optimizer=torch.optim.LBFGS(model.parameters()))
    step = Step(batch, torch.zeros(4, 2), model, SGD(model.parameters(), lr=0.1), 0, 0)
    with pytest.raises(ValueError, match=r"regression tasks in standard units, which \['b'\] do not have"):
        JointProbes(model, tasks).on_step(step)
    with pytest.raises(ValueError, match="made for another model"):
        JointProbes(copy.deepcopy(model), tasks).on_step(step)
