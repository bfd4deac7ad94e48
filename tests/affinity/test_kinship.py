import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cotrain import Task, TaskSet
from cotrain.affinity import dynamics_correlation, kinship, prediction_correlation
from cotrain.affinity.overlap import overlap_correlation

MIXED = TaskSet(
    [
        Task("yes", "binary"),
        Task("few", "multiclass", 3),
        Task("number", "regression", location=5.0, scale=2.0),
        Task("place", "regression", 2, location=0.0, scale=1.0),
        Task("no", "binary"),
        Task("own", "custom", 2, loss=lambda outputs, targets: (outputs.sum(1) - targets) ** 2),
    ]
)


def maps_of(*shots):
    """Maps with one or more snapshots, each of confidences and variabilities [N, T]; the last is the final one."""
    parts = [SimpleNamespace(confidence=confidence, variability=variability) for confidence, variability in shots]
    names = tuple(f"t{number}" for number in range(shots[-1][0].shape[1]))
    return SimpleNamespace(**vars(parts[-1]), tasks=names, snapshots=tuple(parts) if len(parts) > 1 else ())


def random_shot(n, n_tasks, seed, missing=None):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.rand(n, 2, generator=generator)
    confidence = hidden[:, torch.arange(n_tasks) % 2] / 2 + torch.rand(n, n_tasks, generator=generator) / 2
    variability = torch.rand(n, n_tasks, generator=generator) / 2
    if missing is not None:
        confidence, variability = (
            confidence.masked_fill(missing, torch.nan),
            variability.masked_fill(missing, torch.nan),
        )
    return confidence, variability


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 999), n_shots=st.integers(1, 3))
def test_dynamics_are_the_mean_correlation_of_all_maps(seed, n_shots):
    shots = [random_shot(40, 5, seed + number) for number in range(n_shots)]
    expected = np.mean([np.corrcoef(part.double().numpy().T) for shot in shots for part in shot], axis=0)
    np.testing.assert_allclose(dynamics_correlation(maps_of(*shots)).numpy(), expected, atol=1e-12)


def test_dynamics_of_partial_labels():
    missing = torch.zeros(200, 5, dtype=torch.bool)
    missing[100:, 1] = True
    missing[:70, 2] = True
    missing[:, 3] = True
    missing[:171, 4] = True  # 29 labels left
    confidence, variability = random_shot(200, 5, 0, missing)
    found = dynamics_correlation(maps_of((confidence, variability)))
    plain = (overlap_correlation(confidence)[0] + overlap_correlation(variability)[0]) / 2
    assert found[0, 1].item() == pytest.approx(plain[0, 1].item() * 100 / 150)
    assert found[0, 2].item() == pytest.approx(plain[0, 2].item() * 130 / 180)
    assert found[1, 2].item() == pytest.approx(plain[1, 2].item() * 30 / 80)
    assert found[3].isnan().all()
    assert found[4, :4].isnan().all()
    assert found.diagonal()[[0, 1, 2, 4]].eq(1).all()
    assert torch.equal(found.isnan(), found.T.isnan())


def test_pairs_with_all_labels_do_not_depend_on_tasks_without():
    confidence, variability = random_shot(25, 4, 0)
    missing = torch.zeros(25, 4, dtype=torch.bool)
    missing[:3, 2] = missing[:, 3] = True
    whole = dynamics_correlation(maps_of((confidence, variability)))
    part = dynamics_correlation(
        maps_of((confidence.masked_fill(missing, torch.nan), variability.masked_fill(missing, torch.nan)))
    )
    assert torch.equal(part[:2, :2], whole[:2, :2])


