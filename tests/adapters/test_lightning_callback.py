import sys
import warnings
from functools import partial

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from cotrain import Batch, TaskSet
from cotrain.adapters.lightning_callback import TransferenceCallback, pairs
from cotrain.affinity import Transference
from cotrain.data import make_planted_tasks

DATA = make_planted_tasks(n_tasks=3, n_groups=1, n_samples=200, seed=0)
TASKS = TaskSet(DATA.tasks)
INPUTS, TARGETS = DATA.train.inputs, DATA.train.targets

OPTIMIZERS = {
    "adam": partial(torch.optim.Adam, lr=0.01),
    "momentum": partial(torch.optim.SGD, lr=0.05, momentum=0.9, nesterov=True),
    "no closed form": partial(torch.optim.NAdam, lr=0.01),
}


def matrix(transference):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*observed fewer than")
        return transference.result().matrix


class Network(LightningModule):
    """BatchNorm and dropout, whose statistics and masks measuring must not touch."""

    def __init__(self, optimizer="adam"):
        super().__init__()
        width = INPUTS.shape[1]
        self.trunk = nn.Sequential(nn.Linear(width, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2))
        self.heads = nn.Linear(8, TASKS.n_outputs)
        self.make_optimizer = OPTIMIZERS[optimizer]

    def forward(self, inputs):
        return self.heads(self.trunk(inputs))

    def training_step(self, batch, batch_idx):
        inputs, targets = batch
        return TASKS.losses(self(inputs), targets).sum()

    def configure_optimizers(self):
        optimizer = self.make_optimizer(self.parameters())
        return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)]


def network(optimizer="adam"):
    torch.manual_seed(1)
    return Network(optimizer)


def loader():
    return DataLoader(TensorDataset(INPUTS, TARGETS), batch_size=24)


def make(model, optimizer):
    return Transference(model, TASKS, optimizer=optimizer)


def fit(model, *callbacks, ckpt_path=None, epochs=2, **options):
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        callbacks=list(callbacks),
        **options,
    )
    trainer.fit(model, loader(), ckpt_path=ckpt_path)
    return trainer


class Save(Callback):
    """Save a checkpoint after the first epoch, and seed every step: a checkpoint holds no random state."""

    def __init__(self, file):
        self.file = file

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        torch.manual_seed(trainer.global_step)

    def on_train_epoch_end(self, trainer, pl_module):
        if trainer.current_epoch == 0:
            trainer.save_checkpoint(self.file)


def plain_loop(model, accumulate=1, epochs=2):
    """The same training written out, with `observe` before every step."""
    (optimizer,), (scheduler,) = model.configure_optimizers()
    transference = Transference(model, TASKS, optimizer=optimizer)
    model.train()
    for _ in range(epochs):
        for number, (inputs, targets) in enumerate(loader(), start=1):
            (TASKS.losses(model(inputs), targets).sum() / accumulate).backward()
            if number % accumulate == 0 or number == len(loader()):
                transference.observe(Batch(torch.arange(len(inputs)), inputs, targets))
                optimizer.step()
                optimizer.zero_grad()
        scheduler.step()
    return transference


def everything(model, trainer):
    return [model.state_dict(), trainer.optimizers[0].state_dict(), torch.get_rng_state()]


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        ("adam", {}),
        ("momentum", {"accumulate_grad_batches": 2, "gradient_clip_val": 0.5}),
        ("no closed form", {}),
        ("adam", {"precision": "bf16-mixed"}),
    ],
)
def test_a_training_is_bit_identical_with_and_without_it(optimizer, options, assert_same):
    alone = network(optimizer)
    without = everything(alone, fit(alone, **options))
    watched, callback = network(optimizer), TransferenceCallback(make)
    assert_same(everything(watched, fit(watched, callback, **options)), without)
    assert callback.transference.state_dict()["counts"]["observations"] > 1


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_it_measures_what_a_plain_loop_measures(optimizer, accumulate):
    callback = TransferenceCallback(make)
    fit(network(optimizer), callback, accumulate_grad_batches=accumulate)
    measured, plain = callback.transference, plain_loop(network(optimizer), accumulate)
    expected, found = plain.state_dict(), measured.state_dict()
    assert found["counts"] == expected["counts"]
    assert found["rule"] == expected["rule"]
    torch.testing.assert_close(matrix(measured), matrix(plain), rtol=1e-6, atol=1e-9)


def test_it_measures_under_the_precision_of_the_trainer():
    seen = []

    class Recording(Network):
        def forward(self, inputs):
            outputs = super().forward(inputs)
            seen.append(outputs.dtype)
            return outputs

    fit(Recording(), TransferenceCallback(make), epochs=1, precision="bf16-mixed")
    assert set(seen) == {torch.bfloat16}


