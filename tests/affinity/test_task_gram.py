import copy
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cotrain import SharedTrunk, Task, TaskSet
from cotrain.affinity import gram_sums
from cotrain.affinity.confidence import Confidence
from cotrain.affinity.task_correlation import TaskCorrelation
from cotrain.affinity.task_gram import TaskGram
from cotrain.errors import StudyError
from cotrain.files import read_state, write_state
from cotrain.training import fit

MIXED = TaskSet(
    [
        Task("few", "multiclass", 3),
        Task("first", "binary"),
        Task("many", "multiclass", 5),
        Task("second", "binary"),
        Task("third", "binary"),
    ]
)
TWO = TaskSet([Task("a", "binary"), Task("b", "binary")])


def binaries(n_tasks):
    return TaskSet([Task(f"task-{n}", "binary") for n in range(n_tasks)])


def random_epoch(n, generator, tasks=MIXED, missing=0.0):
    """One visit of n samples: outputs [n, O] and targets [n, T]."""
    classes = torch.tensor([max(task.n_outputs, 2) for task in tasks])
    common = torch.randn(n, 1, generator=generator)
    outputs = common + torch.randn(n, tasks.n_outputs, generator=generator)
    targets = (torch.rand(n, len(tasks), generator=generator) * classes).floor()
    targets[torch.rand(n, len(tasks), generator=generator) < missing] = torch.nan
    return outputs, targets


def history_of(epochs, tasks=MIXED, batch=32):
    """[E, n, T] float64 confidences in task order, NaN unlabelled; rated in batches, for the float32 rounding of a
    sigmoid depends on its place in the batch."""
    rate = Confidence(tasks)
    order = np.argsort(rate.columns)
    stored = []
    for epoch in epochs:
        parts = [rate(*part) for part in zip(*(both.split(batch) for both in epoch), strict=True)]
        known = [torch.where(seen, values.double(), torch.nan) for values, _, seen in parts]
        stored.append(torch.cat(known).numpy()[:, order])
    return np.stack(stored)


def standardised(history):
    """[T, E n]: centred in every epoch, of length 1."""
    rows = (history - history.mean(1, keepdims=True)).reshape(-1, history.shape[2]).T
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def squared_distances(points):
    products = np.asarray(points) @ np.asarray(points).T
    return products.diagonal()[:, None] + products.diagonal() - 2 * products


def recorded(epochs, tasks=MIXED, batch=32, **options):
    recorder = TaskGram(tasks, **options)
    for outputs, targets in epochs:
        for index in torch.arange(len(outputs)).split(batch):
            recorder.record(index, outputs[index], targets[index])
        recorder.end_epoch()
    return recorder


@settings(deadline=None)
@given(n_epochs=st.integers(1, 4), n=st.integers(6, 40), batch=st.integers(1, 50), seed=st.integers(0, 999))
def test_points_are_as_far_apart_as_the_stored_confidences(n_epochs, n, batch, seed):
    generator = torch.Generator().manual_seed(seed)
    epochs = [random_epoch(n, generator) for _ in range(n_epochs)]
    found = recorded(epochs, batch=batch).result()
    rows = standardised(history_of(epochs, batch=batch))
    np.testing.assert_allclose(squared_distances(found.features()), squared_distances(rows), rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.correlation, rows @ rows.T, rtol=0, atol=1e-13)
    assert torch.equal(found.correlation, found.correlation.T)
    assert found.n.tolist() == [n_epochs * n] * len(MIXED)
    assert (found.tasks, found.flat, found.epochs) == (MIXED.names, (), n_epochs)


def test_many_blocks_give_the_correlations_of_numpy(monkeypatch):
    monkeypatch.setattr(gram_sums, "BLOCK", 64)
    tasks = binaries(300)
    epochs = [random_epoch(150, torch.Generator().manual_seed(0), tasks)]
    found = recorded(epochs, tasks).result()
    np.testing.assert_allclose(found.correlation, np.corrcoef(history_of(epochs, tasks)[0].T), rtol=0, atol=1e-12)


