import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mixed_tasks import MIXED, WIDTH, PlainHistory, assert_maps, random_epoch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from cotrain import Task, TaskSet
from cotrain.affinity import DataMap, batch_queue, waiting
from cotrain.errors import StudyError
from cotrain.files import read_state, write_state

N, EPOCHS = 7, 6
WINDOWS = {
    "cumulative": {"snapshots": [1, 4]},
    "epochs": {"window": "epochs", "snapshots": [1, 4]},
    "exponential": {"window": "exponential", "decay": 0.6, "snapshots": [1, 4]},
}
STORAGES = {"float32": 3e-6, "bfloat16": 0.02, "disk": 0.005}
BINARY = TaskSet([Task("a", "binary"), Task("b", "binary")])


@pytest.fixture(params=[(True, 2**16), (True, 1), (False, 1)], ids=["together", "one by one", "on a device"])
def looks(request, monkeypatch):
    """With and without waiting batches, and without looks at values, for which another device would have to finish."""
    at_hand, enough = request.param
    monkeypatch.setattr(waiting, "is_at_hand", lambda tensor: at_hand)
    monkeypatch.setattr(batch_queue, "_ENOUGH", enough)


def quiet(call, *args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few samples, many missing labels: empty columns are another test's
        return call(*args, **options)


def drawn_epochs(n, generator, missing, n_epochs=EPOCHS):
    """Epochs of samples drawn with replacement, some batches with repetitions."""
    for _ in range(n_epochs):
        index = torch.randint(n, (2 * n,), generator=generator)
        yield (index, *random_epoch(2 * n, generator, missing))


def recorder_of(storage, window, tmp_path, **options):
    folder = {"storage": "disk", "folder": tmp_path} if storage == "disk" else {"storage": storage}
    return DataMap(N, MIXED, epochs=EPOCHS, **WINDOWS[window], **folder, **options)


def record_epoch(recorder, index, outputs, targets, batch_size=5):
    for part in torch.arange(len(index)).split(batch_size):
        recorder.record(index[part], outputs[part], targets[part])
    recorder.end_epoch()


def windows_of(window):
    """Epochs of the snapshots' windows and of the last one, and the decay of their weights."""
    starts = [0, 2, 5] if window == "epochs" else [0, 0, 0]
    return list(zip(starts, [2, 5, 6], strict=True)), 0.6 if window == "exponential" else 1.0


@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize("missing", [0.0, 0.4])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("storage", STORAGES)
def test_every_window_and_storage_gives_the_statistics_of_the_plain_history(
    storage, window, missing, ddof, looks, tmp_path
):
    recorder, plain = recorder_of(storage, window, tmp_path), PlainHistory(N)
    for index, outputs, targets in drawn_epochs(N, torch.Generator().manual_seed(3), missing):
        record_epoch(recorder, index, outputs, targets)
        plain.add_epoch(index, outputs, targets)
    maps = quiet(recorder.result, ddof=ddof)
    ranges, decay = windows_of(window)
    assert [shot.epochs for shot in maps.snapshots] == [2, 5]
    assert maps.epochs == EPOCHS
    for shot, epochs in zip((*maps.snapshots, maps), ranges, strict=True):
        assert_maps(shot, plain.maps(*epochs, decay=decay, ddof=ddof), STORAGES[storage])
        assert shot.tasks == MIXED.names


@pytest.mark.parametrize("storage", STORAGES)
@settings(deadline=None, max_examples=20)
@given(index=st.lists(st.integers(0, 3), min_size=1, max_size=15), seed=st.integers(0, 99))
def test_repetitions_in_a_batch_count_one_by_one_in_their_order(storage, index, seed, tmp_path_factory):
    generator = torch.Generator().manual_seed(seed)
    index = torch.tensor(index)
    outputs, targets = random_epoch(len(index), generator)
    recorders = []
    for batch_size in (len(index), 1):
        folder = tmp_path_factory.mktemp("history") if storage == "disk" else None
        recorder = DataMap(4, MIXED, window="exponential", storage=storage, folder=folder)
        record_epoch(recorder, index, outputs, targets, batch_size)
        recorders.append(quiet(recorder.result))
    one, other = recorders
    assert torch.equal(one.visits, other.visits)
    for name in ("confidence", "variability", "correctness"):
        torch.testing.assert_close(
            getattr(one, name), getattr(other, name), rtol=0, atol=max(1e-5, STORAGES[storage]), equal_nan=True
        )


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("storage", STORAGES)
def test_resuming_after_any_batch_equals_no_interruption_to_the_bit(storage, window, tmp_path):
    whole, part = (recorder_of(storage, window, tmp_path / name) for name in ("whole", "part"))
    for index, outputs, targets in drawn_epochs(N, torch.Generator().manual_seed(0), 0.3):
        for batch in torch.arange(len(index)).split(5):
            for recorder in (whole, part):
                recorder.record(index[batch], outputs[batch], targets[batch])
            write_state(tmp_path / "state.safetensors", part.state_dict())
            part.record(index[batch], outputs[batch] + 1, targets[batch])  # lost: after the checkpoint
            if batch[-1] % 2:
                part.end_epoch()
            part = recorder_of(storage, window, tmp_path / "part")
            part.load_state_dict(read_state(tmp_path / "state.safetensors"))
        whole.end_epoch()
        part.end_epoch()
        one, other = quiet(whole.result), quiet(part.result)
        for mine, theirs in zip((one, *one.snapshots), (other, *other.snapshots), strict=True):
            assert mine.epochs == theirs.epochs
            for name in ("confidence", "variability", "correctness", "visits"):
                torch.testing.assert_close(getattr(mine, name), getattr(theirs, name), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("window", ["cumulative", "epochs"])
@pytest.mark.parametrize("storage", ["float32", "bfloat16"])
def test_merging_two_ranks_equals_one_recorder_in_every_window(storage, window, tmp_path):
    tasks = MIXED.select(["first", "few", "second"])
    columns = torch.cat([torch.arange(WIDTH)[MIXED.slices[name]] for name in tasks.names])
    whole, one, other = (DataMap(N, tasks, epochs=EPOCHS, storage=storage, **WINDOWS[window]) for _ in range(3))
    for index, outputs, targets in drawn_epochs(N, torch.Generator().manual_seed(0), 0.3):
        parts = index, outputs[:, columns], targets[:, [1, 2, 4]]
        record_epoch(whole, *parts)
        record_epoch(one, *(part[:4] for part in parts))
        record_epoch(other, *(part[4:] for part in parts))
    one.merge(other)
    merged, expected = quiet(one.result), quiet(whole.result)
    for mine, theirs in zip((merged, *merged.snapshots), (expected, *expected.snapshots), strict=True):
        for name in ("confidence", "variability", "correctness", "visits"):
            atol = max(STORAGES[storage], 2e-6)
            torch.testing.assert_close(getattr(mine, name), getattr(theirs, name), rtol=0, atol=atol, equal_nan=True)


def test_merging_into_a_window_without_visits():
    one, other = (DataMap(2, BINARY) for _ in range(2))
    other.record(torch.arange(2), torch.ones(2, 2), torch.ones(2, 2))
    one.merge(other)
    assert torch.equal(one.result().confidence, other.result().confidence)
    other.merge(DataMap(2, BINARY))
    assert torch.equal(one.result().confidence, other.result().confidence)


@pytest.mark.parametrize("storage", STORAGES)
def test_only_chosen_samples_are_recorded(storage, looks, tmp_path):
    chosen = torch.tensor([5, 0, 3])
    generator = torch.Generator().manual_seed(0)
    recorder, plain = recorder_of(storage, "cumulative", tmp_path, samples=chosen), PlainHistory(N)
    for index, outputs, targets in drawn_epochs(N, generator, 0.2):
        for part in torch.arange(len(index)).split(5):
            recorder.record(
                index[part],
                {name: outputs[part, columns] for name, columns in MIXED.slices.items()},
                {name: targets[part, t] for t, name in enumerate(MIXED.names)},
            )
        recorder.end_epoch()
        ours = torch.isin(index, chosen)
        plain.add_epoch(index[ours], outputs[ours], targets[ours])
    maps = quiet(recorder.result)
    assert torch.equal(maps.samples, chosen)
    assert_maps(maps, plain.maps(0, EPOCHS)[:, chosen], STORAGES[storage])


def test_the_window_that_closed_last_is_shown_until_another_opens(tmp_path):
    recorders = [recorder_of(storage, "epochs", tmp_path) for storage in ("float32", "disk")]
    shown = {recorder: [] for recorder in recorders}
    for index, outputs, targets in drawn_epochs(N, torch.Generator().manual_seed(0), 0.0, n_epochs=3):
        for recorder in recorders:
            record_epoch(recorder, index, outputs, targets)
            shown[recorder].append(quiet(recorder.result))
    for recorder in recorders:
        _, second, third = shown[recorder]
        assert torch.equal(second.confidence, second.snapshots[0].confidence)
        assert torch.equal(third.snapshots[0].confidence, second.confidence)
        assert third.visits[:, 1].sum() == 2 * N
    torch.testing.assert_close(shown[recorders[0]][2].visits, shown[recorders[1]][2].visits)


def test_missed_snapshots_are_named():
    recorder = DataMap(2, BINARY, snapshots=[3, 1], epochs=4)
    for _ in range(2):
        record_epoch(recorder, torch.arange(2), torch.zeros(2, 2), torch.ones(2, 2))
    with pytest.warns(UserWarning, match=r"ended after 2 epochs, before the snapshots \[3\]"):
        maps = recorder.result()
    assert [shot.epochs for shot in maps.snapshots] == [2]


def test_an_epoch_without_visits_has_an_empty_snapshot():
    recorder = DataMap(2, BINARY, snapshots=[1], epochs=2, window="epochs")
    recorder.end_epoch()
    recorder.end_epoch()
    with pytest.warns(UserWarning, match="no labelled sample"):
        maps = recorder.result()
    assert maps.snapshots[0].visits.eq(0).all()
    assert maps.confidence.isnan().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"snapshots": [0, 3], "epochs": 5}, r"between 1 .* and 4.* Got \[0\]"),
        ({"snapshots": [5], "epochs": 5}, r"Got \[5\]"),
        ({"snapshots": [3]}, "snapshots need epochs"),
        ({"window": "epochs"}, r"needs snapshots.* Got snapshots \[\]"),
        ({"window": "epochs", "snapshots": [2, 3], "epochs": 5}, r"Got snapshots \[2, 3\]: \[3\] too early"),
        ({"window": "sliding"}, "must be 'cumulative', 'epochs' or 'exponential'. Got 'sliding'"),
        ({"decay": 1.0}, r"decay must be between 0 and 1.* Got 1\.0"),
        ({"storage": "float16"}, "must be 'float32', 'bfloat16' or 'disk'. Got 'float16'"),
        ({"storage": "disk"}, "needs a folder"),
        ({"folder": "here"}, "needs a folder, and no other has one"),
        ({"samples": torch.tensor([0, 0])}, "different positions"),
        ({"samples": torch.tensor([], dtype=torch.long)}, "different positions"),
        ({"samples": torch.tensor([0.5])}, "different positions"),
        ({"samples": torch.tensor([4])}, "samples must be between 0 and 3"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_before_training(options, message):
    with pytest.raises(ValueError, match=message):
        DataMap(4, BINARY, **options)


def test_the_list_of_snapshots_is_left_as_it_is():
    snapshots = [3, 1, 3]
    DataMap(2, BINARY, snapshots=snapshots, epochs=5)
    assert snapshots == [3, 1, 3]


def test_what_cannot_be_merged_or_resumed(tmp_path):
    exponential = [DataMap(4, BINARY, window="exponential") for _ in range(2)]
    on_disk = [DataMap(4, BINARY, storage="disk", folder=tmp_path / name) for name in "ab"]
    for recorder in (*exponential, *on_disk):
        recorder.record(torch.arange(4), torch.zeros(4, 2), torch.ones(4, 2))
    with pytest.raises(ValueError, match="exponential window cannot be merged"):
        exponential[0].merge(exponential[1])
    with pytest.raises(ValueError, match="storage='disk' cannot be merged"):
        on_disk[0].merge(on_disk[1])
    with pytest.raises(ValueError, match=r"Got \{'window'"):
        DataMap(4, BINARY).merge(exponential[0])
    later = DataMap(4, BINARY)
    later.end_epoch()
    with pytest.raises(ValueError, match=r"Got \{'epochs': \(1, 0\)\}"):
        DataMap(4, BINARY).merge(later)
    part = DataMap(4, BINARY, samples=torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="other samples"):
        DataMap(4, BINARY).merge(part)
    with pytest.raises(StudyError, match="other samples"):
        DataMap(4, BINARY, samples=torch.tensor([2, 1])).load_state_dict(part.state_dict())


class CountLooks(TorchDispatchMode):
    """Counts the operations for which a device must have finished."""

    def __init__(self):
        super().__init__()
        self.looks = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().split("::")[1].split(".")[0]
        by_mask = name == "index" and any(part is not None and part.dtype == torch.bool for part in args[1])
        if by_mask or name in {"_local_scalar_dense", "item", "nonzero", "masked_select", "is_nonzero", "_unique2"}:
            self.looks.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "options", [{}, {"window": "exponential"}, {"storage": "bfloat16"}, {"samples": torch.arange(3)}]
)
def test_recording_never_waits_for_a_device(options, monkeypatch):
    monkeypatch.setattr(waiting, "is_at_hand", lambda tensor: False)
    recorder = DataMap(N, MIXED, **options)
    MIXED.losses(*random_epoch(1, torch.Generator().manual_seed(0)))  # a task set lays out its losses once
    with CountLooks() as counter:
        for index, outputs, targets in drawn_epochs(N, torch.Generator().manual_seed(0), 0.3, n_epochs=2):
            record_epoch(recorder, index, outputs, targets)
        assert counter.looks == []
        bool(outputs.any())
        assert counter.looks  # that it does count


