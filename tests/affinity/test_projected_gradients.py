import copy
import math
import warnings

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.autograd.function import once_differentiable

from cotrain import Batch, SharedTrunk, Task, TaskSet
from cotrain.affinity import directional
from cotrain.affinity.projected_gradients import projected_gradients
from cotrain.affinity.sample_outputs import SampleOutputs
from cotrain.affinity.sign_directions import SignDirections
from cotrain.model import random_state_kept, shared_parameters


def error_of_sum(outputs, targets):
    return (outputs.sum(1) - targets).abs()


def hinge(outputs, targets):
    return (1 - outputs[:, 0] * (2 * targets - 1)).clamp(min=0)


MIXED = TaskSet(
    [
        Task("yes", "binary"),
        Task("which", "multiclass", 3),
        Task("much", "regression", location=2.0, scale=3.0),
        Task("own", "custom", 2, loss=error_of_sum),
        Task("many", "multiclass", 5),
        Task("hinge", "binary", loss=hinge),
        Task("no", "binary"),
    ]
)


def mixed_targets(n, generator, missing=0.2):
    targets = torch.stack(
        [
            torch.randint(task.n_outputs if task.kind == "multiclass" else 2, (n,), generator=generator).float()
            if task.kind in ("binary", "multiclass")
            else torch.randn(n, generator=generator)
            for task in MIXED
        ],
        dim=1,
    )
    targets[torch.rand(n, len(MIXED), generator=generator) < missing] = torch.nan
    targets[:, [1, 4]] = targets[:, [1, 4]].nan_to_num(-100)  # the other way to say that there is no class
    return targets


def mixed_batch(n, shape, seed=0, missing=0.2):
    generator = torch.Generator().manual_seed(seed)
    return Batch(torch.arange(n), torch.randn(n, *shape, generator=generator), mixed_targets(n, generator, missing))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, inputs):
        return self.attention(inputs, inputs, inputs, need_weights=False)[0].mean(1)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, inputs):
        return self.encoder(inputs)[:, 0]


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.layer = kind(8, 8, batch_first=True)

    def forward(self, inputs):
        return self.layer(inputs)[0][:, -1]


class Tied(nn.Module):
    """Tied weights, a frozen and an unused parameter."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.tied = nn.Linear(8, 8)
        self.tied.weight = self.first.weight
        self.frozen = nn.Linear(8, 8).requires_grad_(False)
        self.unused = nn.Linear(8, 8)

    def forward(self, inputs):
        return self.frozen(torch.tanh(self.tied(torch.tanh(self.first(inputs)))))


class StopGradient(nn.Module):
    """One use of the layer under no_grad, which forward mode does not see. No layer is called."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, inputs):
        with torch.no_grad():
            target = F.linear(inputs, self.layer.weight, self.layer.bias)
        return torch.tanh(F.linear(inputs, self.layer.weight, self.layer.bias)) + 3 * target


class Functional(nn.Module):
    """The layer is not called, so it is not seen."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, inputs):
        return torch.tanh(F.linear(inputs, self.layer.weight, self.layer.bias))


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, grad):
        return grad * 3 * ctx.saved_tensors[0] ** 2


class OnceCube(Cube):
    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return grad * 3 * ctx.saved_tensors[0] ** 2


class CutCube(Cube):
    """Its backward pass is right, but hides from autograd that it depends on what comes back."""

    @staticmethod
    def backward(ctx, grad):
        return grad.detach() * 3 * ctx.saved_tensors[0] ** 2


class Custom(nn.Module):
    """A function of one's own, after a layer that is not called."""

    def __init__(self, function):
        super().__init__()
        self.layer, self.unused = nn.Linear(8, 8), nn.Linear(8, 8)
        self.function = function

    def forward(self, inputs):
        return self.function.apply(F.linear(inputs, self.layer.weight, self.layer.bias))


def cnn():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 8)
    )


