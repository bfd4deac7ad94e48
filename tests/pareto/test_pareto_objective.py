import copy
import io
import pickle
import warnings
import weakref
from itertools import permutations

import pytest
import torch
from torch import nn
from torch.func import functional_call
from wrapped_modules import PAIR, apart, batch_for, features, gradients, mlp

from cotrain import Batch, Task, TaskSet
from cotrain.errors import TrainingDivergedError
from cotrain.pareto import ParetoManifold, ParetoObjective, ordering_penalty
from cotrain.pareto.members import stored
from cotrain.pareto.mixture import Mixture, write_gradients
from cotrain.pareto.ray_losses import ray_losses


def problem(n=16, *, form="full", dtype=torch.float64, tasks=PAIR, **options):
    """A manifold whose members are apart, and a batch."""
    module = mlp(tasks, **options).to(dtype)
    manifold = apart(ParetoManifold(module, tasks, form, rank=1))
    inputs = torch.randn(n, 4, generator=torch.Generator().manual_seed(3)).to(dtype)
    return manifold, batch_for(inputs, tasks)


def plain_members(manifold, module):
    """Explicit copies of every member's parameters, as leaves: K dicts, and the shared ones."""
    members = [
        {
            name: manifold.members.stacks[stored(name)][row].detach().clone().requires_grad_()
            for name in manifold.member_names
        }
        for row in range(len(manifold.names))
    ]
    shared = {
        name: manifold.shared["/" + name.replace(".", "/")].detach().clone().requires_grad_()
        for name in dict(module.named_parameters())
        if name not in manifold.member_names
    }
    return members, shared


def along(preference, members, shared):
    """sum_k a_k theta_k, written out."""
    mixed = {name: sum(a * member[name] for a, member in zip(preference, members, strict=True)) for name in members[0]}
    return {**mixed, **shared}


