import pytest
import torch
from lightning_fabric import Fabric
from linear_losses import ALL, make
from torch import nn
from torchjd.aggregation import IMTLG

from cotrain import Batch, SharedTrunk, fit
from cotrain.affinity import DataMap
from cotrain.aggregation.aggregation import GradientAggregation
from cotrain.aggregation.db_mtl import DBMTL
from cotrain.aggregation.forward_again import outputs_again
from cotrain.aggregation.loss_weights import Sum
from cotrain.aggregation.mgda import MGDA
from cotrain.aggregation.names import named
from cotrain.aggregation.transference_aggregation import TransferenceAggregation
from cotrain.aggregation.upgrad import UPGrad
from cotrain.errors import StudyError

OURS = ("db-mtl", "dwa", "famo", "gradnorm", "gradvac", "pcgrad", "transference", "upgrad", "uw")


def network(tasks, seed=0):
    torch.manual_seed(seed)
    trunk = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 6), nn.Tanh())
    return SharedTrunk(trunk, tasks, 6)


def run(tasks, data, **options):
    return fit(network(tasks), tasks, data(60, 0), data(30, 1), epochs=3, batch_size=16, patience=None, **options)


def test_the_sum_is_plain_training_bit_for_bit(mixed_tasks, mixed_data, assert_same):
    plain, summed = run(mixed_tasks, mixed_data), run(mixed_tasks, mixed_data, aggregation=Sum())
    assert_same(dict(summed.model.state_dict()), dict(plain.model.state_dict()))
    assert_same(summed.history, plain.history)


@pytest.mark.parametrize("name", OURS)
def test_resumed_is_uninterrupted(name, mixed_tasks, mixed_data, assert_same, tmp_path):
    whole = run(mixed_tasks, mixed_data, aggregation=make(name))

    class StoppedError(Exception):
        pass

    def stop(done, total, text):
        if "epoch 3" in text:
            raise StoppedError

    with pytest.raises(StoppedError):
        run(mixed_tasks, mixed_data, aggregation=make(name), checkpoint=tmp_path / "state", progress=stop)
    resumed = run(mixed_tasks, mixed_data, aggregation=make(name), checkpoint=tmp_path / "state")
    assert_same(dict(resumed.model.state_dict()), dict(whole.model.state_dict()))
    assert_same(resumed.history, whole.history)


@pytest.mark.parametrize("name", [name for name in ALL if name not in ("mgda-ub", "dwa")])
def test_by_name(name, mixed_tasks, mixed_data):
    found = run(mixed_tasks, mixed_data, aggregation=name)
    assert bool(torch.isfinite(found.history).all())


def test_instruments_see_the_outputs_and_change_nothing(mixed_tasks, mixed_data, assert_same):
    seen, outputs = [], []

    class Watch:
        def on_step(self, step):
            seen.append(step.outputs)

        def on_epoch_end(self, epoch):
            pass

        def state_dict(self):
            return {}

    def outputs_of(model, inputs, found):
        if model.training and torch.is_grad_enabled():
            outputs.append(found.detach())

    plain = run(mixed_tasks, mixed_data, aggregation="upgrad")
    model = network(mixed_tasks)
    model.register_forward_hook(outputs_of)
    watched = fit(
        model,
        mixed_tasks,
        mixed_data(60, 0),
        mixed_data(30, 1),
        epochs=3,
        batch_size=16,
        patience=None,
        aggregation="upgrad",
        instruments=[Watch(), DataMap(60, mixed_tasks.with_units(mixed_data(60, 0)[1]))],
    )
    assert_same(watched.history, plain.history)
    assert_same(
        seen, outputs[-len(seen) :]
    )  # what was trained on, with the same dropout; the first one found what is shared


@pytest.mark.parametrize("options", [{}, {"lr": 0.1}])
def test_the_steps_that_are_tried_are_those_of_the_trainings_optimizer(options, mixed_tasks, mixed_data):
    """Unless a rule was given: the optimizer's steps are so short that they change nothing."""
    aggregation = TransferenceAggregation(candidates=["log-sum"], **options)
    run(
        mixed_tasks, mixed_data, aggregation=aggregation, optimizer=lambda parameters: torch.optim.SGD(parameters, 1e-9)
    )
    assert (abs(aggregation.decision.scores["joint"]) < 1e-6) == (not options)