TRUNKS = {
    "cnn with batch norm": (cnn, (1, 8, 8)),
    "batch norm and dropout": (
        lambda: nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 8)),
        (8,),
    ),
    "layer norm": (lambda: nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.GELU()), (8,)),
    "attention": (Attention, (5, 8)),
    "transformer": (Encoder, (5, 8)),
    "lstm": (lambda: Recurrent(nn.LSTM), (5, 8)),
    "gru": (lambda: Recurrent(nn.GRU), (5, 8)),
    "tied, frozen, unused": (Tied, (8,)),
}
FALLBACKS = {
    "no forward rule": (lambda: Custom(Cube), (8,), "two reverse passes per direction"),
    "no second derivative": (lambda: Custom(OnceCube), (8,), "one backward pass per sample and task"),
    "a cut second derivative": (lambda: Custom(CutCube), (8,), "one backward pass per sample and task"),
    "a part under no_grad": (StopGradient, (8,), "two reverse passes per direction"),
}


def network(trunk, seed=0):
    torch.manual_seed(seed)
    model = SharedTrunk(trunk(), MIXED, 8)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return model


def number_of(task, outputs, target):
    """One sample's number, by its definition, from its outputs [n_outputs]."""
    if task.loss is not None:
        return task.loss(outputs[None], target[None])[0]
    if task.kind == "multiclass":
        q = torch.softmax(outputs, 0)[int(target)].clamp(max=0.999)
        return torch.log(q / (1 - q))
    return outputs[0]


def gradients_one_by_one(model, batch, names, tasks=MIXED):
    """{name: [T, B, *shape]} by one backward pass per sample and task in eval mode; NaN without a label."""
    model = copy.deepcopy(model).eval()
    parameters = [dict(model.named_parameters())[name] for name in names]
    rows = {
        name: torch.full((len(tasks), len(batch.index), *value.shape), torch.nan)
        for name, value in zip(names, parameters, strict=True)
    }
    for t, task in enumerate(tasks):
        for i in range(len(batch.index)):
            target = batch.targets[i, t]
            if torch.isnan(target) or (task.kind == "multiclass" and target == -100):
                continue
            outputs = tasks.pack(model(batch.inputs[i : i + 1]))[0, tasks.slices[task.name]]
            found = torch.autograd.grad(number_of(task, outputs, target), parameters)
            for name, gradient in zip(names, found, strict=True):
                rows[name][t, i] = gradient
    return rows


def projection(gradients, directions, seed):
    """P^T grad with P written out."""
    one = {name: gradient[0, 0] for name, gradient in gradients.items()}
    signs = [part for _, part in SignDirections(seed, directions, one).chunks(4)]
    return sum(
        gradient.flatten(2) @ torch.cat([part[name] for part in signs]).flatten(1).T / math.sqrt(directions)
        for name, gradient in gradients.items()
    )


def assert_close(found, expected, tolerance=1e-5):
    assert found.dtype == torch.float32
    assert found.shape == expected.shape
    assert torch.equal(found.isnan(), expected.isnan())
    assert (found - expected).nan_to_num().abs().max() <= tolerance * expected.nan_to_num().abs().max()


@pytest.mark.parametrize("name", TRUNKS)
def test_equals_one_backward_pass_per_sample_and_task(name):
    trunk, shape = TRUNKS[name]
    model, batch = network(trunk), mixed_batch(7, shape)
    shared = list(shared_parameters(model.eval(), MIXED, batch))
    assert shared
    assert not any("unused" in key or "frozen" in key or "heads" in key for key in shared)
    found = projected_gradients(model.train(), MIXED, batch, directions=21, seed=5)
    expected = projection(gradients_one_by_one(model, batch, shared), 21, 5)
    assert expected.isnan().any()
    assert_close(found, expected)


@pytest.mark.parametrize("name", FALLBACKS)
def test_a_module_without_forward_mode_gives_the_same_values_and_one_warning(name):
    trunk, shape, way = FALLBACKS[name]
    model, batch = network(trunk), mixed_batch(7, shape)
    shared = [key for key in dict(model.named_parameters()) if key.startswith("trunk")]  # with an unused one
    used = [key for key in shared if "unused" not in key]
    expected = projection(gradients_one_by_one(model, batch, used), 21, 5)
    with pytest.warns(UserWarning, match=f"does not work for this model: .*{way}") as caught:
        found = projected_gradients(model, MIXED, batch, directions=21, seed=5, parameters=shared)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert_close(found, expected)


