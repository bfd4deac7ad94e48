import numpy as np
import pytest
import torch

from cotrain.data import MultiTaskData
from cotrain.data.digits import DIGIT_CLASSES
from cotrain.data.fashion_mnist import FASHION_CLASSES
from cotrain.data.image_tasks import ImageClasses, image_targets, image_task_data
from cotrain.errors import DataError

LABELS = np.resize(np.arange(10), 400)
IMAGES = np.random.default_rng(0).integers(16, size=(400, 4, 3), dtype="u1")
PARTS = {"train": np.arange(0, 200), "valid": np.arange(200, 300), "test": np.arange(300, 400)}


def build(classes: ImageClasses = DIGIT_CLASSES, **options: object) -> MultiTaskData:
    return image_task_data("toy", IMAGES, LABELS, classes, brightest=16, parts=PARTS, **options)


@pytest.mark.parametrize("classes", [DIGIT_CLASSES, FASHION_CLASSES])
def test_targets_are_those_of_the_table(classes: ImageClasses) -> None:
    flipped, coins = np.random.default_rng(1).random((2, 400)) < 0.5
    targets = image_targets(LABELS, classes, flipped=flipped, coins=coins)
    for label, flip, coin, target in zip(LABELS, flipped, coins, targets.tolist(), strict=True):
        member = label in classes.members
        expected = [label == c for c in range(10)] + [member, label % 2 == 1, flip, not member, coin]
        assert target == [float(value) for value in expected]


def test_names_and_order() -> None:
    assert DIGIT_CLASSES.task_names[10:] == ("closed_loop", "odd", "upside_down", "not_closed_loop", "coin_flip")
    assert FASHION_CLASSES.task_names[10:] == ("footwear", "odd", "upside_down", "not_footwear", "coin_flip")
    assert DIGIT_CLASSES.members == (0, 6, 8, 9)
    assert FASHION_CLASSES.members == (5, 7, 9)
    assert tuple(build().tasks.names) == DIGIT_CLASSES.task_names


def test_exactly_the_images_of_the_upside_down_task_are_flipped() -> None:
    data = build()
    upside_down = data.train.targets[:, data.tasks.names.index("upside_down")].bool()
    original = torch.from_numpy(IMAGES[PARTS["train"]]).float().unsqueeze(1) / 16
    assert 0.4 < upside_down.float().mean() < 0.6
    assert torch.equal(data.train.inputs[~upside_down], original[~upside_down])
    assert torch.equal(data.train.inputs[upside_down], original[upside_down].flip(2))


@pytest.mark.parametrize("options", [{"flips": False}, {"targets": ["odd", "coin_flip", "is_3"]}])
def test_without_that_task_no_image_is_flipped(options: dict[str, object]) -> None:
    data = build(**options)
    assert "upside_down" not in data.tasks.names
    assert torch.equal(data.test.inputs, torch.from_numpy(IMAGES[PARTS["test"]]).float().unsqueeze(1) / 16)


def test_a_subset_has_the_same_targets_as_the_whole_in_the_order_asked() -> None:
    names = ["coin_flip", "upside_down", "is_3"]
    assert build(targets=names).fingerprint == build().select(names).fingerprint


def test_flips_and_coins_are_fixed_by_the_seed_and_independent() -> None:
    first, again, other = build(seed=3), build(seed=3), build(seed=4)
    assert first.fingerprint == again.fingerprint
    columns = [first.tasks.names.index(name) for name in ("upside_down", "coin_flip")]
    for column in columns:
        assert not torch.equal(first.train.targets[:, column], other.train.targets[:, column])
    flips, coins = torch.cat([part.targets for part in first.splits.values()])[:, columns].T
    assert abs(torch.corrcoef(torch.stack([flips, coins]))[0, 1]) < 0.15
    assert 0.4 < coins.mean() < 0.6


def test_notes_hold_the_base_rate_of_training() -> None:
    data = build()
    assert data.notes["is_3"] == "label is 3; base rate 0.1000"
    assert data.notes["closed_loop"] == "label is one of 0, 6, 8, 9; base rate 0.4000"
    assert list(data.notes) == list(data.tasks.names)


def test_bad_targets_are_refused() -> None:
    with pytest.raises(DataError, match="Did you mean 'closed_loop'"):
        build(targets=["closed_lop"])
    with pytest.raises(DataError, match="needs flipped images"):
        build(targets=["odd", "upside_down"], flips=False)
