"""What every way to combine gradients has to do, whatever else it does."""

import warnings

import pytest
import torch
from linear_losses import (
    ALL,
    MIXED,
    RANDOM,
    LinearLosses,
    Net,
    linear_batch,
    linear_tasks,
    make,
    mixed_batch,
    some_gradients,
    step,
    trained,
)

from cotrain import Batch, SharedTrunk, Task, TaskSet
from cotrain.aggregation.names import named
from cotrain.files import read_state, write_state

every = pytest.mark.parametrize("name", ALL)

WITHOUT_WEIGHTS = ("config", "graddrop", "trimmed-mean")
NOT_SYMMETRIC = (*RANDOM, "pcd")  # the first task of PCD is the one that matters most


@every
def test_shapes_and_heads(name):
    direction, heads, losses = step(make(name), some_gradients(5, 7))
    assert direction.shape == (7,)
    assert bool(torch.isfinite(direction).all())
    assert bool(direction.any())
    assert torch.equal(heads, torch.ones(5))  # their own task's gradient, unweighted
    torch.testing.assert_close(losses, torch.linspace(1, 2, 5))
    assert not losses.requires_grad


@every
def test_the_direction_is_what_the_weights_say(name):
    choices, gradients = [], some_gradients(5, 7)
    direction, _, losses = step(make(name), gradients, absent=[1], choices=choices)
    (choice,) = choices
    assert choice.names == tuple(f"t{n}" for n in range(5))
    assert choice.absent == ("t1",)
    assert torch.equal(choice.losses, losses)
    if name in WITHOUT_WEIGHTS:
        assert choice.weights is None
    else:
        assert choice.weights.shape == (5,)
        assert choice.weights[1] == 0
        torch.testing.assert_close(choice.weights.float() @ gradients, direction, rtol=1e-4, atol=1e-5)
    if choice.cosine is not None:
        joint = gradients[[0, 2, 3, 4]].sum(0)
        assert choice.cosine == pytest.approx(float(torch.cosine_similarity(direction, joint, dim=0)), abs=1e-4)
        assert choice.norm_ratio == pytest.approx(float(direction.norm() / joint.norm()), rel=1e-4)


@every
def test_gradients_are_added(name):
    plain, *_ = step(make(name), some_gradients(5, 7))
    model = LinearLosses(some_gradients(5, 7))
    for value in model.parameters():
        value.grad = torch.full_like(value, 3.0)
    make(name).backward(model, linear_tasks(5), linear_batch(5))
    torch.testing.assert_close(model.theta.grad, plain + 3)
    torch.testing.assert_close(model.bias.grad, torch.full((5,), 4.0))


