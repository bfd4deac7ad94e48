from collections import OrderedDict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from cotrain import Batch, SharedTrunk, Task, TaskSet, shared_parameters
from cotrain.model import pure_forward, random_state_kept


def binary_tasks(n: int) -> TaskSet:
    return TaskSet(Task(f"t{number}", "binary") for number in range(n))


def batch_of(inputs: Tensor) -> Batch:
    return Batch(torch.arange(len(inputs)), inputs, torch.zeros(len(inputs), 0))


def trunk() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh())


class TwoTrunks(nn.Module):
    """Tasks 0 and 1 have private branches; `common` feeds both; `partly` serves task 1 and, with one unit, task 0."""

    def __init__(self) -> None:
        super().__init__()
        self.common = nn.Linear(4, 4)
        self.left, self.right, self.partly = nn.Linear(4, 3), nn.Linear(4, 3), nn.Linear(4, 2)
        self.left_head, self.right_head = nn.Linear(4, 1), nn.Linear(5, 1)

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        common = torch.tanh(self.common(inputs))
        partly = self.partly(inputs)
        return {
            "t1": self.right_head(torch.cat([self.right(common), partly], dim=1)),
            "t0": self.left_head(torch.cat([self.left(common), partly[:, :1]], dim=1)),
        }


class RowPerTask(nn.Module):
    """One embedding row per task, through one decoder for all."""

    def __init__(self, n_tasks: int, sparse: bool) -> None:
        super().__init__()
        self.body = nn.Linear(4, 3)
        self.rows = nn.Embedding(n_tasks, 3, sparse=sparse)
        self.decoder = nn.Linear(3, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        rows = self.rows(torch.arange(self.rows.num_embeddings))
        return self.decoder(torch.tanh(self.body(inputs)).unsqueeze(1) * rows).squeeze(-1)


class Attention(nn.Module):
    """Input columns are tokens; self-attention between them; one head per task."""

    def __init__(self, n_outputs: int) -> None:
        super().__init__()
        self.embed = nn.Linear(1, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.heads = nn.ModuleList(nn.Linear(8, 1) for _ in range(n_outputs))

    def forward(self, inputs: Tensor) -> Tensor:
        tokens = self.embed(inputs.unsqueeze(-1))
        mixed = self.norm(tokens + self.attention(tokens, tokens, tokens)[0]).mean(1)
        return torch.cat([head(mixed) for head in self.heads], dim=1)


def test_shared_trunk_gives_packed_outputs_from_one_product(mixed_tasks):
    model = SharedTrunk(trunk(), list(mixed_tasks), 6)
    assert model(torch.zeros(7, 4)).shape == (7, 5)
    assert SharedTrunk(trunk(), binary_tasks(1000), 6)(torch.zeros(2, 4)).shape == (2, 1000)
    assert sum(isinstance(module, nn.Linear) for module in SharedTrunk(trunk(), binary_tasks(1000), 6).modules()) == 2


@pytest.mark.parametrize("wrong", [nn.Linear(4, 5), nn.Unflatten(1, (2, 2))])
def test_a_trunk_with_other_features_is_refused(mixed_tasks, wrong):
    with pytest.raises(ValueError, match=r"shape \[batch, 6\] \(n_features\). Got \[3, .*nn.Flatten"):
        SharedTrunk(wrong, mixed_tasks, 6)(torch.zeros(3, 4))


@pytest.mark.parametrize("n_tasks", [2, 3, 15, 100])
@pytest.mark.parametrize("zero_heads", [False, True])
def test_of_a_shared_trunk_exactly_the_trunk_is_shared(n_tasks, zero_heads):
    tasks = binary_tasks(n_tasks)
    model = SharedTrunk(trunk(), tasks, 6)
    if zero_heads:
        nn.init.zeros_(model.heads.weight)
    found = shared_parameters(model, tasks, batch_of(torch.randn(3, 4)))
    assert list(found) == ["trunk.0.weight", "trunk.0.bias"]
    assert found["trunk.0.weight"] is model.trunk[0].weight


def test_a_single_task_shares_nothing():
    tasks = binary_tasks(1)
    assert shared_parameters(SharedTrunk(trunk(), tasks, 6), tasks, batch_of(torch.randn(3, 4))) == {}


def test_tasks_of_several_outputs_share_their_head_only_with_themselves(mixed_tasks):
    model = SharedTrunk(trunk(), mixed_tasks, 6)
    assert list(shared_parameters(model, mixed_tasks, batch_of(torch.randn(3, 4)))) == [
        "trunk.0.weight", "trunk.0.bias",
    ]  # fmt: skip
    three = TaskSet([Task("a", "multiclass", 3)])
    assert shared_parameters(SharedTrunk(trunk(), three, 6), three, batch_of(torch.randn(3, 4))) == {}


def test_private_branches_are_told_from_shared_ones():
    found = shared_parameters(TwoTrunks(), binary_tasks(2), batch_of(torch.randn(3, 4)))
    assert list(found) == ["common.weight", "common.bias", "partly.weight", "partly.bias"]


@pytest.mark.parametrize("sparse", [False, True])
def test_rows_of_one_tensor_that_serve_one_task_each_are_not_shared(sparse):
    found = shared_parameters(RowPerTask(5, sparse), binary_tasks(5), batch_of(torch.randn(3, 4)))
    assert list(found) == ["body.weight", "body.bias", "decoder.weight", "decoder.bias"]


def test_attention_is_shared_and_heads_are_not():
    model = Attention(4)
    found = shared_parameters(model, binary_tasks(4), batch_of(torch.randn(3, 4)))
    assert list(found) == [name for name, _ in model.named_parameters() if not name.startswith("heads")]


def test_frozen_and_unused_parameters_are_left_out_and_tied_ones_are_named_once():
    tasks = binary_tasks(3)
    body = nn.Sequential(OrderedDict(a=nn.Linear(4, 4), b=nn.Linear(4, 4), c=nn.Linear(4, 4), d=nn.Linear(4, 6)))
    body.b.weight = body.a.weight
    body.c.requires_grad_(False)
    model = SharedTrunk(body, tasks, 6)
    model.unused = nn.Linear(2, 2)
    found = shared_parameters(model, tasks, batch_of(torch.randn(3, 4)))
    assert list(found) == ["trunk.a.weight", "trunk.a.bias", "trunk.b.bias", "trunk.d.weight", "trunk.d.bias"]


def test_a_frozen_model_shares_nothing_to_train():
    tasks = binary_tasks(2)
    model = SharedTrunk(trunk(), tasks, 6).requires_grad_(False)
    assert shared_parameters(model, tasks, batch_of(torch.randn(3, 4))) == {}
    assert shared_parameters(model, tasks, batch_of(torch.randn(3, 4, requires_grad=True))) == {}
    aside = SharedTrunk(trunk(), tasks, 6).requires_grad_(False)
    aside.unused = nn.Linear(2, 2)
    assert shared_parameters(aside, tasks, batch_of(torch.randn(3, 4))) == {}


def test_tied_weights_across_private_branches_are_shared():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Linear(4, 1), nn.Linear(4, 1)
            self.right.weight = self.left.weight

        def forward(self, inputs: Tensor) -> Tensor:
            return torch.cat([self.left(inputs), self.right(inputs)], dim=1)

    assert list(shared_parameters(Tied(), binary_tasks(2), batch_of(torch.randn(3, 4)))) == ["left.weight"]


@given(st.lists(st.sets(st.integers(0, 5), min_size=1), min_size=1, max_size=8))
def test_any_wiring_is_found(readers):
    """Block b of a trunk is read by a set of six tasks: it is shared if they are two or more."""

    class Wired(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(nn.Linear(4, 1) for _ in readers)

        def forward(self, inputs: Tensor) -> Tensor:
            blocks = [block(inputs).squeeze(1) for block in self.blocks]
            zero = torch.zeros(len(inputs))
            columns = [
                sum((blocks[b] for b, tasks in enumerate(readers) if task in tasks), start=zero) for task in range(6)
            ]
            return torch.stack(columns, dim=1)

    found = shared_parameters(Wired(), binary_tasks(6), batch_of(torch.randn(2, 4)))
    shared = {f"blocks.{b}" for b, tasks in enumerate(readers) if len(tasks) > 1}
    assert {name.rpartition(".")[0] for name in found} == shared


def noisy_model() -> nn.Module:
    body = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5))
    return SharedTrunk(body, binary_tasks(3), 6)


@pytest.mark.parametrize("train", [True, False])
def test_looking_changes_nothing(assert_same, train):
    model = noisy_model().train(train)
    model(torch.randn(8, 4)).sum().backward()

    def everything() -> dict:
        return {
            "state": {name: value.clone() for name, value in model.state_dict().items()},
            "grad": [value.grad.clone() for value in model.parameters()],
            "random": torch.get_rng_state(),
            "modes": [module.training for module in model.modules()],
        }

    before = everything()
    with torch.no_grad():
        found = shared_parameters(model, binary_tasks(3), batch_of(torch.randn(8, 4, generator=torch.Generator())))
    assert len(found) == 4
    assert_same(everything(), before)


def test_pure_forward_uses_the_given_parameters_and_throws_running_statistics_away(assert_same):
    model = noisy_model()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    inputs = torch.randn(8, 4)
    outputs = pure_forward(model, {"heads.weight": torch.zeros(3, 6), "heads.bias": torch.ones(3)}, inputs)
    assert torch.equal(outputs, torch.ones(8, 3))
    assert_same(dict(model.state_dict()), state)


def test_the_random_state_comes_back_also_after_an_error():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    with pytest.raises(KeyError), random_state_kept():
        {int(torch.rand(5)[0]): 1}[-1]
    assert torch.equal(torch.rand(1), expected)
