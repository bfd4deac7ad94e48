import copy
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mixed_tasks import MIXED, WIDTH, confidence_of, random_epoch
from torch import nn

from cotrain import SharedTrunk, Task, TaskSet
from cotrain.affinity import DataMap
from cotrain.affinity.confidence import Confidence
from cotrain.affinity.moments import Moments
from cotrain.errors import StudyError
from cotrain.files import read_state, write_state
from cotrain.instrument import Step
from cotrain.task import Batch
from cotrain.training import fit


@settings(deadline=None, max_examples=15)
@given(epochs=st.integers(1, 6), n=st.integers(1, 12), seed=st.integers(0, 999), ddof=st.sampled_from([0, 1]))
def test_the_maps_are_those_of_the_stored_history(epochs, n, seed, ddof):
    generator = torch.Generator().manual_seed(seed)
    recorder = DataMap(n, MIXED)
    history = []
    for _ in range(epochs):
        outputs, targets = random_epoch(n, generator)
        history.append(confidence_of(outputs, targets))
        for index in torch.randperm(n, generator=generator).split(5):
            recorder.record(index, outputs[index], targets[index])
        recorder.end_epoch()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few samples, many missing labels: empty columns are another test's
        found = recorder.result(ddof=ddof)
        values, right = (np.stack(part) for part in zip(*history, strict=True))
        visits = (~np.isnan(values)).sum(0)
        mean = np.nanmean(values, axis=0)
        std = np.where(visits == 1, 0, np.nanstd(values, axis=0) * np.sqrt(visits / np.maximum(visits - ddof, 1)))
    assert found.epochs == epochs
    assert found.confidence.dtype == torch.float32
    np.testing.assert_array_equal(found.visits.numpy(), visits)
    np.testing.assert_allclose(found.confidence.numpy(), mean, atol=1e-6)
    np.testing.assert_allclose(found.variability.numpy(), np.where(visits == 0, np.nan, std), atol=2e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_allclose(found.correctness.numpy(), np.nanmean(right, axis=0), atol=1e-6)


def test_a_sample_is_rated_in_the_epochs_that_visit_it():
    recorder = DataMap(4, [Task("number", "regression", location=0.0, scale=1.0)])
    for index in (torch.arange(4), torch.tensor([1, 3])):
        recorder.record(index, index[:, None].float(), torch.zeros(len(index), 1))
        recorder.end_epoch()
    maps = recorder.result()
    assert maps.visits.flatten().tolist() == [1, 2, 1, 2]
    expected = torch.tensor([0.875, (0.625 + 0.75) / 2, 0.375, (0.125 + 0.25) / 2])
    torch.testing.assert_close(maps.confidence.flatten(), expected)


BINARY = TaskSet([Task("a", "binary"), Task("b", "binary")])


@settings(deadline=None, max_examples=30)
@given(index=st.lists(st.integers(0, 4), min_size=1, max_size=20), seed=st.integers(0, 99))
def test_a_sample_that_repeats_in_a_batch_counts_each_time(index, seed):
    generator = torch.Generator().manual_seed(seed)
    index = torch.tensor(index)
    outputs = 3 * torch.randn(len(index), 2, generator=generator)
    targets = (torch.rand(len(index), 2, generator=generator) > 0.5).float()
    at_once, one_by_one = DataMap(5, BINARY), DataMap(5, BINARY)
    at_once.record(index, outputs, targets)
    for i in range(len(index)):
        one_by_one.record(index[i : i + 1], outputs[i : i + 1], targets[i : i + 1])
    one, other = at_once.result(), one_by_one.result()
    assert torch.equal(one.visits, other.visits)
    for name in ("confidence", "variability", "correctness"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=0, atol=2e-6, equal_nan=True)


def test_one_visit_has_no_variability_and_no_visit_no_map():
    recorder = DataMap(3, BINARY)
    recorder.record(torch.tensor([0]), torch.tensor([[2.0, -1.0]]), torch.ones(1, 2))
    maps = recorder.result()
    assert maps.visits.tolist() == [[1, 1], [0, 0], [0, 0]]
    assert maps.variability[0].tolist() == [0, 0]
    assert maps.correctness[0].tolist() == [1, 0]
    assert maps.confidence[1:].isnan().all()
    assert maps.variability[1:].isnan().all()


def test_a_tiny_spread_near_one_is_resolved():
    """Float32 sums of squares would be off by 5 % here; the first value is far from the rest on purpose."""
    moments = Moments(1, 1)
    values = torch.tensor([0.5, *(0.999 + 1e-4 * torch.randn(60, generator=torch.Generator().manual_seed(0)))])
    yes = torch.ones(1, 1, dtype=torch.bool)
    for value in values:
        moments.add(torch.tensor([0]), value.reshape(1, 1), yes, yes)
    torch.testing.assert_close(moments.statistics(1).std.squeeze(), values.double().std().float(), rtol=1e-5, atol=0)
    moments = Moments(1, 1)
    for value in values[1:]:
        moments.add(torch.tensor([0]), value.reshape(1, 1), yes, yes)
    torch.testing.assert_close(
        moments.statistics(1).std.squeeze(), values[1:].double().std().float(), rtol=1e-4, atol=0
    )


@pytest.mark.parametrize("n", [1, 3, 7, 33, 70, 129])
def test_equal_outputs_get_the_same_confidence_wherever_they_stand_in_the_batch(n):
    numbers = torch.linspace(-12, 12, 300)
    tasks = TaskSet([Task(f"t{number}", "binary") for number in range(13)])
    for number in numbers:
        values, _, _ = Confidence(tasks)(number.expand(n, 13), torch.ones(n, 13))
        assert values.unique().numel() == 1


@settings(deadline=None, max_examples=20)
@given(n=st.integers(1, 90), between=st.integers(0, 20))
def test_a_task_and_its_complement_have_the_same_map_to_the_bit(n, between):
    generator = torch.Generator().manual_seed(n)
    tasks = TaskSet([Task(f"t{number}", "binary") for number in range(between + 2)])
    recorder = DataMap(n, tasks)
    for _ in range(4):
        outputs = 8 * torch.randn(n, len(tasks), generator=generator)
        targets = (torch.rand(n, len(tasks), generator=generator) > 0.5).float()
        outputs[:, -1], targets[:, -1] = -outputs[:, 0], 1 - targets[:, 0]
        recorder.record(torch.arange(n), outputs, targets)
        recorder.end_epoch()
    maps = recorder.result()
    for name in ("confidence", "variability", "correctness"):
        assert torch.equal(getattr(maps, name)[:, 0], getattr(maps, name)[:, -1])


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 99), epochs=st.integers(1, 3))
def test_merging_equals_one_recorder(seed, epochs):
    generator = torch.Generator().manual_seed(seed)
    tasks = MIXED.select(["first", "few", "second"])
    columns = [1, 2, 4]
    outputs_of = torch.cat([torch.arange(WIDTH)[MIXED.slices[name]] for name in tasks.names])
    whole, one, other = (DataMap(8, tasks) for _ in range(3))
    for _ in range(epochs):
        outputs, targets = random_epoch(8, generator)
        outputs, targets = outputs[:, outputs_of], targets[:, columns]
        index = torch.randint(8, (8,), generator=generator)
        half = int(torch.randint(9, (), generator=generator))
        whole.record(index, outputs, targets)
        one.record(index[:half], outputs[:half], targets[:half])
        other.record(index[half:], outputs[half:], targets[half:])
        for recorder in (whole, one, other):
            recorder.end_epoch()
    one.merge(other)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        merged, expected = one.result(), whole.result()
    assert merged.epochs == expected.epochs
    for name in ("confidence", "variability", "correctness", "visits"):
        torch.testing.assert_close(getattr(merged, name), getattr(expected, name), rtol=0, atol=2e-6, equal_nan=True)


