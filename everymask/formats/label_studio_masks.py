"""How Label Studio writes a mask: brush run-length encoding, bitmask PNG, and polygons in percent.

Derived from the reference decoder, label-studio-sdk's `converter/brush.py`, and the editor's `BitmaskRegion`.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from everymask.formats.flat_png import bit_png
from everymask.formats.outlines import Polygon
from everymask.masks.runs import row_major_runs
from everymask.records import LabelledMask

_CHANNELS = 4
"""The encoded picture is RGBA; all four channels hold the mask, and the editor reads the last."""
_INSIDE = 255
"""With 1 instead of 255 the mask would be invisible."""
_WORD_BITS = 8
_LENGTH_BITS = np.array([3, 4, 8, 16])
"""Two bits of a run select the width of its length field from these."""
_LONGEST = 1 << int(_LENGTH_BITS[-1])
_HEADER_BITS = 53
_WINDOW_BYTES = 5
"""Enough bytes for a 32-bit number that begins at any bit."""


def brush_rle(mask: LabelledMask, crop: NDArray[np.bool_]) -> list[int]:
    """A mask as the `rle` of a brush region: bytes 0..255; `crop` are its pixels inside its box.

    Header: 32 bits for the number of values, 5 for a value's width less one, 4 times 4 for the length fields' widths
    less one. Each run: a 1 bit, two bits that select the length field, the length less one, and the value.
    """
    height, width = mask.rle["size"]
    x0, y0, _, _ = mask.box_xyxy
    runs = row_major_runs(crop, (x0, y0), (height, width)) * _CHANNELS
    value = np.where(np.arange(runs.size) % 2 == 1, _INSIDE, 0)
    pieces = -(-runs // _LONGEST)
    last = np.cumsum(pieces) - 1
    length = np.full(pieces.sum(), _LONGEST)
    length[last[runs > 0]] = (runs - (pieces - 1) * _LONGEST)[runs > 0]
    choice = np.searchsorted(1 << _LENGTH_BITS, length)
    bits = _LENGTH_BITS[choice]
    codes = (((4 | choice) << bits | (length - 1)) << _WORD_BITS) | np.repeat(value, pieces)
    header = height * width * _CHANNELS << 21 | (_WORD_BITS - 1) << 16
    header |= sum(int(size - 1) << shift for size, shift in zip(_LENGTH_BITS, (12, 8, 4, 0), strict=True))
    # Two codes for the header, which is wider than 32 bits.
    codes = np.concatenate([[header >> 32, header & 0xFFFFFFFF], codes])
    widths = np.concatenate([[_HEADER_BITS - 32, 32], bits + 3 + _WORD_BITS])
    stream = np.unpackbits((codes << (32 - widths)).astype(">u4").view(np.uint8).reshape(-1, 4), axis=1)
    packed: list[int] = np.packbits(stream[np.arange(32) < widths[:, None]]).tolist()
    return packed


def mask_from_brush_rle(values: Sequence[int], size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """The (H, W) mask of a brush region's `rle`, as annotators edit it; ValueError if cut short or of another size."""
    height, width = size_hw
    if not isinstance(values, list):
        raise ValueError("the brush encoding is no list of bytes")
    data, bits = bytes(values), len(values) * 8
    if bits < _HEADER_BITS:
        raise ValueError("the brush encoding is cut short")
    header = int.from_bytes(data[:7], "big") >> 3
    count, word_bits = header >> 21, (header >> 16 & 31) + 1
    length_bits = [(header >> shift & 15) + 1 for shift in (12, 8, 4, 0)]
    if count != height * width * _CHANNELS:
        raise ValueError(
            f"the brush encoding holds {count:,} values; {width} x {height} RGBA pixels have another number"
        )
    padded = data + bytes(_WINDOW_BYTES)
    # Of every pixel the last of its four values counts: where that stands, and for how many pixels.
    words: list[int] = []
    ends: list[int] = []
    position, made = _HEADER_BITS, 0
    while made < count:
        code = int.from_bytes(padded[position >> 3 : (position >> 3) + 4], "big") << (position & 7) & 0xFFFFFFFF
        size = length_bits[code >> 29 & 3]
        first, length = position + 3 + size, (code << 3 & 0xFFFFFFFF) >> (32 - size)
        before, made = made, made + length + 1
        if code >> 31:
            position = first + word_bits
            words.append(first)
            ends.append(made)
        else:
            position = first + (length + 1) * word_bits
            last_values = range(first + (-before - 1) % _CHANNELS * word_bits, position, _CHANNELS * word_bits)
            words += last_values
            ends += range((before // _CHANNELS + 1) * _CHANNELS, made + 1, _CHANNELS)
        if position > bits:
            raise ValueError("the brush encoding is cut short")
    if made > count:
        raise ValueError("a run of the brush encoding reaches past its end")
    inside = _values(np.frombuffer(padded, dtype=np.uint8), np.array(words, dtype=np.int64), word_bits) > 0
    pixels = np.diff(np.array(ends, dtype=np.int64) // _CHANNELS, prepend=0)
    return np.repeat(inside, pixels).reshape(height, width)


def _values(data: NDArray[np.uint8], positions: NDArray[np.int64], bits: int) -> NDArray[np.int64]:
    """The numbers of up to 32 bits that begin at the given bit positions."""
    window = np.zeros(len(positions), dtype=np.int64)
    for byte in range(_WINDOW_BYTES):
        window = window << 8 | data[(positions >> 3) + byte]
    return window >> (8 * _WINDOW_BYTES - bits - (positions & 7)) & ((1 << bits) - 1)


def bitmask_url(mask: LabelledMask, crop: NDArray[np.bool_]) -> str:
    """A mask as the `imageDataURL` of a bitmask region: a PNG of the image's size, black on transparent.

    `crop` are its pixels inside its box.
    """
    height, width = mask.rle["size"]
    picture = bit_png(mask.box_xyxy[:2], crop, (height, width))
    return f"data:image/png;base64,{base64.b64encode(picture).decode('ascii')}"


def percent_points(polygons: Sequence[Polygon], size_hw: tuple[int, int]) -> list[list[list[float]]]:
    """Polygons without holes as the `points` of polygon regions, one each: a ring of [x, y] in percent of the image."""
    height, width = size_hw
    percent = np.array([100 / width, 100 / height])
    return [(polygon * percent).tolist() for polygon in polygons]
