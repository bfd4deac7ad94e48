import numpy as np
import pytest
import torch

from cotrain.data import MultiTaskData, make_planted_tasks, validate
from cotrain.errors import DataError


def labels(data: MultiTaskData) -> np.ndarray:
    return torch.cat([part.targets for part in data.splits.values()]).double().numpy()


def kinship(data: MultiTaskData) -> tuple[float, float]:
    """Mean correlation of targets within groups, and mean absolute correlation of group means between groups."""
    values, groups = labels(data), np.array(data.groups)
    correlation = np.corrcoef(values.T)
    same = (groups[:, None] == groups) & ~np.eye(len(groups), dtype=bool)
    return float(correlation[same].mean()), float(np.abs(correlation[groups[:, None] != groups]).mean())


def test_groups_go_round() -> None:
    data = make_planted_tasks(7, 3, n_samples=50)
    assert data.groups == (0, 1, 2, 0, 1, 2, 0)
    assert data.tasks.names[4] == "g1_t4"
    assert [len(part) for part in data.splits.values()] == [30, 10, 10]
    validate(data)


@pytest.mark.parametrize("relatedness", [0.3, 0.6, 0.9])
def test_scores_of_a_group_correlate_by_its_relatedness(relatedness: float) -> None:
    within, between = kinship(make_planted_tasks(24, 4, kinds="regression", relatedness=relatedness))
    assert within == pytest.approx(relatedness, abs=0.1)
    assert between < 0.25


def test_features_of_groups_are_uncorrelated() -> None:
    correlation = np.corrcoef(labels(make_planted_tasks(4, 4, kinds="regression", relatedness=1.0)).T)
    np.testing.assert_allclose(correlation, np.eye(4), atol=1e-3)


def test_each_group_may_have_its_own_relatedness() -> None:
    data = make_planted_tasks(4, 2, kinds="regression", relatedness=[1.0, 0.0])
    correlation = np.corrcoef(labels(data).T)
    assert correlation[0, 2] == pytest.approx(1.0)
    assert abs(correlation[1, 3]) < 0.6


def test_label_noise_flips_that_share_of_binary_labels() -> None:
    clean = labels(make_planted_tasks(4, 2, relatedness=1.0))
    noisy = labels(make_planted_tasks(4, 2, relatedness=1.0, label_noise=[0.0, 0.1, 0.3, 0.5]))
    flipped = (clean != noisy).mean(axis=0)
    assert flipped == pytest.approx([0.0, 0.1, 0.3, 0.5], abs=0.03)


def test_label_noise_of_other_kinds() -> None:
    options = {"relatedness": 1.0, "kinds": ["multiclass", "regression"], "n_classes": 4}
    clean = labels(make_planted_tasks(2, 1, **options))
    noisy = labels(make_planted_tasks(2, 1, label_noise=0.4, **options))
    assert (clean[:, 0] != noisy[:, 0]).mean() == pytest.approx(0.4 * 3 / 4, abs=0.03)
    assert np.corrcoef(clean[:, 1], noisy[:, 1])[0, 1] ** 2 == pytest.approx(0.6, abs=0.03)
    assert noisy[:, 1].var() == pytest.approx(1.0, abs=0.06)


def test_classes_have_equal_size() -> None:
    data = make_planted_tasks(2, 1, n_samples=300, kinds="multiclass", n_classes=3)
    assert [task.n_outputs for task in data.tasks] == [3, 3]
    for column in labels(data).T:
        assert np.bincount(column.astype(int)).tolist() == [100, 100, 100]


def test_kinds_may_be_mixed() -> None:
    kinds = ["binary", "regression", "multiclass", "binary"]
    data = make_planted_tasks(4, 2, n_samples=100, kinds=kinds)
    assert [task.kind for task in data.tasks] == kinds
    validate(data)
    assert set(np.unique(labels(data)[:, [0, 3]])) == {0.0, 1.0}
    assert "multiclass task of group 0" in data.notes["g0_t2"]


def test_the_same_seed_gives_the_same_data() -> None:
    first, again, other = (make_planted_tasks(5, 2, n_samples=100, seed=seed) for seed in (0, 0, 1))
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_many_tasks_are_possible() -> None:
    data = make_planted_tasks(10_000, 100, n_samples=500)
    assert data.train.targets.shape == (300, 10_000)
    assert len(data.notes) == 10_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_tasks": 2, "n_groups": 3}, "3 groups for 2 tasks"),
        ({"n_groups": 0}, "n_groups must be at least 1"),
        ({"n_classes": 1}, "n_classes must be at least 2"),
        ({"relatedness": 1.5}, "relatedness must be from 0 to 1. Got 1.5"),
        ({"relatedness": [0.1, 0.2]}, "one per group, 4. Got 2"),
        ({"label_noise": [0.1] * 3}, "one per task, 24. Got 3"),
        ({"label_noise": 0.7}, "binary task is at most 0.5"),
        ({"kinds": "custom"}, r"Got \['custom'\]"),
        ({"kinds": ["binary"] * 2}, "one per task, 24. Got 2"),
        ({"n_samples": 3}, "Got n_samples=3"),
        ({"n_samples": 4, "n_features": 0}, "n_features must be at least 1"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        make_planted_tasks(**options)  # type: ignore[arg-type]
