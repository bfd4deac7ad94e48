"""Laws of combined predictions, and of the phase-2 training whose networks are combined."""

import copy
import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from cotrain import Task, TaskSet, evaluate, fit_fleet
from cotrain.ensemble import Ensemble, combine, served_tasks
from cotrain.evaluation import evaluation_of, packed_outputs
from cotrain.grouping.memberships import loss_weights

WAYS = ["logits", "probabilities", "best"]
seeds = st.integers(0, 10**6)
ways = st.sampled_from(WAYS)


def own_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.sum(1) - targets) ** 2


TASKS = TaskSet(
    [
        Task("three", "multiclass", 3),
        Task("yes", "binary"),
        Task("wide", "regression", 2, location=5.0, scale=3.0),
        Task("two", "multiclass", 2),
        Task("own", "custom", 2, loss=own_loss),
        Task("own yes", "binary", loss=own_loss),
    ]
)


def problem(seed: int, n_networks: int = 4, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Outputs [K, 5, O] and memberships [T, K] with zeros, rows sum to 1."""
    generator = torch.Generator().manual_seed(seed)
    outputs = 3 * torch.randn(n_networks, 5, TASKS.n_outputs, generator=generator, dtype=dtype)
    shares = torch.rand(len(TASKS), n_networks, generator=generator, dtype=torch.float64)
    shares[torch.rand(shares.shape, generator=generator) < 0.4] = 0
    shares[torch.arange(len(TASKS)), torch.randint(n_networks, (len(TASKS),), generator=generator)] += 0.1
    return outputs, (shares / shares.sum(1, keepdim=True)).float()


def chosen(outputs: Tensor, numbers: list[int]) -> Tensor:
    """[N, O], every task's columns from the network of that number."""
    return torch.cat(
        [outputs[number][:, TASKS.slices[name]] for name, number in zip(TASKS.names, numbers, strict=True)], dim=1
    )


@given(seeds, ways)
def test_one_hot_memberships_give_the_members_own_outputs(seed, by):
    outputs, _ = problem(seed)
    numbers = torch.randint(4, (len(TASKS),), generator=torch.Generator().manual_seed(seed)).tolist()
    found = TASKS.predictions(combine(outputs, TASKS, torch.eye(4)[numbers], by))
    expected = TASKS.predictions(chosen(outputs, numbers))
    torch.testing.assert_close(found, expected)


@given(seeds, ways)
def test_equal_networks_give_what_one_of_them_gives(seed, by):
    outputs, memberships = problem(seed)
    found = combine(outputs[:1].expand(4, -1, -1), TASKS, memberships, by)
    torch.testing.assert_close(TASKS.predictions(found), TASKS.predictions(outputs[0]), rtol=1e-6, atol=1e-6)


@given(seeds)
def test_logits_are_weighted_sums_of_outputs(seed):
    outputs, memberships = problem(seed)
    found = combine(outputs, TASKS, memberships, "logits")
    for name, shares in zip(TASKS.names, memberships, strict=True):
        expected = sum(share * own[:, TASKS.slices[name]] for share, own in zip(shares, outputs, strict=True))
        torch.testing.assert_close(found[:, TASKS.slices[name]], expected)
    assert torch.equal(combine(outputs, TASKS, memberships), found)  # the published way is the default


@given(seeds)
def test_probabilities_are_weighted_means_of_predictions(seed):
    outputs, memberships = problem(seed)
    found = TASKS.predictions(combine(outputs, TASKS, memberships, "probabilities"))
    members = [TASKS.predictions(own) for own in outputs]
    for name, shares in zip(TASKS.names, memberships, strict=True):
        expected = sum(share * member[name] for share, member in zip(shares, members, strict=True))
        torch.testing.assert_close(found[name], expected, rtol=1e-6, atol=1e-6)


@given(seeds)
def test_combined_class_outputs_are_logarithms_of_probabilities_that_sum_to_one(seed):
    outputs, memberships = problem(seed)
    found = combine(outputs, TASKS, memberships, "probabilities")
    for name in ("three", "two"):
        torch.testing.assert_close(found[:, TASKS.slices[name]].exp().sum(1), torch.ones(5).double(), rtol=0, atol=1e-6)


@given(seeds, ways)
def test_the_complement_of_a_binary_task_gets_the_complement_of_its_prediction(seed, by):
    outputs, memberships = problem(seed)
    found = combine(outputs, TASKS, memberships, by)
    other = combine(-outputs, TASKS, memberships, by)
    for name in ("yes", "own yes"):
        assert torch.equal(other[:, TASKS.slices[name]], -found[:, TASKS.slices[name]])


@given(seeds, ways, st.permutations(range(4)))
def test_the_order_of_the_networks_does_not_matter(seed, by, order):
    outputs, memberships = problem(seed)
    found = combine(outputs[order], TASKS, memberships[:, order], by)
    torch.testing.assert_close(found, combine(outputs, TASKS, memberships, by))


@given(seeds, ways, st.permutations(range(len(TASKS))))
def test_the_order_of_the_tasks_does_not_matter(seed, by, order):
    outputs, memberships = problem(seed)
    other = TASKS.select(TASKS.names[number] for number in order)
    columns = torch.cat([torch.arange(TASKS.n_outputs)[TASKS.slices[name]] for name in other.names])
    found = combine(outputs[:, :, columns], other, memberships[order], by)
    torch.testing.assert_close(found, combine(outputs, TASKS, memberships, by)[:, columns])


@given(seeds)
def test_best_is_the_network_with_the_largest_share_and_the_first_of_several(seed):
    outputs, memberships = problem(seed)
    found = combine(outputs, TASKS, memberships, "best")
    assert torch.equal(found, chosen(outputs, memberships.numpy().argmax(1).tolist()))
    assert torch.equal(combine(outputs, TASKS, torch.full((len(TASKS), 4), 0.25), "best"), outputs[0])


@pytest.mark.parametrize("size", [50.0, 1e4, 1e30])
def test_certain_networks_stay_certain(size):
    """Probabilities that round to 0 or 1 keep their log-odds; a third that is sure of the contrary counts a third."""
    tasks = TaskSet([Task("yes", "binary"), Task("two", "multiclass", 2)])
    agreed = torch.tensor([[[-size, size, -size]], [[-size, size, -size]], [[-size, size, -size]]])
    disagreed = agreed * torch.tensor([1.0, 1.0, -1.0]).reshape(3, 1, 1)
    shares = torch.full((2, 3), 1 / 3)
    torch.testing.assert_close(combine(agreed, tasks, shares, "probabilities")[:, 0], torch.tensor([-size]))
    odds = combine(agreed, tasks, shares, "probabilities").diff()[:, 1]
    torch.testing.assert_close(odds, torch.tensor([-2 * size]))
    found = combine(disagreed, tasks, shares, "probabilities")
    torch.testing.assert_close(found, torch.tensor([[1 / 2, 2 / 3, 1 / 3]]).log())


@pytest.mark.parametrize("by", WAYS)
@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_networks_without_a_share_do_not_matter_whatever_they_give(by, wrong):
    outputs, memberships = problem(3)
    owner = torch.repeat_interleave(torch.tensor([task.n_outputs for task in TASKS]))
    without = memberships.T[:, owner].unsqueeze(1) == 0
    assert without.any()
    assert without[0].any()
    spoilt = outputs.masked_fill(without, wrong).requires_grad_()
    found = combine(spoilt, TASKS, memberships, by)
    assert torch.equal(found, combine(outputs, TASKS, memberships, by))
    found.sum().backward()
    assert torch.isfinite(spoilt.grad).all()
    assert not spoilt.grad.masked_select(without).any()


@pytest.mark.parametrize("by", ["logits", "probabilities"])
def test_gradients_are_those_of_finite_differences(by):
    outputs, memberships = problem(1)
    assert torch.autograd.gradcheck(lambda z: combine(z, TASKS, memberships, by), outputs.requires_grad_())


@pytest.mark.parametrize("by", WAYS)
def test_half_precision_outputs_are_combined_in_single_precision(by):
    outputs, memberships = problem(0, dtype=torch.bfloat16)
    found = combine(outputs, TASKS, memberships, by)
    assert found.dtype == torch.float32
    assert torch.equal(found, combine(outputs.float(), TASKS, memberships, by))


@pytest.mark.parametrize("by", WAYS)
def test_memberships_may_be_a_read_only_array_or_nested_lists(by):
    outputs, memberships = problem(0)
    array = memberships.double().numpy()
    array.setflags(write=False)
    for form in (array, memberships.tolist()):
        assert torch.equal(combine(outputs, TASKS, form, by), combine(outputs, TASKS, memberships, by))


@given(seeds, ways, st.sets(st.sampled_from(range(len(TASKS))), max_size=len(TASKS) - 1))
def test_tasks_that_are_left_out_have_no_outputs_and_change_none(seed, by, left_out):
    outputs, memberships = problem(seed)
    kept = [number for number in range(len(TASKS)) if number not in left_out]
    served = TASKS.select(TASKS.names[number] for number in kept)
    columns = torch.cat([torch.arange(TASKS.n_outputs)[TASKS.slices[name]] for name in served.names])
    expected = combine(outputs, TASKS, memberships, by)[:, columns]
    assert torch.equal(combine(outputs[:, :, columns], served, memberships[kept], by), expected)
    memberships[sorted(left_out)] = 0
    assert torch.equal(combine(outputs, TASKS, memberships, by), expected)
    assert served_tasks(TASKS, memberships) == served
    ensemble = Ensemble([Constant(own) for own in outputs], TASKS, memberships, by)
    assert ensemble.tasks == served
    assert torch.equal(ensemble(torch.zeros(5, 1)), expected)


class Constant(nn.Module):
    """Gives the same outputs whatever the inputs are."""

    def __init__(self, outputs: Tensor) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, inputs: Tensor) -> Tensor:
        return self.outputs