def test_resuming_equals_no_interruption(tmp_path):
    generator = torch.Generator().manual_seed(0)
    whole, part = DataMap(10, MIXED), DataMap(10, MIXED)
    for epoch in range(4):
        outputs, targets = random_epoch(10, generator)
        for index in torch.randperm(10, generator=generator).split(4):
            whole.record(index, outputs[index], targets[index])
            part.record(index, outputs[index], targets[index])
            write_state(tmp_path / "state.safetensors", part.state_dict())
            part = DataMap(10, MIXED)
            part.load_state_dict(read_state(tmp_path / "state.safetensors"))
        whole.end_epoch()
        part.end_epoch()
        for name in ("confidence", "variability", "correctness", "visits"):
            expected = getattr(whole.result(), name)
            torch.testing.assert_close(getattr(part.result(), name), expected, rtol=0, atol=0, equal_nan=True)
        assert part.result().epochs == epoch + 1


def test_recording_in_fit_changes_nothing_and_sees_every_sample():
    tasks = TaskSet([Task("a", "binary"), Task("b", "regression")])
    torch.manual_seed(0)
    inputs = torch.randn(50, 4)
    targets = torch.stack([(inputs[:, 0] > 0).float(), 7 + 3 * inputs[:, 1]], dim=1)
    targets[::7, 0] = torch.nan
    tasks = tasks.with_units(targets)
    model = SharedTrunk(nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.2)), tasks, 6)
    start = copy.deepcopy(model.state_dict())
    train = partial(fit, model, tasks, (inputs, targets), (inputs, targets), epochs=3, batch_size=16)
    plain = copy.deepcopy(train().model.state_dict())
    model.load_state_dict(start)
    recorder = DataMap(50, tasks)
    recorded = train(instruments=[recorder]).model.state_dict()
    torch.testing.assert_close(recorded, plain, rtol=0, atol=0)
    maps = recorder.result()
    assert torch.equal(maps.visits == 3, ~targets.isnan())
    assert maps.epochs == 3


