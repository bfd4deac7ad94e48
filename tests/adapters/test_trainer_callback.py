import sys
import warnings
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainerCallback, TrainingArguments

from cotrain import Batch, TaskSet
from cotrain.adapters.trainer_callback import TransferenceTrainerCallback, labelled
from cotrain.affinity import Transference
from cotrain.data import make_planted_tasks
from cotrain.errors import StudyError

DATA = make_planted_tasks(n_tasks=3, n_groups=1, n_samples=200, seed=0)
TASKS = TaskSet(DATA.tasks)
INPUTS, TARGETS = DATA.train.inputs, DATA.train.targets
BATCH = 24


class Samples(Dataset):
    def __init__(self, name, inputs, targets):
        self.name, self.inputs, self.targets = name, inputs, targets

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, number):
        return {self.name: self.inputs[number], "labels": self.targets[number]}


FEATURES = Samples("features", INPUTS, TARGETS)


def matrix(transference):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*observed fewer than")
        return transference.result().matrix


class Network(nn.Module):
    """Keyword arguments in, a dictionary out; BatchNorm and dropout, which measuring must not touch."""

    def __init__(self):
        super().__init__()
        width = INPUTS.shape[1]
        self.trunk = nn.Sequential(nn.Linear(width, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2))
        self.heads = nn.Linear(8, TASKS.n_outputs)

    def forward(self, features, labels=None):
        outputs = {"logits": self.heads(self.trunk(features))}
        if labels is not None:
            outputs = {"loss": TASKS.losses(outputs["logits"], labels).sum(), **outputs}
        return outputs


def network():
    torch.manual_seed(1)
    return Network()


def make(model, optimizer):
    return Transference(model, TASKS, optimizer=optimizer)


OPTIMIZERS = {
    "adamw": partial(torch.optim.AdamW, lr=0.01),
    "momentum": partial(torch.optim.SGD, lr=0.05, momentum=0.9, nesterov=True),
    "no closed form": partial(torch.optim.NAdam, lr=0.01),
}


def trainer_of(model, folder, *, data=FEATURES, optimizer="adamw", kind=Trainer, loss=None, **options):
    arguments = {
        "output_dir": str(folder),
        "per_device_train_batch_size": BATCH,
        "num_train_epochs": 2,
        "train_sampling_strategy": "sequential",
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0,
        "save_strategy": "no",
        "report_to": "none",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
        "dataloader_pin_memory": False,
    }
    made = OPTIMIZERS[optimizer](model.parameters())
    return kind(
        model,
        TrainingArguments(**arguments | options),
        train_dataset=data,
        compute_loss_func=loss,
        optimizers=(made, None),
    )


def watched(model, folder, *, make=make, name="transference", to_batch=labelled, **options):
    trainer = trainer_of(model, folder, **options)
    callback = TransferenceTrainerCallback(trainer, make, to_batch, name=name)
    trainer.add_callback(callback)
    return trainer, callback


def everything(trainer):
    return [trainer.model.state_dict(), trainer.optimizer.state_dict(), torch.get_rng_state()]


class SeedEveryStep(TrainerCallback):
    """A Trainer draws random numbers of its own before the first step."""

    def on_step_begin(self, args, state, control, **kwargs):
        torch.manual_seed(state.global_step)


def plain_loop(model, optimizer, accumulate=1, data=FEATURES):
    """The same training written out, with `observe` before every step."""
    optimizer = OPTIMIZERS[optimizer](model.parameters())
    transference = Transference(Unpacked(model), TASKS, optimizer=optimizer)
    model.train()
    steps = 0
    loader = DataLoader(data, batch_size=BATCH)
    for _ in range(2):
        for number, batch in enumerate(loader, start=1):
            last = number == len(loader)
            if (number - 1) % accumulate == 0:
                torch.manual_seed(steps)
                steps += 1
            micro = len(loader) % accumulate if last and len(loader) % accumulate else accumulate
            (model(**batch)["loss"] / micro).backward()
            if last or number % accumulate == 0:
                inputs = {data.name: batch[data.name]}
                transference.observe(Batch(torch.arange(len(batch["labels"])), inputs, batch["labels"]))
                optimizer.step()
                optimizer.zero_grad()
    return transference


