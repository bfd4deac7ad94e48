import copy
import warnings
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_transference import MIXED, Net, Point, measured, mixed_batch, quadratic_tasks, some_batch, warm
from torch import nn
from torch.optim import SGD, Adam, AdamW

from cotrain import Batch, SharedTrunk, Task, TaskSet
from cotrain.affinity import Transference
from cotrain.errors import StudyError
from cotrain.files import read_state, write_state
from cotrain.instrument import Step
from cotrain.training import fit

few_observations = pytest.mark.filterwarnings("ignore:.*observed fewer than")
pytestmark = few_observations


OPTIMIZERS = {
    "sgd": partial(SGD, lr=0.05),
    "momentum": partial(SGD, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": partial(Adam, lr=0.01, fused=True),
    "adamw": partial(AdamW, lr=0.01, weight_decay=0.1),
    "rmsprop": partial(torch.optim.RMSprop, lr=0.01),
}


@settings(deadline=None, max_examples=25)
@given(n_tasks=st.integers(2, 5), dimension=st.integers(1, 5), seed=st.integers(0, 99), eta=st.floats(1e-3, 0.5))
def test_quadratic_losses_are_exact(n_tasks, dimension, seed, eta):
    tasks, centres, curvatures, _ = quadratic_tasks(n_tasks, dimension, torch.Generator().manual_seed(seed))
    model = Point(tasks, dimension)
    theta = model.theta.detach()
    away = theta - centres
    gradients = torch.einsum("tij,tj->ti", curvatures, away)
    losses = 1 + (away * gradients).sum(1) / 2
    bends = torch.einsum("ip,jpq,iq->ij", gradients, curvatures, gradients)
    products = gradients @ gradients.T

    exact = measured(model, tasks, some_batch(tasks), estimator="lookahead", lr=eta)
    expected = (eta * products - eta**2 / 2 * bends) / losses
    torch.testing.assert_close(exact.matrix, expected, rtol=1e-10, atol=1e-10)
    linear = measured(model, tasks, some_batch(tasks), estimator="gram", lr=eta)
    torch.testing.assert_close(linear.matrix, eta * products / losses, rtol=1e-10, atol=1e-10)
    norms = products.diagonal().sqrt()
    torch.testing.assert_close(exact.cosine, products / (norms[:, None] * norms), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("estimator", ["lookahead", "gram"])
def test_a_constant_in_a_loss_changes_its_column_only(estimator):
    offsets = torch.tensor([1.0, 1.0, 1.0], dtype=torch.float64)
    tasks, *_ = quadratic_tasks(3, 4, torch.Generator().manual_seed(1), offsets)
    torch.manual_seed(0)
    model = Point(tasks, 4)
    before = measured(model, tasks, some_batch(tasks), estimator=estimator, lr=0.1).matrix
    offsets[1] = 7.0
    after = measured(model, tasks, some_batch(tasks), estimator=estimator, lr=0.1).matrix
    torch.testing.assert_close(after[:, [0, 2]], before[:, [0, 2]], rtol=1e-12, atol=1e-12)
    assert (after[:, 1].abs() < before[:, 1].abs()).all()


@settings(deadline=None, max_examples=10)
@given(order=st.permutations(range(4)), estimator=st.sampled_from(["lookahead", "gram"]))
def test_permuting_tasks_permutes_rows_and_columns(order, estimator):
    torch.manual_seed(0)
    model, batch = Net(MIXED), mixed_batch()
    model.eval()
    straight = measured(model, MIXED, batch, estimator=estimator, lr=0.1)
    tasks = TaskSet([MIXED[i] for i in order])
    permuted = measured(
        model, tasks, Batch(batch.index, batch.inputs, batch.targets[:, list(order)]), estimator=estimator, lr=0.1
    )
    torch.testing.assert_close(permuted.matrix, straight.matrix[order][:, order], rtol=1e-4, atol=1e-7)


def test_identical_tasks_help_and_opposed_tasks_hurt():
    torch.manual_seed(0)
    tasks = TaskSet([Task("a", "binary"), Task("same", "binary"), Task("opposed", "binary")])
    model = SharedTrunk(nn.Sequential(nn.Linear(6, 8), nn.Tanh()), tasks, 8)
    with torch.no_grad():  # one head for all: only the labels differ
        model.heads.weight[:] = model.heads.weight[0].clone()
        model.heads.bias.zero_()
    labels = (torch.rand(32) > 0.5).float()
    batch = Batch(torch.arange(32), torch.randn(32, 6), torch.stack([labels, labels, 1 - labels], dim=1))
    for estimator in ("lookahead", "gram"):
        found = measured(model, tasks, batch, estimator=estimator, lr=0.05)
        assert found.matrix[0, 1] > 0 > found.matrix[0, 2]
        torch.testing.assert_close(found.matrix[0, 1], found.matrix[0, 0])
        assert found.cosine[0, 1] > 0.99
        assert found.cosine[0, 2] < 0


def slow_reference(model, tasks, batch, optimizer, shared):
    """Deep copies, the optimizer's own step, and the losses read off again."""
    n = len(tasks)

    def losses_after(source):
        copies = {}
        twin_optimizer = copy.deepcopy(optimizer, copies)
        parameters = [copies[id(value)] for group in optimizer.param_groups for value in group["params"]]
        twin = copy.deepcopy(model, copies)
        twin_optimizer.zero_grad(set_to_none=True)
        gradients = {name: torch.zeros_like(value) for name, value in twin.named_parameters()}
        if source is not None:
            tasks.losses(twin(batch.inputs), batch.targets)[source].backward()
            gradients = {
                name: torch.zeros_like(value) if value.grad is None else value.grad.clone()
                for name, value in twin.named_parameters()
            }
        before = [value.detach().clone() for value in parameters]
        for name, value in twin.named_parameters():
            value.grad = gradients[name]
        twin_optimizer.step()
        moved = {id(value) for name, value in twin.named_parameters() if name in shared}
        with torch.no_grad():
            for value, old in zip(parameters, before, strict=True):
                if id(value) not in moved:
                    value.copy_(old)
            return tasks.losses(twin(batch.inputs), batch.targets).double()

    losses = tasks.losses(copy.deepcopy(model)(batch.inputs), batch.targets).detach().double()
    rest = losses_after(None)
    return torch.stack([(rest - losses_after(i)) / losses for i in range(n)])


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_lookahead_is_the_optimizers_own_step(name, missing):
    torch.manual_seed(1)
    model = Net(MIXED)
    model.drop.p = 0.0  # the reference draws its own masks
    optimizer = warm(model, OPTIMIZERS[name])
    batch = mixed_batch(missing=missing)
    shared = {"first.weight", "first.bias", "norm.weight", "norm.bias", "second.weight", "second.bias", "tied.bias"}
    expected = slow_reference(model, MIXED, batch, optimizer, shared)
    found = measured(model, MIXED, batch, estimator="lookahead", optimizer=optimizer).matrix
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-6)
    assert found.abs().max() > 1e-3


def test_gram_takes_the_optimizers_step_to_first_order():
    """Under Adam, too, the difference to the exact value goes with the square of the rate."""
    torch.manual_seed(0)
    model = Net(MIXED).double().eval()
    batch = mixed_batch()
    batch = Batch(batch.index, batch.inputs.double(), batch.targets.double())
    optimizer = Adam(model.parameters(), lr=1e-3)
    for _ in range(2):
        MIXED.losses(model(batch.inputs), batch.targets).sum().backward()
        optimizer.step()
    errors = []
    for rate in (1e-5, 5e-6):
        optimizer.param_groups[0]["lr"] = rate
        exact, linear = (
            measured(model, MIXED, batch, estimator=e, optimizer=optimizer).matrix for e in ("lookahead", "gram")
        )
        errors.append((exact - linear).abs().mean())
        assert errors[-1] < 0.05 * exact.abs().mean()
    assert 3 < errors[0] / errors[1] < 5


def test_halving_the_rate_quarters_the_error_of_first_order():
    tasks, *_ = quadratic_tasks(4, 5, torch.Generator().manual_seed(3))
    torch.manual_seed(0)
    model = Point(tasks, 5)

    def error(rate):
        exact, linear = (
            measured(model, tasks, some_batch(tasks), estimator=e, lr=rate).matrix for e in ("lookahead", "gram")
        )
        return (exact - linear).abs()

    torch.testing.assert_close(error(0.02), 4 * error(0.01), rtol=1e-6, atol=1e-12)


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


@pytest.mark.filterwarnings("ignore:.*measured by gram and not by sketch")
@settings(deadline=None, max_examples=20)
@given(
    name=st.sampled_from(sorted(OPTIMIZERS)),
    estimator=st.sampled_from(["lookahead", "gram", "sketch"]),
    with_gradients=st.booleans(),
    training=st.booleans(),
    without_autograd=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_observing_changes_nothing(name, estimator, with_gradients, training, without_autograd, seed):
    torch.manual_seed(seed)
    model = Net(MIXED)
    optimizer = warm(model, OPTIMIZERS[name])
    if not with_gradients:
        optimizer.zero_grad()
    model.train(training)
    before = everything(model, optimizer)
    transference = Transference(model, MIXED, estimator=estimator, optimizer=optimizer, seed=seed)
    with torch.set_grad_enabled(not without_autograd):
        transference.observe(mixed_batch(seed))
        transference.observe(mixed_batch(seed + 1))
    torch.testing.assert_close(everything(model, optimizer), before, rtol=0, atol=0)


def identical(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(identical(value, other[name]) for name, value in one.items())
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


@pytest.mark.parametrize("estimator", ["lookahead", "gram", "sketch"])
def test_resuming_equals_no_interruption(estimator, tmp_path):
    torch.manual_seed(0)
    model = Net(MIXED)
    make = partial(Transference, model, MIXED, estimator=estimator, lr=0.05, every=2, seed=3)
    whole, first, second = make(), make(), make()
    for step in range(45):
        whole.observe(mixed_batch(step))
        (first if step < 23 else second).observe(mixed_batch(step))
        if step == 22:
            write_state(tmp_path / "state.safetensors", first.state_dict())
            second.load_state_dict(read_state(tmp_path / "state.safetensors"))
    assert whole.result().n_observations == 23
    assert identical(second.state_dict(), whole.state_dict())


def test_a_state_of_other_tasks_is_refused():
    model = Net(MIXED)
    state = Transference(model, MIXED).state_dict()
    with pytest.raises(StudyError, match="not of lookahead on"):
        Transference(model, MIXED[:3]).load_state_dict(state)
    with pytest.raises(StudyError, match="not of gram"):
        Transference(model, MIXED, estimator="gram").load_state_dict(state)


@pytest.mark.parametrize("estimator", ["lookahead", "gram", "sketch"])
def test_an_absent_task_is_unknown_and_the_others_are_unchanged(estimator):
    torch.manual_seed(0)
    model, batch = Net(MIXED), mixed_batch()
    whole = measured(model, MIXED, batch, estimator=estimator)
    batch.targets[:, 1] = torch.nan
    absent = measured(model, MIXED, batch, estimator=estimator)
    rest = [0, 2, 3]
    assert absent.matrix[1].isnan().all()
    assert absent.matrix[:, 1].isnan().all()
    assert absent.cosine[1].isnan().all()
    assert absent.observations[1].eq(0).all()
    torch.testing.assert_close(absent.matrix[rest][:, rest], whole.matrix[rest][:, rest])


def test_counts_are_kept_per_pair():
    torch.manual_seed(0)
    transference = Transference(Net(MIXED), MIXED, every=1)
    for step in range(12):
        batch = mixed_batch(step)
        if step % 2:
            batch.targets[:, 0] = torch.nan
        transference.observe(batch)
    with pytest.warns(UserWarning, match="7 of 16 pairs were observed fewer than 10 times"):
        found = transference.result()
    assert found.observations[0].eq(6).all()
    assert found.observations[1:, 1:].eq(12).all()
    assert found.stderr[0].isnan().all()
    assert found.stderr[1:, 1:].isfinite().all()


def test_a_batch_without_any_label_is_no_observation():
    model, batch = Net(MIXED), mixed_batch()
    batch.targets[:] = torch.nan
    transference = Transference(model, MIXED)
    transference.observe(batch)
    with pytest.raises(ValueError, match="Nothing was observed yet"):
        transference.result()


def test_every_nth_call_is_measured():
    transference = Transference(Net(MIXED), MIXED, every=4)
    for step in range(9):
        transference.observe(mixed_batch(step))
    found = transference.result()
    assert found.n_observations == 3
    # 4 backward passes at 2, 4 forward passes for the sources, one before and one for all together, no drift.
    assert found.cost == pytest.approx(3 * (4 * 2 + 4 + 2) / 3 / 9)


def test_auto_is_exact_up_to_24_tasks_and_says_why():
    for n, estimator, words in (
        (24, "lookahead", "lookahead on one in 13 steps (exact"),
        (25, "sketch", "sketch on one in 2 steps (for more than 24 tasks"),
    ):
        tasks = TaskSet([Task(f"t{i}", "binary") for i in range(n)])
        model = SharedTrunk(nn.Linear(3, 4), tasks, 4)
        found = measured(model, tasks, Batch(torch.arange(8), torch.randn(8, 3), torch.ones(8, n)))
        assert found.estimator == estimator
        assert found.choice.startswith(words)
        assert found.tasks == tasks.names


def test_a_step_that_is_too_long_is_told():
    torch.manual_seed(1)
    tasks, *_ = quadratic_tasks(3, 4, torch.Generator().manual_seed(0))
    model = Point(tasks, 4)
    assert measured(model, tasks, some_batch(tasks), lr=1e-3).joint_descent == 1.0
    assert measured(model, tasks, some_batch(tasks), lr=10.0).joint_descent == 0.0


def test_a_loss_near_zero_rests_on_the_floor():
    offsets = torch.tensor([1.0, 1.0], dtype=torch.float64)
    tasks, centres, *_ = quadratic_tasks(2, 3, torch.Generator().manual_seed(0), offsets)
    model = Point(tasks, 3)
    transference = Transference(model, tasks, lr=0.01, every=1)
    transference.observe(some_batch(tasks))
    offsets[1] = 0.0
    with torch.no_grad():
        model.theta.copy_(centres[1] + 1e-9)
    transference.observe(some_batch(tasks))
    with pytest.warns(UserWarning, match=r"below 1 % of its running mean.*t1 \(1\)"):
        found = transference.result()
    assert found.floored.tolist() == [0, 1]
    assert found.matrix.abs().max() < 100


def test_a_negative_loss_is_no_target_but_a_source():
    offsets = torch.tensor([1.0, -100.0], dtype=torch.float64)
    tasks, *_ = quadratic_tasks(2, 3, torch.Generator().manual_seed(0), offsets)
    transference = Transference(Point(tasks, 3), tasks, lr=0.01)
    transference.observe(some_batch(tasks))
    with pytest.warns(UserWarning, match=r"loss below 0.*t1 \(1\)"):
        found = transference.result()
    assert found.matrix[:, 1].isnan().all()
    assert found.matrix[:, 0].isfinite().all()


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_nan_in_one_task_leaves_the_others_right(where):
    torch.manual_seed(0)
    spoilt = (lambda o, y: o.sum(1) * torch.nan) if where == "loss" else (lambda o, y: 1 + (o * 0).sum(1).sqrt())
    model, batch = Net(MIXED), mixed_batch(missing=False)
    sound = measured(model, MIXED, batch)
    tasks = TaskSet([*MIXED[:3], Task("own", "custom", 2, loss=spoilt)])
    transference = Transference(model, tasks)
    transference.observe(batch)
    with pytest.warns(UserWarning, match=r"not finite.*own \(1\)"):
        found = transference.result()
    torch.testing.assert_close(found.matrix[:3, :3], sound.matrix[:3, :3])
    assert found.matrix[3].isnan().all()
    assert found.matrix[:, 3].isnan().all()
    assert found.joint_descent == 1.0


@pytest.mark.parametrize("estimator", ["lookahead", "gram", "sketch"])
def test_a_task_outside_the_trunk_neither_gives_nor_takes_and_is_named(estimator):
    tasks = TaskSet([Task(name, "binary") for name in "abc"])

    class Apart(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk, self.heads, self.own = nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(3, 1)

        def forward(self, inputs):
            return torch.cat([self.heads(self.trunk(inputs)), self.own(inputs)], dim=1)

    batch = Batch(torch.arange(8), torch.randn(8, 3), torch.ones(8, 3))
    with pytest.warns(UserWarning, match=r"no gradient by any shared parameter.*: c \(1\)\.$"):
        found = measured(Apart(), tasks, batch, estimator=estimator)
    assert found.matrix[2].eq(0).all()
    assert found.matrix[:, 2].eq(0).all()
    assert found.matrix[0, 1] != 0
    assert found.cosine[2].isnan().all()


def test_the_same_in_fit_and_in_a_plain_loop(tmp_path):
    """Observing in fit changes nothing of the training, and finds what a hand-written loop finds."""
    tasks = TaskSet([Task("a", "binary"), Task("b", "binary"), Task("c", "regression")])
    torch.manual_seed(0)
    inputs = torch.randn(60, 6)
    targets = torch.stack([(inputs[:, 0] > 0).float(), (inputs[:, 1] > 0).float(), inputs[:, 2] * 3 + 5], dim=1)
    tasks = tasks.with_units(targets)
    trunk = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2))
    model = SharedTrunk(trunk, tasks, 8)
    start = copy.deepcopy(model.state_dict())
    batches = []

    class Watch:
        def on_step(self, step):
            batches.append(step.batch)

        def on_epoch_end(self, epoch):
            pass

        def state_dict(self):
            return {}

        def load_state_dict(self, state):
            pass

    options = {"epochs": 2, "batch_size": 20, "seed": 1, "optimizer": partial(Adam, lr=0.01)}
    data = ((inputs, targets), (inputs, targets))
    plain = copy.deepcopy(fit(model, tasks, *data, instruments=[Watch()], **options).model.state_dict())

    model.load_state_dict(start)
    transference = Transference(model, tasks)
    observed = fit(model, tasks, *data, instruments=[transference], **options).model.state_dict()
    torch.testing.assert_close(observed, plain, rtol=0, atol=0)

    model.load_state_dict(start)
    model.train()
    optimizer = Adam(model.parameters(), lr=0.01)
    by_hand = Transference(model, tasks, optimizer=optimizer)
    torch.manual_seed(1)
    for batch in batches:
        by_hand.observe(batch)
        optimizer.zero_grad()
        (tasks.losses(model(batch.inputs), batch.targets) @ torch.ones(3)).backward()
        optimizer.step()
    assert by_hand.result().rule == "Adam step, lr 0.01"
    torch.testing.assert_close(by_hand.result().matrix, transference.result().matrix, rtol=1e-3, atol=1e-6)


def test_bad_arguments():
    model = Net(MIXED)
    with pytest.raises(ValueError, match=r"no estimator 'exact'.*auto.*lookahead.*gram.*sketch"):
        Transference(model, MIXED, estimator="exact")
    with pytest.raises(ValueError, match="budget must be positive"):
        Transference(model, MIXED, budget=0)
    with pytest.raises(ValueError, match="directions must be at least 1"):
        Transference(model, MIXED, directions=0)
    with pytest.raises(ValueError, match="calibrate must be at least 1"):
        Transference(model, MIXED, calibrate=0)
    with pytest.raises(ValueError, match="until must be between 0 and 1"):
        Transference(model, MIXED, until=1)
    with pytest.raises(ValueError, match="Stepped heads need estimator"):
        Transference(model, MIXED, estimator="gram", heads="stepped")
    with pytest.raises(ValueError, match="not both"):
        Transference(model, MIXED, lr=0.1, optimizer=SGD(model.parameters(), lr=0.1))
    with pytest.raises(ValueError, match=r"lr must be positive\. Got 0"):
        Transference(model, MIXED, lr=0)
    with pytest.raises(ValueError, match="every must be at least 1"):
        Transference(model, MIXED, every=0)


def test_a_model_that_shares_nothing_is_refused():
    tasks = TaskSet([Task("a", "binary"), Task("b", "binary")])
    batch = Batch(torch.arange(4), torch.randn(4, 3), torch.ones(4, 2))
    with pytest.raises(ValueError, match="No trainable parameter of the model serves two"):
        Transference(nn.Linear(3, 2), tasks).observe(batch)


def test_what_fit_would_get_wrong_is_refused():
    tasks = TaskSet([Task("a", "binary"), Task("b", "regression")])
    model = SharedTrunk(nn.Linear(3, 4), tasks, 4)
    batch = Batch(torch.arange(4), torch.randn(4, 3), torch.ones(4, 2))
    step = Step(batch, torch.zeros(4, 2), model, SGD(model.parameters(), lr=0.1), 0, 0)
    with pytest.raises(ValueError, match=r"regression tasks in standard units, which \['b'\] do not have"):
        Transference(model, tasks).on_step(step)
    with pytest.raises(ValueError, match="made for another model"):
        Transference(copy.deepcopy(model), tasks).on_step(step)


def test_enough_observations_give_no_warning():
    transference = Transference(Net(MIXED), MIXED, every=1)
    for step in range(10):
        transference.observe(mixed_batch(step))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert transference.result().stderr.isfinite().all()
