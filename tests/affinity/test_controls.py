import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats.contingency import association

from cotrain import Task
from cotrain.affinity import controls, label_correlation

TASKS = [
    Task("few", "multiclass", 3),
    Task("yes", "binary"),
    Task("number", "regression"),
    Task("own", "custom", loss=lambda o, y: (o[:, 0] - y) ** 2),
    Task("many", "multiclass", 6),
    Task("no", "binary"),
]


def reference(a, b, kind_a, kind_b):
    """One pair from the labelled samples: Pearson, correlation ratio or Cramer's V."""
    known = ~np.isnan(a) & ~np.isnan(b)
    if kind_a != "regression":
        known &= a != -100
    if kind_b != "regression":
        known &= b != -100
    a, b = a[known], b[known]
    if len(a) == 0 or len(np.unique(a)) < 2 or len(np.unique(b)) < 2:
        return math.nan
    if kind_a == kind_b == "multiclass":
        rows, columns = np.unique(a, return_inverse=True)[1], np.unique(b, return_inverse=True)[1]
        table = np.zeros((rows.max() + 1, columns.max() + 1), dtype=int)
        np.add.at(table, (rows, columns), 1)
        return association(table, method="cramer")
    if kind_b == "multiclass":
        return reference(b, a, kind_b, kind_a)
    if kind_a == "multiclass":
        between = sum((a == c).sum() * (b[a == c].mean() - b.mean()) ** 2 for c in np.unique(a))
        return math.sqrt(between / ((b - b.mean()) ** 2).sum())
    return np.corrcoef(a, b)[0, 1]


@settings(deadline=None, max_examples=25)
@given(n=st.integers(1, 60), missing=st.floats(0, 0.8), seed=st.integers(0, 999), chunk=st.sampled_from([7, 8192]))
def test_every_pair_is_that_of_its_labelled_samples(n, missing, seed, chunk):
    generator = np.random.default_rng(seed)
    hidden = generator.normal(size=n)
    columns = [
        np.digitize(hidden + generator.normal(size=n), [-0.5, 0.5]),
        hidden + generator.normal(size=n) > 0,
        1e7 + hidden,  # years in seconds, say: squares would cancel
        generator.normal(size=n),
        generator.integers(6, size=n),
        hidden < 0,
    ]
    targets = np.stack([column.astype(float) for column in columns], axis=1)
    targets[generator.random(targets.shape) < missing] = np.nan
    targets[generator.random(n) < 0.1, 1] = -100
    whole, controls.CHUNK = controls.CHUNK, chunk
    try:
        found = label_correlation(TASKS, torch.tensor(targets))
    finally:
        controls.CHUNK = whole
    assert torch.equal(found.isnan(), found.T.isnan())
    for i, one in enumerate(TASKS):
        for j, other in enumerate(TASKS):
            if "custom" in (one.kind, other.kind):
                assert found[i, j].isnan()
                continue
            expected = reference(targets[:, i], targets[:, j], one.kind, other.kind)
            assert found[i, j].item() == pytest.approx(expected, abs=1e-6, nan_ok=True), (one.name, other.name)


def test_phi_has_its_sign():
    targets = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    found = label_correlation([Task("a", "binary"), Task("not a", "binary")], targets)
    torch.testing.assert_close(found, torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).double())


def test_targets_by_name():
    generator = torch.Generator().manual_seed(0)
    targets = {"a": torch.randint(2, (40,), generator=generator), "b": torch.randn(40, 2, generator=generator)}
    tasks = [Task("a", "binary"), Task("b", "regression", 2)]
    found = label_correlation(tasks, targets)
    assert found[0, 0] == 1
    assert found[1].isnan().all()
