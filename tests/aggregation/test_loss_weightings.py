"""Methods that weigh losses, and those with features, against their formulas; and what is asked of them wrongly."""

import pytest
import torch
from linear_losses import (
    MIXED,
    LinearLosses,
    Net,
    linear_batch,
    linear_tasks,
    mixed_batch,
    some_gradients,
    step,
)
from torch import nn

from cotrain.aggregation.db_mtl import DBMTL
from cotrain.aggregation.dwa import DWA
from cotrain.aggregation.famo import FAMO
from cotrain.aggregation.gradients import all_finite
from cotrain.aggregation.gradnorm import GradNorm
from cotrain.aggregation.loss_weights import LogSum, Sum
from cotrain.aggregation.mgda_ub import MGDAUB
from cotrain.aggregation.names import aggregation_names, named, register

LEVELS = torch.tensor([0.5, 1.0, 4.0])


def run(aggregation, levels, n=1, gradients=None):
    """Losses that are given step by step; the weights chosen at each."""
    choices = []
    gradients = some_gradients(3, 6) if gradients is None else gradients
    for number in range(n):
        step(aggregation, gradients, levels=levels(number) if callable(levels) else levels, choices=choices)
    return torch.stack([choice.weights for choice in choices])


def test_log_sum_is_the_gradient_of_the_logarithms():
    torch.testing.assert_close(run(LogSum(), LEVELS)[0], 1 / LEVELS.double())


def test_weighted_sum():
    found, heads, _ = step(Sum([1.0, 0.0, 3.0]), some_gradients(3, 6), absent=[2])
    torch.testing.assert_close(found, some_gradients(3, 6)[0])
    assert torch.equal(heads, torch.tensor([1.0, 1.0, 0.0]))
    with pytest.raises(ValueError, match="one number for each of the 3 tasks"):
        step(Sum([1.0, 2.0]), some_gradients(3, 6))
    with pytest.raises(ValueError, match="finite and not negative"):
        Sum([1.0, -1.0])


def test_db_mtl_is_its_formula():
    aggregation, running = DBMTL(beta=0.5, decay=0.5), torch.zeros(3, 6)
    for number in range(4):
        gradients = some_gradients(3, 6, number)
        found, *_ = step(aggregation, gradients, levels=LEVELS)
        kept = 0 if number == 0 else 0.5 / number**0.5
        running = kept * running + (1 - kept) * gradients / LEVELS[:, None]
        lengths = running.norm(dim=1)
        torch.testing.assert_close(found, lengths.max() * (running / lengths[:, None]).sum(0))


def test_gradnorm_brings_the_lengths_together():
    """With losses that fall alike the targets are equal lengths; with one that does not fall, it gets more."""
    gradients = some_gradients(3, 6)
    weights = run(GradNorm(lr=0.05), LEVELS, 100, gradients)
    torch.testing.assert_close(weights.sum(1), torch.full((100,), 3.0, dtype=torch.float64))
    torch.testing.assert_close(weights[0], torch.ones(3, dtype=torch.float64))
    lengths = weights[-1] * gradients.double().norm(dim=1)
    assert float(lengths.max() / lengths.min()) < 1.2
    slow = run(GradNorm(), lambda n: torch.tensor([1.0 / (n + 1), 1.0, 1.0 / (n + 1)]), 60, torch.eye(3))
    assert float(slow[-1, 1]) > 1.2 > 1.0 > float(slow[-1, 0])
    even = run(GradNorm(alpha=0.0), lambda n: torch.tensor([1.0 / (n + 1), 1.0, 1.0 / (n + 1)]), 60, torch.eye(3))
    torch.testing.assert_close(even[-1], torch.ones(3, dtype=torch.float64), atol=0.05, rtol=0)


def test_gradnorm_measures_on_the_named_layer():
    weights = []
    for layer in (None, "features.weight", "first.weight"):
        torch.manual_seed(0)
        model, aggregation = Net(MIXED).eval(), GradNorm(layer=layer)
        for _ in range(3):
            aggregation.backward(model, MIXED, mixed_batch())
        weights.append(aggregation.state_dict()["weights"])
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[2])
    with pytest.raises(ValueError, match=r"layer must be a shared parameter, one of \['first.weight'"):
        GradNorm(layer="heads.own.weight").backward(Net(MIXED), MIXED, mixed_batch())
    with pytest.raises(ValueError, match="lr must be positive"):
        GradNorm(lr=0)