def test_an_ensemble_without_any_task_is_refused():
    for use in (combine, lambda own, *rest: Ensemble([nn.Identity()] * 4, *rest)):
        with pytest.raises(ValueError, match="No task has a network: all memberships are 0"):
            use(problem(0)[0], TASKS, torch.zeros(6, 4))


@pytest.mark.parametrize("shape", [(5, 4), (6,)])
def test_served_tasks_need_a_row_per_task(shape):
    with pytest.raises(ValueError, match=r"memberships must be \[6, networks\], a row per task. Got "):
        served_tasks(TASKS, torch.ones(shape))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda shares: shares[:-1], r"memberships must be \[6, 4\].* Got \[5, 4\]"),
        (lambda shares: shares[:, :-1], r"memberships must be \[6, 4\].* Got \[6, 3\]"),
        (lambda shares: shares.T, r"memberships must be \[6, 4\].* Got \[4, 6\]"),
        (lambda shares: shares[0], r"memberships must be \[6, 4\].* Got \[4\]"),
        (lambda shares: shares.index_fill(0, torch.tensor(2), math.nan), "finite and not negative"),
        (lambda shares: -shares, "finite and not negative"),
        (lambda shares: shares * torch.tensor([[1.0], [2.0], [1.0], [1.0], [0.99], [1.0]]),
         r"sum to 1, or all be 0. Those of \['yes', 'own'\] do not"),
    ],
)  # fmt: skip
def test_memberships_that_cannot_be_used_are_refused(change, message):
    outputs, memberships = problem(0)
    for use in (combine, lambda own, *rest: Ensemble([nn.Identity()] * 4, *rest)):
        with pytest.raises(ValueError, match=message):
            use(outputs, TASKS, change(memberships))


