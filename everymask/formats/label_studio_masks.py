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
from everymask.masks.runs import crop_of, row_major_runs
from everymask.records import LabelledMask, Rle

_CHANNELS = 4
"""The encoded picture is RGBA; the mask is in all four channels, and the editor looks at the last."""
_INSIDE = 255
"""With 1 in place of 255 the mask would be there and invisible."""
_WORD_BITS = 8
_LENGTH_BITS = np.array([3, 4, 8, 16])
"""A run says by two bits which of these its length is written in."""
_LONGEST = 1 << int(_LENGTH_BITS[-1])
_HEADER_BITS = 53


def brush_rle(mask: LabelledMask) -> list[int]:
    """A mask as the `rle` of a brush region: bytes 0..255.

    32 bits hold the number of values, 5 the bits of a value less one, 4 times 4 the lengths' bits less one. Then come
    the runs: one bit 1, two bits that pick the length's bits, the length less one, and the value.
    """
    height, width = mask.rle["size"]
    x0, y0, _, _ = mask.box_xyxy
    runs = row_major_runs(crop_of(mask.rle, mask.box_xyxy), (x0, y0), (height, width)) * _CHANNELS
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
    """The (H, W) mask of a brush region's `rle`, as an annotator leaves it.

    Raises:
        ValueError: the encoding is cut short, or of another size.
    """
    height, width = size_hw
    data, bits = bytes(values), len(values) * 8
    if bits < _HEADER_BITS:
        raise ValueError("the brush encoding is cut short")
    header = int.from_bytes(data[:7], "big") >> 3
    count, word_bits = header >> 21, (header >> 16 & 31) + 1
    length_bits = np.array([(header >> shift & 15) + 1 for shift in (12, 8, 4, 0)], dtype=np.uint64)
    if count != height * width * _CHANNELS:
        raise ValueError(
            f"the brush encoding holds {count:,} values; {width} x {height} RGBA pixels have another number"
        )
    windows = _bit_windows(data)
    # What a code would say if it began at this bit, for every bit: the chain of codes is then a walk along a list.
    size = length_bits[(windows >> np.uint64(61) & np.uint64(3)).astype(np.int64)]
    length = ((windows << np.uint64(3)) >> (np.uint64(64) - size)).astype(np.int64) + 1
    is_run = windows >> np.uint64(63) == 1
    entries = np.where(is_run, 1, length)
    first_word = np.arange(bits) + 3 + size.astype(np.int64)
    starts = _walk((first_word + entries * word_bits).tolist(), length.tolist(), count)

    entries, first_word, length, is_run = entries[starts], first_word[starts], length[starts], is_run[starts]
    owner = np.repeat(np.arange(len(starts)), entries)
    word = first_word[owner] + (np.arange(len(owner)) - (np.cumsum(entries) - entries)[owner]) * word_bits
    inside = windows[word] >> np.uint64(64 - word_bits) > 0
    ends = np.cumsum(np.where(is_run[owner], length[owner], 1))
    # Of every pixel the last of its four values counts.
    pixels = np.diff(ends // _CHANNELS, prepend=0)
    return np.repeat(inside, pixels).reshape(height, width)


def _bit_windows(data: bytes) -> NDArray[np.uint64]:
    """(8 N,) of N bytes: what can be read from each bit on, at least 57 bits, in the high bits of a number."""
    padded = np.frombuffer(data + bytes(8), dtype=np.uint8)
    words = np.lib.stride_tricks.sliding_window_view(padded, 8)[:-1].copy().view(">u8")[:, 0].astype(np.uint64)
    return (words[:, None] << np.arange(8, dtype=np.uint64)).reshape(-1)


def _walk(following: list[int], length: list[int], count: int) -> list[int]:
    """The bits at which codes begin, until they make `count` values.

    Raises:
        ValueError: they end before, or make more.
    """
    starts, position, made = [], _HEADER_BITS, 0
    while made < count:
        if position >= len(following) or following[position] > len(following):
            raise ValueError("the brush encoding is cut short")
        starts.append(position)
        made += length[position]
        position = following[position]
    if made > count:
        raise ValueError("a run of the brush encoding reaches past its end")
    return starts


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
