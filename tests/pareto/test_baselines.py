"""COSMOS, hypernetworks and separate networks: what a manifold is compared with must itself be right."""

import pytest
import torch
from torch import Tensor, nn

from cotrain import Batch, SharedTrunk, Task, TaskSet
from cotrain.pareto import ConditionedObjective, Cosmos, ParetoHypernetwork, SeparateNetworks

TASKS = TaskSet([Task("a", "binary"), Task("b", "binary")])


def rows(number: int = 64, *, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(number, 5, generator=generator)
    return Batch(torch.arange(number), inputs, (inputs[:, :2] > 0).float())


def network(n_inputs: int = 5) -> nn.Module:
    return SharedTrunk(nn.Sequential(nn.Linear(n_inputs, 8), nn.ReLU()), TASKS, 8)


def models() -> list[Cosmos | ParetoHypernetwork]:
    torch.manual_seed(0)
    return [Cosmos(network(7), TASKS), ParetoHypernetwork(network(), TASKS, width=6)]


@pytest.mark.parametrize("number", [0, 1])
def test_every_parameter_of_a_baseline_is_trained(number: int) -> None:
    """The published hypernetwork for this data leaves its head's first layer unused."""
    model = models()[number]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    objective = ConditionedObjective(model)
    for step in range(2):  # a second step: the hypernetwork's hidden layers matter once its output layers are not 0
        optimizer.zero_grad()
        objective.backward(rows(seed=step))
        optimizer.step()
    assert all(value.grad is not None and bool(value.grad.any()) for value in model.parameters())


@pytest.mark.parametrize("number", [0, 1])
def test_a_baseline_trades_one_task_for_the_other(number: int) -> None:
    model = models()[number]
    batch = rows(256)
    batch = Batch(batch.index, batch.inputs, torch.stack([batch.targets[:, 0], 1 - batch.targets[:, 0]], dim=1))
    narrow = TaskSet([Task("a", "binary"), Task("b", "binary")])
    bottleneck = nn.Sequential(nn.Linear(7 if number == 0 else 5, 1))
    torch.manual_seed(1)
    module = _Same(bottleneck)
    model = Cosmos(module, narrow) if number == 0 else ParetoHypernetwork(module, narrow, width=8)
    objective = ConditionedObjective(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(300):
        optimizer.zero_grad()
        objective.backward(batch)
        optimizer.step()
    front = model.front((batch.inputs, batch.targets), 3)
    assert front.losses[0, 0] < front.losses[2, 0]
    assert front.losses[2, 1] < front.losses[0, 1]


class _Same(nn.Module):
    """One number for two tasks that want opposite signs of it: a front that cannot be escaped."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, inputs: Tensor) -> Tensor:
        return self.part(inputs).expand(-1, 2)


def test_a_hypernetwork_starts_near_the_module_and_leaves_it_untouched() -> None:
    module = network()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    model = ParetoHypernetwork(module, TASKS)
    batch = rows()
    torch.testing.assert_close(model(batch.inputs, [0.3, 0.7]), module(batch.inputs), atol=0.02, rtol=0)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_a_hypernetwork_refuses_running_statistics() -> None:
    with pytest.raises(ValueError, match=r"running_mean.*BatchNorm"):
        ParetoHypernetwork(nn.Sequential(nn.Linear(5, 2), nn.BatchNorm1d(2)), TASKS)


def test_cosmos_puts_the_preference_behind_columns_and_channels() -> None:
    seen: list[Tensor] = []

    class Recorder(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            seen.append(inputs)
            return inputs.flatten(1)[:, :2]

    model = Cosmos(Recorder(), TASKS)
    model(torch.zeros(3, 4), [0.25, 0.75])
    model(torch.zeros(3, 1, 2, 2), {"b": 1.0})
    assert torch.equal(seen[0][:, 4:], torch.tensor([[0.25, 0.75]]).expand(3, 2))
    assert torch.equal(seen[1][:, 1], torch.zeros(3, 2, 2))
    assert torch.equal(seen[1][:, 2], torch.ones(3, 2, 2))
    with pytest.raises(TypeError, match="one tensor"):
        model({"x": torch.zeros(3, 4)}, [0.5, 0.5])


def test_the_similarity_pulls_losses_towards_the_preference() -> None:
    """The objective's gradient is that of weighted losses less lambda times the cosine, from plain autograd."""
    torch.manual_seed(0)
    model, batch = Cosmos(network(7), TASKS), rows()
    objective = ConditionedObjective(model, similarity=3.0, seed=5)
    state = objective.state_dict()
    objective.backward(batch)
    found = [value.grad.clone() for value in model.parameters() if value.grad is not None]
    objective.load_state_dict(state)
    preference = objective._rays.draw()[0]
    losses = TASKS.losses(model(batch.inputs, preference), batch.targets)
    cosine = (preference @ losses) / (preference.norm() * losses.norm())
    expected = torch.autograd.grad(preference @ losses - 3.0 * cosine, list(model.parameters()))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_a_resumed_training_of_a_baseline_draws_the_same_preferences() -> None:
    torch.manual_seed(0)
    model, batch = Cosmos(network(7), TASKS), rows()
    first = ConditionedObjective(model, seed=3)
    first.backward(batch)
    second = ConditionedObjective(model, seed=4)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.backward(batch), second.backward(batch))


def test_separate_networks_answer_for_their_own_preferences_only() -> None:
    torch.manual_seed(0)
    networks = [network(), network()]
    model, batch = SeparateNetworks(networks, TASKS, torch.tensor([[1.0, 0.0], [0.5, 0.5]])), rows()
    assert torch.equal(model(batch.inputs, {"a": 0.5, "b": 0.5}), networks[1](batch.inputs))
    front = model.front((batch.inputs, batch.targets), model.preferences)
    losses = TASKS.losses(networks[0](batch.inputs), batch.targets)
    torch.testing.assert_close(front.losses[0].float(), losses.detach())
    with pytest.raises(ValueError, match="none in between"):
        model(batch.inputs, [0.0, 1.0])
    with pytest.raises(ValueError, match="needs a preference"):
        SeparateNetworks(networks, TASKS, torch.tensor([[1.0, 0.0]]))


def test_cosmos_keeps_the_preference_beside_inputs_that_are_whole_numbers():
    seen = []
    model = Cosmos(nn.Sequential(Recorded(seen), nn.Linear(6, 2)), [Task("a", "binary"), Task("b", "binary")])
    model(torch.randint(0, 9, (3, 4)), [0.25, 0.75])
    assert seen[0][:, 4:].tolist() == [[0.25, 0.75]] * 3


class Recorded(nn.Module):
    """Passes on what it keeps."""

    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def forward(self, inputs):
        self.seen.append(inputs)
        return inputs
