import copy
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD, Adam, AdamW, RMSprop

from cotrain import Batch, SharedTrunk, Task, TaskSet, lookahead


class OwnAdam(Adam):
    """A subclass may do anything in its step, so it must not be taken for Adam."""

    def step(self, closure=None):
        super().step()
        return super().step()


OPTIMIZERS = {
    "sgd": SGD,
    "momentum": partial(SGD, momentum=0.9),
    "dampening": partial(SGD, momentum=0.9, dampening=0.3, weight_decay=0.1),
    "nesterov": partial(SGD, momentum=0.8, nesterov=True, weight_decay=0.02),
    "maximize": partial(SGD, maximize=True),
    "adam": Adam,
    "adam-coupled": partial(Adam, weight_decay=0.1, betas=(0.8, 0.95), eps=1e-6),
    "adam-fused": partial(Adam, fused=True),
    "adam-foreach": partial(Adam, foreach=True),
    "amsgrad": partial(Adam, amsgrad=True),
    "adamw": partial(AdamW, weight_decay=0.2),
    "adamw-fused": partial(AdamW, fused=True),
    "rmsprop": partial(RMSprop, momentum=0.5),
    "subclass": OwnAdam,
}


def trained(make, lr, steps, groups=False):
    """Three parameters, their optimizer after some steps, and gradients for the next one."""
    torch.manual_seed(steps)
    net = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3, bias=False))
    parameters = dict(net.named_parameters())
    given_parameters = (
        [{"params": list(net[0].parameters())}, {"params": [net[1].weight], "lr": lr / 7}]
        if groups
        else list(parameters.values())
    )
    optimizer = make(given_parameters, lr=lr)
    for _ in range(steps):
        for value in parameters.values():
            value.grad = torch.randn_like(value)
        optimizer.step()
    optimizer.zero_grad()
    return parameters, optimizer, {name: torch.randn(6, *value.shape) for name, value in parameters.items()}


def really_stepped(parameters, optimizer, gradients):
    copies = {}
    twin = copy.deepcopy(optimizer, copies)
    for name, value in parameters.items():
        copies[id(value)].grad = gradients[name].clone()
    twin.step()
    return {name: copies[id(value)].detach() for name, value in parameters.items()}


@pytest.mark.parametrize("steps", [0, 1, 4])
@pytest.mark.parametrize("groups", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_update_is_the_step_of_the_optimizer(name, steps, groups):
    for lr in (0.3, 1e-3):
        parameters, optimizer, gradients = trained(OPTIMIZERS[name], lr, steps, groups)
        values = {key: value.detach().clone() for key, value in parameters.items()}
        state = copy.deepcopy(optimizer.state_dict())

        together = lookahead.update(parameters, gradients, optimizer)
        for k in range(6):
            one = {key: gradient[k] for key, gradient in gradients.items()}
            expected = really_stepped(parameters, optimizer, one)
            alone = lookahead.update(parameters, one, optimizer)
            for key in parameters:
                torch.testing.assert_close(together[key][k], expected[key], rtol=1e-6, atol=1e-6)
                torch.testing.assert_close(alone[key], expected[key], rtol=1e-6, atol=1e-6)

        for key, value in parameters.items():
            assert torch.equal(value, values[key])
            assert value.grad is None
        torch.testing.assert_close(optimizer.state_dict(), state, rtol=0, atol=0)


@settings(deadline=None, max_examples=30)
@given(
    lr=st.floats(1e-4, 1),
    momentum=st.floats(0, 0.99),
    dampening=st.floats(0, 1),
    decay=st.floats(0, 0.5),
    steps=st.integers(0, 3),
)
def test_sgd_in_closed_form(lr, momentum, dampening, decay, steps):
    make = partial(SGD, momentum=momentum, dampening=dampening, weight_decay=decay)
    parameters, optimizer, gradients = trained(make, lr, steps)
    one = {key: gradient[0] for key, gradient in gradients.items()}
    expected = really_stepped(parameters, optimizer, one)
    torch.testing.assert_close(lookahead.update(parameters, one, optimizer), expected, rtol=1e-5, atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(
    lr=st.floats(1e-4, 1),
    beta1=st.floats(0, 0.99),
    beta2=st.floats(0, 0.9999),
    decay=st.floats(0, 0.5),
    steps=st.integers(0, 3),
    decoupled=st.booleans(),
)
def test_adam_in_closed_form(lr, beta1, beta2, decay, steps, decoupled):
    make = partial(AdamW if decoupled else Adam, betas=(beta1, beta2), weight_decay=decay)
    parameters, optimizer, gradients = trained(make, lr, steps)
    one = {key: gradient[0] for key, gradient in gradients.items()}
    expected = really_stepped(parameters, optimizer, one)
    torch.testing.assert_close(lookahead.update(parameters, one, optimizer), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [Adam, RMSprop])
def test_what_the_optimizer_does_not_hold_stays(make):
    held, free = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    optimizer = make([held], lr=0.1)
    after = lookahead.update({"held": held, "free": free}, {n: torch.ones(3) for n in ("held", "free")}, optimizer)
    assert torch.equal(after["free"], free)
    assert not torch.equal(after["held"], held)


def test_a_rate_is_a_plain_gradient_step():
    parameter = nn.Parameter(torch.tensor([1.0, 2.0]))
    after = lookahead.update({"p": parameter}, {"p": torch.tensor([[10.0, 0.0], [0.0, -10.0]])}, 0.1)
    torch.testing.assert_close(after["p"], torch.tensor([[0.0, 2.0], [1.0, 3.0]]))


def test_an_optimizer_with_a_closure_is_refused():
    parameter = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.LBFGS([parameter])
    with pytest.raises(ValueError, match=r"LBFGS cannot be tried out.*give lr="):
        lookahead.update({"p": parameter}, {"p": torch.ones(2)}, optimizer)


def test_the_rule_in_words():
    parameters = nn.Linear(2, 2).parameters()
    assert lookahead.describe(0.01) == "plain gradient step, lr 0.01"
    assert lookahead.describe(Adam(parameters, lr=1e-3)) == "Adam step, lr 0.001"
    first, second = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    groups = SGD([{"params": [first]}, {"params": [second], "lr": 0.5}], lr=0.1)
    assert lookahead.describe(groups) == "SGD step, lr 0.1 and 0.5"


@pytest.fixture
def scene():
    tasks = TaskSet([Task("a", "binary"), Task("b", "regression"), Task("c", "multiclass", 3)])
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5))
    model = SharedTrunk(trunk, tasks, 8)
    targets = torch.stack([(torch.rand(20) > 0.5).float(), torch.randn(20), torch.randint(3, (20,)).float()], dim=1)
    targets[:3, 0] = torch.nan
    return model, tasks, Batch(torch.arange(20), torch.randn(20, 6), targets)