def test_hundreds_of_tasks_are_points_by_falling_variance():
    tasks = binaries(300)
    generator = torch.Generator().manual_seed(0)
    epochs = [random_epoch(400, generator, tasks) for _ in range(2)]
    points = recorded(epochs, tasks).result().features()
    rows = standardised(history_of(epochs, tasks))
    np.testing.assert_allclose(squared_distances(points), squared_distances(rows), rtol=0, atol=1e-11)
    assert points.square().sum(0).diff().le(0).all()


@pytest.mark.parametrize("partial_labels", [False, True])
def test_a_tiny_variance_near_one_is_resolved(partial_labels):
    """Float32 sums of c would be off by 5 % here, float64 ones by 1e-10."""
    generator = torch.Generator().manual_seed(0)
    outputs = 9 + 0.1 * torch.randn(2000, 2, generator=generator)
    epochs = [(outputs, torch.ones(2000, 2))]
    found = recorded(epochs, TWO, partial_labels=partial_labels).result()
    expected = np.corrcoef(history_of(epochs, TWO)[0].T)[0, 1] * (2000 / 2050 if partial_labels else 1)
    assert history_of(epochs, TWO).var() < 1e-9
    assert float(found.correlation[0, 1]) == pytest.approx(expected, abs=1e-13)


@pytest.mark.parametrize("partial_labels", [False, True])
def test_a_task_and_its_complement_have_identical_rows(partial_labels):
    tasks = binaries(5)
    generator = torch.Generator().manual_seed(0)
    epochs = []
    for _ in range(3):
        outputs, targets = random_epoch(64, generator, tasks)
        outputs[:, 4], targets[:, 4] = -outputs[:, 1], 1 - targets[:, 1]
        epochs.append((outputs, targets))
    found = recorded(epochs, tasks, partial_labels=partial_labels).result()
    keep = 64 / 114 if partial_labels else 1
    others = [0, 2, 3]
    torch.testing.assert_close(found.correlation[1, others], found.correlation[4, others], rtol=0, atol=1e-14)
    assert float(found.correlation[1, 4]) == pytest.approx(keep, abs=1e-14)
    if not partial_labels:
        torch.testing.assert_close(found.features()[1], found.features()[4], rtol=0, atol=1e-12)


@pytest.mark.parametrize("partial_labels", [False, True])
def test_tasks_that_do_not_vary_are_flat_and_correlate_with_nothing(partial_labels):
    """Many of them: in some, rounding leaves a variance above 0."""
    tasks = binaries(40)
    generator = torch.Generator().manual_seed(0)
    epochs = []
    for _ in range(4):
        outputs, targets = random_epoch(100, generator, tasks)
        outputs[:, 2:], targets[:, 2:] = 3 * torch.randn(38, generator=generator), 1.0
        epochs.append((outputs, targets))
    found = recorded(epochs, tasks, batch=20, partial_labels=partial_labels).result()
    assert found.flat == tasks.names[2:]
    assert found.correlation[2:].eq(0).all()
    assert found.correlation[:, 2:].eq(0).all()
    assert found.correlation.diagonal().tolist() == [1, 1] + [0] * 38
    points = found.features()
    torch.testing.assert_close(points[2:], points[2].expand(38, -1), rtol=0, atol=1e-12)


@settings(deadline=None)
@given(seed=st.integers(0, 999), swaps=st.permutations(range(5)))
def test_permuting_tasks_permutes_the_correlations(seed, swaps):
    generator = torch.Generator().manual_seed(seed)
    tasks = binaries(5)
    outputs, targets = random_epoch(64, generator, tasks)
    moved = tasks.select([tasks.names[n] for n in swaps])
    found = recorded([(outputs, targets)], tasks).result().correlation
    other = recorded([(outputs[:, swaps], targets[:, swaps])], moved).result().correlation
    torch.testing.assert_close(other, found[swaps][:, swaps], rtol=0, atol=1e-14)