@pytest.mark.parametrize("options", [{}, {"window": "exponential"}, {"storage": "bfloat16"}, {"storage": "disk"}])
def test_recording_changes_nothing_of_a_training(options, tmp_path):
    def trained(recorder):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, WIDTH))
        optimizer = torch.optim.Adam(model.parameters())
        inputs, (_, targets) = torch.randn(30, 3), random_epoch(30, torch.Generator().manual_seed(0))
        losses = []
        for _ in range(3):
            for index in torch.randperm(30).split(8):
                outputs = model(inputs[index])
                if recorder is not None:
                    recorder.record(index, outputs, targets[index])
                losses.append(MIXED.losses(outputs, targets[index]))
                optimizer.zero_grad()
                losses[-1].sum().backward()
                optimizer.step()
            if recorder is not None:
                recorder.end_epoch()
                recorder.state_dict()
        return [*model.state_dict().values(), torch.stack(losses).detach(), torch.get_rng_state()]

    folder = tmp_path if "disk" in options.values() else None
    recorder = DataMap(30, MIXED, folder=folder, **options)
    for plain, recorded in zip(trained(None), trained(recorder), strict=True):
        assert torch.equal(plain, recorded)
    assert recorder.result().visits.max() == 3


def test_what_is_recorded_may_be_written_over():
    one, other = DataMap(3, BINARY), DataMap(3, BINARY)
    index, outputs, targets = torch.arange(3), torch.randn(3, 2, generator=torch.Generator()), torch.ones(3, 2)
    for recorder, spoil in ((one, False), (other, True)):
        batch = index.clone(), outputs.clone(), targets.clone()
        recorder.record(*batch)
        if spoil:
            for part in batch:
                part.zero_()
    assert torch.equal(one.result().confidence, other.result().confidence)


