import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from mixed_tasks import MIXED, PlainHistory, assert_maps, random_epoch

from cotrain import Task, TaskSet
from cotrain.affinity import DataMap, history
from cotrain.errors import StudyError

N, EPOCHS = 9, 5
BINARY = TaskSet([Task("a", "binary"), Task("b", "binary")])


def recorded(folder, *, samples=None, missing=0.3):
    """A recorder on disk, and the same history in lists; epochs visit samples never, once or twice."""
    generator = torch.Generator().manual_seed(0)
    recorder, plain = DataMap(N, MIXED, storage="disk", folder=folder, samples=samples), PlainHistory(N)
    for _ in range(EPOCHS):
        index = torch.randint(N, (N,), generator=generator)
        outputs, targets = random_epoch(N, generator, missing)
        for part in torch.arange(N).split(4):
            recorder.record(index[part], outputs[part], targets[part])
        recorder.end_epoch()
        plain.add_epoch(index, outputs, targets)
    return recorder, plain


@pytest.mark.parametrize("epochs", [(0, 5), (0, 1), (1, 3), (3, 5)])
def test_maps_of_any_epochs_are_those_of_the_plain_history(epochs, tmp_path):
    recorder, plain = recorded(tmp_path)
    maps = recorder.result(epochs=epochs)
    assert_maps(maps, plain.maps(*epochs), 0.005)
    assert maps.epochs == epochs[1] - epochs[0]


