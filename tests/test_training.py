import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cotrain import SharedTrunk, Task, TaskSet, evaluate, fit
from cotrain.errors import DataError, StudyError, TrainingDivergedError
from cotrain.files import read_state
from cotrain.instrument import Step

SGD = partial(torch.optim.SGD, lr=0.05)


class KilledError(Exception):
    """Stands for a kill: raised from the progress callback in the middle of an epoch."""


def killed_at(step: int):
    def listen(done: int, total: int, note: str) -> None:
        if done == step:
            raise KilledError

    return listen


class Recorder:
    """A small instrument: what it saw, as state that can be saved."""

    def __init__(self) -> None:
        self.seen: list[list[int]] = []
        self.outputs = torch.zeros(0, 5)
        self.index = torch.zeros(0, dtype=torch.long)
        self.epochs: list[int] = []

    def on_step(self, step: Step) -> None:
        self.seen.append([step.epoch, step.number])
        self.outputs = torch.cat([self.outputs, step.outputs])
        self.index = torch.cat([self.index, step.batch.index])

    def on_epoch_end(self, epoch: int) -> None:
        self.epochs.append(epoch)

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen, "outputs": self.outputs, "index": self.index, "epochs": self.epochs}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)


def noisy_model() -> nn.Module:
    torch.manual_seed(7)
    return SharedTrunk(
        nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3)),
        [Task("all", "custom", 5, loss=lambda outputs, targets: targets)],
        8,
    )


def plain_model(n_outputs: int = 5) -> nn.Module:
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, n_outputs))


@pytest.fixture
def splits(mixed_data):
    return mixed_data(60, 0), mixed_data(40, 1)


@pytest.fixture
def train_it(mixed_tasks, splits):
    """fit(model, ...) with settings that are short and lively."""

    def run(model: nn.Module, **options):
        options = {"epochs": 4, "batch_size": 16, "patience": None, **options}
        return fit(model, options.pop("tasks", mixed_tasks), *options.pop("splits", splits), **options)

    return run


def everything(result) -> dict[str, Any]:
    return {
        "model": dict(result.model.state_dict()),
        "modes": [module.training for module in result.model.modules()],
        "losses": result.valid_losses,
        "epoch": result.best_epoch,
        "history": result.history,
    }


def test_training_is_the_plain_loop_one_would_write(mixed_tasks, splits, train_it):
    (inputs, targets), valid = splits
    seen = Recorder()
    result = train_it(
        plain_model(), epochs=1, batch_size=60, optimizer=SGD, weights=[1.0, 2.0, 0.5], instruments=[seen]
    )
    model, tasks = plain_model(), mixed_tasks.with_units(targets)
    optimizer = SGD(model.parameters())
    (tasks.losses(model(inputs), targets) @ torch.tensor([1.0, 2.0, 0.5])).backward()
    optimizer.step()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(result.model.state_dict()[name], value)
    assert result.tasks == tasks
    torch.testing.assert_close(result.valid_losses, evaluate(model, tasks, valid).losses)
    assert sorted(seen.index.tolist()) == list(range(60))


def test_training_learns(train_it, splits):
    result = train_it(plain_model(), epochs=30, optimizer=partial(torch.optim.Adam, lr=0.02))
    found = evaluate(result.model, result.tasks, splits[1])
    assert found.metrics["yes"]["auroc"] > 0.8
    assert found.metrics["which"]["accuracy"] > 0.6
    assert found.metrics["much"]["r2"] > 0.8
    assert bool((result.history[-1] < result.history[0]).all())


@pytest.mark.parametrize("kill_at", [1, 3, 4, 5, 7, 9, 12, 15, 16])
def test_a_resumed_training_is_an_uninterrupted_one_bit_for_bit(tmp_path, train_it, assert_same, kill_at):
    expected_record, record = Recorder(), Recorder()
    expected = train_it(noisy_model(), instruments=[expected_record])
    file = tmp_path / "state"
    with pytest.raises(KilledError):
        train_it(noisy_model(), instruments=[Recorder()], checkpoint=file, progress=killed_at(kill_at))
    resumed = train_it(noisy_model(), instruments=[record], checkpoint=file)
    assert_same(everything(resumed), everything(expected))
    assert_same(record.state_dict(), expected_record.state_dict())
    again = train_it(noisy_model(), instruments=[Recorder()], checkpoint=file)  # it is complete: nothing is left to do
    assert_same(everything(again), everything(expected))


def test_with_a_checkpoint_the_training_is_the_same_as_without(tmp_path, train_it, assert_same):
    assert_same(everything(train_it(noisy_model(), checkpoint=tmp_path / "state")), everything(train_it(noisy_model())))


