import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cotrain import Task, TaskSet
from cotrain.affinity import MASTERED, mastery

TASKS = TaskSet(
    [
        Task("yes", "binary"),
        Task("few", "multiclass", 4),
        Task("number", "regression", location=3.0, scale=2.0),
        Task("own", "custom", loss=lambda outputs, targets: (outputs[:, 0] - targets) ** 2),
    ]
)


def reference(outputs, targets):
    """Task by task in numpy."""
    found = []
    for n, task in enumerate(TASKS):
        z, y = outputs[:, TASKS.slices[task.name]].double().numpy(), targets[:, n].double().numpy()
        known = ~np.isnan(y) & ((y != -100) | (task.kind == "regression"))
        z, y = z[known], y[known]
        if task.kind == "custom" or len(np.unique(y)) < 2:
            found.append(math.nan)
        elif task.kind == "regression":
            found.append(1 - ((3 + 2 * z[:, 0] - y) ** 2).sum() / ((y - y.mean()) ** 2).sum())
        else:
            guess = z[:, 0] > 0 if task.kind == "binary" else z.argmax(1)
            classes = np.unique(y)
            balanced = np.mean([(guess[y == c] == c).mean() for c in classes])
            found.append((balanced - 1 / len(classes)) / (1 - 1 / len(classes)))
    return found


@settings(deadline=None, max_examples=25)
@given(n=st.integers(1, 40), missing=st.sampled_from([0.0, 0.4, 0.9]), seed=st.integers(0, 999))
def test_mastery_is_what_a_plain_count_gives(n, missing, seed):
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(n, TASKS.n_outputs, generator=generator)
    numbers = torch.randn(n, 2, generator=generator)
    classes = [torch.randint(c, (n,), generator=generator).float() for c in (2, 4)]
    targets = torch.stack([*classes, *numbers.unbind(1)], dim=1)
    targets[torch.rand(n, 4, generator=generator) < missing] = torch.nan
    targets[:, :2] = targets[:, :2].nan_to_num(-100)
    found = mastery(TASKS, outputs, targets)
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx(reference(outputs, targets), rel=1e-5, abs=1e-5, nan_ok=True)
    by_name = mastery(TASKS, outputs, {name: targets[:, number] for number, name in enumerate(TASKS.names)})
    torch.testing.assert_close(found, by_name, rtol=0, atol=0, equal_nan=True)


def test_no_mistake_is_one_and_a_constant_is_zero():
    generator = torch.Generator().manual_seed(0)
    classes = torch.stack(
        [torch.randint(2, (200,), generator=generator), torch.randint(4, (200,), generator=generator)]
    )
    targets = torch.stack([*classes.float(), torch.randn(200, generator=generator), torch.zeros(200)], dim=1)
    perfect = torch.cat(
        [
            100 * (targets[:, :1] - 0.5),
            100 * torch.nn.functional.one_hot(classes[1], 4),
            (targets[:, 2:3] - 3) / 2,
            torch.zeros(200, 1),
        ],
        dim=1,
    )
    assert mastery(TASKS, perfect, targets)[:3].tolist() == pytest.approx([1, 1, 1])
    assert (mastery(TASKS, perfect, targets)[:3] >= MASTERED).all()
    constant = perfect.mean(0).expand_as(perfect)
    assert mastery(TASKS, constant, targets)[:3].tolist() == pytest.approx([0, 0, 0], abs=1e-6)


@pytest.mark.parametrize("task", [Task("rare", "binary"), Task("rare", "multiclass", 3)])
def test_rare_classes_flatter_nobody(task):
    targets = torch.zeros(10000, 1)
    targets[:3] = 1.0  # three of ten thousand, never found: accuracy .9997
    outputs = torch.tensor([[-5.0]] if task.kind == "binary" else [[5.0, 0.0, 0.0]]).repeat(10000, 1)
    assert mastery([task], outputs, targets).item() == 0.0


def test_several_dimensions_count_as_far_as_they_vary():
    generator = torch.Generator().manual_seed(0)
    targets = torch.randn(50, 3, generator=generator)
    targets[:, 2] = 0.1
    outputs = targets + torch.tensor([0.1, 0.5, 1.0]) * torch.randn(50, 3, generator=generator)
    targets[::4, 1] = torch.nan  # such a sample has no label
    found = mastery([Task("place", "regression", 3, location=0.0, scale=1.0)], outputs, {"place": targets})
    y, z = (values[~targets.isnan().any(1)][:, :2].double().numpy() for values in (targets, outputs))
    expected = 1 - ((y - z) ** 2).sum(0) / ((y - y.mean(0)) ** 2).sum(0)
    assert found.item() == pytest.approx(expected.mean())


def test_units_must_be_known():
    with pytest.raises(ValueError, match="units of regression tasks"):
        mastery([Task("number", "regression")], torch.zeros(2, 1), torch.ones(2, 1))