def test_a_task_without_labels_is_named():
    recorder = DataMap(2, BINARY)
    targets = torch.tensor([[1.0, torch.nan], [0.0, torch.nan]])
    recorder.record(torch.arange(2), torch.zeros(2, 2), targets)
    with pytest.warns(UserWarning, match=r"Tasks \['b'\] have no labelled sample"):
        maps = recorder.result()
    assert maps.confidence[:, 1].isnan().all()
    assert maps.confidence[:, 0].eq(0.5).all()


def test_outputs_and_targets_by_name():
    packed, named = DataMap(6, MIXED), DataMap(6, MIXED)
    outputs, targets = random_epoch(6, torch.Generator().manual_seed(0), missing=0.0)
    packed.record(torch.arange(6), outputs, targets)
    named.record(
        torch.arange(6),
        {name: outputs[:, columns] for name, columns in MIXED.slices.items()},
        {name: targets[:, t] for t, name in enumerate(MIXED.names)},
    )
    packed.end_epoch()
    named.end_epoch()
    assert torch.equal(packed.result().confidence, named.result().confidence)


def test_two_recorders_share_nothing():
    one, other = DataMap(2, BINARY), DataMap(2, BINARY)
    one.record(torch.arange(2), torch.zeros(2, 2), torch.ones(2, 2))
    with pytest.warns(UserWarning, match="no labelled sample"):
        assert other.result().visits.eq(0).all()


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (torch.tensor([0, 4]), r"between 0 and 3.* Got 0 to 4"),
        (torch.tensor([-1, 2]), "Got -1 to 2"),
        (torch.tensor([0, 1, 2]), r"one integer per sample of the batch, \[2\]"),
        (torch.tensor([[0], [1]]), r"Got torch.int64 \[2, 1\]"),
        (torch.tensor([0.0, 1.0]), "Got torch.float32"),
    ],
)
def test_an_index_that_does_not_fit(index, message):
    with pytest.raises(ValueError, match=message):
        DataMap(4, BINARY).record(index, torch.zeros(2, 2), torch.ones(2, 2))


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"at least 1\. Got 0"):
        DataMap(0, BINARY)
    with pytest.raises(ValueError, match=r"ddof must be 0 or 1\. Got 2"):
        DataMap(1, BINARY).result(ddof=2)
    with pytest.raises(ValueError, match="Only recorders of the same samples and tasks"):
        DataMap(4, BINARY).merge(DataMap(5, BINARY))
    with pytest.raises(StudyError, match=r"it has \{'n_samples': 5\}"):
        DataMap(4, BINARY).load_state_dict(DataMap(5, BINARY).state_dict())


def test_regression_without_units_is_refused_in_fit():
    tasks = TaskSet([Task("a", "binary"), Task("b", "regression")])
    batch = Batch(torch.arange(2), torch.zeros(2, 1), torch.ones(2, 2))
    model = nn.Linear(1, 2)
    step = Step(batch, torch.zeros(2, 2), model, torch.optim.SGD(model.parameters(), lr=0.1), 0, 0)
    with pytest.raises(ValueError, match=r"\['b'\] do not have here. Make the DataMap with"):
        DataMap(2, tasks).on_step(step)