def test_an_instrument_sees_every_step_and_changes_nothing(train_it, splits, assert_same):
    inputs, targets = splits[0]

    class Checking(Recorder):
        def on_step(self, step: Step) -> None:
            super().on_step(step)
            assert step.model.training
            assert not step.outputs.requires_grad
            assert torch.equal(step.batch.inputs, inputs[step.batch.index])
            assert torch.equal(step.batch.targets.nan_to_num(), targets[step.batch.index].nan_to_num())
            assert torch.equal(step.outputs, step.model(step.batch.inputs).detach())
            assert step.optimizer.param_groups[0]["params"][0] is next(step.model.parameters())
            assert len(step.optimizer.state) == (0 if step.epoch == step.number == 0 else 4)

    record = Checking()
    with_it = train_it(plain_model(), epochs=3, instruments=[record])
    assert record.seen == [[epoch, number] for epoch in range(3) for number in range(4)]
    assert record.epochs == [0, 1, 2]
    for epoch in range(3):
        assert sorted(record.index[60 * epoch : 60 * (epoch + 1)].tolist()) == list(range(60))
    assert_same(everything(with_it), everything(train_it(plain_model(), epochs=3)))


def test_the_best_weights_come_back(train_it, splits):
    result = train_it(noisy_model(), epochs=8, optimizer=partial(torch.optim.SGD, lr=0.8), weights=[1, 1, 0])
    scores = result.history[:, :2].sum(1)
    assert result.best_epoch == int(scores.argmin()) < 7
    assert torch.equal(result.valid_losses, result.history[result.best_epoch])
    found = evaluate(result.model, result.tasks, splits[1]).losses
    torch.testing.assert_close(found, result.valid_losses)
    assert not result.model.training


@pytest.mark.parametrize("patience", [1, 2, 4])
def test_training_stops_when_patience_is_over(train_it, patience):
    options = {"epochs": 40, "optimizer": partial(torch.optim.SGD, lr=0.8), "weights": [1.0, 0.0, 0.0]}
    to_the_end = train_it(noisy_model(), **options)
    stopped = train_it(noisy_model(), patience=patience, **options)
    scores = to_the_end.history[:, 0].tolist()
    best, last = 0, 0
    for epoch, score in enumerate(scores):
        best, last = (epoch if score < scores[best] else best), epoch
        if epoch - best >= patience:
            break
    assert last < 39
    assert (stopped.best_epoch, len(stopped.history)) == (best, last + 1)


def test_stopping_early_survives_an_interruption(tmp_path, train_it, assert_same):
    options = {"epochs": 40, "optimizer": partial(torch.optim.SGD, lr=0.8), "patience": 2, "weights": [1, 1, 0]}
    expected = train_it(noisy_model(), **options)
    stop = 4 * len(expected.history)
    with pytest.raises(KilledError):
        train_it(noisy_model(), checkpoint=tmp_path / "s", progress=killed_at(stop - 1), **options)
    for _ in range(2):
        assert_same(everything(train_it(noisy_model(), checkpoint=tmp_path / "s", **options)), everything(expected))


def test_a_training_stops_when_an_instrument_has_seen_enough_also_after_an_interruption(
    tmp_path, train_it, assert_same
):
    def watched(**options):
        recorder = Recorder()
        result = train_it(
            noisy_model(), epochs=9, instruments=[recorder], stop_when=lambda: len(recorder.epochs) == 3, **options
        )
        return recorder.epochs, everything(result)

    epochs, expected = watched()
    assert epochs == [0, 1, 2]
    assert_same(expected, everything(train_it(noisy_model(), epochs=3)))
    with pytest.raises(KilledError):
        watched(checkpoint=tmp_path / "s", progress=killed_at(11))
    for _ in range(2):  # the second goes on from a training that had stopped
        assert_same(watched(checkpoint=tmp_path / "s"), (epochs, expected))


@pytest.mark.parametrize("weights", [[0, 0, 0], [1, -1, 1], [1, 1], [[1, 1, 1]], [1, math.nan, 1], [1, math.inf, 1]])
def test_weights_that_cannot_be_used_are_refused(train_it, weights):
    with pytest.raises(ValueError, match=r"weights must hold 3 non-negative numbers, one per task, not all 0. Got "):
        train_it(plain_model(), weights=weights)


@pytest.mark.parametrize(("name", "value"), [("epochs", 0), ("batch_size", 0), ("patience", 0)])
def test_settings_below_one_are_refused(train_it, name, value):
    with pytest.raises(ValueError, match=f"{name} must be at least 1. Got 0"):
        train_it(plain_model(), **{name: value})