@settings(deadline=None, max_examples=15)
@given(n_epochs=st.integers(1, 3), missing=st.floats(0, 0.5), seed=st.integers(0, 999))
def test_partial_labels_compare_every_pair_over_its_own_overlap(n_epochs, missing, seed):
    generator = torch.Generator().manual_seed(seed)
    epochs = [random_epoch(110, generator, missing=missing) for _ in range(n_epochs)]
    found = recorded(epochs, partial_labels=True).result()
    history = history_of(epochs)
    expected = np.full((len(MIXED), len(MIXED)), np.nan)
    for t in range(len(MIXED)):
        for s in range(len(MIXED)):
            pairs = []
            for epoch in history:
                both = epoch[~np.isnan(epoch[:, t]) & ~np.isnan(epoch[:, s])][:, [t, s]]
                pairs.append(both - both.mean(0))
            x, y = np.concatenate(pairs).T
            n = len(x) / n_epochs
            if n >= 30:
                expected[t, s] = 1 if t == s else (x @ y) / np.sqrt((x @ x) * (y @ y)) * n / (n + 50)
    np.testing.assert_allclose(found.correlation, expected, rtol=0, atol=1e-12)
    assert torch.equal(found.correlation.nan_to_num(9), found.correlation.T.nan_to_num(9))
    np.testing.assert_array_equal(found.n, (~np.isnan(history)).sum((0, 1)))


@settings(deadline=None, max_examples=10)
@given(n_epochs=st.integers(1, 3), seed=st.integers(0, 99))
def test_partial_labels_that_are_complete_only_shrink(n_epochs, seed):
    generator = torch.Generator().manual_seed(seed)
    epochs = [random_epoch(40, generator) for _ in range(n_epochs)]
    whole = recorded(epochs).result().correlation
    shrunk = recorded(epochs, partial_labels=True).result().correlation
    expected = (whole * 40 / 90).fill_diagonal_(1)
    torch.testing.assert_close(shrunk, expected, rtol=0, atol=1e-13)


def test_pairs_with_few_samples_in_common_are_not_known():
    tasks = binaries(3)
    outputs, targets = random_epoch(80, torch.Generator().manual_seed(0), tasks)
    targets[:30, 0] = torch.nan  # 50 labels, of which 29 are also task-1's
    targets[59:, 1] = torch.nan
    correlation = recorded([(outputs, targets)], tasks, partial_labels=True).result().correlation
    assert correlation.isnan().nonzero().tolist() == [[0, 1], [1, 0]]
    targets[59, 1] = 1.0
    assert recorded([(outputs, targets)], tasks, partial_labels=True).result().correlation.isfinite().all()


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 99), n_epochs=st.integers(1, 3), every_epoch=st.booleans())
def test_merging_equals_one_recorder(seed, n_epochs, every_epoch):
    generator = torch.Generator().manual_seed(seed)
    for partial_labels in (False, True):
        whole, one, other = (TaskGram(MIXED, partial_labels=partial_labels) for _ in range(3))
        for epoch in range(n_epochs):
            outputs, targets = random_epoch(70, generator, missing=0.2 * partial_labels)
            index = torch.arange(70)
            cut = int(torch.randint(71, (), generator=generator))
            outputs[cut:] += 1 + epoch  # ranks whose means differ: centring before merging would lose it
            for recorder, rows in ((one, index[:cut]), (other, index[cut:])):
                recorder.record(rows, outputs[rows], targets[rows])
                whole.record(rows, outputs[rows], targets[rows])
            if partial_labels or every_epoch:
                one.merge(other)
                other = TaskGram(MIXED, partial_labels=partial_labels)
            else:
                other.end_epoch()
            whole.end_epoch()
            one.end_epoch()
        if not (partial_labels or every_epoch):
            one.merge(other)
        found, expected = one.result(), whole.result()
        torch.testing.assert_close(found.correlation, expected.correlation, rtol=0, atol=1e-13, equal_nan=True)
        assert torch.equal(found.n, expected.n)
        assert found.epochs == expected.epochs