def test_the_size_of_the_chunks_does_not_matter(tmp_path, monkeypatch):
    recorder, _ = recorded(tmp_path)
    whole = recorder.result(epochs=(1, 4))
    monkeypatch.setattr(history, "_CHUNK", 1)
    chunked = recorder.result(epochs=(1, 4))
    for name in ("confidence", "variability", "correctness", "visits"):
        torch.testing.assert_close(getattr(chunked, name), getattr(whole, name), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("epochs", [None, (1, 4)])
@pytest.mark.parametrize("chosen", [None, [5, 2, 2]])
def test_the_history_holds_every_visit_in_its_order(epochs, chosen, tmp_path):
    recorder, plain = recorded(tmp_path, missing=0.0)
    found = recorder.history(None if chosen is None else torch.tensor(chosen), epochs=epochs).numpy()
    start, stop = epochs or (0, EPOCHS)
    rows = range(N) if chosen is None else chosen
    assert found.shape[1:] == (len(rows), len(MIXED))
    longest = 0
    for place, i in enumerate(rows):
        for t, task in enumerate(MIXED):
            values = [visit[1] for visit in plain.entries[i][t] if start <= visit[0] < stop]
            trajectory = found[:, place, t]
            if task.kind in ("regression", "custom"):  # one per epoch, NaN where the epoch did not visit the sample
                trajectory = trajectory[~np.isnan(trajectory)]
            longest = max(longest, len(values))
            np.testing.assert_allclose(trajectory[: len(values)], values, atol=0.004)
            assert np.isnan(trajectory[len(values) :]).all()
    assert len(found) == max(longest, stop - start)


def test_the_history_of_recorded_samples_and_of_no_other(tmp_path):
    samples = torch.tensor([4, 1])
    recorder, _ = recorded(tmp_path / "some", samples=samples, missing=0.0)
    whole, _ = recorded(tmp_path / "all", missing=0.0)
    mine, theirs = recorder.history(torch.tensor([1])), whole.history(torch.tensor([1]))
    columns = [1, 2, 4, 5]  # of the tasks without ranks, which are among the recorded samples
    n = int((~theirs[:, 0, 1].isnan()).sum())
    torch.testing.assert_close(mine[:n, :, columns], theirs[:n, :, columns], rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"Samples \[3\] are not among the recorded ones"):
        recorder.history(torch.tensor([1, 3]))
    with pytest.raises(ValueError, match="index must be between 0 and 8"):
        whole.history(torch.tensor([9]))


def test_an_epoch_that_goes_on_is_in_the_history(tmp_path):
    recorder = DataMap(3, BINARY, storage="disk", folder=tmp_path)
    assert recorder.history().shape == (0, 3, 2)
    recorder.record(torch.tensor([1, 1]), torch.tensor([[2.0, 0.0], [-1.0, 0.0]]), torch.ones(2, 2))
    expected = torch.tensor([2.0, -1.0]).sigmoid()
    torch.testing.assert_close(recorder.history()[:, 1, 0], expected, rtol=0, atol=0.002)
    assert recorder.result().visits[:, 0].tolist() == [0, 2, 0]


def test_single_visits_are_on_disk_only(tmp_path):
    for call in (DataMap(3, BINARY).history, lambda: DataMap(3, BINARY).result(epochs=(0, 1))):
        with pytest.raises(ValueError, match="with storage='disk' only"):
            call()
    recorder, _ = recorded(tmp_path)
    for epochs in ((0, 6), (2, 2), (-1, 2)):
        with pytest.raises(ValueError, match=r"of 5 that have ended\. Got"):
            recorder.result(epochs=epochs)


def test_a_state_without_its_files_is_refused(tmp_path):
    recorder, _ = recorded(tmp_path / "mine")
    state = recorder.state_dict()
    with pytest.raises(StudyError, match="is not that of the saved data map"):
        DataMap(N, MIXED, storage="disk", folder=tmp_path / "nothing").load_state_dict(state)
    recorded(tmp_path / "other")
    with pytest.raises(StudyError, match="is not that of the saved data map"):
        DataMap(N, MIXED, storage="disk", folder=tmp_path / "other").load_state_dict(state)
    (tmp_path / "mine" / "by_visit-00001.npy").write_bytes(b"damaged")
    with pytest.raises(StudyError, match=r"lacks the layers \[1\]"):
        DataMap(N, MIXED, storage="disk", folder=tmp_path / "mine").load_state_dict(state)


def test_a_folder_may_be_moved_with_its_state(tmp_path):
    recorder, _ = recorded(tmp_path / "here")
    state, maps = recorder.state_dict(), recorder.result(epochs=(0, 5))
    (tmp_path / "here").rename(tmp_path / "there")
    moved = DataMap(N, MIXED, storage="disk", folder=tmp_path / "there")
    moved.load_state_dict(state)
    torch.testing.assert_close(moved.result(epochs=(0, 5)).confidence, maps.confidence, rtol=0, atol=0, equal_nan=True)


def test_an_earlier_recording_is_written_over_and_never_read(tmp_path):
    recorded(tmp_path)
    other = DataMap(3, BINARY, storage="disk", folder=tmp_path)  # other shapes in files of the same names
    other.record(torch.tensor([0]), torch.zeros(1, 2), torch.ones(1, 2))
    other.end_epoch()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert other.result().visits.tolist() == [[1, 1], [0, 0], [0, 0]]
    again, plain = recorded(tmp_path)
    assert_maps(again.result(epochs=(0, 5)), plain.maps(0, 5), 0.005)


def test_the_state_of_nothing_needs_no_files(tmp_path):
    state = DataMap(3, BINARY, storage="disk", folder=tmp_path / "one").state_dict()
    recorder = DataMap(3, BINARY, storage="disk", folder=tmp_path / "other")
    recorder.load_state_dict(state)
    recorder.record(torch.arange(3), torch.zeros(3, 2), torch.ones(3, 2))
    assert recorder.result().visits.eq(1).all()


def test_files_are_plain_arrays_and_let_go_at_the_end_of_an_epoch(tmp_path):
    recorder, _ = recorded(tmp_path)
    assert recorder.history().shape[1] == N
    for path in tmp_path.glob("*.npy"):
        assert np.load(path, allow_pickle=False).dtype == np.uint8
    if Path("/proc/self/maps").exists():
        assert str(tmp_path) not in Path("/proc/self/maps").read_text(encoding="utf-8")