@pytest.mark.parametrize("shape", [(4, 5, TASKS.n_outputs - 1), (5, TASKS.n_outputs)])
def test_outputs_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"outputs must be \[networks, samples, 11\].* Got "):
        combine(torch.zeros(shape), TASKS, problem(0)[1])


def test_an_unknown_way_is_refused():
    outputs, memberships = problem(0)
    for use in (combine, lambda own, *rest: Ensemble([nn.Identity()] * 4, *rest)):
        with pytest.raises(ValueError, match=r"by must be one of \['logits', 'probabilities', 'best'\]. Got 'votes'"):
            use(outputs, TASKS, memberships, "votes")


@pytest.fixture
def networks(mixed_tasks, mixed_data):
    """Four different networks with dropout, tasks with units, inputs and targets."""
    inputs, targets = mixed_data(37, 0)
    torch.manual_seed(0)
    models = [nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 5)) for _ in range(4)]
    return models, mixed_tasks.with_units(targets), inputs, targets


MEMBERSHIPS = [[0.6, 0.0, 0.1, 0.3], [0.0, 0.0, 1.0, 0.0], [0.5, 0.0, 0.3, 0.2]]


@pytest.mark.parametrize("by", WAYS)
def test_an_ensemble_is_evaluated_as_any_network_is(networks, assert_same, by):
    models, tasks, inputs, targets = networks
    ensemble = Ensemble(models, list(tasks), MEMBERSHIPS, by).train()
    outputs = combine(
        torch.stack([packed_outputs(model, tasks, (inputs, targets)) for model in models]), tasks, MEMBERSHIPS, by
    )
    expected, found = evaluation_of(tasks, outputs, targets), evaluate(ensemble, tasks, (inputs, targets))
    assert_same(found.losses, expected.losses)
    assert_same(found.metrics, expected.metrics)
    assert all(model.training for model in models)
    assert not torch.equal(ensemble(inputs), outputs)  # dropout is on
    assert torch.equal(ensemble.eval()(inputs), outputs)