@pytest.mark.parametrize("form", ["pair", "dataset"])
def test_the_callers_random_state_is_untouched_and_does_not_matter(splits, train_it, as_dataset, assert_same, form):
    samples = splits if form == "pair" else [as_dataset(*split) for split in splits]
    results = []
    for seed in (1, 2):
        model = noisy_model()
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        results.append(everything(train_it(model, epochs=2, splits=samples)))
        assert torch.equal(torch.get_rng_state(), before)
    assert_same(results[0], results[1])
    other = everything(train_it(noisy_model(), epochs=2, splits=samples, seed=1))
    assert not torch.equal(other["losses"], results[0]["losses"])


def test_a_dataset_and_a_pair_of_tensors_train_the_same(splits, train_it, as_dataset, mixed_tasks, assert_same):
    expected = everything(train_it(noisy_model(), epochs=2))
    named = [
        (inputs, {name: targets[:, number] for number, name in enumerate(mixed_tasks.names)})
        for inputs, targets in splits
    ]
    for samples in ([as_dataset(*s) for s in splits], named, [as_dataset(*s) for s in named]):
        assert_same(everything(train_it(noisy_model(), epochs=2, splits=samples)), expected)


def test_a_model_may_give_outputs_by_name(train_it, mixed_tasks, assert_same):
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = plain_model()

        def forward(self, inputs: Tensor) -> dict[str, Tensor]:
            outputs = self.inner(inputs)
            return {name: outputs[:, columns] for name, columns in reversed(mixed_tasks.slices.items())}

    expected = train_it(plain_model(), epochs=2)
    assert_same(dict(train_it(Named(), epochs=2).model.inner.state_dict()), dict(expected.model.state_dict()))


def test_a_task_of_weight_zero_keeps_its_head(train_it):
    before = plain_model().state_dict()
    after = train_it(plain_model(), weights=[1.0, 0.0, 2.0]).model.state_dict()
    changed = (after["2.weight"] != before["2.weight"]).any(1)
    assert changed.tolist() == [True, False, False, False, True]


def poisoned_tasks(at: int) -> tuple[TaskSet, list[int]]:
    """Two tasks; the loss of "bad" is NaN at one call in training."""
    calls = [0]

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        calls[0] += outputs.requires_grad
        bad = outputs.requires_grad and calls[0] == at
        return (outputs.squeeze(1) - targets) ** 2 * (math.nan if bad else 1.0)

    return TaskSet([Task("fine", "binary"), Task("bad", "custom", loss=loss)]), calls


def test_a_nan_loss_stops_with_task_epoch_and_step_and_keeps_the_checkpoint(tmp_path, train_it, splits, assert_same):
    two = [(inputs, targets[:, [0, 0]]) for inputs, targets in splits]
    options = {"splits": two, "checkpoint": tmp_path / "state"}
    tasks, _ = poisoned_tasks(at=7)  # four steps an epoch: the third one of epoch 1
    with pytest.raises(
        TrainingDivergedError, match=r"\['bad'\] became NaN or infinite at epoch 1, step 2.*lower lea"
    ) as e:
        train_it(plain_model(2), tasks=tasks, **options)
    assert str(tmp_path / "state") in str(e.value)
    assert read_state(tmp_path / "state")["epoch"] == 0
    resumed = train_it(plain_model(2), tasks=poisoned_tasks(at=-1)[0], **options)
    expected = train_it(plain_model(2), tasks=poisoned_tasks(at=-1)[0], splits=two)
    assert_same(everything(resumed), everything(expected))


def test_a_nan_in_the_first_epoch_promises_no_checkpoint(tmp_path, train_it, splits):
    two = [(inputs, targets[:, [0, 0]]) for inputs, targets in splits]
    with pytest.raises(TrainingDivergedError, match="epoch 0, step 0") as caught:
        train_it(plain_model(2), tasks=poisoned_tasks(at=1)[0], splits=two, checkpoint=tmp_path / "state")
    assert "saved" not in str(caught.value)


def test_a_nan_on_the_validation_split_is_found(train_it):
    model = plain_model()
    model.register_forward_hook(lambda module, _, outputs: outputs if module.training else outputs * math.nan)
    with pytest.raises(TrainingDivergedError, match=r"\['yes', 'which', 'much'\] .* epoch 0, on the validation split"):
        train_it(model)


