from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from data_files import write_idx
from torch.nn.functional import interpolate

from cotrain.data import MultiTaskData, load, load_multi_fashion, load_multi_mnist
from cotrain.data.idx import read_idx
from cotrain.data.overlaid_images import overlay
from cotrain.errors import DataError

N_TRAIN, N_TEST = 120, 40
PLACES = {
    2: (36, "bicubic", [(slice(0, 28), slice(0, 28)), (slice(6, 34), slice(6, 34))]),
    3: (
        42,
        "bilinear",
        [(slice(0, 28), slice(0, 28)), (slice(14, 42), slice(7, 35)), (slice(0, 28), slice(14, 42))],
    ),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for prefix, count in (("train", N_TRAIN), ("t10k", N_TEST)):
        write_idx(tmp_path / f"{prefix}-images-idx3-ubyte.gz", random.integers(256, size=(count, 28, 28), dtype="u1"))
        write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte.gz", random.integers(10, size=count, dtype="u1"))
    return tmp_path


@pytest.mark.parametrize("n_images", [2, 3])
def test_overlaying_is_a_maximum_on_a_canvas_and_an_antialiased_resize(n_images: int) -> None:
    side, mode, places = PLACES[n_images]
    random = np.random.default_rng(1)
    stacks = [random.integers(256, size=(7, 28, 28), dtype="u1") for _ in range(n_images)]
    canvas = torch.zeros(7, 1, side, side)
    for stack, (rows, columns) in zip(stacks, places, strict=True):
        here = torch.from_numpy(stack).float().div(255).unsqueeze(1)
        canvas[:, :, rows, columns] = torch.maximum(canvas[:, :, rows, columns], here)
    expected = interpolate(canvas, (28, 28), mode=mode, antialias=True)
    assert torch.allclose(overlay(stacks), expected, atol=2e-6)


def test_pieces_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    stacks = [np.random.default_rng(n).integers(256, size=(11, 28, 28), dtype="u1") for n in range(2)]
    whole = overlay(stacks)
    monkeypatch.setattr("cotrain.data.overlaid_images._CHUNK", 4)
    assert torch.allclose(overlay(stacks), whole, atol=1e-6)


def sources(data: MultiTaskData, folder: Path, file: str, n_images: int) -> dict[str, list[tuple[int, ...]]]:
    """Which source images every image of a part is made of, found by making all of them again."""
    images = read_idx(folder / f"{file}-images-idx3-ubyte.gz", n_dims=3)
    numbers = np.arange(len(images))
    grids = [grid.ravel() for grid in np.meshgrid(*[numbers] * n_images, indexing="ij")]
    made = overlay([images[grid] for grid in grids]).flatten(1)
    found = {}
    for part, split in data.splits.items():
        apart = torch.cdist(split.inputs.flatten(1), made)
        near, which = apart.min(1)
        if float(near.max()) < 0.1:
            found[part] = [tuple(int(grid[number]) for grid in grids) for number in which]
    return found


def test_training_and_validation_share_no_source_and_every_source_is_used_once_in_each_position(folder: Path) -> None:
    data = load_multi_fashion(folder=folder)
    assert [len(part) for part in data.splits.values()] == [N_TRAIN * 5 // 6, N_TRAIN // 6, N_TEST]
    assert data.tasks.names == ("top_left", "bottom_right")
    assert data.input_shape == (1, 28, 28)
    found = sources(data, folder, "train", 2)
    assert set(found) == {"training", "validation"}
    used = {part: {number for pair in pairs for number in pair} for part, pairs in found.items()}
    assert not used["training"] & used["validation"]
    for part, pairs in found.items():
        assert all(first != second for first, second in pairs), part
        assert {Counter(column).most_common(1)[0][1] for column in zip(*pairs, strict=True)} == {1}
    labels = read_idx(folder / "train-labels-idx1-ubyte.gz", n_dims=1).astype(int)
    assert data.train.targets.int().tolist() == [[labels[one], labels[two]] for one, two in found["training"]]
    assert set(sources(data, folder, "t10k", 2)) == {"test"}


def test_three_images_have_three_tasks(folder: Path) -> None:
    data = load_multi_fashion(folder=folder, n_images=3)
    assert data.tasks.names == ("top_left", "bottom_centre", "top_right")
    labels = read_idx(folder / "t10k-labels-idx1-ubyte.gz", n_dims=1)
    for column in data.test.targets.T:
        assert sorted(column.int().tolist()) == sorted(labels.tolist())
    found = sources(data, folder, "t10k", 3)["test"]
    assert data.test.targets.int().tolist() == [[labels[number] for number in triple] for triple in found]


def test_the_seed_decides_everything(folder: Path) -> None:
    first, again, other = (load_multi_fashion(folder=folder, seed=seed) for seed in (0, 0, 1))
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_a_target_is_left_out_and_the_images_stay(folder: Path) -> None:
    both, one = load_multi_fashion(folder=folder), load_multi_fashion(folder=folder, targets=["bottom_right"])
    assert torch.equal(both.train.inputs, one.train.inputs)
    assert torch.equal(both.train.targets[:, 1:], one.train.targets)


def test_the_files_of_mnist_serve_as_well(folder: Path) -> None:
    fashion, digits = load_multi_fashion(folder=folder), load_multi_mnist(folder)
    assert (fashion.name, digits.name) == ("multi-fashion", "multi-mnist")
    assert torch.equal(fashion.train.inputs, digits.train.inputs)
    with pytest.raises(DataError, match=r"MNIST's files were not found in .*nowhere"):
        load_multi_mnist(folder / "nowhere")


def test_it_is_loaded_by_name_from_the_folder_of_fashion_mnist(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder / "root"
    root.mkdir()
    (root / "fashion-mnist").symlink_to(folder)
    monkeypatch.setenv("COTRAIN_DATA", str(root))
    assert load("multi-fashion", n_images=3).fingerprint == load_multi_fashion(n_images=3).fingerprint


def test_what_cannot_be_overlaid_is_refused(folder: Path, fashion_folder: Path) -> None:
    with pytest.raises(DataError, match="Got n_images=4"):
        load_multi_fashion(folder=folder, n_images=4)
    with pytest.raises(DataError, match=r"28 x 28 pixels. Got \[\(5, 5\)\]"):
        load_multi_fashion(folder=fashion_folder)
    with pytest.raises(DataError, match="no target of multi-fashion called 'left'"):
        load_multi_fashion(folder=folder, targets=["left"])
    write_idx(folder / "t10k-images-idx3-ubyte.gz", np.zeros((1, 28, 28), dtype="u1"))
    write_idx(folder / "t10k-labels-idx1-ubyte.gz", np.zeros(1, dtype="u1"))
    with pytest.raises(DataError, match="a part of the data has 1"):
        load_multi_fashion(folder=folder)


def test_the_published_files(published: Callable[[str], Path]) -> None:
    data = load_multi_fashion(folder=published("fashion-mnist"))
    assert [len(part) for part in data.splits.values()] == [50_000, 10_000, 10_000]
    assert torch.bincount(data.test.targets[:, 0].int()).tolist() == [1000] * 10
    assert -0.3 < float(data.train.inputs.min()) < 0 < 1 < float(data.train.inputs.max()) < 1.3