class Unpacked(nn.Module):
    """A model of keyword arguments for a loop of one's own."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, inputs):
        return self.model(**inputs)["logits"]


def bert():
    torch.manual_seed(2)
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=20,
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=12,
            num_labels=len(TASKS),
            problem_type="multi_label_classification",
        )
    )


def sentences():
    tokens = torch.randint(20, (len(TARGETS), 10), generator=torch.Generator().manual_seed(3))
    return Samples("input_ids", tokens, TARGETS)


def same_but_for_names(measured, plain):
    found, expected = measured.state_dict(), plain.state_dict()
    assert found["counts"] == expected["counts"]
    assert found["rule"] == expected["rule"]
    assert ["model." + name for name in found["shared"]] == expected["shared"]
    torch.testing.assert_close(matrix(measured), matrix(plain), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        ("adamw", {"lr_scheduler_type": "linear"}),
        ("momentum", {"gradient_accumulation_steps": 2, "max_grad_norm": 0.5}),
        ("no closed form", {}),
        ("adamw", {"bf16": True}),
    ],
)
def test_a_training_is_bit_identical_with_and_without_it(optimizer, options, assert_same, tmp_path):
    alone = trainer_of(network(), tmp_path, optimizer=optimizer, **options)
    alone.train()
    without = everything(alone)
    trainer, callback = watched(network(), tmp_path, optimizer=optimizer, **options)
    trainer.train()
    assert_same(everything(trainer), without)
    assert callback.transference.state_dict()["counts"]["observations"] > 1


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_it_measures_what_a_plain_loop_measures(optimizer, accumulate, tmp_path):
    trainer, callback = watched(network(), tmp_path, optimizer=optimizer, gradient_accumulation_steps=accumulate)
    trainer.add_callback(SeedEveryStep())
    trainer.train()
    expected = plain_loop(network(), optimizer, accumulate)
    same_but_for_names(callback.transference, expected)


def test_it_measures_a_transformer_under_its_own_names(tmp_path):
    trainer, callback = watched(bert(), tmp_path, data=sentences())
    trainer.add_callback(SeedEveryStep())
    trainer.train()
    state = callback.transference.state_dict()
    assert "bert.embeddings.word_embeddings.weight" in state["shared"]
    same_but_for_names(callback.transference, plain_loop(bert(), "adamw", data=sentences()))


def mean_loss(outputs, labels, num_items_in_batch):
    return TASKS.losses(outputs["logits"], labels).sum()


class OwnLoss(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        return TASKS.losses(model(**inputs)["logits"], labels).sum()


def test_it_sees_the_labels_wherever_the_loss_is_computed(assert_same, tmp_path):
    states = []
    for options in ({}, {"loss": mean_loss}, {"kind": OwnLoss}):
        trainer, callback = watched(network(), tmp_path, **options)
        trainer.train()
        states.append(callback.transference.state_dict())
    assert_same(states[1], states[0])
    assert_same(states[2], states[0])


class OwnPrecision(Trainer):
    def compute_loss_context_manager(self):
        return torch.autocast("cpu", torch.bfloat16)


@pytest.mark.parametrize("options", [{"bf16": True}, {"kind": OwnPrecision}], ids=["bf16", "own"])
def test_it_measures_under_the_precision_of_the_trainer(options, tmp_path):
    seen = []

    class Recording(Network):
        def forward(self, features, labels=None):
            outputs = super().forward(features, labels)
            seen.append(outputs["logits"].dtype)
            return outputs

    trainer, _ = watched(Recording(), tmp_path, num_train_epochs=1, **options)
    trainer.train()
    assert set(seen) == {torch.bfloat16}


def test_a_resumed_training_equals_an_uninterrupted_one(assert_same, tmp_path):
    trainer, whole = watched(network(), tmp_path, save_strategy="epoch")
    trainer.train()
    (first, _) = sorted(tmp_path.glob("checkpoint-*"), key=lambda folder: int(folder.name.split("-")[1]))
    again, resumed = watched(network(), tmp_path)
    resumed.load(first)
    again.train(resume_from_checkpoint=str(first))
    assert_same(resumed.transference.state_dict(), whole.transference.state_dict())


def test_a_resumed_training_without_its_observations_warns(tmp_path):
    trainer, _ = watched(network(), tmp_path, save_strategy="epoch", num_train_epochs=1)
    trainer.train()
    (folder,) = tmp_path.glob("checkpoint-*")
    again, _ = watched(network(), tmp_path)
    with pytest.warns(UserWarning, match=r"goes on from step 5, .* Call load\(folder\) before"):
        again.train(resume_from_checkpoint=str(folder))


def test_two_callbacks_have_a_file_each(assert_same, tmp_path):
    trainer, one = watched(network(), tmp_path, save_strategy="epoch", num_train_epochs=1)
    other = TransferenceTrainerCallback(
        trainer, lambda model, optimizer: Transference(model, TASKS, lr=0.1), name="plain"
    )
    trainer.add_callback(other)
    trainer.train()
    (folder,) = tmp_path.glob("checkpoint-*")
    for callback, name in ((one, "transference"), (other, "plain")):
        loaded = TransferenceTrainerCallback(trainer, make, name=name)
        loaded.load(folder)
        assert_same(loaded._deferred.state_dict(), callback.transference.state_dict())


def test_nothing_is_saved_before_anything_was_observed(tmp_path):
    trainer, callback = watched(network(), tmp_path)
    callback.on_save(trainer.args, trainer.state, trainer.control)
    assert not list(tmp_path.iterdir())
    with pytest.raises(StudyError, match=r"transference_0.safetensors does not exist. Start without load\(\)"):
        callback.load(tmp_path)
    with pytest.raises(ValueError, match="Train with the callback first"):
        _ = callback.transference


def test_a_second_training_goes_on_with_its_own_optimizer(tmp_path):
    made = []
    trainer, callback = watched(
        network(), tmp_path, make=lambda model, optimizer: made.append(optimizer) or make(model, optimizer)
    )
    trainer.train()
    first = callback.transference.state_dict()["counts"]["calls"]
    trainer.optimizer = OPTIMIZERS["momentum"](trainer.model.parameters())
    trainer.train()
    assert [type(optimizer) for optimizer in made] == [torch.optim.AdamW, torch.optim.SGD]
    assert callback.transference.state_dict()["counts"]["calls"] == 2 * first


def test_a_loss_computed_between_training_steps_is_not_the_batch(assert_same, tmp_path):
    class Evaluating(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, **kwargs):
            trainer.model.eval()
            trainer.compute_loss(trainer.model, {"features": INPUTS[:2], "labels": TARGETS[:2]})
            trainer.model.train()

    states = []
    for evaluating in (False, True):
        trainer = trainer_of(network(), tmp_path)
        if evaluating:
            trainer.add_callback(Evaluating())
        callback = TransferenceTrainerCallback(trainer, make)
        trainer.add_callback(callback)
        trainer.train()
        states.append(callback.transference.state_dict())
    assert_same(states[1], states[0])


def test_a_training_after_one_that_was_broken_off_is_measured(tmp_path):
    class Breaking(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            raise KeyboardInterrupt

    trainer, callback = watched(network(), tmp_path)
    breaking = Breaking()
    trainer.add_callback(breaking)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    trainer.remove_callback(breaking)
    trainer.train()
    assert callback.transference.state_dict()["counts"]["calls"] == 1 + trainer.state.global_step


def test_another_model_than_before_is_refused(tmp_path):
    trainer, _ = watched(network(), tmp_path)
    trainer.train()
    trainer.model = trainer.model_wrapped = network()
    trainer.callback_handler.model = trainer.model
    with pytest.raises(ValueError, match="has measured another model"):
        trainer.train()


def test_another_trainer_is_refused(tmp_path):
    _, callback = watched(network(), tmp_path)
    other = trainer_of(network(), tmp_path)
    other.add_callback(callback)
    with pytest.raises(ValueError, match="was made for another trainer"):
        other.train()


def test_no_batch_is_held_after_the_training(tmp_path):
    trainer, callback = watched(network(), tmp_path, num_train_epochs=1)
    trainer.train()
    assert not any(isinstance(value, torch.Tensor) for value in callback._inputs.values())


def test_labels_are_targets_and_all_else_is_for_the_model():
    features, mask, labels = torch.zeros(2, 3), torch.ones(2, 3), torch.tensor([[0, 1], [1, 1]])
    batch = labelled({"features": features, "labels": labels, "mask": mask})
    assert list(batch.inputs) == ["features", "mask"]
    assert batch.targets.dtype == torch.float32
    assert torch.equal(batch.targets, labels.float())


@pytest.mark.parametrize(
    ("batch", "got"),
    [
        ({"features": torch.zeros(2, 3)}, r"the keys \['features'\]"),
        ({"features": torch.zeros(2, 3), "labels": torch.zeros(2)}, r"labels \[2\]"),
    ],
)
def test_batches_of_another_form_are_refused(batch, got):
    with pytest.raises(ValueError, match=f"{got}. Give the callback to_batch="):
        labelled(batch)


def test_batches_of_another_form_are_translated(assert_same, tmp_path):
    class LossOfY(Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            return TASKS.losses(model(inputs["features"])["logits"], inputs["y"]).sum()

    class Targets(Samples):
        def __getitem__(self, number):
            return {"features": self.inputs[number], "y": self.targets[number]}

    def translate(inputs):
        return labelled({"features": inputs["features"], "labels": inputs["y"]})

    trainer, usual = watched(network(), tmp_path)
    trainer.train()
    expected = usual.transference.state_dict()
    trainer, callback = watched(
        network(),
        tmp_path,
        data=Targets("features", INPUTS, TARGETS),
        to_batch=translate,
        kind=LossOfY,
        remove_unused_columns=False,
    )
    trainer.train()
    assert_same(callback.transference.state_dict(), expected)


def test_without_transformers_one_sentence_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.delitem(sys.modules, "cotrain.adapters.trainer_callback")
    message = r'^This needs transformers, .* pip install "cotrain\[transformers\]"$'
    with pytest.raises(ImportError, match=message):
        import cotrain.adapters.trainer_callback  # noqa: F401
