import base64
import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cotrain.report.png import png, png_url

images = st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from((1, 3))).flatmap(
    lambda shape: arrays(np.uint8, shape)
)


def decoded(file: bytes) -> np.ndarray:
    """The pixels of a PNG file without filters, by the format's own rules; every checksum is looked at."""
    assert file[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, place = [], 8
    while place < len(file):
        (length,) = struct.unpack(">I", file[place : place + 4])
        kind, content = file[place + 4 : place + 8], file[place + 8 : place + 8 + length]
        (checksum,) = struct.unpack(">I", file[place + 8 + length : place + 12 + length])
        assert checksum == zlib.crc32(kind + content)
        chunks.append((kind, content))
        place += 12 + length
    assert [kind for kind, _ in chunks] == [b"IHDR", b"IDAT", b"IEND"]
    width, height, depth, colour, compression, filtering, interlace = struct.unpack(">IIBBBBB", chunks[0][1])
    assert (depth, compression, filtering, interlace) == (8, 0, 0, 0)
    channels = {0: 1, 2: 3}[colour]
    rows = np.frombuffer(zlib.decompress(chunks[1][1]), dtype=np.uint8).reshape(height, 1 + width * channels)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(height, width, channels)


@settings(deadline=None)
@given(images)
def test_pixels_come_back(pixels: np.ndarray) -> None:
    np.testing.assert_array_equal(decoded(png(pixels)), pixels)
    assert png(pixels) == png(pixels.copy())


@pytest.mark.parametrize("channels", [1, 3])
def test_other_readers_see_the_same(channels: int) -> None:
    image = pytest.importorskip("PIL.Image")

    pixels = np.random.default_rng(0).integers(0, 256, (4, 7, channels), dtype=np.uint8)
    np.testing.assert_array_equal(np.array(image.open(io.BytesIO(png(pixels)))).reshape(pixels.shape), pixels)


def test_url_holds_the_file() -> None:
    pixels = np.zeros((2, 3, 1), dtype=np.uint8)
    kind, _, text = png_url(pixels).partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(text, validate=True) == png(pixels)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((2, 3), dtype=np.uint8),
        np.zeros((2, 3, 2), dtype=np.uint8),
        np.zeros((0, 3, 1), dtype=np.uint8),
        np.zeros((2, 3, 1), dtype=np.float32),
    ],
)
def test_what_is_no_image_is_refused(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"pixels must be uint8 \[height, width, 1 or 3\], not empty. Got"):
        png(pixels)