@pytest.mark.parametrize("options", [{}, {"partial_labels": True}, {"samples": torch.arange(5, 45)}])
def test_resuming_equals_no_interruption(tmp_path, options):
    generator = torch.Generator().manual_seed(0)
    whole, part = TaskGram(MIXED, **options), TaskGram(MIXED, **options)
    for epoch in range(3):
        outputs, targets = random_epoch(50, generator, missing=0.1 if "partial_labels" in options else 0)
        for index in torch.randperm(50, generator=generator).split(20):
            whole.record(index, outputs[index], targets[index])
            part.record(index, outputs[index], targets[index])
            write_state(tmp_path / "state.safetensors", part.state_dict())
            part = TaskGram(MIXED, **options)
            part.load_state_dict(read_state(tmp_path / "state.safetensors"))
        whole.end_epoch()
        part.end_epoch()
        write_state(tmp_path / "state.safetensors", part.state_dict())
        part = TaskGram(MIXED, **options)
        part.load_state_dict(read_state(tmp_path / "state.safetensors"))
        found, expected = part.result(), whole.result()
        assert torch.equal(found.correlation.nan_to_num(9), expected.correlation.nan_to_num(9))
        assert torch.equal(found.n, expected.n)
        assert found.epochs == epoch + 1


@pytest.mark.parametrize("partial_labels", [False, True])
def test_a_state_is_not_changed_by_what_is_recorded_later(partial_labels):
    generator = torch.Generator().manual_seed(0)
    recorder = recorded([random_epoch(64, generator)], partial_labels=partial_labels)
    parts = [random_epoch(50, generator, missing=0.2 * partial_labels) for _ in range(2)]

    def go_on(recorder, parts):
        for outputs, targets in parts:
            recorder.record(torch.arange(50), outputs, targets)

    go_on(recorder, parts[:1])
    state = recorder.state_dict()
    go_on(recorder, parts[1:])
    recorder.end_epoch()
    expected = recorder.result()
    for _ in range(2):
        again = TaskGram(MIXED, partial_labels=partial_labels)
        again.load_state_dict(state)
        go_on(again, parts[1:])
        again.end_epoch()
        assert torch.equal(again.result().correlation, expected.correlation)
        assert torch.equal(again.result().n, expected.n)


def test_an_open_epoch_is_known_after_merging_and_resuming():
    one, other, resumed = TaskGram(TWO), TaskGram(TWO), TaskGram(TWO)
    for recorder in (one, other):
        recorder.end_epoch()
    other.record(torch.arange(4), torch.zeros(4, 2), torch.ones(4, 2))
    one.merge(other)
    resumed.load_state_dict(other.state_dict())
    for recorder in (one, resumed):
        with pytest.raises(ValueError, match="and 4 samples after them"):
            recorder.result()


def test_what_is_kept_does_not_grow_with_the_samples():
    def size(state):
        if isinstance(state, torch.Tensor):
            return state.numel() * state.element_size()
        parts = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ()
        return sum(size(part) for part in parts)

    tasks = binaries(200)
    for partial_labels, most in ((False, 5), (True, 31)):
        sizes = []
        for n in (40, 400):
            epoch = random_epoch(n, torch.Generator().manual_seed(0), tasks)
            sizes.append(size(recorded([epoch], tasks, partial_labels=partial_labels).state_dict()))
        assert sizes[0] == sizes[1] <= most * 200**2 + 4 * 8 * 200


def test_an_epoch_without_samples_changes_nothing():
    epoch = random_epoch(40, torch.Generator().manual_seed(0))
    recorder = recorded([epoch])
    expected = recorder.result().correlation
    recorder.end_epoch()
    torch.testing.assert_close(recorder.result().correlation, expected, rtol=0, atol=1e-14)


def test_a_result_changes_nothing_and_can_be_taken_again():
    for partial_labels in (False, True):
        recorder = recorded([random_epoch(40, torch.Generator().manual_seed(0))], partial_labels=partial_labels)
        first = recorder.result().correlation
        first.clone().fill_(7)
        assert torch.equal(recorder.result().correlation, first)


