import math
import re
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cotrain import SharedTrunk, Task, TaskSet, evaluate, fit, fit_fleet
from cotrain.errors import StudyError, TrainingDivergedError

ROWS = [[1.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.3, 0.0, 2.0], [0.0, 1.0, 0.5]]
SGD = partial(torch.optim.SGD, lr=0.05, momentum=0.9)
OPTIMIZERS = {
    "default": None,
    "sgd": SGD,
    "adamw": partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1),
}


class KilledError(Exception):
    """Stands for a kill: raised from the progress callback in the middle of an epoch."""


class NormalisedStep(torch.optim.Optimizer):
    """One step of a given length along the gradient of each tensor: would mix stacked networks."""

    def __init__(self, params) -> None:
        super().__init__(params, {"lr": 0.02})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            for value in group["params"]:
                value -= group["lr"] * value.grad / (value.grad.norm() + 1e-8)


def without_decay_of_biases(parameters):
    parameters = list(parameters)
    matrices = [value for value in parameters if value.dim() > 1]
    others = [value for value in parameters if value.dim() <= 1]
    return torch.optim.AdamW([{"params": matrices}, {"params": others, "weight_decay": 0.0}], weight_decay=0.5)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 5))


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 2, 2)), nn.Conv2d(1, 4, 2, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(4, 5),
    )  # fmt: skip


def layer_norm() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 5))