def test_many_small_batches_equal_one():
    generator = torch.Generator().manual_seed(0)
    outputs, targets = random_epoch(9000, generator)
    whole, parts = DataMap(9000, MIXED), DataMap(9000, MIXED)
    named = {name: targets[:, t] for t, name in enumerate(MIXED.names)}
    whole.record(torch.arange(9000), outputs, targets)
    for part in torch.arange(9000).split(700):
        parts.record(part, outputs[part], {name: target[part] for name, target in named.items()})
    whole.end_epoch()
    parts.end_epoch()
    for name in ("confidence", "correctness", "visits"):
        torch.testing.assert_close(
            getattr(parts.result(), name), getattr(whole.result(), name), rtol=0, atol=1e-6, equal_nan=True
        )


@pytest.mark.parametrize("epochs", [20, 400])
def test_bfloat16_is_off_by_no_more_than_it_says(epochs):
    generator = torch.Generator().manual_seed(0)
    exact, rounded = DataMap(50, BINARY), DataMap(50, BINARY, storage="bfloat16")
    for _ in range(epochs):
        outputs = 2 + 3 * torch.randn(50, 2, generator=generator)
        for recorder in (exact, rounded):
            record_epoch(recorder, torch.arange(50), outputs, torch.ones(50, 2), 50)
    expected, found = exact.result(), rounded.result()
    bound = (epochs + 1) / 2**10
    assert torch.equal(found.visits, expected.visits)
    torch.testing.assert_close(found.correctness, expected.correctness, rtol=0, atol=1e-6)
    for name in ("confidence", "variability"):
        assert (getattr(found, name) - getattr(expected, name)).abs().max() < bound


def test_targets_that_do_not_fit():
    with pytest.raises(ValueError, match=r"Got \{'all': \[3, 1\]\}"):
        DataMap(3, BINARY).record(torch.arange(3), torch.zeros(3, 2), torch.ones(3, 1))
    with pytest.raises(ValueError, match=r"Got \{'b': \[2\]\}"):
        DataMap(3, BINARY).record(torch.arange(3), torch.zeros(3, 2), {"a": torch.ones(3), "b": torch.ones(2)})


def test_an_index_of_any_integers():
    maps = []
    for dtype in (torch.int64, torch.int32, torch.uint8):
        recorder = DataMap(4, BINARY)
        recorder.record(torch.tensor([3, 1], dtype=dtype), torch.zeros(2, 2), torch.ones(2, 2))
        recorder.record(torch.tensor([], dtype=dtype), torch.zeros(0, 2), torch.ones(0, 2))
        maps.append(recorder.result().visits)
    assert torch.equal(maps[0], maps[1])
    assert torch.equal(maps[0], maps[2])
    np.testing.assert_array_equal(maps[0][:, 0], [0, 1, 0, 1])
