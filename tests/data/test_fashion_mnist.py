from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from data_files import N_TEST, N_TRAIN, SIDE, write_idx

from cotrain.data import load_fashion_mnist
from cotrain.data.idx import read_idx
from cotrain.errors import DataError


def test_one_training_image_in_six_is_for_validation(fashion_folder: Path) -> None:
    data = load_fashion_mnist(folder=fashion_folder, flips=False)
    assert [len(part) for part in data.splits.values()] == [N_TRAIN * 5 // 6, N_TRAIN // 6, N_TEST]
    assert data.input_shape == (1, SIDE, SIDE)
    images = read_idx(fashion_folder / "train-images-idx3-ubyte.gz", n_dims=3).astype(np.float32) / 255
    seen = torch.cat([data.train.inputs, data.valid.inputs]).squeeze(1).numpy()
    assert sorted(image.tobytes() for image in seen) == sorted(image.tobytes() for image in images)


def test_test_images_are_those_of_the_test_file(fashion_folder: Path) -> None:
    data = load_fashion_mnist(folder=fashion_folder, flips=False)
    images = read_idx(fashion_folder / "t10k-images-idx3-ubyte.gz", n_dims=3)
    labels = read_idx(fashion_folder / "t10k-labels-idx1-ubyte.gz", n_dims=1)
    assert torch.equal(data.test.inputs.squeeze(1), torch.from_numpy(images.copy()).float() / 255)
    assert data.test.targets[:, :10].argmax(1).tolist() == labels.tolist()


def test_the_same_seed_gives_the_same_data(fashion_folder: Path) -> None:
    first, again, other = (load_fashion_mnist(folder=fashion_folder, seed=seed) for seed in (0, 0, 1))
    assert first.fingerprint == again.fingerprint != other.fingerprint


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("t10k-labels-idx1-ubyte.gz", np.zeros(3, dtype="u1"), "40 images but .* 3 labels"),
        ("t10k-labels-idx1-ubyte.gz", np.full(N_TEST, 10, dtype="u1"), "labels from 0 to 9. Got 10"),
        ("t10k-images-idx3-ubyte.gz", np.zeros((N_TEST, 2, 2), dtype="u1"), r"test images \(2, 2\) pixels"),
    ],
)
def test_files_that_do_not_fit_are_refused(fashion_folder: Path, name: str, values: np.ndarray, message: str) -> None:
    write_idx(fashion_folder / name, values)
    with pytest.raises(DataError, match=message):
        load_fashion_mnist(folder=fashion_folder)


def test_the_published_files(published: Callable[[str], Path]) -> None:
    data = load_fashion_mnist(folder=published("fashion-mnist"), targets=["odd", "footwear"])
    assert [len(part) for part in data.splits.values()] == [50_000, 10_000, 10_000]
    assert data.input_shape == (1, 28, 28)
    assert data.test.targets.mean(0).tolist() == pytest.approx([0.5, 0.3])
    phi = torch.corrcoef(torch.cat([part.targets for part in data.splits.values()]).T)[0, 1]
    assert float(phi) == pytest.approx(0.655, abs=0.0005)