class Attention(nn.Module):
    """Columns are tokens that attend to each other, in plain products."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.query, self.value = nn.Linear(1, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        # With a bias, whose true gradient is 0, Adam would blow float rounding up to whole steps.
        self.key = nn.Linear(6, 6, bias=False)
        self.head = nn.Linear(6, 5)

    def forward(self, inputs: Tensor) -> Tensor:
        tokens = self.embed(inputs.unsqueeze(-1))
        scores = self.query(tokens) @ self.key(tokens).transpose(1, 2) / math.sqrt(6)
        return self.head((tokens + scores.softmax(-1) @ self.value(tokens)).mean(1))


class MultiheadAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.attention = nn.Linear(1, 6), nn.MultiheadAttention(6, 2, batch_first=True)
        self.head = nn.Linear(6, 5)

    def forward(self, inputs: Tensor) -> Tensor:
        tokens = self.embed(inputs.unsqueeze(-1))
        return self.head((tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]).mean(1))


def frozen() -> nn.Module:
    model = mlp()
    model[0].weight.requires_grad_(False)
    return model


def named() -> nn.Module:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(4, 8)
            self.heads = nn.ModuleDict({"much": nn.Linear(8, 1), "which": nn.Linear(8, 3), "yes": nn.Linear(8, 1)})

        def forward(self, inputs: Tensor) -> dict[str, Tensor]:
            features = torch.tanh(self.body(inputs))
            return {name: head(features) for name, head in self.heads.items()}

    return Named()


def batch_norm() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 5))


def dropout() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Dropout(0.5), nn.Linear(16, 5))


@pytest.fixture
def splits(mixed_data):
    return mixed_data(60, 0), mixed_data(40, 1)


@pytest.fixture
def train_fleet(mixed_tasks, splits):
    def run(make=mlp, rows=ROWS, **options):
        options = {"epochs": 4, "batch_size": 16, "patience": None, **options}
        return fit_fleet(make, options.pop("tasks", mixed_tasks), rows, *options.pop("splits", splits), **options)

    return run


@pytest.fixture
def assert_each_is_fit_alone(mixed_tasks, splits):
    def check(fleet, make, **options) -> None:
        options = {"epochs": 4, "batch_size": 16, "patience": None, **options}
        seed = options.get("seed", 0)
        for number, row in enumerate(fleet.weights):
            torch.manual_seed(seed)
            alone = fit(make(), mixed_tasks, *splits, weights=row, **options)
            assert fleet.best_epochs[number] == alone.best_epoch
            torch.testing.assert_close(fleet.valid_losses[number], alone.valid_losses, rtol=1e-5, atol=1e-5)
            for name, value in alone.model.state_dict().items():
                torch.testing.assert_close(fleet.models[number].state_dict()[name], value, rtol=1e-5, atol=1e-5)
            assert fleet.models[number].training is alone.model.training is False
            assert fleet.tasks == alone.tasks

    return check


def everything(fleet) -> dict[str, Any]:
    return {
        "models": [dict(model.state_dict()) for model in fleet.models],
        "losses": fleet.valid_losses,
        "epochs": list(fleet.best_epochs),
    }


def killed_at(step: int):
    calls = [0]

    def listen(done: int, total: int, note: str) -> None:
        calls[0] += 1
        if calls[0] == step:
            raise KilledError

    return listen


@pytest.mark.parametrize("make", [mlp, cnn, layer_norm, Attention, frozen, named])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_each_network_is_what_fit_makes_of_its_row(train_fleet, assert_each_is_fit_alone, make, optimizer):
    options = {"optimizer": OPTIMIZERS[optimizer], "seed": 3}
    fleet = train_fleet(make, **options)
    assert fleet.one_by_one is None
    assert_each_is_fit_alone(fleet, make, **options)


@pytest.mark.parametrize(
    ("make", "optimizer", "reason"),
    [
        (batch_norm, SGD, r"its forward pass updates buffers \(1.running_mean\), as BatchNorm does"),
        (MultiheadAttention, SGD, r"it cannot be vectorised \("),
        (mlp, NormalisedStep, "the optimizer does not update every weight on its own"),
        (mlp, without_decay_of_biases, "the optimizer does not treat all parameters alike"),
        (
            mlp,
            lambda parameters: torch.optim.SGD(list(parameters)[::-1], lr=0.1),
            "does not treat all parameters alike",
        ),
        (mlp, lambda parameters: torch.optim.SGD(list(parameters)[:1], lr=0.1), "does not treat all parameters alike"),
    ],
)
def test_what_cannot_be_stacked_is_trained_one_after_another_and_says_why(
    train_fleet, assert_each_is_fit_alone, make, optimizer, reason
):
    fleet = train_fleet(make, optimizer=optimizer)
    assert re.search(reason, fleet.one_by_one)
    assert_each_is_fit_alone(fleet, make, optimizer=optimizer)


def test_networks_that_stop_early_leave_and_are_as_if_trained_alone(train_fleet, assert_each_is_fit_alone):
    options = {"epochs": 20, "patience": 1, "optimizer": partial(torch.optim.SGD, lr=0.3, momentum=0.5)}
    notes: list[str] = []
    fleet = train_fleet(progress=lambda done, total, note: notes.append(note), **options)
    assert_each_is_fit_alone(fleet, mlp, **options)
    in_training = [int(found[1]) for note in notes if (found := re.search(r"(\d) in training", note))]
    assert in_training == sorted(in_training, reverse=True)
    assert in_training[0] == 4
    assert len(set(in_training)) > 2
    assert len(set(fleet.best_epochs)) > 1
    assert len(in_training) < 20 * 4


def test_several_stacks_give_what_one_gives(train_fleet, monkeypatch, assert_each_is_fit_alone):
    options = {"epochs": 6, "patience": 1, "optimizer": partial(torch.optim.SGD, lr=0.3)}
    together = train_fleet(**options)
    for stack_bytes, n_stacks in ((1, 4), (2 * 16 * 4 * (4 + 8), 2)):
        monkeypatch.setattr("cotrain.fleet.STACK_BYTES", stack_bytes)
        heard: list[tuple[int, int, str]] = []
        fleet = train_fleet(progress=lambda *call, heard=heard: heard.append(call), **options)
        assert len({note.rpartition(", ")[2] for _, _, note in heard}) == n_stacks
        assert [done for done, _, _ in heard] == sorted(done for done, _, _ in heard)
        assert heard[-1][:2] == (4 * 6 * 4, 4 * 6 * 4)
        assert fleet.best_epochs == together.best_epochs
        torch.testing.assert_close(fleet.valid_losses, together.valid_losses)
        for one, other in zip(fleet.models, together.models, strict=True):
            torch.testing.assert_close(dict(one.state_dict()), dict(other.state_dict()))


def test_permuting_rows_permutes_results(train_fleet):
    order = [2, 0, 3, 1]
    first, second = train_fleet(optimizer=SGD), train_fleet(rows=[ROWS[number] for number in order], optimizer=SGD)
    torch.testing.assert_close(second.valid_losses, first.valid_losses[order])
    for place, number in enumerate(order):
        torch.testing.assert_close(dict(second.models[place].state_dict()), dict(first.models[number].state_dict()))


@pytest.mark.parametrize("stack_bytes", [None, 1])
@pytest.mark.parametrize("kill_at", [2, 4, 9, 14, 17])
def test_a_resumed_fleet_is_an_uninterrupted_one_bit_for_bit(
    tmp_path, train_fleet, assert_same, monkeypatch, kill_at, stack_bytes
):
    if stack_bytes:
        monkeypatch.setattr("cotrain.fleet.STACK_BYTES", stack_bytes)
    options = {"epochs": 7, "patience": 1, "optimizer": partial(torch.optim.Adam, lr=0.1)}
    expected = train_fleet(dropout, **options)
    assert expected.one_by_one is None
    assert len(set(expected.best_epochs)) > 1
    with pytest.raises(KilledError):
        train_fleet(dropout, checkpoint=tmp_path, progress=killed_at(kill_at), **options)
    for _ in range(2):  # the second time nothing is left to do
        assert_same(everything(train_fleet(dropout, checkpoint=tmp_path, **options)), everything(expected))


def test_a_resumed_fleet_of_networks_one_by_one_is_an_uninterrupted_one(tmp_path, train_fleet, assert_same):
    expected = train_fleet(batch_norm)
    with pytest.raises(KilledError):
        train_fleet(batch_norm, checkpoint=tmp_path, progress=killed_at(27))
    assert len(list(tmp_path.iterdir())) == 2
    assert_same(everything(train_fleet(batch_norm, checkpoint=tmp_path)), everything(expected))


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": 5},
        {"seed": 1},
        {"rows": [[2.0, 0.0, 0.0], *ROWS[1:]]},
        {"optimizer": partial(torch.optim.Adam, lr=0.1)},
        {"make": lambda: nn.Sequential(nn.Linear(4, 9), nn.Tanh(), nn.Linear(9, 5))},
    ],
)
def test_a_checkpoint_of_another_fleet_is_refused(tmp_path, train_fleet, options):
    with pytest.raises(KilledError):
        train_fleet(checkpoint=tmp_path, progress=killed_at(6))
    with pytest.raises(StudyError, match=r"belongs to a fleet with other settings. Give another checkpoint folder"):
        train_fleet(checkpoint=tmp_path, **options)


@pytest.mark.parametrize("stack_bytes", [None, 1])
def test_a_nan_names_the_network(tmp_path, train_fleet, monkeypatch, stack_bytes):
    if stack_bytes:
        monkeypatch.setattr("cotrain.fleet.STACK_BYTES", stack_bytes)
    rows = [[1.0, 0.0, 1.0], [1.0, 1.0, 1.0], [0.0, 1e30, 0.0]]
    with pytest.raises(
        TrainingDivergedError, match=r"\['which'\] became NaN or infinite at epoch 0, step 1, in the network of row 2"
    ):
        train_fleet(rows=rows, optimizer=partial(torch.optim.SGD, lr=1e10), tasks=only_which())
    rows = [[1.0, 0.0, 1.0], [1.0, 1.0, 1.0], [0.0, 1e38, 0.0]]
    with pytest.raises(TrainingDivergedError, match=r"\['which'\] .* of row 2"):
        train_fleet(rows=rows, tasks=only_which(), optimizer=partial(torch.optim.SGD, lr=0.01))


def only_which() -> TaskSet:
    """Only the second task has a loss that depends on the network: the others cannot diverge."""

    def nothing(outputs: Tensor, targets: Tensor) -> Tensor:
        return 0 * outputs.detach().sum(1).nan_to_num(0.0, 0.0, 0.0)

    return TaskSet(
        [Task("yes", "custom", loss=nothing), Task("which", "multiclass", 3), Task("much", "custom", loss=nothing)]
    )


def test_a_nan_among_networks_one_by_one_names_the_network_and_keeps_the_others(tmp_path, train_fleet):
    rows = [[1.0, 0.0, 0.0], [0.0, 1e38, 0.0]]
    with pytest.raises(TrainingDivergedError, match=r"\['which'\] became NaN .* This was the network of row 1\."):
        train_fleet(batch_norm, rows=rows, checkpoint=tmp_path, optimizer=partial(torch.optim.SGD, lr=0.1))
    assert (tmp_path / "network-0.safetensors").exists()


@pytest.mark.parametrize("rows", [[], [1.0, 1.0, 1.0], [[1.0, 1.0]], [[[1.0, 1.0, 1.0]]]])
def test_weights_of_another_shape_are_refused(train_fleet, rows):
    with pytest.raises(ValueError, match=r"weights must "):
        train_fleet(rows=rows)


@pytest.mark.parametrize("row", [[0.0, 0.0, 0.0], [1.0, -1.0, 1.0], [1.0, math.nan, 1.0]])
def test_a_row_that_cannot_be_used_is_refused(train_fleet, row):
    with pytest.raises(ValueError, match="weights must hold 3 non-negative numbers"):
        train_fleet(rows=[ROWS[0], row])


def test_settings_below_one_are_refused(train_fleet):
    with pytest.raises(ValueError, match=r"patience must be at least 1. Got 0"):
        train_fleet(patience=0)


@pytest.mark.parametrize("make", [mlp, batch_norm])
def test_forms_of_samples_random_state_and_seed(train_fleet, splits, as_dataset, assert_same, make):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    pair = train_fleet(make)
    torch.rand(1)
    random = torch.get_rng_state()
    dataset = train_fleet(make, splits=[as_dataset(*split) for split in splits])
    assert torch.equal(torch.get_rng_state(), random)
    assert not torch.equal(before, random)
    assert_same(everything(dataset), everything(pair))
    assert not torch.equal(train_fleet(make, seed=1).valid_losses, pair.valid_losses)


def test_a_task_of_weight_zero_keeps_its_head(train_fleet):
    fleet = train_fleet(rows=[[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    torch.manual_seed(0)
    start = mlp()[2].weight
    changed = [(model[2].weight != start).any(1).tolist() for model in fleet.models]
    assert changed == [[True, False, False, False, False], [False, False, False, False, True]]


def test_a_fleet_evaluates_each_network(train_fleet, splits, assert_same):
    fleet = train_fleet()
    for model, found, losses in zip(fleet.models, fleet.evaluate(splits[1]), fleet.valid_losses, strict=True):
        assert_same(found.metrics, evaluate(model, fleet.tasks, splits[1]).metrics)
        torch.testing.assert_close(found.losses, losses)


def test_a_thousand_tasks_in_a_shared_trunk():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(32, 4, generator=generator)
    targets = (inputs @ torch.randn(4, 1000, generator=generator) > 0).float()
    tasks = TaskSet(Task(f"t{number}", "binary") for number in range(1000))
    fleet = fit_fleet(
        lambda: SharedTrunk(nn.Linear(4, 4), tasks, 4), tasks, torch.eye(1000)[:2] + 0.5, (inputs, targets),
        (inputs, targets), epochs=2,
    )  # fmt: skip
    assert fleet.one_by_one is None
    assert fleet.valid_losses.shape == (2, 1000)