@settings(deadline=None, max_examples=15)
@given(index=st.lists(st.integers(0, 11), min_size=4, max_size=30), seed=st.integers(0, 99))
def test_a_sample_that_comes_twice_counts_twice(index, seed):
    outputs, targets = random_epoch(12, torch.Generator().manual_seed(seed))
    index = torch.tensor([0, 1, 2, *index])
    repeated = TaskGram(MIXED)
    repeated.record(index, outputs[index], targets[index])
    repeated.end_epoch()
    rows = standardised(history_of([(outputs[index], targets[index])], batch=len(index)))
    np.testing.assert_allclose(repeated.result().correlation, rows @ rows.T, rtol=0, atol=1e-13)
    assert repeated.result().n.tolist() == [len(index)] * len(MIXED)


@settings(deadline=None, max_examples=15)
@given(chosen=st.sets(st.integers(0, 59), min_size=4), seed=st.integers(0, 99), named=st.booleans())
def test_only_the_chosen_samples_count(chosen, seed, named):
    generator = torch.Generator().manual_seed(seed)
    outputs, targets = random_epoch(60, generator)
    samples = torch.tensor(sorted(chosen))
    some, only = TaskGram(MIXED, samples=samples), TaskGram(MIXED)
    for index in torch.randperm(60, generator=generator).split(9):
        batch = outputs[index], targets[index]
        if named:
            batch = (
                {name: batch[0][:, columns] for name, columns in MIXED.slices.items()},
                {name: batch[1][:, t] for t, name in enumerate(MIXED.names)},
            )
        some.record(index, *batch)
        rows = index[torch.isin(index, samples)]
        only.record(rows, outputs[rows], targets[rows])
    some.end_epoch()
    only.end_epoch()
    assert torch.equal(some.result().correlation, only.result().correlation)
    assert torch.equal(some.result().n, only.result().n)