def test_an_ensemble_is_evaluated_on_the_tasks_it_predicts(networks):
    models, tasks, inputs, targets = networks
    ensemble = Ensemble(models, tasks, [MEMBERSHIPS[0], [0.0] * 4, MEMBERSHIPS[2]])
    assert ensemble.by == "logits"  # the published way
    found = evaluate(ensemble, ensemble.tasks, (inputs, targets[:, [0, 2]]))
    expected = evaluate(Ensemble(models, tasks, MEMBERSHIPS), tasks, (inputs, targets))
    assert torch.equal(found.losses, expected.losses[[0, 2]])
    assert found.metrics == {name: expected.metrics[name] for name in ("yes", "much")}
    with pytest.raises(ValueError, match="must give outputs of shape"):
        evaluate(ensemble, tasks, (inputs, targets))


def test_an_ensemble_takes_outputs_by_name(networks):
    models, tasks, inputs, _ = networks

    class Named(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, batch: Tensor) -> dict[str, Tensor]:
            return {name: self.model(batch)[:, columns] for name, columns in reversed(tasks.slices.items())}

    plain = Ensemble(models, tasks, MEMBERSHIPS).eval()
    named = Ensemble(map(Named, models), tasks, MEMBERSHIPS).eval()
    assert torch.equal(named(inputs), plain(inputs))


@pytest.mark.parametrize(("by", "used"), [("logits", [0, 2, 3]), ("probabilities", [0, 2, 3]), ("best", [0, 2])])
def test_only_networks_with_a_share_are_run(networks, by, used):
    models, tasks, inputs, _ = networks
    ran = []
    for number, model in enumerate(models):
        model.register_forward_hook(lambda *_, number=number: ran.append(number))
    Ensemble(models, tasks, MEMBERSHIPS, by)(inputs)
    assert ran == used