def test_one_map_of_two_tasks_is_not_drawn_apart_by_missing_labels():
    missing = torch.rand(120, 3, generator=torch.Generator().manual_seed(1)) < 0.4
    confidence, variability = random_shot(120, 3, 0, missing)
    twins = [0, 1, 2, 0]
    found = dynamics_correlation(maps_of((confidence[:, twins], variability[:, twins])))
    torch.testing.assert_close(found[0], found[3], rtol=0, atol=1e-12)
    other = torch.arange(120) < 60  # the same values, but other samples with labels: this is less sure
    shot = (
        torch.stack([part[:, 0], part[:, 0].masked_fill(other, torch.nan)], 1) for part in (confidence, variability)
    )
    fewer = maps_of(tuple(shot))
    n = (~missing[60:, 0]).sum().item()
    assert dynamics_correlation(fewer)[0, 1].item() == pytest.approx(n / (n + 50))
    few = torch.full((120, 2), torch.nan)
    few[:2] = torch.rand(2, 2, generator=torch.Generator().manual_seed(0))  # two samples always correlate by 1
    assert dynamics_correlation(maps_of((few, few)))[0, 1].isnan()


def test_a_map_that_does_not_vary_is_zero():
    confidence, variability = random_shot(40, 4, 0)
    confidence[:, 1] = variability[:, 1] = 0.1
    variability[:, 2] = 0.0
    confidence[:, 3] = variability[:, 3] = torch.nan
    found = dynamics_correlation(maps_of((confidence, variability)))
    assert found[1, :3].eq(0).all()
    assert found[:3, 1].eq(0).all()
    assert found.diagonal()[:3].tolist() == [1, 0, 0.5]
    assert found[3].isnan().all()
    assert found[:, 3].isnan().all()


def rv_reference(tasks, outputs):
    """Escoufier's RV of what every pair of tasks predicts, from explicit cross-covariances."""
    blocks = []
    for task in tasks:
        z = outputs[:, tasks.slices[task.name]].double().numpy()
        if task.kind == "binary":
            z = 1 / (1 + np.exp(-z))
        elif task.kind == "multiclass":
            z = np.exp(z) / np.exp(z).sum(1, keepdims=True)
        blocks.append(z - z.mean(0))

    def length(a, b):
        return (np.linalg.norm(a.T @ b) ** 2).item()

    return np.array([[length(a, b) / math.sqrt(length(a, a) * length(b, b)) for b in blocks] for a in blocks])


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 999), n=st.integers(3, 60), chunk=st.sampled_from([2, 8192]))
def test_predictions_of_any_width_correlate_as_in_the_definition(seed, n, chunk):
    outputs = torch.randn(n, MIXED.n_outputs, generator=torch.Generator().manual_seed(seed))
    outputs[:, MIXED.slices["place"]] += 1000.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(prediction_correlation.__globals__, "CHUNK", chunk)
        found = prediction_correlation(MIXED, outputs)
    np.testing.assert_allclose(found.numpy() ** 2, rv_reference(MIXED, outputs), atol=1e-8)
    torch.testing.assert_close(found, found.T, rtol=0, atol=1e-14)
    assert found.diagonal().eq(1).all()


def test_binary_predictions_correlate_without_sign():
    logits = 3 * torch.randn(80, 4, generator=torch.Generator().manual_seed(0))
    logits[:, 3] = -logits[:, 0]
    tasks = [Task(name, "binary") for name in "abcd"]
    found = prediction_correlation(tasks, logits)
    expected = np.abs(np.corrcoef(logits.double().sigmoid().numpy().T))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)
    turned = prediction_correlation(tasks, logits * torch.tensor([1, -1, -1, 1]))
    torch.testing.assert_close(found, turned, rtol=0, atol=1e-12)
    by_name = prediction_correlation(tasks, {name: logits[:, n] for n, name in enumerate("abcd")})
    assert torch.equal(found, by_name)


@pytest.mark.parametrize("level", [0.3, -12.0, 40.0])
def test_predictions_that_do_not_vary_are_like_no_other(level):
    """Nor like each other: the rounding of their means must not be correlated, whichever class is called 1."""
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(1000, MIXED.n_outputs, generator=generator)
    outputs[:, MIXED.slices["yes"]] = level + 1e-7 * torch.randn(1000, 1, generator=generator)
    outputs[:, MIXED.slices["few"]] = torch.tensor([0.1, level, -0.7])
    outputs[:, MIXED.slices["number"]] = level
    outputs[:, MIXED.slices["no"]] = -outputs[:, MIXED.slices["yes"]]
    found = prediction_correlation(MIXED, outputs)
    constant = [0, 1, 2, 4]
    assert torch.equal(found[constant], torch.eye(6, dtype=torch.float64)[constant])
    assert found[:, constant].eq(found[constant].T).all()
    assert found[3, 5] > 0


