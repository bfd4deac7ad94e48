import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close
from torch.utils.data import TensorDataset

from cotrain import Batch, SharedTrunk, Task, TaskSet
from cotrain.affinity.linearized_outputs import linearized_outputs
from cotrain.affinity.projected_gradients import projected_gradients
from cotrain.affinity.sign_directions import SignDirections
from cotrain.grouping.linearized_gains import LinearizedGains


def distance(outputs, targets):
    return (outputs[:, 0] - targets).abs() ** 1.5


TASKS = TaskSet(
    [
        Task("yes", "binary"),
        Task("which", "multiclass", 3),
        Task("much", "regression", location=2.0, scale=3.0),
        Task("own", "custom", loss=distance),
        Task("no", "binary"),
    ]
)


def rows(n, seed=0, missing=0.3):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(n, 6, generator=generator)
    targets = torch.randn(n, len(TASKS), generator=generator)
    targets[:, [0, 4]] = (targets[:, [0, 4]] > 0).float()
    targets[:, 1] = torch.randint(3, (n,), generator=generator).float()
    targets[torch.rand(n, len(TASKS), generator=generator) < missing] = torch.nan
    return inputs, targets


def network():
    torch.manual_seed(0)
    return SharedTrunk(nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.5)), TASKS, 8)


def losses_of(part):
    if part.loss == "squared":
        return (part.labels - part.outputs) ** 2
    return F.softplus(part.outputs) - part.labels * part.outputs


def test_their_losses_are_the_losses_of_the_labelled_samples_in_eval_mode():
    model, (inputs, targets) = network(), rows(20)
    found = linearized_outputs(model, TASKS, (inputs, targets), directions=3)
    assert found.tasks == TASKS.names
    assert [part.loss for part in found.parts] == ["logistic", "logistic", "squared", "squared", "logistic"]
    values, labelled = TASKS.sample_losses(model.eval()(inputs), targets)
    for t, part in enumerate(found.parts):
        assert len(part.labels) == int(labelled[:, t].sum()) < 20
        assert_close(losses_of(part), values[labelled[:, t], t].detach(), rtol=1e-4, atol=1e-5)


def test_the_linear_model_is_right_to_first_order():
    model, samples = network().eval(), rows(20)
    d, seed, step = 4, 7, 1e-2
    found = linearized_outputs(model, TASKS, samples, directions=d, seed=seed, parameters=["trunk.0.weight"])
    weight = torch.tensor([0.5, -1.0, 0.25, 2.0])
    signs = _signs(model, d, seed)
    with torch.no_grad():
        model.trunk[0].weight += step * torch.einsum("d,dij->ij", weight, signs) / math.sqrt(d)
    moved = linearized_outputs(model, TASKS, samples, directions=d, seed=seed, parameters=["trunk.0.weight"])
    for one, other in zip(found.parts, moved.parts, strict=True):
        change = one.gradients @ weight * step
        slope = torch.dot(change, other.outputs - one.outputs) / change.square().sum()
        assert slope == pytest.approx(1, abs=0.1)


def _signs(model, directions, seed):
    parameters = {"trunk.0.weight": dict(model.named_parameters())["trunk.0.weight"]}
    return torch.cat([part["trunk.0.weight"] for _, part in SignDirections(seed, directions, parameters).chunks(16)])


def test_batches_datasets_and_modes_do_not_matter():
    model, samples = network(), rows(23)
    one = linearized_outputs(model, TASKS, samples, directions=5)
    other = linearized_outputs(model.eval(), TASKS, TensorDataset(*samples), directions=5, batch_size=4)
    named = linearized_outputs(model, TASKS, samples, directions=5, parameters=iter(["trunk.0.weight"]), batch_size=4)
    expected = projected_gradients(
        model, TASKS, Batch(torch.arange(23), *samples), directions=5, parameters=["trunk.0.weight"]
    )
    for t, (first, second) in enumerate(zip(one.parts, other.parts, strict=True)):
        for name in ("gradients", "outputs", "labels"):
            assert_close(getattr(first, name), getattr(second, name), rtol=1e-4, atol=1e-5)
        if TASKS[t].kind != "custom":
            assert_close(named.parts[t].gradients, expected[t][~expected[t].isnan().any(1)], rtol=1e-4, atol=1e-5)


def test_the_model_stays_as_it_is():
    model = network().train()
    model.trunk[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes, random = [module.training for module in model.modules()], torch.get_rng_state()
    linearized_outputs(model, TASKS, rows(20), directions=3, most_rows=10)
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_of_many_rows_a_random_subset_is_taken():
    model, samples = network(), rows(60, missing=0)
    whole, few, same, others = (
        linearized_outputs(model, TASKS, samples, directions=2, most_rows=most, seed=seed).parts[0].outputs
        for most, seed in ((60, 0), (20, 0), (20, 0), (20, 1))
    )
    assert len(few) == 20
    assert float((few[:, None] - whole).abs().min(dim=1).values.max()) < 1e-6  # another batch, another rounding
    assert torch.equal(few, same)
    assert not torch.equal(few, others)


def test_a_loss_of_0_has_gradient_0():
    tasks = [Task("own", "custom", loss=lambda outputs, targets: outputs[:, 0] ** 2 * targets), Task("no", "binary")]
    torch.manual_seed(0)
    model = SharedTrunk(nn.Sequential(nn.Linear(2, 3), nn.Tanh()), tasks, 3)
    targets = torch.tensor([[0.0, 1], [1, 0], [1, 0]])
    own = linearized_outputs(model, tasks, (torch.randn(3, 2), targets), directions=4).parts[0]
    assert (own.gradients[0] == 0).all()
    assert (own.gradients[1:] != 0).any(1).all()


def test_gains_come_from_them():
    model = network()
    splits = [linearized_outputs(model, TASKS, rows(n, seed), directions=16) for n, seed in ((80, 0), (60, 1))]
    mean, std = LinearizedGains(*splits).predict([("yes", "own"), TASKS.names])
    assert mean.shape == (2, 5)
    assert (std[1] > 0).all()


@pytest.mark.parametrize(
    ("tasks", "change", "options", "message"),
    [
        (TASKS, lambda x, y: (x, y.index_fill(1, torch.tensor([2]), torch.nan)), {}, "Task 'much' has no labelled row"),
        (TASKS, lambda x, y: (x * torch.inf, y), {}, "task 'yes', or its gradient, is not finite"),
        (TASKS, lambda x, y: (x, y), {"most_rows": 0}, "must be at least 1. Got 0 and 256"),
        (TASKS, lambda x, y: (x, y), {"batch_size": 0}, "must be at least 1. Got 10000 and 0"),
        (
            [Task("much", "regression"), *TASKS[3:]],
            lambda x, y: (x, y[:, 2:]),
            {},
            r"Regression tasks \['much'\] do not know their units",
        ),
        (
            [Task("low", "custom", loss=lambda outputs, targets: outputs[:, 0] - 9), *TASKS[3:]],
            lambda x, y: (x, y[:, 2:]),
            {},
            "Task 'low' has losses below 0, down to -",
        ),
    ],
)
def test_bad_input(tasks, change, options, message):
    model = SharedTrunk(nn.Sequential(nn.Linear(6, 8), nn.Tanh()), tasks, 8)
    with pytest.raises(ValueError, match=message):
        linearized_outputs(model, tasks, change(*rows(20)), directions=2, **options)
