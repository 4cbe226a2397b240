"""How Label Studio writes a mask: brush run-length encoding, bitmask PNG, and polygons in percent.

Read from the reference decoder, label-studio-sdk's `converter/brush.py`, and the editor's `BitmaskRegion`.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from everymask.formats.outlines import simple_polygons
from everymask.masks.rle import decode_mask
from everymask.records import LabelledMask, Rle

_CHANNELS = 4
"""The encoded picture is RGBA; the mask is in all four channels, and the editor looks at the last."""
_INSIDE = 255
"""With 1 in place of 255 the mask would be there and invisible."""
_WORD_BITS = 8
_LENGTH_BITS = (3, 4, 8, 16)
"""A run says by two bits which of these its length is written in."""


def brush_rle(rle: Rle) -> list[int]:
    """A mask as the `rle` of a brush region: bytes 0..255.

    32 bits hold the number of values, 5 the bits of a value less one, 4 times 4 the lengths' bits less one. Then come
    the runs: one bit 1, two bits that pick the length's bits, the length less one, and the value.
    """
    flat = decode_mask(rle).reshape(-1)
    ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]) + 1, flat.size)
    lengths = np.diff(ends, prepend=0) * _CHANNELS
    bits = [f"{flat.size * _CHANNELS:032b}{_WORD_BITS - 1:05b}", *(f"{size - 1:04b}" for size in _LENGTH_BITS)]
    inside = bool(flat[0])
    for length in lengths.tolist():
        bits.append(_run_bits(length, _INSIDE if inside else 0))
        inside = not inside
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))


def _run_bits(length: int, value: int) -> str:
    parts = []
    longest = 1 << _LENGTH_BITS[-1]
    while length > 0:
        piece = min(length, longest)
        choice = next(i for i, size in enumerate(_LENGTH_BITS) if piece <= 1 << size)
        parts.append(f"1{choice:02b}{piece - 1:0{_LENGTH_BITS[choice]}b}{value:0{_WORD_BITS}b}")
        length -= piece
    return "".join(parts)


def mask_from_brush_rle(values: Sequence[int], size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """The (H, W) mask of a brush region's `rle`, as an annotator leaves it.

    Raises:
        ValueError: the encoding is cut short, or of another size.
    """
    height, width = size_hw
    text = f"{int.from_bytes(bytes(values), 'big'):0{len(values) * 8}b}"
    position = 0

    def read(size: int) -> int:
        nonlocal position
        if position + size > len(text):
            raise ValueError("the brush encoding is cut short")
        value = int(text[position : position + size], 2)
        position += size
        return value

    count, word_bits = read(32), read(5) + 1
    length_bits = [read(4) + 1 for _ in range(4)]
    if count != height * width * _CHANNELS:
        raise ValueError(
            f"the brush encoding holds {count:,} values; {width} x {height} RGBA pixels have another number"
        )
    pixels = np.zeros(count, np.uint8)
    start = 0
    while start < count:
        is_run = read(1)
        end = start + 1 + read(length_bits[read(2)])
        if end > count:
            raise ValueError("a run of the brush encoding reaches past its end")
        pixels[start:end] = read(word_bits) if is_run else [read(word_bits) for _ in range(end - start)]
        start = end
    return pixels.reshape(height, width, _CHANNELS)[:, :, 3] > 0


def bitmask_url(rle: Rle) -> str:
    """A mask as the `imageDataURL` of a bitmask region: a PNG of the image's size, black on transparent."""
    alpha = Image.fromarray(decode_mask(rle).view(np.uint8) * np.uint8(_INSIDE))
    picture = Image.merge("LA", (Image.new("L", alpha.size), alpha))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def percent_polygons(mask: LabelledMask, tolerance_px: float = 0.0) -> list[list[list[float]]]:
    """A mask as the `points` of polygon regions, one region each: a ring of [x, y] in percent of the image.

    A polygon of Label Studio has neither holes nor parts; see `simple_polygons` for how they are cut.
    """
    height, width = mask.rle["size"]
    percent = np.array([100 / width, 100 / height])
    return [(polygon * percent).tolist() for polygon in simple_polygons(mask, tolerance_px)]
