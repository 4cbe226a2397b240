"""Small pictures inside text files: base64 PNG, as annotation tools store masks."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

from PIL import Image


@contextmanager
def open_png(text: object, most_hw: tuple[int, int]) -> Iterator[Image.Image]:
    """Open a PNG in base64, checking its size before decoding.

    Args:
        text: base64, without an address's `data:` before it.
        most_hw: largest allowed (height, width) in pixels.

    Raises:
        ValueError: not such a PNG, damaged, or larger.
    """
    if not isinstance(text, str):
        raise ValueError("its picture is no text")
    data = base64.b64decode(text, validate=True)
    size_at = 16  # behind the signature and the head of the first chunk
    if data[:8] != b"\x89PNG\r\n\x1a\n" or len(data) < size_at + 8:
        raise ValueError("its picture is no PNG")
    width, height = struct.unpack(">II", data[size_at : size_at + 8])
    if width > most_hw[1] or height > most_hw[0]:
        raise ValueError(f"its picture has {width} x {height} pixels, more than its image")
    try:
        with Image.open(BytesIO(data), formats=("PNG",)) as picture:
            yield picture
    except (OSError, SyntaxError, EOFError, struct.error, zlib.error, Image.DecompressionBombError) as error:
        raise ValueError(f"its picture is damaged ({error})") from error
