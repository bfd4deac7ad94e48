"""Lower and higher precision: Lightning Fabric's, that of `torch.autocast`, and gradient scalers."""

from functools import partial

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision import MixedPrecision, Precision
from linear_losses import make
from torch import nn

from cotrain import Batch, SharedTrunk, Task, TaskSet, fit
from cotrain.aggregation import MGDAUB, TransferenceAggregation
from cotrain.batches import batches, epoch_order

TASKS = TaskSet(
    [Task("yes", "binary"), Task("which", "multiclass", 3), Task("much", "regression", scale=20, location=9)]
)
SOME = ("db-mtl", "famo", "imtl-g", "mgda-ub", "sum", "transference", "upgrad", "uw")
PRECISIONS = ("bf16-mixed", "bf16-true", "16-true", "64-true")
some = pytest.mark.parametrize("name", SOME)
sgd = partial(torch.optim.SGD, lr=0.1)


def in_precision(precision):
    return Fabric(accelerator="cpu", devices=1, precision=precision)


def in_float16(scale=2.0**8):
    """On a CPU Fabric's own "16-mixed" is bfloat16."""
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    return Fabric(accelerator="cpu", devices=1, plugins=[MixedPrecision("16-mixed", "cpu", scaler)]), scaler


def network():
    torch.manual_seed(0)
    return SharedTrunk(nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh()), TASKS, 8)


def vector(model):
    return nn.utils.parameters_to_vector(model.parameters()).detach().clone()


def aggregation_of(name):
    return MGDAUB() if name == "mgda-ub" else make(name)


def fitted(aggregation, fabric, data):
    return fit(
        network(),
        TASKS,
        data(64, 0),
        data(32, 1),
        epochs=1,
        batch_size=16,
        aggregation=aggregation,
        optimizer=sgd,
        fabric=fabric,
    ).model


def own_loop(aggregation, data, dtype=torch.float32, autocast=None):
    model = network().to(dtype).train()
    optimizer = sgd(model.parameters())
    if isinstance(aggregation, TransferenceAggregation):
        aggregation.follow(optimizer)
    for batch in batches(data(64, 0), 16, epoch_order(64, 0, 0)):
        optimizer.zero_grad()
        with torch.autocast("cpu", autocast, enabled=autocast is not None):
            aggregation.backward(model, TASKS, Batch(batch.index, batch.inputs.to(dtype), batch.targets))
        optimizer.step()
    return model


@some
def test_mixed_precision_of_fabric_is_that_of_torch(name, mixed_data, assert_same):
    found = fitted(aggregation_of(name), in_precision("bf16-mixed"), mixed_data)
    expected = own_loop(aggregation_of(name), mixed_data, autocast=torch.bfloat16)
    assert_same(dict(found.state_dict()), dict(expected.state_dict()))


@some
def test_double_precision_is_double(name, mixed_data):
    """But for the outputs, which Fabric gives in float32."""
    found = fitted(aggregation_of(name), in_precision("64-true"), mixed_data).state_dict()
    expected = own_loop(aggregation_of(name), mixed_data, torch.float64).state_dict()
    for key, value in expected.items():
        assert found[key].dtype == value.dtype
        torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_sum_is_plain_training_in_every_precision(precision, mixed_data, assert_same):
    plain, summed = (fitted(aggregation, in_precision(precision), mixed_data) for aggregation in (None, "sum"))
    assert_same(dict(summed.state_dict()), dict(plain.state_dict()))


@pytest.mark.parametrize("precision", PRECISIONS)
@some
def test_every_precision_goes_the_same_way(name, precision, mixed_data):
    found = vector(fitted(aggregation_of(name), in_precision(precision), mixed_data)).float()
    expected, start = vector(fitted(aggregation_of(name), in_precision("32-true"), mixed_data)), vector(network())
    assert float(torch.cosine_similarity(found - start, expected - start, dim=0)) > 0.99


def test_a_second_batch_to_score_on_is_in_the_precision_too(mixed_data):
    inputs, targets = mixed_data(16, 3)
    found = fitted(
        TransferenceAggregation(score_batch=lambda: Batch(torch.arange(16), inputs, targets)),
        in_precision("64-true"),
        mixed_data,
    )
    assert next(found.parameters()).dtype == torch.float64


def test_the_sum_under_a_scaler_is_plain_training(mixed_data, assert_same):
    plain, summed = (fitted(aggregation, in_float16()[0], mixed_data) for aggregation in (None, "sum"))
    assert_same(dict(summed.state_dict()), dict(plain.state_dict()))


