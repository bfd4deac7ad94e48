from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from torch import nn

from cotrain import SharedTrunk, Task
from cotrain.affinity import (
    DataMap,
    embedded,
    kinship,
    kinship_features,
    label_correlation,
    prediction_correlation,
    task_features,
)
from cotrain.data.planted import make_planted_tasks
from cotrain.training import fit

KINDS = ["combined", "standardised", "signed", "raw"]


def random_maps(n=60, n_tasks=6, seed=0, n_shots=1):
    """Maps [N, T] of tasks in pairs of kin; with several snapshots the last one is the final map."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.rand(n, n_tasks // 2 + 1, generator=generator)[:, torch.arange(n_tasks) // 2]
    shots = tuple(
        SimpleNamespace(
            confidence=(hidden + torch.rand(n, n_tasks, generator=generator)) / 2,
            variability=(hidden + torch.rand(n, n_tasks, generator=generator)) / 4,
        )
        for _ in range(n_shots)
    )
    tasks = tuple(f"t{number}" for number in range(n_tasks))
    return SimpleNamespace(**vars(shots[-1]), tasks=tasks, snapshots=shots if n_shots > 1 else ())


def changed(maps, change):
    """The same maps with `change` applied to confidences and variabilities of every snapshot."""
    shots = tuple(
        SimpleNamespace(confidence=change(shot.confidence), variability=change(shot.variability))
        for shot in maps.snapshots or (maps,)
    )
    return SimpleNamespace(**vars(shots[-1]), tasks=maps.tasks, snapshots=shots if maps.snapshots else ())


def selected(maps, columns):
    part = changed(maps, lambda values: values[:, columns])
    part.tasks = tuple(maps.tasks[column] for column in columns)
    return part


def random_similarity(n, seed):
    """[T, T] correlation matrix."""
    points = torch.randn(4 * n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.corrcoef(points.T)


def features_of(kind, maps, seed=0, columns=None, left_out=()):
    """Features of the columns of random predictions and labels, which all tasks have."""
    similarities = [random_similarity(12, seed + number) for number in range(2)]
    columns = list(range(len(maps.tasks))) if columns is None else columns
    predictions, labels = (matrix[columns][:, columns] for matrix in similarities)
    return task_features(maps, kind, predictions=predictions.abs(), labels=labels, left_out=left_out)


def squared_distances(matrix):
    return torch.cdist(matrix.double(), matrix.double(), compute_mode="donot_use_mm_for_euclid_dist") ** 2


def z_scores(values):
    values = values.double().numpy()
    spread = values.std(0)
    return np.divide(values - values.mean(0), spread, out=np.zeros_like(values), where=spread > 1e-9)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 999), n_shots=st.integers(1, 3))
def test_standardised_distances_are_those_of_the_z_scored_maps(seed, n_shots):
    maps = random_maps(50, 6, seed, n_shots)
    for shot in maps.snapshots or (maps,):
        shot.confidence[:, 2] = shot.variability[:, 2] = 0.1  # a constant map is 0
        shot.variability[:, 3] = 0.0
    stacked = [z_scores(part) for shot in maps.snapshots or (maps,) for part in (shot.confidence, shot.variability)]
    expected = squared_distances(torch.tensor(np.vstack(stacked)).T) / sum(map(len, stacked))
    found = task_features(maps, "standardised")
    torch.testing.assert_close(squared_distances(found.matrix), expected, rtol=0, atol=1e-10)
    assert found.matrix[2].abs().max() < 1e-10
    assert found.flat == ("t2",)
    assert found.matrix.shape[1] <= 6


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 999), scale=st.floats(0.01, 100), level=st.floats(-10, 10))
def test_standardised_features_are_free_of_level_and_spread(seed, scale, level):
    maps = changed(random_maps(seed=seed), torch.Tensor.double)
    factors = torch.ones(6).double()
    factors[[1, 4]] = scale
    easier = changed(maps, lambda values: values * factors + level * (factors != 1))
    one, other = (squared_distances(task_features(each, "standardised").matrix) for each in (maps, easier))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-8)


def test_raw_features_are_the_plain_maps():
    maps = random_maps(n_shots=2)
    found = task_features(maps, "raw")
    parts = [part.T for shot in maps.snapshots for part in (shot.confidence, shot.variability)]
    assert torch.equal(found.matrix, torch.cat(parts, dim=1))
    shifted = task_features(changed(maps, lambda values: values + torch.arange(6)), "raw").matrix
    assert not torch.allclose(squared_distances(found.matrix), squared_distances(shifted), rtol=0.1)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 999))
def test_a_task_and_its_complement_have_the_same_row_to_the_bit(kind, seed):
    """Recorded, predicted and labelled the other way round: y -> 1 - y, z -> -z."""
    generator = torch.Generator().manual_seed(seed)
    n_tasks = 13  # products of odd sizes are rounded differently from column to column
    labels = (torch.rand(64, n_tasks, generator=generator) < 0.5).float()
    labels = torch.cat([labels, 1 - labels[:, :2]], dim=1)
    tasks = [Task(f"t{number}", "binary") for number in range(n_tasks + 2)]
    recorder = DataMap(64, tasks)
    for _ in range(3):
        logits = torch.randn(64, n_tasks, generator=generator)
        logits = torch.cat([logits, -logits[:, :2]], dim=1)
        recorder.record(torch.arange(64), logits, labels)
        recorder.end_epoch()
    maps = recorder.result()
    maps = SimpleNamespace(confidence=maps.confidence, variability=maps.variability, tasks=maps.tasks, snapshots=())
    found = task_features(
        maps,
        kind,
        predictions=prediction_correlation(tasks, logits),
        labels=label_correlation(tasks, labels),
    ).matrix
    assert torch.equal(found[-2:], found[:2])
    assert not torch.equal(found[0], found[1])


@pytest.mark.parametrize("kind", ["combined", "standardised"])
def test_the_last_digit_of_a_map_does_not_part_complements(kind):
    maps = changed(random_maps(200), lambda values: torch.cat([values, values[:, :1].nextafter(torch.ones(200, 1))], 1))
    maps.tasks = (*maps.tasks, "twin")
    found = features_of(kind, maps, columns=[0, 1, 2, 3, 4, 5, 0]).matrix
    assert torch.equal(found[0], found[6])


@pytest.mark.parametrize("kind", ["combined", "standardised", "signed"])
def test_complements_stay_together_where_labels_are_missing(kind):
    maps = selected(random_maps(100, 6), [0, 1, 2, 3, 4, 5, 1])
    missing = (torch.rand(100, 6, generator=torch.Generator().manual_seed(1)) < 0.3)[:, [0, 1, 2, 3, 4, 5, 1]]
    maps = changed(maps, lambda values: values.masked_fill(missing, torch.nan))
    found = features_of(kind, maps, columns=[0, 1, 2, 3, 4, 5, 1]).matrix
    assert torch.equal(found[1], found[6])


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 99), order=st.permutations(range(6)))
def test_permuting_tasks_permutes_distances(kind, seed, order):
    maps = random_maps(seed=seed)
    one = squared_distances(features_of(kind, maps, seed).matrix)
    other = squared_distances(features_of(kind, selected(maps, order), seed, order).matrix)
    torch.testing.assert_close(other, one[order][:, order], rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 99), kept=st.sets(st.integers(0, 5), min_size=1))
def test_what_is_left_out_has_no_influence(kind, seed, kept):
    maps = random_maps(seed=seed)
    maps.confidence[:, 2] = maps.variability[:, 2] = 0.1
    kept = sorted(kept)
    out = sorted(set(range(6)) - set(kept))
    maps.confidence[:5, out[:1]] = maps.variability[:5, out[:1]] = torch.nan  # some labels of one that is left out
    found = features_of(kind, maps, seed, left_out=[maps.tasks[task] for task in out])
    alone = features_of(kind, selected(maps, kept), seed, kept)
    assert found.matrix[out].isnan().all()
    torch.testing.assert_close(
        squared_distances(found.matrix[kept]), squared_distances(alone.matrix), rtol=0, atol=1e-9, equal_nan=True
    )
    assert found.flat == alone.flat
    assert found.flat == (("t2",) if 2 in kept and kind in ("combined", "standardised") else ())
    assert found.tasks == maps.tasks
    assert found.kind == kind


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_without_labels_has_no_features(kind):
    """Not from the predictions of its head, which was not trained, nor from its pair with a constant map either."""
    maps = random_maps(n_tasks=4)
    maps.confidence[:, 2] = maps.variability[:, 2] = 0.5
    maps.confidence[:, 1] = maps.variability[:, 1] = torch.nan
    found = features_of(kind, maps)
    assert found.matrix.isnan().all(1).tolist() == [False, True, False, False]
    assert not found.matrix[[0, 2, 3]].isnan().any()
    assert "t1" not in found.flat


@pytest.mark.parametrize("kind", KINDS)
def test_no_task_with_labels(kind):
    maps = changed(random_maps(n_tasks=4), lambda values: torch.full_like(values, torch.nan))
    found = features_of(kind, maps)
    assert len(found.matrix) == 4
    assert found.matrix.isnan().any(1).all()
    assert found.flat == ()


def test_a_flat_task_is_like_no_other_without_labels_and_predictions():
    maps = selected(random_maps(), [0, 1, 2, 4, 5])
    maps.confidence[:, 2] = maps.variability[:, 2] = 0.1
    found = task_features(maps)
    assert found.flat == ("t2",)
    assert found.matrix[2].eq(0).all()
    torch.testing.assert_close(found.matrix[[0, 1, 3, 4]].norm(dim=1), torch.ones(4).double())


def test_combined_features_take_every_source_that_is_there():
    maps = random_maps()
    predictions, labels = random_similarity(6, 0).abs(), random_similarity(6, 1)
    alone = task_features(maps).matrix
    for sources in ({"predictions": predictions}, {"labels": labels}, {"predictions": predictions, "labels": labels}):
        found = task_features(maps, **sources)
        assert not torch.allclose(squared_distances(found.matrix), squared_distances(alone), atol=1e-3)
        assert found.kind == "combined"


@settings(deadline=None, max_examples=25)
@given(n=st.integers(1, 8), rank=st.integers(1, 8), seed=st.integers(0, 999))
def test_inner_products_of_embedded_rows_are_the_matrix(n, rank, seed):
    points = torch.randn(n, rank, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    rows = embedded(points @ points.T)
    torch.testing.assert_close(rows @ rows.T, points @ points.T, rtol=0, atol=1e-10)


@settings(deadline=None, max_examples=15)
@given(n=st.integers(2, 8), seed=st.integers(0, 999))
def test_otherwise_they_are_the_nearest_matrix_that_real_rows_have(n, seed):
    matrix = torch.randn(n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    matrix = matrix + matrix.T
    values, vectors = np.linalg.eigh(matrix.numpy())
    expected = vectors @ np.diag(values.clip(0)) @ vectors.T
    rows = embedded(matrix)
    np.testing.assert_allclose((rows @ rows.T).numpy(), expected, rtol=0, atol=1e-10)


def test_eigenvalues_that_are_rounding_leave_no_trace():
    """Their square roots would be 1e-8: far apart, to a clustering of rows that should be one point each."""
    points = torch.randn(40, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows = embedded(points @ points.T)
    assert (rows.abs().amax(0) > 1e-12).sum() == 2


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 9999), decimals=st.sampled_from([0, 3, 12, 13]))
def test_rows_that_differ_by_rounding_become_equal(seed, decimals):
    """Wherever the entries lie: between two decimals, too, where rounding them would part the rows."""
    generator = torch.Generator().manual_seed(seed)
    matrix = (random_similarity(5, seed) * 10**decimals).round() / 10**decimals + 0.5 * 10.0**-decimals
    twins = [0, 1, 2, 3, 4, 1, 3, 1]
    noisy = matrix[twins][:, twins] + 2e-16 * torch.randn(8, 8, generator=generator, dtype=torch.float64)
    rows = embedded(noisy)
    assert torch.equal(rows[[5, 6, 7]], rows[[1, 3, 1]])


def test_unknown_pairs_are_neither_near_nor_far():
    matrix = random_similarity(5, 0) @ random_similarity(5, 0)  # well within the matrices that real rows have
    gaps = matrix.clone()
    gaps[0, 1] = gaps[1, 0] = torch.nan
    gaps[4] = gaps[:, 4] = torch.nan
    rows = embedded(gaps)
    filled = matrix[:4, :4].clone()
    filled[0, 1] = filled[1, 0] = (matrix[0, [2, 3]].mean() + matrix[1, [2, 3]].mean()) / 2
    assert rows[4].isnan().all()
    torch.testing.assert_close(squared_distances(rows[:4]), squared_distances(embedded(filled)))
    torch.testing.assert_close(rows[:4] @ rows[:4].T, filled)


def test_a_task_alone_is_a_point_and_nothing_is_none():
    assert embedded(torch.full((1, 1), 4.0)).tolist() == [[2.0]]
    lone = torch.full((3, 3), torch.nan)
    assert embedded(lone).isnan().any(1).all()
    lone[1, 1] = 4.0
    assert embedded(lone)[1].tolist() == [2.0]
    lone[2, 2] = 1.0  # two that cannot be compared
    assert embedded(lone).isnan().any(1).all()
    assert embedded(torch.zeros(3, 3)).eq(0).all()


@settings(deadline=None, max_examples=20)
@given(n=st.integers(2, 8), seed=st.integers(0, 999))
def test_kinship_features_are_the_normalised_spectral_embedding(n, seed):
    similarity = kinship(labels=random_similarity(n, seed)).numpy()
    weights = similarity.copy()
    np.fill_diagonal(weights, np.nanmax(similarity, axis=1))
    degree = weights.sum(1)
    values, vectors = np.linalg.eigh(weights / np.sqrt(np.outer(degree, degree)))
    expected = vectors * np.sqrt(values.clip(0))
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = kinship_features(torch.tensor(similarity), tuple("abcdefgh"[:n]), ("a",))
    np.testing.assert_allclose((found.matrix @ found.matrix.T).numpy(), expected @ expected.T, atol=1e-9)
    assert found.tasks == tuple("abcdefgh"[:n])
    assert found.flat == ("a",)


def test_kinship_features_of_tasks_without_kin_and_without_pairs():
    matrix = torch.full((5, 5), 0.5)
    matrix[3] = matrix[:, 3] = 0.0
    matrix[4] = matrix[:, 4] = torch.nan
    rows = kinship_features(matrix, tuple("abcde")).matrix
    assert rows[3].eq(0).all()
    assert rows[4].isnan().all()
    torch.testing.assert_close(rows[:3].norm(dim=1), torch.ones(3).double())
    assert kinship_features(torch.full((1, 1), torch.nan), ("a",)).matrix.isnan().all()


def test_raw_features_need_all_labels_of_the_tasks_that_take_part():
    maps = random_maps(n_tasks=4)
    maps.confidence[3, 1] = maps.variability[3, 1] = torch.nan
    with pytest.raises(ValueError, match=r"\['t1'\] have samples without labels\. Use standardised"):
        task_features(maps, "raw")
    assert not task_features(maps, "raw", left_out=["t1"]).matrix[[0, 2, 3]].isnan().any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "signed"}, "signed features need predictions"),
        ({"kind": "best"}, r"kind must be combined, standardised, signed or raw\. Got 'best'"),
        ({"left_out": ["t0", "t9"]}, r"Unknown tasks \['t9'\] in left_out\. Known tasks: t0, t1"),
        ({"labels": torch.eye(3)}, r"must be \[4, 4\].* Got \[3, 3\]"),
        ({"predictions": torch.eye(4)[:1]}, r"Got \[1, 4\]"),
    ],
)
def test_arguments_that_do_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        task_features(random_maps(n_tasks=4), **arguments)


def test_the_default_finds_planted_groups_that_raw_maps_hide():
    """Tasks of unequal label noise: raw maps are ruled by how hard the tasks are."""
    data = make_planted_tasks(12, 3, n_samples=1500, label_noise=np.repeat([0.0, 0.1, 0.2, 0.3], 3), n_features=5)
    torch.manual_seed(0)
    model = SharedTrunk(nn.Sequential(nn.Linear(5, 32), nn.ReLU()), data.tasks, 32)
    recorder = DataMap(len(data.train.inputs), data.tasks)
    train, valid = ((split.inputs, split.targets) for split in (data.train, data.valid))
    result = fit(model, data.tasks, train, valid, epochs=8, batch_size=64, instruments=[recorder])
    maps = recorder.result()
    maps = SimpleNamespace(confidence=maps.confidence, variability=maps.variability, tasks=maps.tasks, snapshots=())
    with torch.no_grad():
        outputs = result.model(data.valid.inputs)
    sources = {
        "predictions": prediction_correlation(data.tasks, outputs),
        "labels": label_correlation(data.tasks, data.train.targets),
    }

    def agreement(kind):
        rows = task_features(maps, kind, **sources).matrix.numpy()
        found = KMeans(3, n_init=20, random_state=0).fit_predict(rows)
        return adjusted_rand_score(data.groups, found)

    assert agreement("combined") == 1.0
    assert agreement("raw") < 0.5
