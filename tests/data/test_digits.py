import numpy as np
import torch
from sklearn.datasets import load_digits as load_sklearn_digits

from cotrain.data import load_digits, validate


def test_the_1797_digits_are_split_in_classes() -> None:
    data = load_digits()
    assert [len(part) for part in data.splits.values()] == [1078, 360, 359]
    assert data.input_shape == (1, 8, 8)
    assert float(data.train.inputs.min()) == 0
    assert float(data.train.inputs.max()) == 1
    assert len(data.tasks) == 15
    validate(data)
    rates = torch.stack([part.targets[:, :10].mean(0) for part in data.splits.values()])
    assert float((rates[0] - rates[1:]).abs().max()) < 0.005


def test_inputs_and_targets_belong_together() -> None:
    source = load_sklearn_digits()
    label_of = {
        image.tobytes(): label
        for image, label in zip(source.images.astype(np.float32) / 16, source.target, strict=True)
    }
    data = load_digits(flips=False, seed=5)
    seen = 0
    for part in data.splits.values():
        labels = [label_of[image.numpy().tobytes()] for image in part.inputs]
        assert labels == part.targets[:, :10].argmax(1).tolist()
        seen += len(labels)
    assert seen == 1797


def test_the_seed_decides() -> None:
    assert load_digits(seed=1).fingerprint == load_digits(seed=1).fingerprint
    assert load_digits(seed=1).fingerprint != load_digits(seed=2).fingerprint