@settings(max_examples=10)
@given(seed=st.integers(-(2**70), 2**70), cut=st.integers(1, 8), directions=st.integers(1, 40))
def test_batches_put_together_are_the_whole(seed, cut, directions):
    model, whole = network(TRUNKS["layer norm"][0]), mixed_batch(9, (8,))
    parts = [
        projected_gradients(
            model,
            MIXED,
            Batch(whole.index[rows], whole.inputs[rows], whole.targets[rows]),
            directions=directions,
            seed=seed,
        )
        for rows in (slice(0, cut), slice(cut, 9))
    ]
    assert_close(torch.cat(parts, dim=1), projected_gradients(model, MIXED, whole, directions=directions, seed=seed))


def test_the_size_of_the_chunks_does_not_matter(monkeypatch):
    model, batch = network(Functional), mixed_batch(6, (8,))
    expected = projected_gradients(model, MIXED, batch, directions=20)
    for size in (1, 7, 100):
        monkeypatch.setattr(directional, "FEWEST", size)
        monkeypatch.setattr(directional, "MOST", size)
        assert_close(projected_gradients(model, MIXED, batch, directions=20), expected)


def test_signs_are_a_function_of_seed_number_and_name_alone():
    def signs(seed, number, **shapes):
        parts = SignDirections(seed, number, {name: torch.zeros(shape) for name, shape in shapes.items()}).chunks(7)
        joined = [part for _, part in parts]
        return {name: torch.cat([part[name] for part in joined]) for name in shapes}

    few, many = signs(3, 5, a=(4, 6), b=(3,)), signs(3, 40, b=(3,), c=(50,), a=(4, 6))
    assert many["a"].unique().tolist() == [-1, 1]
    for name in few:
        assert torch.equal(few[name], many[name][:5])
    assert not torch.equal(signs(4, 5, a=(4, 6))["a"], few["a"])
    # Written down once: a run of next year continues one of today.
    assert signs(0, 2, weight=(6,))["weight"].tolist() == FIRST_SIGNS


FIRST_SIGNS = [[1.0, 1.0, 1.0, 1.0, -1.0, 1.0], [-1.0, -1.0, 1.0, -1.0, -1.0, 1.0]]


def test_signs_are_even_and_independent():
    signs = next(SignDirections(0, 16, {"a": torch.zeros(5000), "b": torch.zeros(5000)}).chunks(16))[1]
    rows = torch.cat(list(signs.values())).double()
    products = rows @ rows.T / 5000
    assert (products.diagonal() == 1).all()
    assert (products - torch.eye(32)).abs().max() < 5 / math.sqrt(5000)
    assert rows.mean(1).abs().max() < 5 / math.sqrt(5000)


def test_inner_products_are_kept_on_average():
    model, batch = network(TRUNKS["layer norm"][0]), mixed_batch(3, (8,), missing=0)
    names = list(shared_parameters(model, MIXED, batch))
    gradients = gradients_one_by_one(model, batch, names)
    flat = torch.cat([gradient.flatten(2) for gradient in gradients.values()], dim=2).flatten(0, 1).double()
    expected = flat @ flat.T
    found = []
    for seed in range(60):
        rows = projected_gradients(model, MIXED, batch, directions=16, seed=seed, parameters=names).flatten(0, 1)
        found.append(rows.double() @ rows.double().T)
    spread, mean = torch.std_mean(torch.stack(found), dim=0)
    assert ((mean - expected).abs() <= 5 * spread / math.sqrt(60) + 1e-6).all()
    norms = flat.norm(dim=1)
    known = norms > 0
    relative = (spread / norms[:, None] / norms)[known][:, known]
    assert relative.max() < 2 * math.sqrt(2 / 16)


class ByName(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, inputs):
        packed = self.model(inputs)
        return {name: packed[:, columns] for name, columns in MIXED.slices.items()}


@pytest.mark.parametrize("rows", [[4, 0, 6, 5, 2, 1, 3], [0, 6], [4, 1], [3, 5]])
def test_permuting_and_choosing_tasks_permutes_and_chooses_rows(rows):
    model, batch = ByName(network(TRUNKS["layer norm"][0])), mixed_batch(6, (8,))
    some = Batch(batch.index, batch.inputs, batch.targets[:, rows])
    found = projected_gradients(model, [MIXED[row] for row in rows], some, directions=8)
    assert_close(found, projected_gradients(model, MIXED, batch, directions=8)[rows])