def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path, assert_same):
    whole, callback = network(), TransferenceCallback(make)
    fit(whole, callback, Save(tmp_path / "first.ckpt"))
    resumed = TransferenceCallback(make)
    fit(network(), resumed, Save(tmp_path / "again.ckpt"), ckpt_path=tmp_path / "first.ckpt")
    assert_same(resumed.transference.state_dict(), callback.transference.state_dict())


def test_a_second_training_goes_on_with_its_own_optimizer(assert_same):
    model, made = network(), []
    callback = TransferenceCallback(lambda model, optimizer: made.append(optimizer) or make(model, optimizer))
    first = fit(model, callback)
    observed, random = callback.transference.state_dict(), torch.get_rng_state()
    twin = network()
    twin.load_state_dict(model.state_dict())
    torch.set_rng_state(random)
    second = fit(model, callback)
    assert made == [*first.optimizers, *second.optimizers]

    of_twin = TransferenceCallback(make)
    of_twin.load_state_dict(observed)
    torch.set_rng_state(random)
    fit(twin, of_twin)
    assert_same(callback.transference.state_dict(), of_twin.transference.state_dict())
    assert callback.transference.state_dict()["counts"]["calls"] == 2 * observed["counts"]["calls"]


def test_a_state_can_be_put_back_while_it_measures(assert_same):
    callback = TransferenceCallback(make)
    assert callback.state_dict() == {}
    fit(network(), callback, epochs=1)
    observed = callback.state_dict()
    fit_more = TransferenceCallback(make)
    fit(network(), fit_more, epochs=2)
    fit_more.load_state_dict(observed)
    assert_same(fit_more.transference.state_dict(), observed)


def test_two_callbacks_keep_a_state_each(tmp_path, assert_same):
    def both():
        plain = TransferenceCallback(lambda model, optimizer: Transference(model, TASKS, lr=0.1), name="plain")
        return TransferenceCallback(make), plain

    whole, resumed = both(), both()
    fit(network(), *whole, Save(tmp_path / "first.ckpt"))
    fit(network(), *resumed, Save(tmp_path / "again.ckpt"), ckpt_path=tmp_path / "first.ckpt")
    for one, other in zip(whole, resumed, strict=True):
        assert_same(one.transference.state_dict(), other.transference.state_dict())
    assert not torch.equal(*(matrix(one.transference) for one in whole))


def test_batches_of_another_form_are_translated(assert_same):
    class Named(Network):
        def training_step(self, batch, batch_idx):
            return super().training_step((batch["x"], batch["y"]), batch_idx)

        def on_before_batch_transfer(self, batch, dataloader_idx):
            return {"x": batch[0], "y": batch[1]}

    def translate(batch, batch_idx):
        numbers.append(batch_idx)
        return pairs((batch["x"], batch["y"]), batch_idx)

    numbers = []
    callback, usual = TransferenceCallback(make, translate), TransferenceCallback(make)
    torch.manual_seed(1)
    fit(Named(), callback, epochs=1)
    fit(network(), usual, epochs=1)
    assert_same(callback.transference.state_dict(), usual.transference.state_dict())
    assert numbers == list(range(len(loader())))

    with pytest.raises(ValueError, match=r"must give pairs .* Got dict. Give the callback to_batch="):
        fit(Named(), TransferenceCallback(make), epochs=1)


def test_a_batch_of_ours_passes_as_it_is():
    batch = Batch(torch.arange(2), torch.zeros(2, 3), {"a": torch.zeros(2)})
    assert pairs(batch, 0) is batch
    assert pairs((batch.inputs, batch.targets), 0).index.tolist() == [-1, -1]


def test_another_model_than_before_is_refused():
    callback = TransferenceCallback(make)
    fit(network(), callback, epochs=1)
    with pytest.raises(ValueError, match="has measured another model"):
        fit(network(), callback, epochs=1)


def test_several_optimizers_are_refused():
    class Two(Network):
        automatic_optimization = False

        def configure_optimizers(self):
            return [torch.optim.SGD(part.parameters(), lr=0.1) for part in (self.trunk, self.heads)]

    with pytest.raises(ValueError, match="Got 2 optimizers"):
        fit(Two(), TransferenceCallback(make))


def test_there_is_no_result_before_the_first_step():
    with pytest.raises(ValueError, match="Train with the callback first"):
        _ = TransferenceCallback(make).transference


def test_without_lightning_one_sentence_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_lightning", None)
    monkeypatch.delitem(sys.modules, "cotrain.adapters.lightning_callback")
    with pytest.raises(ImportError, match=r'^This needs pytorch_lightning, .* pip install "cotrain\[lightning\]"$'):
        import cotrain.adapters.lightning_callback  # noqa: F401