@pytest.mark.parametrize("by", WAYS)
def test_a_state_dict_holds_the_networks_and_their_shares(networks, by):
    models, tasks, inputs, _ = networks
    saved = Ensemble(models, tasks, MEMBERSHIPS, by).eval()
    other = Ensemble([copy.deepcopy(models[0]) for _ in models], tasks, [[1.0, 0.0, 0.0, 0.0]] * 3, by).eval()
    assert not torch.equal(other(inputs), saved(inputs))
    other.load_state_dict(saved.state_dict())
    assert torch.equal(other(inputs), saved(inputs))
    networks_and_shares = {
        f"models.{n}.{layer}.{part}" for n in range(4) for layer in "03" for part in ("weight", "bias")
    }
    assert set(saved.state_dict()) == {"memberships"} | networks_and_shares


def test_a_thousand_tasks():
    tasks = TaskSet(Task(f"t{number}", *[("binary",), ("multiclass", 3)][number % 2]) for number in range(1000))
    outputs = torch.randn(3, 4, tasks.n_outputs, generator=torch.Generator().manual_seed(0))
    memberships = np.random.default_rng(0).dirichlet(np.ones(3), 1000)
    found = tasks.predictions(combine(outputs, tasks, memberships, "probabilities"))
    members = [tasks.predictions(own) for own in outputs]
    for name, shares in zip(tasks.names[-4:], memberships[-4:].tolist(), strict=True):
        expected = sum(share * member[name] for share, member in zip(shares, members, strict=True))
        torch.testing.assert_close(found[name], expected)


class ClippedSGD(torch.optim.SGD):
    """Gradient norms are clipped before every step."""

    @torch.no_grad()
    def step(self, closure=None) -> None:
        nn.utils.clip_grad_norm_([value for group in self.param_groups for value in group["params"]], 1.0)
        super().step()


OPTIMIZERS = {
    "decay": partial(torch.optim.SGD, lr=0.1, weight_decay=0.3),
    "clipping": partial(ClippedSGD, lr=0.1),
    "both": partial(ClippedSGD, lr=0.1, weight_decay=0.3),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_scaling_a_column_of_memberships_does_not_change_its_network(networks, assert_same, optimizer):
    """What the memberships are to the other clusters only scales a column; un-normalised, it is another training."""
    _, tasks, inputs, targets = networks
    column = torch.tensor([0.25, 0.0, 0.125])

    def trained(rows: Tensor) -> list[dict[str, Tensor]]:
        pair = inputs, targets
        fleet = fit_fleet(
            lambda: nn.Linear(4, 5), tasks, rows, pair, pair, epochs=2, batch_size=20, optimizer=OPTIMIZERS[optimizer]
        )
        return [model.state_dict() for model in fleet.models]

    columns = torch.stack([column, 4 * column, 3 * column], dim=1)
    memberships = [torch.stack([share, 1 - share], dim=1) for share in columns.T]
    first, second, third = trained(torch.stack([torch.from_numpy(loss_weights(rows))[0] for rows in memberships]))
    assert_same(second, first)
    torch.testing.assert_close(third, first)
    first, second, _ = trained(columns.T)
    assert not torch.allclose(second["weight"], first["weight"], rtol=1e-3, atol=1e-3)


def test_memberships_go_through_loss_weights_a_fleet_and_an_ensemble(networks):
    """A task that is left out has no weight in the training and no outputs in the ensemble."""
    _, tasks, inputs, targets = networks
    pair = inputs, targets
    memberships = np.array([[0.75, 0.25], [0.0, 0.0], [0.0, 1.0]])
    fleet = fit_fleet(lambda: nn.Linear(4, 5), tasks, torch.from_numpy(loss_weights(memberships)), pair, pair, epochs=1)
    ensemble = Ensemble(fleet.models, fleet.tasks, memberships)
    found = evaluate(ensemble, ensemble.tasks, (inputs, targets[:, [0, 2]]))
    assert found.tasks.names == ("yes", "much")
    assert found.loss_of("much") == pytest.approx(fleet.evaluate(pair)[1].loss_of("much"))
    assert torch.equal(fleet.models[0].weight[1:4], fleet.models[1].weight[1:4])  # as they were initialised