def test_targets_by_name_and_with_several_dimensions():
    tasks = TaskSet(
        [Task("place", "regression", 2, location=1.0, scale=2.0), Task("yes", "binary"), Task("many", "multiclass", 4)]
    )
    torch.manual_seed(1)
    model = SharedTrunk(TRUNKS["layer norm"][0](), tasks, 8)
    inputs, place = torch.randn(5, 8), torch.randn(5, 2)
    place[1, 0] = torch.nan
    yes, many = torch.tensor([0, 1, torch.nan, 1, 0]), torch.tensor([0, 3, 2, -100, 1])
    batch = Batch(torch.arange(5), inputs, {"place": place, "yes": yes, "many": many})
    found = projected_gradients(model, tasks, batch, directions=8)
    assert found.isnan().all(2).tolist() == [
        [False, True, False, False, False],
        [False, False, True, False, False],
        [False, False, False, True, False],
    ]
    parameters = shared_parameters(model, tasks, batch)
    outputs = model(inputs)
    standardised = (place.nan_to_num() - 1) / 2
    losses = ((outputs[:, :2] - standardised) ** 2).mean(1)
    margin = outputs[0, 3] - outputs[0, 4:].logsumexp(0)
    for number, t, i in [(losses[2], 0, 2), (outputs[3, 2], 1, 3), (margin, 2, 0)]:
        gradients = torch.autograd.grad(number, list(parameters.values()), retain_graph=True)
        one = {name: value[None, None] for name, value in zip(parameters, gradients, strict=True)}
        assert_close(found[t, i], projection(one, 8, 0)[0, 0])


@pytest.mark.parametrize("n_classes", [2, 4])
def test_a_margin_beyond_its_limit_has_no_gradient_and_no_other_is_infinite(n_classes):
    tasks = [Task("one", "multiclass", n_classes), Task("other", "multiclass", 3)]
    torch.manual_seed(0)
    model = SharedTrunk(nn.Sequential(nn.Linear(8, 8), nn.Tanh()), tasks, 8)
    batch = Batch(torch.arange(3), torch.randn(3, 8), torch.tensor([[0.0, 0], [1, 1], [0, 2]]))
    with torch.no_grad():
        model.heads.bias.zero_()
        model.heads.bias[0] = 200.0
    found = projected_gradients(model, tasks, batch, directions=8)
    assert (found[0, [0, 2]] == 0).all()
    assert torch.isfinite(found).all()
    assert (found[0, 1] != 0).any()
    assert (found[1] != 0).all(1).any()


def test_another_seed_gives_other_directions():
    model, batch = network(TRUNKS["layer norm"][0]), mixed_batch(3, (8,), missing=0)
    one, other = (projected_gradients(model, MIXED, batch, directions=8, seed=seed) for seed in (0, 1))
    assert not torch.equal(one, other)


@pytest.mark.parametrize("name", ["batch norm and dropout", "lstm", "tied, frozen, unused", *FALLBACKS])
def test_nothing_is_changed(name, assert_same):
    trunk, shape, *_ = {**TRUNKS, **FALLBACKS}[name]
    model, batch = network(trunk), mixed_batch(5, shape)
    model.train()
    model.trunk.eval()
    list(model.trunk.modules())[-1].train()
    for number, value in enumerate(model.parameters()):
        if number % 2:
            value.grad = torch.randn_like(value)

    def state():
        return copy.deepcopy(
            (
                dict(model.state_dict()),
                [value.grad for value in model.parameters()],
                [value.requires_grad for value in model.parameters()],
                [module.training for module in model.modules()],
                torch.get_rng_state(),
                torch.is_grad_enabled(),
                torch.backends.mha.get_fastpath_enabled(),
                torch._C._get_mkldnn_enabled(),
            )
        )

    before = state()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = projected_gradients(model, MIXED, batch, directions=18)
    assert_same(before, state())
    assert not found.requires_grad
    assert not torch.isnan(found).all()


def test_the_modes_come_back_after_an_error():
    model = network(TRUNKS["layer norm"][0])
    batch = mixed_batch(5, (8,))
    with pytest.raises(ValueError, match="Targets must have the shape"):
        projected_gradients(model.train(), MIXED, Batch(batch.index, batch.inputs, batch.targets[:, :2]))
    assert all(module.training for module in model.modules())