def test_famo_is_its_formula():
    """Against torch's own Adam and autograd, on the authors' update."""
    gradients, aggregation = some_gradients(3, 6), FAMO()
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([logits], lr=0.025, weight_decay=1e-3)
    model, choices = LinearLosses(gradients, LEVELS), []
    aggregation.on_choice = choices.append
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    before = None
    for _ in range(6):
        now = model(torch.zeros(2, 1)).detach()[0].double()
        if before is not None:
            adam.zero_grad()
            logits.grad = torch.autograd.grad(logits.softmax(0), logits, before.log() - now.log())[0]
            adam.step()
        shares = logits.detach().softmax(0)
        optimizer.zero_grad()
        aggregation.backward(model, linear_tasks(3), linear_batch(3))
        torch.testing.assert_close(choices[-1].weights, shares / now / (shares / now).sum(), rtol=1e-5, atol=1e-7)
        optimizer.step()
        before = now


def test_famo_compares_with_the_same_dropout():
    """A step of length 0 changes no loss, so nothing is learned from it but the decay of 0."""
    torch.manual_seed(0)
    model, aggregation = Net(MIXED).train(), FAMO(weight_decay=0.0)
    for number in range(3):
        aggregation.backward(model, MIXED, mixed_batch(number))
    assert torch.equal(aggregation.state_dict()["logits"], torch.zeros(4, dtype=torch.float64))


def test_famo_with_least_losses():
    levels, least = torch.tensor([0.5, -1.0, 4.0]), [0.0, -2.0, 3.0]
    weights = run(FAMO(least=torch.tensor(least)), levels)[0]
    torch.testing.assert_close(weights, torch.tensor([2.0, 1.0, 1.0], dtype=torch.float64) / 4)
    with pytest.raises(ValueError, match=r"Got -1 for task 't1'. Give least="):
        run(FAMO(), levels)
    with pytest.raises(ValueError, match="one number for each of the 3 tasks"):
        run(FAMO(least=torch.zeros(2)), levels)
    with pytest.raises(ValueError, match="lr must be positive"):
        FAMO(lr=0)


def test_famo_does_not_learn_from_a_step_to_the_least_loss():
    gradients, aggregation = some_gradients(3, 6), FAMO()
    model = LinearLosses(gradients, LEVELS)
    aggregation.backward(model, linear_tasks(3), linear_batch(3))
    with torch.no_grad():
        model.bias -= 10  # all losses below 0
    with pytest.raises(ValueError, match="FAMO needs losses above"):
        aggregation.backward(model, linear_tasks(3), linear_batch(3))
    assert torch.equal(aggregation.state_dict()["logits"], torch.zeros(3, dtype=torch.float64))


def test_dwa_is_its_formula():
    losses = torch.rand(9, 3, generator=torch.Generator().manual_seed(0)) + 0.5
    weights = run(DWA(period=3, temperature=2.0), lambda n: losses[n], 9)
    assert torch.equal(weights[:6], torch.ones(6, 3, dtype=torch.float64))
    rates = losses[3:6].double().mean(0) / losses[:3].double().mean(0)
    torch.testing.assert_close(weights[6:], (3 * (rates / 2).softmax(0)).expand(3, 3))
    with pytest.raises(ValueError, match="period must be at least 1"):
        DWA(period=0)


def test_mgda_ub_is_the_shortest_average_by_features():
    torch.manual_seed(0)
    model, choices, batch = Net(MIXED).eval(), [], mixed_batch()
    MGDAUB("features", on_choice=choices.append).backward(model, MIXED, batch)
    seen = []
    handle = model.features.register_forward_hook(lambda module, inputs, output: seen.append(output))
    losses = MIXED.losses(model(batch.inputs), batch.targets)
    handle.remove()
    rows = torch.stack([torch.autograd.grad(loss, seen[0], retain_graph=True)[0].flatten() for loss in losses]).double()
    weights = choices[0].weights
    average = weights @ rows
    assert float(weights.sum()) == pytest.approx(1)
    assert float((rows @ average - average @ average).min()) > -1e-7
    expected = torch.autograd.grad((weights.float() * losses).sum(), model.first.weight)[0]
    torch.testing.assert_close(model.first.weight.grad, expected, rtol=1e-4, atol=1e-7)


def test_mgda_ub_asked_wrongly():
    model, batch = Net(MIXED), mixed_batch()
    with pytest.raises(ValueError, match=r"MGDA-UB needs features=, .* Got Net, whose modules are"):
        MGDAUB().backward(model, MIXED, batch)
    with pytest.raises(ValueError, match=r"There is no module 'body'. The modules are"):
        MGDAUB("body").backward(model, MIXED, batch)
    with pytest.raises(ValueError, match=r"shared parameters \['second.weight', .*\] do not lie before the features"):
        MGDAUB("first").backward(model, MIXED, batch)
    with pytest.raises(ValueError, match="gave no features that could be differentiated by"):
        MGDAUB("unused").backward(model, MIXED, batch)
    assert not model.first._forward_hooks