@every
@pytest.mark.parametrize("absent", [[0], [2], [1, 3]])
def test_an_absent_task_is_as_if_it_did_not_exist(name, absent):
    gradients, levels = some_gradients(6, 7), torch.linspace(1, 2, 6)
    present = [n for n in range(6) if n not in absent]
    # COSMOS has a preference for every task, 1 / T if none is given, whichever are present.
    aggregation, alone = make(name), named(name, weights=[1 / 6] * len(present)) if name == "cosmos" else make(name)
    for _ in range(3):  # also through what it remembers
        direction, heads, losses = step(aggregation, gradients, absent, levels)
        expected, *_ = step(alone, gradients[present], (), levels[present])
    torch.testing.assert_close(direction, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(heads[absent], torch.zeros(len(absent)))
    assert torch.equal(losses[absent], torch.zeros(len(absent)))


@every
def test_the_state_of_an_absent_task_does_not_change(name):
    aggregation = make(name)
    gradients = some_gradients(6, 7)
    for absent in ([], [], [], [2]):  # FAMO sees what a step did at the next one
        step(aggregation, gradients, absent)
    before = aggregation.state_dict()
    step(aggregation, gradients, absent=[2])
    step(aggregation, gradients, absent=[2])
    _compare_rows(before, aggregation.state_dict(), 6, 2)


@every
def test_all_tasks_absent(name):
    aggregation = make(name)
    with pytest.warns(UserWarning, match="No task has a label in this batch"):
        direction, heads, losses = step(aggregation, some_gradients(4, 5), absent=range(4))
    assert direction is None
    assert heads is None
    assert torch.equal(losses, torch.zeros(4))
    direction, *_ = step(aggregation, some_gradients(4, 5))  # and it goes on
    assert bool(torch.isfinite(direction).all())


@every
def test_one_present_task_gets_its_gradient(name):
    gradients = some_gradients(5, 7)
    direction, *_ = step(make(name), gradients, absent=[0, 1, 2, 4])
    assert float(torch.cosine_similarity(direction, gradients[3], dim=0)) == pytest.approx(1, abs=1e-5)
    if name == "nash-mtl":
        assert float(direction.norm()) == pytest.approx(1, abs=1e-5)


@every
def test_a_single_task_is_plain_training_bit_for_bit(name):
    tasks = TaskSet([Task("much", "regression", location=0.0, scale=1.0)])
    generator = torch.Generator().manual_seed(0)
    batch = Batch(torch.arange(9), torch.randn(9, 6, generator=generator), torch.randn(9, 1, generator=generator))
    torch.manual_seed(0)
    model = Net(tasks).eval()
    losses = tasks.losses(model(batch.inputs), batch.targets)
    losses.sum().backward()
    expected = [value.grad for value in model.parameters()]
    model.zero_grad()
    # The gradients are the same to the bit; the loss that is told is a mean in float64.
    torch.testing.assert_close(make(name).backward(model, tasks, batch), losses.detach())
    for value, other in zip(model.parameters(), expected, strict=True):
        assert (value.grad is None) == (other is None)
        if other is not None:
            assert torch.equal(value.grad, other)


@every
def test_a_thousand_tasks(name):
    n_tasks = 1000
    direction, heads, losses = step(make(name), some_gradients(n_tasks, 12))
    assert losses.shape == (n_tasks,)
    assert torch.equal(heads, torch.ones(n_tasks))
    assert bool(torch.isfinite(direction).all())


@every
@pytest.mark.parametrize("kind", ["one zero", "all zero", "duplicates", "opposed", "scales", "rank one"])
def test_degenerate_gradients(name, kind):
    gradients = some_gradients(6, 7)
    if kind == "one zero":
        gradients[2] = 0
    elif kind == "all zero":
        gradients[:] = 0
    elif kind == "duplicates":
        gradients[3:] = gradients[:3]
    elif kind == "opposed":
        gradients[3:] = -gradients[:3]
    elif kind == "scales":
        gradients *= 10 ** torch.linspace(-8, 8, 6).unsqueeze(1)
    else:
        gradients = torch.linspace(-1, 2, 6).unsqueeze(1) * gradients[:1]
    aggregation = make(name)
    direction, heads, _ = step(aggregation, gradients)
    assert bool(torch.isfinite(direction).all())
    assert torch.equal(heads, torch.ones(6))
    if kind == "all zero":
        assert float(direction.norm()) == 0


@every
def test_huge_and_tiny_gradients_never_give_nan(name):
    for factor in (1e25, 1e-25):
        model = LinearLosses(some_gradients(5, 7) * factor)
        aggregation = make(name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the skipped step, or of an overflow inside a solver of TorchJD's
            aggregation.backward(model, linear_tasks(5), linear_batch(5))
        written = model.theta.grad is not None
        assert written == (aggregation.skipped_steps == 0)
        assert not written or bool(torch.isfinite(model.theta.grad).all())


@pytest.mark.parametrize("name", [name for name in ALL if name not in NOT_SYMMETRIC])
def test_the_order_of_the_tasks_does_not_matter(name):
    gradients, levels = some_gradients(6, 7, dtype=torch.float64), torch.linspace(1, 2, 6, dtype=torch.float64)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    here, there = make(name), make(name)
    for _ in range(3):
        direction, *_ = step(here, gradients, (), levels)
        permuted, *_ = step(there, gradients[order], (), levels[order])
    torch.testing.assert_close(permuted, direction, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", RANDOM)
def test_random_ones_do_not_know_the_order_of_the_tasks_either(name):
    """Means over seeds, which must agree within their standard errors."""
    gradients, levels = some_gradients(4, 5), torch.linspace(0.5, 2, 4)
    order = torch.tensor([3, 0, 1, 2])

    def directions(rows):
        return torch.stack([step(named(name, seed=seed), gradients[rows], (), levels[rows])[0] for seed in range(50)])

    there, here = directions(torch.arange(4)), directions(order)
    error = ((there.var(0) + here.var(0)) / 50).sqrt()
    assert bool(((there.mean(0) - here.mean(0)).abs() <= 4.5 * error + 1e-6).all())


@every
def test_twice_the_same(name, assert_same):
    before = torch.get_rng_state()
    runs = []
    for _ in range(2):
        aggregation = make(name)
        runs.append([step(aggregation, some_gradients(5, 7, seed)) for seed in range(3)])
    assert_same(*runs)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", RANDOM)
def test_randomness_comes_from_the_seed(name):
    def directions(seed):
        aggregation = named(name, seed=seed)
        return torch.stack([step(aggregation, some_gradients(8, 20))[0] for _ in range(3)])

    first = directions(0)
    assert torch.equal(first, directions(0))
    assert not torch.equal(first, directions(1))
    assert not torch.equal(first[0], first[1])  # it goes on, and does not start again


@every
def test_resumed_is_uninterrupted(name, tmp_path, assert_same):
    """Through a file, at a step after which tasks come and go."""
    whole = trained(make(name), range(6))
    first, second = make(name), make(name)
    model = trained(first, range(3))
    write_state(tmp_path / "state", first.state_dict())
    second.load_state_dict(read_state(tmp_path / "state"))
    assert_same(dict(trained(second, range(3, 6), model).state_dict()), dict(whole.state_dict()))


@every
def test_a_state_before_the_first_step(name, assert_same):
    fresh = make(name)
    fresh.load_state_dict(make(name).state_dict())
    assert_same(step(fresh, some_gradients(5, 7)), step(make(name), some_gradients(5, 7)))


@every
def test_a_network_with_all_sorts_of_parameters(name):
    torch.manual_seed(0)
    model, choices = Net(MIXED).eval(), []
    aggregation, batch = make(name), mixed_batch()
    aggregation.on_choice = choices.append
    aggregation.backward(model, MIXED, batch)
    assert model.frozen.weight.grad is None
    assert model.unused.weight.grad is None
    losses = MIXED.losses(model(batch.inputs), batch.targets)
    own = dict(model.heads.named_parameters())
    for key, gradient in zip(
        own, torch.autograd.grad(losses.sum(), list(own.values()), retain_graph=True), strict=True
    ):
        torch.testing.assert_close(own[key].grad, gradient)
    if choices[0].weights is not None:
        shared = [
            value for key, value in model.named_parameters() if key.split(".")[0] not in ("heads", "frozen", "unused")
        ]
        expected = torch.autograd.grad((choices[0].weights.float() * losses).sum(), shared)
        for value, gradient in zip(shared, expected, strict=True):
            torch.testing.assert_close(value.grad, gradient, rtol=1e-4, atol=1e-6)


@every
def test_lower_precision_goes_the_same_way(name):
    directions = []
    for lower in (False, True):
        torch.manual_seed(0)
        model = Net(MIXED).eval()
        with torch.autocast("cpu", torch.bfloat16, enabled=lower):
            make(name).backward(model, MIXED, mixed_batch(missing=0))
        assert model.first.weight.grad.dtype == torch.float32
        directions.append(model.first.weight.grad.flatten())
    if name not in ("krum", "pbi"):  # which choose a task, or change signs, by small differences
        assert float(torch.cosine_similarity(*directions, dim=0)) > 0.9


@every
def test_parameters_in_lower_precision(name):
    torch.manual_seed(0)
    model = Net(MIXED).eval().bfloat16()
    batch = mixed_batch(missing=0)
    losses = make(name).backward(model, MIXED, Batch(batch.index, batch.inputs.bfloat16(), batch.targets))
    assert losses.dtype == torch.float32
    assert model.first.weight.grad.dtype == torch.bfloat16
    assert bool(torch.isfinite(model.first.weight.grad).all())


@every
def test_a_nan_in_one_gradient_skips_the_step(name, assert_same):
    model, aggregation = LinearLosses(some_gradients(4, 5)), make(name)
    aggregation.backward(model, linear_tasks(4), linear_batch(4))
    model.zero_grad()
    state = aggregation.state_dict()
    model.gradients[2, 1] = torch.nan
    model.gradients[2, 0] = 0  # the loss is NaN for this task alone
    with pytest.warns(UserWarning, match=r"The gradient of \['t2'\] is NaN or infinite: the step is skipped \(1 so"):
        aggregation.backward(model, linear_tasks(4), linear_batch(4))
    assert all(value.grad is None for value in model.parameters())
    assert aggregation.skipped_steps == 1
    assert aggregation.state_dict()["skipped_steps"] == 1
    assert_same(aggregation.state_dict(), {**state, "skipped_steps": 1})


class _Overflow(torch.autograd.Function):
    """The identity with a gradient that is infinite for one task's column."""

    @staticmethod
    def forward(ctx, values):
        return values.clone()

    @staticmethod
    def backward(ctx, sent):
        return torch.where(sent[:, 1:2] != 0, torch.inf, sent)


class _OverflowingTrunk(LinearLosses):
    def forward(self, inputs):
        return _Overflow.apply(super().forward(inputs))


@every
def test_an_infinite_gradient_of_a_finite_loss_skips_the_step(name):
    model, aggregation = _OverflowingTrunk(some_gradients(4, 5)), make(name)
    with pytest.warns(UserWarning, match=r"The gradient of \['t1'\] is NaN or infinite"):
        aggregation.backward(model, linear_tasks(4), linear_batch(4))
    assert all(value.grad is None for value in model.parameters())


@every
def test_tasks_that_share_nothing(name):
    class Apart(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.features = torch.nn.Identity()
            self.one, self.two = torch.nn.Linear(3, 1), torch.nn.Linear(3, 1)

        def forward(self, inputs):
            inputs = self.features(inputs)
            return torch.cat([self.one(inputs), self.two(inputs)], 1)

    tasks = TaskSet([Task("one", "binary"), Task("two", "binary")])
    with pytest.raises(ValueError, match="No trainable parameter serves two of the tasks"):
        make(name).backward(Apart(), tasks, Batch(torch.arange(4), torch.randn(4, 3), torch.ones(4, 2)))


POSITIVE = ("db-mtl", "famo", "geometric-mean", "gradnorm", "log-sum")
NOT_NEGATIVE = ("dwa", "imtl-l", "transference", "uw")


@every
def test_a_negative_loss_is_refused_or_does_no_harm(name):
    levels = torch.tensor([1.0, -2.0, 3.0])
    if name in (*POSITIVE, *NOT_NEGATIVE):
        with pytest.raises(ValueError, match=r"needs (positive losses|losses (above|that)).* Got -2 for task 't1'"):
            step(make(name), some_gradients(3, 5), levels=levels)
        return
    aggregation = make(name)
    for _ in range(50):  # weights that are learned do not run away
        choices = []
        direction, *_ = step(aggregation, some_gradients(3, 5), levels=levels, choices=choices)
    assert bool(torch.isfinite(direction).all())
    if choices[0].weights is not None:
        assert float(choices[0].weights.abs().max()) < 10


@every
def test_a_loss_of_zero(name):
    levels = torch.tensor([1.0, 0.0, 3.0])
    if name in POSITIVE:
        with pytest.raises(ValueError, match=r"needs (positive losses|losses above).* Got 0 for task 't1'"):
            step(make(name), some_gradients(3, 5), levels=levels)
    else:
        direction, *_ = step(make(name), some_gradients(3, 5), levels=levels)
        assert bool(torch.isfinite(direction).all())


@every
def test_packed_heads(name):
    """The heads of all tasks are one matrix, of which no task is given another's part."""
    torch.manual_seed(0)
    trunk = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh())
    tasks = TaskSet(Task(f"t{n}", "binary") for n in range(4))
    model = SharedTrunk(trunk, tasks, 8)
    aggregation = make(name) if name != "mgda-ub" else type(make(name))()
    batch = mixed_batch()
    aggregation.backward(model, tasks, Batch(batch.index, batch.inputs, (batch.targets > 0).float()))
    losses = tasks.losses(model(batch.inputs), (batch.targets > 0).float())
    expected = torch.autograd.grad(losses.sum(), model.heads.weight)[0]
    torch.testing.assert_close(model.heads.weight.grad, expected)


def _compare_rows(before, after, n_tasks, row):
    """Everything with a row per task is as before in this row."""
    assert type(before) is type(after)
    if isinstance(before, dict):
        assert set(before) == set(after)
        for key in before:
            if key not in ("pending", "generator"):
                _compare_rows(before[key], after[key], n_tasks, row)
    elif isinstance(before, list | tuple):
        for one, other in zip(before, after, strict=False):
            _compare_rows(one, other, n_tasks, row)
    elif isinstance(before, torch.Tensor) and before.dim() > 0 and len(before) == n_tasks == len(after):
        torch.testing.assert_close(before[row], after[row], rtol=0, atol=0, equal_nan=True)