@pytest.mark.parametrize("where", [0, 1])
def test_data_that_cannot_be_trained_on_is_refused_before_any_step(train_it, splits, where):
    def spoilt(part: int, value: float) -> list[tuple[Tensor, Tensor]]:
        pairs = [tuple(tensor.clone() for tensor in split) for split in splits]
        pairs[where][part][0, 0] = value
        return pairs

    steps: list[int] = []
    name = ("training", "validation")[where]
    for part, value, message in (
        (0, math.nan, f"{name} inputs have NaN values in columns 0"),
        (1, 2.0, "Task 'yes' is binary and must have targets 0 or 1"),
    ):
        with pytest.raises(DataError, match=message):
            train_it(plain_model(), splits=spoilt(part, value), progress=lambda done, *_: steps.append(done))
    assert not steps


def test_a_training_whose_best_epoch_cannot_be_told_is_refused(train_it, splits):
    train, (inputs, targets) = splits
    blind = targets.clone()
    blind[:, 0] = math.nan
    with pytest.raises(DataError, match=r"None of the trained tasks \['yes'\] has a label among the validation"):
        train_it(plain_model(), splits=(train, (inputs, blind)), weights=[1.0, 0.0, 0.0])
    assert train_it(plain_model(), splits=(train, (inputs, blind))).best_epoch >= 0


def test_a_nan_of_a_task_that_is_not_trained_is_no_failure(train_it, splits):
    two = [(inputs, targets[:, [0, 0]]) for inputs, targets in splits]
    tasks = TaskSet([Task("fine", "binary"), Task("bad", "custom", loss=lambda o, t: o.detach().squeeze(1) * math.nan)])
    result = train_it(plain_model(2), tasks=tasks, splits=two, weights=[1.0, 0.0])
    assert torch.isfinite(result.valid_losses).tolist() == [True, False]


def changed_settings(mixed_tasks) -> dict[str, dict[str, Any]]:
    renamed = [*mixed_tasks[:2], Task("other", "regression")]
    other_units = [*mixed_tasks[:2], Task("much", "regression", location=0.0, scale=9.0)]
    return {
        "epochs": {"epochs": 5},
        "batch size": {"batch_size": 17},
        "seed": {"seed": 1},
        "patience": {"patience": 3},
        "weights": {"weights": [1.0, 2.0, 1.0]},
        "task names": {"tasks": renamed},
        "units": {"tasks": other_units},
        "optimizer": {"optimizer": SGD},
        "learning rate": {"optimizer": partial(torch.optim.Adam, lr=0.1)},
        "betas": {"optimizer": partial(torch.optim.Adam, lr=1e-3, fused=True, betas=(0.5, 0.9))},
        "instruments": {"instruments": [Recorder()]},
        "model": {"model": nn.Sequential(nn.Linear(4, 9), nn.Tanh(), nn.Linear(9, 5))},
    }


@pytest.mark.parametrize("what", list(changed_settings(TaskSet([Task(n, "binary") for n in "abc"]))))
def test_a_checkpoint_of_other_settings_is_refused(tmp_path, train_it, mixed_tasks, what):
    file = tmp_path / "state"
    with pytest.raises(KilledError):
        train_it(plain_model(), checkpoint=file, progress=killed_at(5))
    content = file.read_bytes()
    options = changed_settings(mixed_tasks)[what]
    with pytest.raises(StudyError, match=r"belongs to a training with other settings. Give another"):
        train_it(options.pop("model", None) or plain_model(), checkpoint=file, **options)
    assert file.read_bytes() == content


def test_other_samples_are_refused_by_a_checkpoint(tmp_path, train_it, mixed_data, splits):
    with pytest.raises(KilledError):
        train_it(plain_model(), checkpoint=tmp_path / "s", progress=killed_at(5))
    with pytest.raises(StudyError, match="other settings"):
        train_it(plain_model(), checkpoint=tmp_path / "s", splits=(mixed_data(61, 0), splits[1]))


def test_an_optimizer_may_go_through_the_parameters_twice(train_it):
    def decay_of_matrices_only(parameters):
        matrices = [value for value in parameters if value.dim() > 1]
        others = [value for value in parameters if value.dim() <= 1]
        return torch.optim.AdamW([{"params": matrices}, {"params": others, "weight_decay": 0.0}])

    assert len(train_it(plain_model(), optimizer=decay_of_matrices_only).history) == 4


def test_progress_counts_steps(train_it):
    heard: list[tuple[int, int, str]] = []
    train_it(plain_model(), epochs=2, progress=lambda *call: heard.append(call))
    assert [done for done, _, _ in heard] == [*range(1, 9), 8]
    assert {total for _, total, _ in heard} == {8}
    assert heard[0][2] == "epoch 1/2"
    assert heard[-1][2].startswith("best epoch")