@some
def test_a_scaler_of_fabric_changes_nothing_but_the_range(name, mixed_data):
    fabric, scaler = in_float16()
    found = vector(fitted(aggregation_of(name), fabric, mixed_data))
    expected = vector(own_loop(aggregation_of(name), mixed_data))
    assert scaler.get_scale() == 2.0**8  # no step was left out
    assert float((found - expected).norm() / (expected - vector(network())).norm()) < 0.05


def scaled_step(aggregation, scaler, factor):
    """One step whose gradients are tiny, or huge, on their way through float16."""
    tasks = TaskSet(
        [Task(f"t{n}", "custom", loss=lambda outputs, targets: factor * (outputs[:, 0] - targets) ** 2) for n in "ab"]
    )
    torch.manual_seed(0)
    model = SharedTrunk(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh()), tasks, 8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1 / factor)
    before = vector(model)
    batch = Batch(torch.arange(16), torch.randn(16, 4), torch.randn(16, 2))
    with torch.autocast("cpu", torch.float16, enabled=scaler is not None):
        if scaler is None:
            aggregation.backward(model, tasks, batch)
            optimizer.step()
        else:
            aggregation.backward(model, tasks, batch, scaler=scaler)
            scaler.step(optimizer)
            scaler.update()
    return vector(model) - before


@some
def test_gradients_below_float16_come_through(name):
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**24)
    found = scaled_step(aggregation_of(name), scaler, 1e-7)
    expected = scaled_step(aggregation_of(name), None, 1e-7)
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.01 * float(expected.abs().max()))


@some
def test_a_scale_that_is_too_large_is_lowered_and_the_step_left_out(name, assert_same):
    """Without a warning: so a scaler finds its scale."""
    scaler, aggregation = torch.amp.GradScaler("cpu", init_scale=2.0**30), aggregation_of(name)
    assert not bool(scaled_step(aggregation, scaler, 1.0).any())
    assert scaler.get_scale() == 2.0**29
    assert aggregation.skipped_steps == 1
    for _ in range(20):
        moved = scaled_step(aggregation, scaler, 1.0)
    assert bool(moved.any())
    assert bool(torch.isfinite(moved).all())


def test_a_batch_without_labels_under_a_scaler():
    """A scaler does not step without any gradient."""
    model, scaler = network(), torch.amp.GradScaler("cpu")
    optimizer = sgd(model.parameters())
    empty = Batch(torch.arange(4), torch.randn(4, 4), torch.full((4, 3), torch.nan))
    with pytest.warns(UserWarning, match="No task has a label"):
        make("upgrad").backward(model, TASKS, empty, scaler=scaler)
    before = [value.clone() for value in model.parameters()]
    scaler.step(optimizer)
    scaler.update()
    assert all(torch.equal(value, old) for value, old in zip(model.parameters(), before, strict=True))
    assert scaler.get_scale() == 2.0**16


@some
def test_an_own_loop_with_fabric(name, mixed_data, assert_same):
    fabric, model, plain = in_precision("bf16-mixed"), network(), network()
    wrapped, _ = fabric.setup(model, sgd(model.parameters()))
    batch = Batch(torch.arange(32), *mixed_data(32, 0))
    aggregation_of(name).backward(wrapped, TASKS, batch)
    with torch.autocast("cpu", torch.bfloat16):
        aggregation_of(name).backward(plain, TASKS, batch)
    assert_same([value.grad for value in model.parameters()], [value.grad for value in plain.parameters()])


def test_the_optimizer_that_is_tried_may_be_fabrics(mixed_data, assert_same):
    batch, moved = Batch(torch.arange(32), *mixed_data(32, 0)), []
    for through_fabric in (False, True):
        model = network()
        optimizer = torch.optim.RMSprop(model.parameters(), lr=0.01)  # its step is tried by a copy of it
        runnable = model
        if through_fabric:
            runnable, optimizer = in_precision("32-true").setup(model, optimizer)
        aggregation = TransferenceAggregation(candidates=["closed-form", "log-sum"], optimizer=optimizer)
        for _ in range(2):
            optimizer.zero_grad()
            aggregation.backward(runnable, TASKS, batch)
            optimizer.step()
        moved.append([dict(model.state_dict()), aggregation.decision.scores])
    assert_same(moved[1], moved[0])


class OwnBackward(Precision):
    def backward(self, tensor, model, *args, **kwargs):
        super().backward(2 * tensor, model, *args, **kwargs)


def test_a_backward_pass_of_its_own(mixed_data):
    fabric = Fabric(accelerator="cpu", devices=1, plugins=[OwnBackward()])
    with pytest.raises(ValueError, match=r"Fabric's OwnBackward has a backward pass of its own\. Use one of"):
        fitted("upgrad", fabric, mixed_data)
