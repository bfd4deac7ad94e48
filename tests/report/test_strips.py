import base64
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from cotrain.errors import StudyError
from cotrain.report.contents import read_study
from cotrain.report.png import png
from cotrain.report.thumbnails import GAP, LARGEST, TINY, Thumbnails, shrunk, strips

Make = Callable[..., Path]
NAMES = ("a", "b", "c", "d", "noise")


def thumbnails_of(images: np.ndarray, places: np.ndarray) -> Thumbnails:
    kinds = ("hardest", "most_ambiguous")
    return Thumbnails(dict.fromkeys(kinds, images), dict.fromkeys(kinds, places.astype(np.float32)))


def file_of(url: str) -> bytes:
    return base64.b64decode(url.partition(",")[2])


@pytest.mark.parametrize("channels", [1, 3])
def test_images_stand_side_by_side_with_a_gap(channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (1, 3, 4, 5, channels), dtype=np.uint8)
    hardest, ambiguous = strips(thumbnails_of(images, np.arange(6).reshape(1, 3, 2) / 10), 0)
    gap = np.full((4, 1, channels), GAP, dtype=np.uint8)
    expected = np.concatenate([images[0, 0], gap, images[0, 1], gap, images[0, 2]], axis=1)
    assert file_of(hardest.url) == png(expected)
    assert (hardest.height, hardest.width) == expected.shape[:2]
    assert (hardest.title, ambiguous.title) == ("hardest, 0.00 to 0.40", "most ambiguous, 0.10 to 0.50")
    assert hardest.says == (
        "Hardest training images from the left, confidence and variability: 0.00, 0.10; 0.20, 0.30; 0.40, 0.50"
    )


def test_copies_that_fill_a_short_strip_are_dropped() -> None:
    images = np.random.default_rng(0).integers(0, 256, (1, 4, 3, 3, 1), dtype=np.uint8)
    places = np.arange(8).reshape(1, 4, 2) / 10
    images[0, 2:], places[0, 2:] = images[0, 0], places[0, 0]
    (hardest, _) = strips(thumbnails_of(images, places), 0)
    (short, _) = strips(thumbnails_of(images[:, :2], places[:, :2]), 0)
    assert hardest == short
    places[0, 3] = 0.9  # the same image with another label is no copy
    (longer, _) = strips(thumbnails_of(images, places), 0)
    assert longer.width > hardest.width


def test_a_single_image_has_no_range() -> None:
    (hardest, _) = strips(thumbnails_of(np.zeros((1, 3, 4, 5, 1), dtype=np.uint8), np.full((1, 3, 2), 0.25)), 0)
    assert hardest.title == "hardest, 0.25"
    assert (hardest.height, hardest.width) == (4, 5)


def test_only_small_strips_are_enlarged() -> None:
    places = np.arange(16).reshape(1, 8, 2)
    for side in (8, 32):
        (strip, _) = strips(thumbnails_of(np.zeros((1, 8, side, side, 3), dtype=np.uint8), places), 0)
        assert strip.tiny == (strip.width < TINY) == (side == 8)


def test_tasks_without_images_and_without_labels_have_none() -> None:
    found = thumbnails_of(np.zeros((1, 2, 3, 3, 1), dtype=np.uint8), np.full((1, 2, 2), np.nan))
    assert strips(found, 0) == ()
    assert strips(found, 1) == ()
    assert strips(None, 0) == ()


@settings(deadline=None)
@given(st.integers(1, 150), st.integers(1, 150), st.integers(0, 100))
def test_large_images_shrink_and_keep_their_light(height: int, width: int, seed: int) -> None:
    images = np.random.default_rng(seed).integers(0, 256, (2, height, width, 1), dtype=np.uint8)
    small = shrunk(images)
    assert max(small.shape[1:3]) <= LARGEST
    factor = -(-max(height, width) // LARGEST)
    corner = images[:, :factor, :factor].mean(axis=(1, 2))
    np.testing.assert_allclose(small[:, 0, 0], corner, atol=0.5)
    rest = images[:, (small.shape[1] - 1) * factor :, (small.shape[2] - 1) * factor :].mean(axis=(1, 2))
    np.testing.assert_allclose(small[:, -1, -1], rest, atol=0.5)
    np.testing.assert_array_equal(shrunk(small), small)


def test_are_read_in_the_order_of_the_tasks(make_clustered: Make) -> None:
    folder = make_clustered(names=NAMES)
    found = read_study(folder).thumbnails
    assert found is not None
    stored = load_file(folder / "thumbnails.safetensors")
    np.testing.assert_array_equal(found.images["hardest"][2], stored["hardest"][2])
    np.testing.assert_array_equal(found.places["most_ambiguous"], stored["most_ambiguous_places"])


@pytest.mark.parametrize(
    "changes",
    [
        {"hardest": np.zeros((5, 8, 6, 5, 2), dtype=np.uint8)},
        {"hardest": np.zeros((5, 8, 6, 5), dtype=np.uint8)},
        {"hardest": np.zeros((5, 8, 0, 5, 1), dtype=np.uint8)},
        {"hardest": np.zeros((5, 8, 6, 5, 1), dtype=np.float32)},
        {"most_ambiguous_places": np.zeros((5, 7, 2), dtype=np.float32)},
        {
            "hardest": np.zeros((6, 8, 6, 5, 1), dtype=np.uint8),
            "hardest_places": np.zeros((6, 8, 2), dtype=np.float32),
        },
    ],
)
def test_tensors_that_do_not_fit_are_refused(make_clustered: Make, changes: dict[str, np.ndarray]) -> None:
    folder = make_clustered(names=NAMES)
    path = folder / "thumbnails.safetensors"
    save_file(load_file(path) | changes, path)
    with pytest.raises(StudyError, match=r"^thumbnails.safetensors in .*expected .* as uint8 \[tasks <= 5"):
        read_study(folder)


def test_a_missing_tensor_is_named(make_clustered: Make) -> None:
    folder = make_clustered(names=NAMES)
    path = folder / "thumbnails.safetensors"
    stored = load_file(path)
    del stored["hardest_places"]
    save_file(stored, path)
    with pytest.raises(StudyError, match=r"^thumbnails.safetensors in .* has no field or task 'hardest_places'"):
        read_study(folder)


def test_a_file_without_tensors_is_refused(make_clustered: Make) -> None:
    folder = make_clustered(names=NAMES)
    (folder / "thumbnails.safetensors").write_bytes(b"not tensors")
    with pytest.raises(StudyError, match=r"^thumbnails.safetensors in .* cannot be understood"):
        read_study(folder)