def test_gradients_that_only_overflow_in_the_features():
    class Overflow(torch.autograd.Function):
        @staticmethod
        def forward(ctx, values):
            return values.clone()

        @staticmethod
        def backward(ctx, sent):
            return sent * torch.inf

    class Blown(nn.Module):
        def forward(self, values):
            return Overflow.apply(values)

    class Model(LinearLosses):
        def __init__(self):
            super().__init__(some_gradients(3, 6))
            self.blown = Blown()

        def forward(self, inputs):
            features = self.features(self.blown(self.theta.expand(len(inputs), -1)))
            return features @ self.gradients.T + self.bias + self.levels

    with pytest.warns(UserWarning, match="The combined gradient is NaN or infinite"):
        MGDAUB("features").backward(Model(), linear_tasks(3), linear_batch(3))
    with pytest.warns(UserWarning, match=r"The gradient of \['t0', 't1', 't2'\] is NaN"):
        named("upgrad").backward(Model(), linear_tasks(3), linear_batch(3))
    with pytest.warns(UserWarning, match=r"The gradient of \['t0'\] is NaN"):
        LogSum().backward(Model(), linear_tasks(3), linear_batch(3))


def test_weights_and_directions_that_overflow():
    from cotrain.aggregation.aggregation import GradientAggregation

    for weight in (float("nan"), 1e39):
        aggregation = GradientAggregation(lambda gramian, weight=weight: torch.full((3,), weight, dtype=torch.float64))
        with pytest.warns(UserWarning, match="The combined gradient is NaN or infinite"):
            step(aggregation, some_gradients(3, 6))


@pytest.mark.parametrize("factor", [1.0, 1e-20, 1e20])
def test_many_parameters(factor):
    """Products in float32 where that is exact enough, and in float64 where squares would overflow."""
    gradients = some_gradients(4, 12_000)
    plain, *_ = step(named("upgrad"), gradients)
    found, *_ = step(named("upgrad"), gradients * factor)
    torch.testing.assert_close(found / factor, plain, rtol=1e-3, atol=1e-5)


def test_finite_numbers_whose_norm_overflows():
    assert all_finite([torch.full((3,), 3e38)])
    assert all_finite([])
    assert not all_finite([torch.tensor([1.0, torch.inf])])
    assert not all_finite([torch.ones(2), torch.tensor([torch.nan])])


def test_names():
    assert "upgrad" in aggregation_names()
    assert type(named("UPGrad")) is type(named("upgrad"))
    with pytest.raises(ValueError, match=r"There is no aggregation 'adam'. There are aligned-mtl, "):
        named("adam")
    with pytest.raises(ValueError, match=r"'nash-mtl' cannot be made with \{'norm': 1\}"):
        named("nash-mtl", norm=1)
    with pytest.raises(ValueError, match="'stch' cannot be made with"):
        named("stch", nonsense=1)
    found, *_ = step(named("pbi", weights=[1.0, 2.0, 3.0], theta=0.0), some_gradients(3, 6))
    expected = torch.tensor([1.0, 2.0, 3.0]) / 14**0.5 @ some_gradients(3, 6)
    torch.testing.assert_close(found, expected)


def test_a_name_of_ones_own(monkeypatch):
    from cotrain.aggregation import names

    monkeypatch.setattr(names, "_MAKERS", dict(names._MAKERS))
    register("mine", lambda: Sum([2.0, 0.0]))
    found, *_ = step(named("mine"), some_gradients(2, 4))
    torch.testing.assert_close(found, 2 * some_gradients(2, 4)[0])
    for wrong in ("mine", "Mine"):
        with pytest.raises(ValueError, match="in lower case that is not taken"):
            register(wrong, Sum)


def test_beta_out_of_range():
    with pytest.raises(ValueError, match="beta must be at least 0 and below 1"):
        DBMTL(beta=1.0)


@pytest.mark.parametrize(("kind", "message"), [("twice", "ran twice"), ("tuple", "must be one tensor. Got tuple")])
def test_mgda_ub_refuses_features_that_are_not_all(kind, message):
    class Odd(Net):
        def forward(self, inputs):
            return super().forward(inputs) + 0 * super().forward(inputs) if kind == "twice" else super().forward(inputs)

    model = Odd(MIXED).eval()
    if kind == "tuple":
        model.features.register_forward_hook(lambda module, inputs, output: (output,))
    with pytest.raises(ValueError, match=message):
        MGDAUB("features").backward(model, MIXED, mixed_batch(missing=0))


def test_mgda_ub_refuses_a_way_around_the_features():
    class Around(Net):
        def forward(self, inputs):
            seen = []
            with self.first.register_forward_hook(lambda module, inputs, output: seen.append(output)):
                outputs = super().forward(inputs)
            return {name: output + seen[0][:, :1] for name, output in outputs.items()}

    with pytest.raises(ValueError, match=r"depend on \['first.weight', 'first.bias'\] also around the features"):
        MGDAUB("features").backward(Around(MIXED).eval(), MIXED, mixed_batch(missing=0))