@pytest.mark.parametrize("split", [True, False])
def test_gradients_equal_those_of_explicit_sums(split):
    manifold, batch = problem(18)  # five chunks of three and four samples
    module = mlp().double()
    objective = ParetoObjective(manifold, rays=5, split=split, balance="none")
    losses = objective.backward(batch)
    members, shared = plain_members(manifold, module)
    total, found = 0, []
    for ray, preference in enumerate(objective.preferences.double()):
        part = slice(18 * ray // 5, 18 * (ray + 1) // 5) if split else slice(None)
        outputs = functional_call(module, along(preference, members, shared), (batch.inputs[part],))
        found.append(PAIR.losses(outputs, batch.targets[part]))
        total = total + (preference * found[-1]).sum() / 5
    total.backward()
    torch.testing.assert_close(losses, torch.stack(found).detach(), rtol=1e-12, atol=1e-12)
    for name in manifold.member_names:
        expected = torch.stack([member[name].grad for member in members])
        key = "/" + name.replace(".", "/")
        torch.testing.assert_close(manifold.members.stacks[key].grad, expected, rtol=1e-6, atol=1e-8)
    for name, value in shared.items():
        torch.testing.assert_close(manifold.shared["/" + name.replace(".", "/")].grad, value.grad, rtol=1e-6, atol=1e-8)


def test_a_members_gradient_is_the_mixtures_times_its_share():
    manifold, batch = problem()
    objective = ParetoObjective(manifold, rays=1, corners=0)
    objective.backward(batch)
    first, second = objective.preferences[0].double()
    for stack in manifold.members.stacks.values():
        torch.testing.assert_close(stack.grad[0] * second, stack.grad[1] * first)


def assigned_gradients(manifold, preferences, batch):
    """Linear scalarisation along given rays, each on its chunk."""
    manifold.zero_grad()
    parameters = list(manifold.parameters())
    mixture = Mixture(manifold, parameters, preferences, cut=True)
    losses, _ = ray_losses(manifold, PAIR, mixture.weights, batch)
    write_gradients(parameters, mixture.gradients((losses * preferences).sum() / len(preferences)))
    return torch.cat([value.grad.flatten() for value in manifold.parameters()])


def test_split_rays_are_unbiased():
    manifold, batch = problem(15)
    preferences = torch.tensor([[1.0, 0], [0.4, 0.6], [0.1, 0.9]], dtype=torch.float64)
    orders = [torch.tensor(order) for order in permutations(range(3))]
    split = torch.stack([assigned_gradients(manifold, preferences[order], batch) for order in orders]).mean(0)
    whole = torch.stack([assigned_gradients(manifold, ray.unsqueeze(0), batch) for ray in preferences]).mean(0)
    torch.testing.assert_close(split, whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("scalarization", ["linear", "tchebycheff"])
def test_two_passes_with_the_penalty_equal_one_graph(scalarization):
    manifold, batch = problem(dropout=0.5)
    apart(manifold, scale=2.0, seed=3)
    objective = ParetoObjective(
        manifold, rays=3, split=False, ordering=2.0, balance="none", scalarization=scalarization, smoothness=0.2
    )
    torch.manual_seed(7)
    objective.backward(batch)
    found = gradients(manifold)
    found = {name: value.clone() for name, value in found.items()}
    manifold.zero_grad()
    preferences = objective.preferences.double()
    torch.manual_seed(7)
    losses = torch.stack(
        [
            PAIR.losses(manifold.run(weights, batch.inputs), batch.targets)
            for weights in manifold.weights_at(preferences)
        ]
    )
    weighted = losses * preferences
    along_rays = weighted.sum(1) if scalarization == "linear" else 0.2 * (weighted / 0.2).logsumexp(1)
    penalty = ordering_penalty(losses, preferences)
    assert penalty > 0
    (along_rays.mean() + 2.0 * penalty).backward()
    for name, value in manifold.named_parameters():
        torch.testing.assert_close(found[name], value.grad, rtol=1e-12, atol=1e-12)


def test_dropout_differs_from_ray_to_ray_and_follows_the_random_state():
    manifold, batch = problem(dropout=0.5)
    objective = ParetoObjective(manifold, rays=2, split=False, balance="none")
    objective._rays.draw = lambda: torch.tensor([[0.5, 0.5], [0.5, 0.5]])
    torch.manual_seed(0)
    first = objective.backward(batch)
    after = torch.get_rng_state()
    torch.manual_seed(0)
    again = objective.backward(batch)
    assert torch.equal(first, again)
    assert torch.equal(after, torch.get_rng_state())
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize("form", ["full", "residual", "lora"])
@pytest.mark.parametrize("split", [True, False])
def test_accumulation_adds_and_a_scale_multiplies(form, split):
    manifold, batch = problem(form=form, dtype=torch.float32)
    objective = ParetoObjective(manifold, rays=4, split=split, balance="none")
    state = objective.state_dict()
    objective.backward(batch)
    once = {name: value.clone() for name, value in gradients(manifold).items()}
    objective.load_state_dict(state)
    objective.backward(batch)
    for name, value in gradients(manifold).items():
        torch.testing.assert_close(value, 2 * once[name], rtol=0, atol=0)
    manifold.zero_grad()
    objective.load_state_dict(state)
    objective.backward(batch, scale=lambda total: 1024 * total)
    for name, value in gradients(manifold).items():
        torch.testing.assert_close(value, 1024 * once[name], rtol=0, atol=0)


class SummedWeights(nn.Module):
    """Two parameters of which only the sum is used, so that their gradients are one."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.bias = (nn.Parameter(torch.randn(shape)) for shape in ((4, 2), (4, 2), 2))

    def forward(self, inputs):
        return inputs @ (self.one + self.two) + self.bias


def test_no_two_gradients_share_memory():
    manifold = ParetoManifold(SummedWeights(), PAIR, members="bias")
    ParetoObjective(manifold, rays=1).backward(batch_for(features(4)))
    pointers = [value.grad.data_ptr() for value in manifold.parameters()]
    assert len(set(pointers)) == len(pointers)


@pytest.mark.parametrize("form", ["full", "residual", "lora"])
def test_automatic_mixed_precision(form):
    manifold, batch = problem(64, form=form, dtype=torch.float32, norm=True)
    objective = ParetoObjective(manifold, rays=2, balance="none")
    state = objective.state_dict()
    objective.backward(batch)
    exact = {name: value.clone() for name, value in gradients(manifold).items()}
    manifold.zero_grad()
    objective.load_state_dict(state)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = manifold.members.mixed(objective.preferences)
        objective.backward(batch)
    assert all(value.dtype == torch.float32 for value in mixed.values())
    largest = max(float(value.abs().max()) for value in exact.values())
    for name, value in gradients(manifold).items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, exact[name], rtol=0.1, atol=0.03 * largest)


@pytest.mark.parametrize("split", [True, False])
@pytest.mark.parametrize("balance", ["means", "gradients", "none"])
@pytest.mark.parametrize("scalarization", ["linear", "tchebycheff"])
def test_a_task_without_labels_contributes_nothing(split, balance, scalarization):
    manifold, batch = problem(16)
    objective = ParetoObjective(manifold, rays=4, split=split, balance=balance, scalarization=scalarization)
    batch.targets[:8, 0] = torch.nan
    losses = objective.backward(batch)
    assert torch.isfinite(losses).all()
    assert (losses[:, 0] == 0).tolist() == ([True, True, False, False] if split else [False] * 4)
    assert all(torch.isfinite(value).all() for value in gradients(manifold).values())
    batch.targets[:, 0] = torch.nan
    manifold.zero_grad()
    objective.backward(batch)
    heads = manifold.shared["/heads/weight"].grad
    assert not heads[0].any()
    assert heads[1].any()


@pytest.mark.parametrize("split", [True, False])
@pytest.mark.parametrize("balance", ["means", "gradients", "none"])
def test_a_batch_without_any_label_changes_nothing(split, balance, assert_same):
    manifold, batch = problem(16)
    objective = ParetoObjective(manifold, rays=4, split=split, balance=balance)
    means = objective.state_dict()["means"]
    batch.targets[:] = torch.nan
    assert not objective.backward(batch).any()
    assert not any(value is not None and bool(value.any()) for value in gradients(manifold).values())
    assert_same(objective.state_dict()["means"], means)


def test_a_loss_that_is_zero_with_gradient_zero_is_balanced_by_gradients():
    margin = Task("first", "custom", loss=lambda outputs, targets: (outputs[:, 0] - 1e6).relu())
    manifold, batch = problem(tasks=TaskSet([margin, PAIR[1]]))
    ParetoObjective(manifold, rays=2, balance="gradients").backward(batch)
    assert all(torch.isfinite(value).all() for value in gradients(manifold).values())


def test_the_first_step_is_balanced_by_the_labelled_rays_alone():
    manifold, batch = problem(16)
    objective = ParetoObjective(manifold, rays=4)
    batch.targets[:8, 0] = torch.nan
    losses = objective.backward(batch)
    scales = objective._means.scales(torch.zeros(4, 2), torch.ones(4, 2))
    torch.testing.assert_close(scales.double(), torch.stack([losses[2:, 0].mean(), losses[:, 1].mean()]).double())


def test_balanced_losses_do_not_depend_on_their_units():
    tasks = TaskSet([Task(name, "custom", loss=lambda o, t: (o[:, 0] - t) ** 2) for name in PAIR.names])
    scaled = TaskSet([Task("first", "custom", loss=lambda o, t: 1000 * (o[:, 0] - t) ** 2), tasks[1]])
    found = []
    for kind in (tasks, scaled):
        manifold, batch = problem(tasks=kind)
        objective = ParetoObjective(manifold, rays=2)
        for _ in range(3):
            objective.backward(batch)
        found.append(torch.cat([value.grad.flatten() for value in manifold.parameters()]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-9)


def test_fewer_samples_than_rays():
    manifold, batch = problem(3)
    objective = ParetoObjective(manifold, rays=5)
    assert objective.backward(batch).shape == (3, 2)
    assert len(objective.preferences) == 3
    with pytest.raises(ValueError, match="no sample in the batch"):
        objective.backward(batch_for(features(4)[:0]))


@pytest.mark.parametrize("split", [True, False])
def test_a_loss_that_is_not_finite_stops_before_anything_is_written(split, assert_same):
    manifold, batch = problem(16)
    objective = ParetoObjective(manifold, rays=4, split=split)
    objective.backward(batch)
    before, means = {n: v.clone() for n, v in gradients(manifold).items()}, objective.state_dict()["means"]
    batch.targets[5, 1] = torch.inf
    with pytest.raises(
        TrainingDivergedError, match=r"\['second'\] is inf at the preference \{'first': [\d.]+, 'second'"
    ):
        objective.backward(batch)
    assert_same(gradients(manifold), before)
    assert_same(objective.state_dict()["means"], means)


def trained(steps, *, stop=None):
    """Parameters after some steps; with `stop`, everything goes through a file on the way."""
    manifold, _ = problem(norm=True, dtype=torch.float32)
    objective = ParetoObjective(manifold, rays=2, seed=4)
    optimizer = torch.optim.Adam(manifold.parameters(), lr=0.05)
    for step in range(steps):
        if step == stop:
            file = io.BytesIO()
            torch.save([part.state_dict() for part in (manifold, objective, optimizer)], file)
            file.seek(0)
            manifold, _ = problem(norm=True, dtype=torch.float32, seed=9)
            objective = ParetoObjective(manifold, rays=2, seed=8)
            optimizer = torch.optim.Adam(manifold.parameters(), lr=0.5)
            for part, state in zip((manifold, objective, optimizer), torch.load(file), strict=True):
                part.load_state_dict(state)
        optimizer.zero_grad()
        inputs = torch.randn(32, 4, generator=torch.Generator().manual_seed(step))
        objective.backward(batch_for(inputs, seed=step))
        optimizer.step()
    return dict(manifold.named_parameters()), objective.preferences


def test_resumed_equals_uninterrupted(assert_same):
    assert_same(trained(5, stop=3), trained(5))


def test_forty_tasks_with_three_knobs_and_one_task_with_one():
    many = TaskSet([Task(f"task {number}", "binary") for number in range(40)])
    groups = {"left": many.names[:20], "middle": many.names[20:30], "right": many.names[30:]}
    manifold = ParetoManifold(mlp(many), many, groups=groups)
    inputs = torch.randn(12, 4)
    objective = ParetoObjective(manifold, rays=3)
    assert objective.backward(Batch(torch.arange(12), inputs, torch.rand(12, 40).round())).shape == (3, 40)
    assert objective.preferences.shape == (3, 3)
    assert manifold(inputs, {"left": 1}).shape == (12, 40)
    alone = TaskSet([Task("alone", "regression")])
    manifold = ParetoManifold(mlp(alone), alone)
    ParetoObjective(manifold).backward(batch_for(inputs, alone))
    torch.testing.assert_close(manifold.export([1.0])(inputs), manifold(inputs, [1.0]))


def test_gradients_with_groups_count_tasks_alike_inside():
    three = TaskSet([Task(name, "regression") for name in "abc"])
    manifold = apart(ParetoManifold(mlp(three), three, groups={"x": ["a", "b"], "y": ["c"]}))
    objective = ParetoObjective(manifold, rays=1, balance="none")
    inputs = torch.randn(12, 4)
    batch = batch_for(inputs, three)
    objective.backward(batch)
    found = {name: value.clone() for name, value in gradients(manifold).items()}
    manifold.zero_grad()
    preference = objective.preferences[0]
    losses = three.losses(manifold(inputs, preference), batch.targets)
    (preference[0] * (losses[0] + losses[1]) / 2 + preference[1] * losses[2]).backward()
    for name, value in gradients(manifold).items():
        torch.testing.assert_close(found[name], value)


def test_small_chunks_warn_only_where_batch_norm_sees_them():
    manifold, batch = problem(16, norm=True)
    with pytest.warns(UserWarning, match="chunks of 4 samples"):
        ParetoObjective(manifold, rays=4).backward(batch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ParetoObjective(manifold, rays=4, split=False).backward(batch)
        ParetoObjective(manifold.eval(), rays=4).backward(batch)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"balance": "gradnorm"}, "balance must be one of"),
        ({"scalarization": "max"}, "scalarization must be one of"),
        ({"ordering": 1.0}, "needs split=False"),
        ({"ordering": 1.0, "split": False, "rays": 1}, "at least 2 rays"),
        ({"ordering": -1.0, "split": False}, "weight of 0 or more"),
        ({"ordering": 1.0, "split": False, "balance": "gradients"}, "take 'means'"),
        ({"smoothness": 0.0}, "smoothness must be positive"),
        ({"rays": 0}, "rays must be at least 1"),
        ({"concentration": 0.0}, "concentration must be a positive number"),
        ({"corners": 1.5}, "from 0 to 1"),
        ({"tasks": PAIR[:1]}, "must be the manifold's"),
    ],
)
def test_options_that_do_not_fit(options, words):
    with pytest.raises(ValueError, match=words):
        ParetoObjective(problem()[0], **options)


def test_a_sparse_gradient_is_taken_in():
    embedding = nn.Sequential(nn.Embedding(6, 4, sparse=True), nn.Flatten(), nn.Linear(4, 2))
    batch = batch_for(torch.arange(6))
    for members in ("0", "2"):
        manifold = ParetoManifold(copy.deepcopy(embedding), PAIR, members=members)
        ParetoObjective(manifold, rays=2).backward(batch)
        assert all(value is not None for value in gradients(manifold).values())


@pytest.mark.parametrize("form", ["full", "residual", "lora"])
def test_a_mixture_that_is_cut_gives_the_same_gradients(form):
    """Rays differentiated together through the members, or one by one and led back, are the same function."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Conv1d(1, 1, 3, padding=1), nn.Linear(12, 2)).double()
    tasks = TaskSet([Task("a", "regression"), Task("b", "regression")])
    manifold = ParetoManifold(_Unsqueezed(module), tasks, form, rank=1)
    batch = Batch(torch.arange(8), torch.randn(8, 6).double(), torch.randn(8, 2).double())
    preferences = torch.tensor([[0.2, 0.8], [1.0, 0.0], [0.5, 0.5]])
    found = []
    for cut in (True, False):
        manifold.zero_grad()
        parameters = list(manifold.parameters())
        mixture = Mixture(manifold, parameters, preferences, cut=cut)
        losses, _ = ray_losses(manifold, tasks, mixture.weights, batch)
        total = (losses * torch.tensor([[1.0, 2.0], [3.0, 1.0], [0.5, 0.5]])).sum()
        write_gradients(parameters, mixture.gradients(total))
        found.append([value.grad for value in manifold.parameters()])
    assert all(gradient is not None for gradient in found[0])
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-14)


class _Unsqueezed(nn.Module):
    """A convolution amid linear layers: operands and mixed weights in one module."""

    def __init__(self, layers):
        super().__init__()
        self.layers = layers

    def forward(self, inputs):
        first, activation, convolution, last = self.layers
        return last(convolution(activation(first(inputs)).unsqueeze(1)).squeeze(1))


@pytest.mark.parametrize("split", [True, False])
def test_nothing_grows_with_the_number_of_steps(split):
    manifold, batch = problem()
    objective = ParetoObjective(manifold, split=split)

    def size_after(steps):
        for _ in range(steps):
            objective.backward(batch)
        return len(pickle.dumps(vars(objective), pickle.HIGHEST_PROTOCOL))

    first = size_after(8)
    # The generator's state and the turn of the corners are numbers of varying length.
    assert size_after(64) < first + 64


@pytest.mark.parametrize("rays", [1, 2])
def test_gradients_have_memory_of_their_own(rays):
    """What autograd gives for a sum, or for two parameters at once, cannot be added to in place."""

    class Summed(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 2)
            self.scale = nn.Parameter(torch.ones(3))
            self.one, self.other = (nn.Parameter(torch.zeros(2)) for _ in range(2))

        def forward(self, inputs):
            return self.inner(inputs) * self.scale.sum() + (self.one.view(1, 2) + self.other.view(1, 2))

    torch.manual_seed(0)
    manifold = ParetoManifold(Summed(), PAIR, members="inner")
    batch = Batch(torch.arange(6), torch.randn(6, 4), torch.randint(0, 2, (6, 2)).float())
    objective = ParetoObjective(manifold, rays=rays, split=False, balance="none", corners=1)
    for _ in range(2):  # each corner once, or the mean of both twice
        objective.backward(batch)
    found = gradients(manifold)
    corners = torch.eye(2)
    total = sum((PAIR.losses(manifold(batch.inputs, corner), batch.targets) * corner).sum() for corner in corners)
    wanted = torch.autograd.grad(total, list(manifold.parameters()))
    torch.testing.assert_close(list(found.values()), list(wanted))


@pytest.mark.parametrize("options", [{}, {"split": False}, {"balance": "gradients"}])
def test_parameters_may_be_frozen_afterwards(options):
    manifold, batch = problem()
    frozen = next(iter(manifold.members.parameters())).requires_grad_(False)
    ParetoObjective(manifold, rays=2, **options).backward(batch)
    assert frozen.grad is None
    assert all(value.grad is not None for value in manifold.parameters() if value is not frozen)
    manifold.requires_grad_(False)
    manifold.zero_grad()
    ParetoObjective(manifold, rays=2, **options | {"balance": "none"}).backward(batch)
    assert all(value.grad is None for value in manifold.parameters())


def test_rays_in_full_are_mixed_one_by_one(monkeypatch):
    """So that memory does not grow with their number."""
    manifold, batch = problem()
    mixed = ParetoManifold.weights_at
    alive = []

    def recorded(self, preferences):
        assert len(preferences) == 1
        assert sum(reference() is not None for reference in alive) == 0
        found = mixed(self, preferences)
        alive.extend(weakref.ref(found[0][name]) for name in self.member_names)
        return found

    monkeypatch.setattr(ParetoManifold, "weights_at", recorded)
    ParetoObjective(manifold, rays=5, split=False).backward(batch)
    assert len(alive) == 5 * len(manifold.member_names)


@pytest.mark.parametrize("split", [True, False])
def test_a_grad_scaler_changes_nothing(split):
    found = []
    for scaled in (False, True):
        manifold, batch = problem(dtype=torch.float32)
        objective = ParetoObjective(manifold, rays=2, split=split)
        optimizer = torch.optim.SGD(manifold.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, enabled=scaled)
        for _ in range(3):
            optimizer.zero_grad()
            objective.backward(batch, scale=scaler.scale)
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(manifold.parameters(), 0.5)
            scaler.step(optimizer)
            scaler.update()
        found.append(torch.cat([value.detach().flatten() for value in manifold.parameters()]))
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize("split", [True, False])
def test_gradient_balance_divides_by_the_norm_at_the_mixed_weights(split):
    manifold, batch = problem()
    objective = ParetoObjective(manifold, rays=1, split=split, balance="gradients", corners=0)
    objective.backward(batch)
    (point,) = objective.preferences
    network = manifold.export(point)
    total, losses = 0.0, PAIR.losses(network(batch.inputs), batch.targets)
    for share, loss in zip(point, losses, strict=True):
        by_weight = torch.autograd.grad(loss, list(network.parameters()), retain_graph=True)
        total = total + share * loss / torch.cat([part.flatten() for part in by_weight]).norm()
    by_weight = torch.autograd.grad(total, list(network.parameters()))
    wanted = dict(zip((name for name, _ in network.named_parameters()), by_weight, strict=True))
    for name in manifold.member_names:
        stack = manifold.members.stacks[stored(name)].grad
        torch.testing.assert_close(stack, torch.stack([share * wanted[name] for share in point.double()]))


@pytest.mark.parametrize("form", ["full", "lora"])
def test_forty_members_train(form):
    tasks = TaskSet([Task(f"t{number}", "binary") for number in range(40)])
    torch.manual_seed(0)
    manifold = ParetoManifold(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 40)), tasks, form, rank=1)
    inputs = torch.randn(64, 4)
    batch = Batch(torch.arange(64), inputs, (inputs @ torch.randn(4, 40) > 0).float())
    objective = ParetoObjective(manifold, rays=8)
    optimizer = torch.optim.Adam(manifold.parameters(), lr=0.05)
    means = []
    for _ in range(30):
        optimizer.zero_grad()
        means.append(float(objective.backward(batch).mean()))
        optimizer.step()
    assert objective.preferences.shape == (8, 40)
    assert sum(means[-5:]) < 0.9 * sum(means[:5])