def test_a_module_that_draws_in_eval_mode_draws_the_same_for_all_directions(monkeypatch):
    class AlwaysDropped(Functional):
        def forward(self, inputs):
            return F.dropout(super().forward(inputs), 0.5, training=True)

    model, batch = network(AlwaysDropped), mixed_batch(5, (8,))
    expected = projected_gradients(model, MIXED, batch, directions=24)
    monkeypatch.setattr(directional, "MOST", 5)
    with random_state_kept():
        assert_close(projected_gradients(model, MIXED, batch, directions=24), expected)


def test_half_precision_gives_float32():
    model, batch = network(TRUNKS["layer norm"][0]), mixed_batch(5, (8,))
    expected = projected_gradients(model, MIXED, batch, directions=20)
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(projected_gradients(model, MIXED, batch, directions=20), expected, 0.05)
    halved = Batch(batch.index, batch.inputs.bfloat16(), batch.targets)
    assert_close(projected_gradients(model.bfloat16(), MIXED, halved, directions=20), expected, 0.05)


def test_numbers_are_taken_from_half_precision_outputs_in_float32():
    generator = torch.Generator().manual_seed(0)
    targets = mixed_targets(6, generator)
    outputs = torch.randn(6, MIXED.n_outputs, generator=generator).bfloat16()
    numbers = SampleOutputs(MIXED, targets)
    assert torch.equal(numbers(outputs), numbers(outputs.float()))
    assert torch.equal(numbers.labelled, targets.isnan().logical_not() & (targets != -100))


def test_double_precision_is_taken_where_the_model_has_it():
    model, batch = network(TRUNKS["layer norm"][0]), mixed_batch(5, (8,))
    doubled = Batch(batch.index, batch.inputs.double(), batch.targets)
    expected = projected_gradients(model, MIXED, batch, directions=20)
    assert_close(projected_gradients(model.double(), MIXED, doubled, directions=20), expected)


def test_a_task_that_is_not_finite_leaves_the_others_right():
    def root(outputs, targets):
        return (outputs[:, 0] * 0).sqrt()  # its slope is 0 times infinity

    model, batch = network(TRUNKS["layer norm"][0]), mixed_batch(5, (8,), missing=0)
    expected = projected_gradients(model, MIXED, batch, directions=20)
    broken = [Task("yes", "binary", loss=root), *MIXED[1:]]
    found = projected_gradients(model, broken, batch, directions=20)
    assert found[0].isnan().all()
    assert_close(found[1:], expected[1:])


def test_named_parameters_are_taken_in_place_of_the_shared_ones():
    model, batch = network(TRUNKS["layer norm"][0]), mixed_batch(4, (8,))
    names = ["heads.weight", "trunk.0.bias"]
    found = projected_gradients(model, MIXED, batch, directions=9, seed=2, parameters=names)
    assert_close(found, projection(gradients_one_by_one(model, batch, names), 9, 2))
    for wrong in (["trunk.7"], []):
        with pytest.raises(ValueError, match="names of the model's parameters"):
            projected_gradients(model, MIXED, batch, parameters=wrong)


def test_bad_input():
    model, batch = network(TRUNKS["layer norm"][0]), mixed_batch(4, (8,))
    with pytest.raises(ValueError, match=r"directions must be at least 1\. Got 0"):
        projected_gradients(model, MIXED, batch, directions=0)
    model.trunk.requires_grad_(False)
    with pytest.raises(ValueError, match=r"No trainable parameter serves two or more of the 7 tasks.*parameters="):
        projected_gradients(model, MIXED, batch)


def test_the_larger_the_layers_the_fewer_directions_go_together(monkeypatch):
    sizes = []
    chunks = SignDirections.chunks

    def watched(self, size):
        sizes.append(size)
        return chunks(self, size)

    monkeypatch.setattr(SignDirections, "chunks", watched)
    model, batch = network(Functional), mixed_batch(16, (8,), missing=0)
    largest = 16 * 2 * 5 * 4  # bytes of the margins' logits: samples, multiclass tasks, classes
    for limit in (100 * largest, 5 * largest, 0):
        monkeypatch.setattr(directional, "CHUNK_BYTES", limit)
        projected_gradients(model, MIXED, batch)
    assert [size for size in sizes if size > 1] == [16, 5, 4]