def test_a_nan_step_is_left_out(mixed_tasks, mixed_data):
    tasks = mixed_tasks
    aggregation = GradientAggregation(UPGrad())
    model = network(tasks)

    class Poison(nn.Module):
        def __init__(self):
            super().__init__()
            self.calls = 0

        def forward(self, values):
            self.calls += self.training and torch.is_grad_enabled()
            return values * (torch.nan if self.calls == 3 and values.requires_grad else 1)

    model.trunk.append(Poison())
    with pytest.warns(UserWarning, match="the step is skipped"):
        found = fit(
            model, tasks, mixed_data(60, 0), mixed_data(30, 1), epochs=2, batch_size=16, aggregation=aggregation
        )
    assert aggregation.skipped_steps == 1
    assert bool(torch.isfinite(found.history).all())


def test_weights_and_an_aggregation(mixed_tasks, mixed_data):
    with pytest.raises(ValueError, match=r"GradientAggregation chooses the weights by itself\. Give weights or an"):
        run(mixed_tasks, mixed_data, weights=[1, 1, 1], aggregation=GradientAggregation(UPGrad()))
    with pytest.raises(ValueError, match="There is no aggregation 'adam'"):
        run(mixed_tasks, mixed_data, aggregation="adam")


def test_a_checkpoint_of_another_aggregation(mixed_tasks, mixed_data, tmp_path):
    run(mixed_tasks, mixed_data, aggregation=GradientAggregation(UPGrad()), checkpoint=tmp_path / "state")
    for other in (GradientAggregation(MGDA()), DBMTL(), None):
        with pytest.raises(StudyError, match="other settings"):
            run(mixed_tasks, mixed_data, aggregation=other, checkpoint=tmp_path / "state")


def test_a_checkpoint_of_other_options(mixed_tasks, mixed_data, tmp_path):
    run(mixed_tasks, mixed_data, aggregation=named("nash-mtl", max_norm=0.5), checkpoint=tmp_path / "state")
    content = (tmp_path / "state").read_bytes()
    with pytest.raises(StudyError, match=r"differ in aggregation: .*max_norm': 0\.5.* there, .*max_norm': 1\.0.* here"):
        run(mixed_tasks, mixed_data, aggregation="nash-mtl", checkpoint=tmp_path / "state")
    assert (tmp_path / "state").read_bytes() == content
    run(mixed_tasks, mixed_data, aggregation=named("nash-mtl", max_norm=0.5), checkpoint=tmp_path / "state")


def test_looking_again_changes_nothing(mixed_tasks, mixed_data, assert_same):
    model = network(mixed_tasks)
    wrapped, _ = Fabric(devices=1).setup(model, torch.optim.SGD(model.parameters(), lr=0.1))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    batch = Batch(torch.arange(20), *mixed_data(20, 0))
    for runnable in (model, wrapped):
        outputs_again(runnable, mixed_tasks, batch)
        assert_same(dict(model.state_dict()), before)
        assert next(iter(model.parameters())).grad is None


def test_a_weighting_or_an_aggregator_of_torchjd_stands_for_its_aggregation(mixed_tasks, mixed_data, assert_same):
    for given, name in ((UPGrad(), "upgrad"), (IMTLG(), "imtl-g")):
        found, expected = (run(mixed_tasks, mixed_data, aggregation=which) for which in (given, name))
        assert_same(found.history, expected.history)


@pytest.mark.parametrize("wrong", [UPGrad, Sum, 3])
def test_what_is_no_aggregation(wrong, mixed_tasks, mixed_data):
    with pytest.raises(
        ValueError, match=r"An aggregation is given as an object such as .*, or by its name, one of .*Got"
    ):
        run(mixed_tasks, mixed_data, aggregation=wrong)
    with pytest.raises(ValueError, match=r"from_torchjd takes a .*Got Linear"):
        run(mixed_tasks, mixed_data, aggregation=nn.Linear(2, 2))