@pytest.mark.parametrize("partial_labels", [False, True])
def test_recording_in_fit_changes_nothing_and_sees_every_sample(partial_labels):
    torch.manual_seed(0)
    inputs = torch.randn(70, 4)
    targets = torch.stack([(inputs[:, 0] > 0).float(), (inputs[:, 1] > 0).float()], dim=1)
    if partial_labels:
        targets[::7, 0] = torch.nan
    model = SharedTrunk(nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.2)), TWO, 6)
    start = copy.deepcopy(model.state_dict())
    train = partial(fit, model, TWO, (inputs, targets), (inputs, targets), epochs=3, batch_size=16)
    plain = copy.deepcopy(train().model.state_dict())
    model.load_state_dict(start)
    recorder = TaskGram(TWO, partial_labels=partial_labels)
    random_state = torch.get_rng_state()
    fitted = train(instruments=[recorder]).model.state_dict()
    torch.testing.assert_close(fitted, plain, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.equal(recorder.result().n, 3 * (~targets.isnan()).sum(0))
    assert recorder.result().epochs == 3


@pytest.mark.parametrize("options", [{}, {"partial_labels": True}, {"samples": torch.arange(3)}])
def test_recording_never_waits_for_the_device(options):
    """A meta tensor has no values: whatever would read one on the host, fails."""
    recorder = TaskGram(MIXED, **options)
    outputs = torch.empty(6, MIXED.n_outputs, device="meta")
    recorder.record(torch.arange(6), outputs, torch.empty(6, len(MIXED), device="meta"))


def test_recording_keeps_no_graph():
    recorder = TaskGram(TWO)
    outputs = torch.randn(5, 2, requires_grad=True)
    recorder.record(torch.arange(5), outputs, torch.ones(5, 2))
    recorder.end_epoch()
    assert not recorder.result().correlation.requires_grad


def test_outputs_and_targets_by_name():
    outputs, targets = random_epoch(20, torch.Generator().manual_seed(0))
    named = TaskGram(MIXED)
    named.record(
        torch.arange(20),
        {name: outputs[:, columns] for name, columns in MIXED.slices.items()},
        {name: targets[:, t] for t, name in enumerate(MIXED.names)},
    )
    named.end_epoch()
    packed = recorded([(outputs, targets)], batch=20)
    assert torch.equal(named.result().correlation, packed.result().correlation)


@pytest.mark.parametrize("no_label", [torch.nan, -100.0])
def test_a_missing_label_is_noticed_at_the_end_of_the_epoch(no_label):
    outputs, targets = random_epoch(20, torch.Generator().manual_seed(0))
    targets[3, 2] = no_label
    recorder = TaskGram(MIXED)
    recorder.record(torch.arange(20), outputs, targets)
    with pytest.raises(ValueError, match=r"Tasks \['many'\] have labels for some samples only.*partial_labels=True"):
        recorder.end_epoch()


def test_a_label_that_only_another_rank_misses_is_noticed():
    outputs, targets = random_epoch(20, torch.Generator().manual_seed(0))
    one = recorded([(outputs, targets)])
    targets[:, 2] = torch.nan
    one.merge(recorded([(outputs, targets)]))
    with pytest.raises(ValueError, match=r"\['many'\] have labels for some samples only"):
        one.result()


@pytest.mark.parametrize("partial_labels", [False, True])
def test_a_task_without_labels_is_named_and_harms_no_other(partial_labels):
    outputs, targets = random_epoch(60, torch.Generator().manual_seed(0))
    targets[:, 2] = torch.nan
    with pytest.warns(UserWarning, match=r"Tasks \['many'\] have no labelled sample"):
        found = recorded([(outputs, targets)], partial_labels=partial_labels).result()
    assert found.flat == ()
    assert found.correlation[2].isnan().all()
    assert found.correlation[:, 2].isnan().all()
    assert found.features()[2].isnan().all()
    kept = [0, 1, 3, 4]
    without = MIXED.select([MIXED.names[n] for n in kept])
    columns = torch.cat([torch.arange(MIXED.n_outputs)[MIXED.slices[name]] for name in without.names])
    expected = recorded([(outputs[:, columns], targets[:, kept])], without, partial_labels=partial_labels).result()
    torch.testing.assert_close(found.correlation[kept][:, kept], expected.correlation, rtol=0, atol=1e-14)
    np.testing.assert_allclose(
        squared_distances(found.features()[kept]), squared_distances(expected.features()), atol=1e-13
    )


def correlation(matrix):
    matrix = torch.tensor(matrix, dtype=torch.float64)
    names = tuple(f"task-{n}" for n in range(len(matrix)))
    return TaskCorrelation(matrix, torch.full((len(matrix),), 99), names, (), 1)


def test_what_is_no_distance_is_clipped():
    points = correlation([[1, 0.9, -0.9], [0.9, 1, 0.9], [-0.9, 0.9, 1]]).features()
    matrix = torch.tensor([[1, 0.9, -0.9], [0.9, 1, 0.9], [-0.9, 0.9, 1]], dtype=torch.float64)
    centring = torch.eye(3, dtype=torch.float64) - 1 / 3
    values, vectors = torch.linalg.eigh(centring @ matrix @ centring)
    assert values[0] < -0.1
    torch.testing.assert_close(points @ points.T, (vectors * values.clamp(min=0)) @ vectors.T)


def test_pairs_without_a_correlation_are_placed_by_the_known_ones():
    gaps = correlation(
        [
            [1, 0.6, torch.nan, torch.nan],
            [0.6, 1, 0.3, torch.nan],
            [torch.nan, 0.3, 1, torch.nan],
            [torch.nan, torch.nan, torch.nan, 1],
        ]
    )
    filled = correlation([[1, 0.6, 0.45], [0.6, 1, 0.3], [0.45, 0.3, 1]])
    with pytest.warns(UserWarning, match="1 pairs of tasks have too few"):
        points = gaps.features()
    torch.testing.assert_close(points[:3], filled.features())
    assert points[3].isnan().all()


def test_one_task_is_a_point_and_none_is_none():
    assert correlation([[1]]).features().shape == (1, 0)
    with pytest.raises(ValueError, match=r"None of the tasks \['task-0', 'task-1'\]"):
        correlation([[1, torch.nan], [torch.nan, 1]]).features()


def test_two_recorders_share_nothing():
    one, other = TaskGram(TWO), TaskGram(TWO)
    one.record(torch.arange(2), torch.zeros(2, 2), torch.ones(2, 2))
    one.end_epoch()
    other.end_epoch()
    with pytest.warns(UserWarning, match="no labelled sample"):
        assert other.result().n.eq(0).all()


def test_tasks_that_are_rated_by_ranks_are_refused():
    tasks = [Task("a", "binary"), Task("b", "regression"), Task("c", "custom", loss=lambda outputs, _: outputs)]
    with pytest.raises(ValueError, match=r"\['b', 'c'\] are regression or custom"):
        TaskGram(tasks)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (torch.tensor([-1, 2]), "Got -1"),
        (torch.tensor([0, 1, 2]), r"one integer per sample of the batch, \[2\]"),
        (torch.tensor([[0], [1]]), r"Got torch.int64 \[2, 1\]"),
        (torch.tensor([0.0, 1.0]), "Got torch.float32"),
        (torch.tensor([True, False]), "Got torch.bool"),
    ],
)
def test_an_index_that_does_not_fit(index, message):
    with pytest.raises(ValueError, match=message):
        TaskGram(TWO).record(index, torch.zeros(2, 2), torch.ones(2, 2))


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (torch.tensor([], dtype=torch.int64), r"Got torch.int64 \[0\]\."),
        (torch.tensor([3, -1]), "from -1"),
        (torch.tensor([True, False]), "Got torch.bool"),
        (torch.tensor([0.5]), "Got torch.float32"),
        (torch.tensor([[1]]), r"\[1, 1\]"),
    ],
)
def test_samples_that_are_no_positions(samples, message):
    with pytest.raises(ValueError, match=message):
        TaskGram(TWO, samples=samples)