def test_losses_at_the_present_parameters(scene):
    model, tasks, batch = scene
    model.eval()
    losses, labelled = lookahead.losses_at(model, tasks, batch, {}, seed=0)
    assert losses.dtype == torch.float64
    torch.testing.assert_close(losses.float(), tasks.losses(model(batch.inputs), batch.targets))
    assert labelled.all()


def test_losses_differ_by_seed_and_not_between_calls(scene):
    model, tasks, batch = scene
    random, buffers = torch.get_rng_state(), copy.deepcopy(dict(model.named_buffers()))
    first, again, other = (lookahead.losses_at(model, tasks, batch, {}, seed=seed)[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), random)
    torch.testing.assert_close(dict(model.named_buffers()), buffers, rtol=0, atol=0)


def test_a_task_without_labels_is_told(scene):
    model, tasks, batch = scene
    batch.targets[:, 1] = torch.nan
    losses, labelled = lookahead.losses_at(model, tasks, batch, {}, seed=0)
    assert labelled.tolist() == [True, False, True]
    assert losses[1] == 0


@pytest.mark.parametrize("training", [False, True])
def test_task_gradients_are_those_of_backward(scene, training):
    model, tasks, batch = scene
    model.train(training)
    model.trunk[3].p = 0.0
    batch.targets[:, 1] = torch.nan
    parameters = dict(model.named_parameters())
    losses, labelled, gradients = lookahead.task_gradients(model, tasks, batch, parameters, seed=0)
    assert labelled.tolist() == [True, False, True]
    for row in (0, 2):
        twin = copy.deepcopy(model)
        loss = tasks.losses(twin(batch.inputs), batch.targets)[row]
        loss.backward()
        torch.testing.assert_close(losses[row].float(), loss)
        for name, value in twin.named_parameters():
            torch.testing.assert_close(gradients[name][row], value.grad, rtol=1e-5, atol=1e-7)
    assert all(not gradient[1].any() for gradient in gradients.values())
    assert all(value.grad is None for value in parameters.values())


def test_the_step_is_seen_through_the_same_masks(scene):
    model, tasks, batch = scene
    parameters = dict(model.named_parameters())
    losses, labelled, _ = lookahead.task_gradients(model, tasks, batch, parameters, seed=5)
    again = lookahead.losses_at(model, tasks, batch, {}, seed=5)
    assert torch.equal(losses, again[0])
    assert torch.equal(labelled, again[1])
