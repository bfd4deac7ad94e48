"""Images as PNG files in memory, without an image library."""

import base64
import struct
import zlib

import numpy as np
from numpy.typing import NDArray

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOUR_TYPES = {1: 0, 3: 2}
"""Channels -> what PNG calls greyscale and RGB."""


def png(pixels: NDArray[np.uint8]) -> bytes:
    """A PNG file of 8 bits per channel.

    Args:
        pixels: [H, W, C] uint8, C = 1 (greyscale) or 3 (RGB), neither H nor W is 0.

    Returns:
        The file. Rows are stored as they are: thumbnails are too small for the format's filters to pay.

    Raises:
        ValueError: If the pixels have another shape or type.
    """
    if pixels.ndim != 3 or pixels.shape[2] not in COLOUR_TYPES or not pixels.size or pixels.dtype != np.uint8:
        raise ValueError(
            f"pixels must be uint8 [height, width, 1 or 3], not empty. Got {pixels.dtype} {list(pixels.shape)}."
        )
    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, COLOUR_TYPES[channels], 0, 0, 0)
    rows = np.pad(pixels.reshape(height, width * channels), ((0, 0), (1, 0)))  # each row starts with its filter, 0
    return b"".join(
        [SIGNATURE, _chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)), _chunk(b"IEND", b"")]
    )


def png_url(pixels: NDArray[np.uint8]) -> str:
    """The same as a data: URL, which a page can hold."""
    return f"data:image/png;base64,{base64.b64encode(png(pixels)).decode('ascii')}"


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