def test_a_result_needs_finished_epochs():
    recorder = TaskGram(TWO)
    with pytest.raises(ValueError, match=r"Got 0 finished epochs and 0 samples"):
        recorder.result()
    recorder.end_epoch()
    recorder.record(torch.arange(4), torch.zeros(4, 2), torch.ones(4, 2))
    with pytest.raises(ValueError, match=r"Got 1 finished epochs and 4 samples after them. Call end_epoch"):
        recorder.result()


def test_what_cannot_be_merged():
    epoch = random_epoch(5, torch.Generator().manual_seed(0), TWO)
    two = recorded([epoch, epoch], TWO)
    with pytest.raises(ValueError, match=r"same tasks.*'task-9'\] and 1 more and \['a', 'b'\]"):
        two.merge(TaskGram(binaries(11)))
    with pytest.raises(ValueError, match="one of 1 finished epochs and one of 2"):
        two.merge(recorded([epoch], TWO))
    with pytest.raises(ValueError, match="Give both the same partial_labels"):
        two.merge(TaskGram(TWO, partial_labels=True))
    one = recorded([epoch], TWO, partial_labels=True)
    with pytest.raises(ValueError, match=r"only an open epoch can be merged. Got a recorder of 1 finished"):
        one.merge(recorded([epoch], TWO, partial_labels=True))


def test_states_that_do_not_fit():
    with pytest.raises(StudyError, match=r"of tasks \['a', 'b'\], not of \['few'"):
        TaskGram(MIXED).load_state_dict(TaskGram(TWO).state_dict())
    with pytest.raises(StudyError, match="partial_labels=True, and this one the opposite"):
        TaskGram(TWO).load_state_dict(TaskGram(TWO, partial_labels=True).state_dict())
    some, others = (TaskGram(TWO, samples=torch.tensor([1, n])) for n in (2, 3))
    for one, other in ((some, others), (TaskGram(TWO), some), (some, TaskGram(TWO))):
        with pytest.raises(StudyError, match="of other samples"):
            one.load_state_dict(other.state_dict())