def test_predictions_that_are_not_finite_spoil_their_own_task_only():
    outputs = torch.randn(50, MIXED.n_outputs, generator=torch.Generator().manual_seed(0))
    expected = prediction_correlation(MIXED, outputs)
    outputs[3, MIXED.slices["few"]] = torch.nan
    outputs[7, MIXED.slices["number"]] = torch.inf
    outputs[:, MIXED.slices["no"]] = 0.0
    found = prediction_correlation(MIXED, outputs)
    assert found[[1, 2]].isnan().all()
    assert found[:, [1, 2]].isnan().all()
    torch.testing.assert_close(found[0, [0, 3, 5]], expected[0, [0, 3, 5]])
    assert found[4, [0, 3, 5]].eq(0).all()


def symmetric(n, generator, signed=True):
    matrix = torch.rand(n, n, generator=generator, dtype=torch.float64) * (2 if signed else 1) - (1 if signed else 0)
    return ((matrix + matrix.T) / 2).fill_diagonal_(1.0)


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 999),
    given_sources=st.sets(st.sampled_from(["dynamics", "predictions", "labels"]), min_size=1),
)
def test_kinship_is_the_weighted_mean_of_what_is_known(seed, given_sources):
    generator = torch.Generator().manual_seed(seed)
    sources = {name: symmetric(5, generator) for name in sorted(given_sources)}
    for matrix in sources.values():
        gaps = torch.rand(5, 5, generator=generator) < 0.15
        matrix[gaps | gaps.T] = torch.nan
    weights = {"dynamics": 0.25, "predictions": 0.25, "labels": 0.5}
    found = kinship(**sources)
    pairs = [(i, j) for i in range(5) for j in range(5) if i != j]
    clean = {name: (m.clamp(min=0) if name == "dynamics" else m.abs()).numpy() for name, m in sources.items()}
    means = {name: np.nanmean([m[p] for p in pairs]) for name, m in clean.items()}
    for i, j in pairs:
        known = [name for name in clean if not math.isnan(clean[name][i, j])]
        total = sum(weights[name] for name in known)
        expected = sum(weights[name] * clean[name][i, j] / means[name] for name in known) / total if known else math.nan
        assert found[i, j].item() == pytest.approx(expected, nan_ok=True)
    assert found.diagonal().isnan().all()
    torch.testing.assert_close(found, found.T, rtol=0, atol=0, equal_nan=True)


def test_the_scale_of_a_source_does_not_matter_and_an_average_pair_has_kinship_one():
    generator = torch.Generator().manual_seed(0)
    dynamics, labels = symmetric(6, generator), symmetric(6, generator)
    found = kinship(dynamics=dynamics, labels=labels)
    torch.testing.assert_close(found, kinship(dynamics=7 * dynamics, labels=-0.01 * labels), equal_nan=True)
    assert found.nanmean().item() == pytest.approx(1)


def test_a_source_that_is_nothing_stays_nothing():
    labels = symmetric(4, torch.Generator().manual_seed(0))
    found = kinship(dynamics=-torch.ones(4, 4), labels=labels)
    torch.testing.assert_close(found, kinship(labels=labels) * 2 / 3, equal_nan=True)
    assert kinship(labels=torch.full((3, 3), torch.nan)).isnan().all()


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ({}, "Got none"),
        ({"dynamics": torch.eye(3), "labels": torch.eye(2)}, r"Got \[\(2, 2\), \(3, 3\)\]"),
        ({"labels": torch.ones(2, 3)}, r"Got \[\(2, 3\)\]"),
        ({"labels": torch.ones(3)}, r"Got \[\(3,\)\]"),
    ],
)
def test_sources_that_do_not_fit(sources, message):
    with pytest.raises(ValueError, match=message):
        kinship(**sources)
