"""How Label Studio writes a mask: brush run-length encoding, bitmask PNG, and polygons in percent.

Derived from the reference decoder, label-studio-sdk's `converter/brush.py`, and the editor's `BitmaskRegion`.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from everymask.formats.flat_png import bit_png
from everymask.formats.outlines import Polygon
from everymask.formats.spliced_json import point_lists
from everymask.masks.column_runs import ColumnRuns
from everymask.masks.runs import places_within
from everymask.records import LabelledMask, Rle

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


def brush_rles(masks: Sequence[LabelledMask], size_hw: tuple[int, int]) -> list[list[int]]:
    """Masks of an image as the `rle` of brush regions: bytes 0..255.

    Header: 32 bits for the number of values, 5 for a value's width less one, 4 times 4 for the length fields' widths
    less one. Each run: a 1 bit, two bits that select the length field, the length less one, and the value.
    """
    height, width = size_hw
    rows = ColumnRuns.of_rles([mask.rle for mask in masks], size_hw).transposed()
    runs, bounds = rows.in_boxes(_whole_image(len(masks), size_hw))
    runs *= _CHANNELS
    value = np.where(places_within(np.diff(bounds)) % 2 == 1, _INSIDE, 0)
    pieces = -(-runs // _LONGEST)
    ends = np.concatenate([[0], np.cumsum(pieces)])
    length = np.full(ends[-1], _LONGEST)
    some = runs > 0
    length[ends[1:][some] - 1] = (runs - (pieces - 1) * _LONGEST)[some]
    choice = np.searchsorted(1 << _LENGTH_BITS, length)
    bits = _LENGTH_BITS[choice]
    header = height * width * _CHANNELS << 21 | (_WORD_BITS - 1) << 16
    header |= sum(int(size - 1) << shift for size, shift in zip(_LENGTH_BITS, (12, 8, 4, 0), strict=True))
    # Of each mask two codes for the header, which is wider than 32 bits, its runs, and what fills its last byte.
    counts = np.diff(ends[bounds])
    firsts = np.cumsum(counts + 3) - counts - 3
    codes, widths = (np.zeros(counts.sum() + 3 * counts.size, dtype=np.int64) for _ in range(2))
    places = np.arange(length.size) + np.repeat(3 * np.arange(counts.size) + 2, counts)
    codes[places] = (((4 | choice) << bits | (length - 1)) << _WORD_BITS) | np.repeat(value, pieces)
    widths[places] = bits + 3 + _WORD_BITS
    codes[firsts], codes[firsts + 1] = header >> 32, header & 0xFFFFFFFF
    widths[firsts], widths[firsts + 1] = _HEADER_BITS - 32, 32
    used = np.add.reduceat(widths, firsts) if counts.size else widths
    widths[firsts + counts + 2] = -used % 8
    stream = np.unpackbits((codes << (32 - widths)).astype(">u4").view(np.uint8).reshape(-1, 4), axis=1)
    packed = np.packbits(stream[np.arange(32) < widths[:, None]]).tolist()
    cuts = np.concatenate([[0], np.cumsum(-(-used // 8))]).tolist()
    return [packed[first:last] for first, last in itertools.pairwise(cuts)]


def mask_from_brush_rle(values: Sequence[int], size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """The (H, W) mask of a brush region's `rle`, as annotators edit it; ValueError if cut short or of another size."""
    inside, pixels = _spans(values, size_hw)
    return np.repeat(inside, pixels).reshape(size_hw)


def rles_of_brushes(brushes: Sequence[Sequence[int]], size_hw: tuple[int, int]) -> list[Rle]:
    """The masks that a reader gets from `brush_rles`."""
    found = [_spans(values, size_hw) for values in brushes]
    inside = np.concatenate([*(inside for inside, _ in found), np.zeros(0, dtype=np.bool_)])
    pixels = np.concatenate([*(pixels for _, pixels in found), np.zeros(0, dtype=np.int64)])
    # A background run of no length before each span, and the other way round, makes them alternate.
    runs = np.where(np.stack([~inside, inside], axis=1), pixels[:, None], 0).ravel()
    bounds = 2 * np.cumsum([0, *(len(inside) for inside, _ in found)])
    rows = ColumnRuns.of_boxes(runs, bounds, _whole_image(len(brushes), size_hw), size_hw[::-1])
    return rows.transposed().rles(len(brushes))


def _whole_image(count: int, size_hw: tuple[int, int]) -> NDArray[np.int64]:
    """(N, 4) boxes of the image with rows and columns exchanged."""
    return np.tile(np.array([0, 0, *size_hw]), (count, 1))


def _spans(values: Sequence[int], size_hw: tuple[int, int]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Stretches of an encoded picture, row by row: whether each is mask, and its pixels. Errors as for the mask."""
    height, width = size_hw
    if not isinstance(values, list):
        raise ValueError("the brush encoding is no list of bytes")
    data, bits = bytes(values), len(values) * 8
    if bits < _HEADER_BITS:
        raise ValueError("the brush encoding is cut short")
    header = int.from_bytes(data[:7], "big") >> 3
    count, word_bits = header >> 21, (header >> 16 & 31) + 1
    length_bits = np.array([(header >> shift & 15) + 1 for shift in (12, 8, 4, 0)])
    if count != height * width * _CHANNELS:
        raise ValueError(
            f"the brush encoding holds {count:,} values; {width} x {height} RGBA pixels have another number"
        )
    padded = np.frombuffer(data + bytes(_WINDOW_BYTES), dtype=np.uint8)
    flags = np.unpackbits(padded)
    choice = flags[1:-1] << 1 | flags[2:]
    # From every bit to the code behind, if a run begins there; 0 where values follow one by one.
    run_bits = np.concatenate([np.zeros(4), length_bits + 3 + word_bits]).astype(np.uint8)
    steps = run_bits[flags[:-2] << 2 | choice].tobytes()
    codes: list[int] = []
    take = codes.append
    position = _HEADER_BITS
    while position + 3 < bits:
        take(position)
        position += steps[position] or _values_bits(padded, position, int(length_bits[choice[position]]), word_bits)
    starts = np.array(codes, dtype=np.int64)
    sizes = length_bits[choice[starts]]
    numbers = _values(padded, starts + 3, sizes) + 1
    made = np.cumsum(numbers)
    last = int(np.searchsorted(made, count))
    stops = starts + 3 + sizes + np.where(flags[starts], 1, numbers) * word_bits
    if last == made.size or stops[last] > bits:
        raise ValueError("the brush encoding is cut short")
    if made[last] > count:
        raise ValueError("a run of the brush encoding reaches past its end")
    runs = np.flatnonzero(flags[starts[: last + 1]])
    # Of every pixel the last of its four values counts: where that stands, and how many values end with it.
    words, ends = [stops[runs] - word_bits], [made[runs]]
    for code in np.flatnonzero(flags[starts[: last + 1]] == 0):
        whole = np.arange((made[code] - numbers[code]) // _CHANNELS + 1, made[code] // _CHANNELS + 1) * _CHANNELS
        words.append(stops[code] - (made[code] - whole + 1) * word_bits)
        ends.append(whole)
    of_words, of_ends = np.concatenate(words), np.concatenate(ends)
    order = np.argsort(of_ends)
    inside = _values(padded, of_words[order], np.array(word_bits)) > 0
    return inside, np.diff(of_ends[order] // _CHANNELS, prepend=0)


def _values_bits(data: NDArray[np.uint8], position: int, size: int, word_bits: int) -> int:
    """The bits of a code for values one by one; its length field of `size` bits begins behind three others."""
    number = int(_values(data, np.array([position + 3]), np.array(size))[0]) + 1
    return 3 + size + number * word_bits


def _values(data: NDArray[np.uint8], positions: NDArray[np.int64], bits: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers of up to 32 bits that begin at the given bit positions."""
    first = positions >> 3
    window = data[first].astype(np.int64)
    for byte in range(1, _WINDOW_BYTES):
        window <<= 8
        window |= data[first + byte]
    numbers: NDArray[np.int64] = window >> (8 * _WINDOW_BYTES - bits - (positions & 7)) & ((1 << bits) - 1)
    return numbers


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


def percent_texts(polygons: Sequence[Polygon], size_hw: tuple[int, int]) -> list[str]:
    """`percent_points` of polygons with whole corners, as JSON."""
    height, width = size_hw
    return point_lists(polygons, _percent_tokens(width), _percent_tokens(height))


def percents_read(polygons: Sequence[Polygon], size_hw: tuple[int, int]) -> list[Polygon]:
    """The polygons in pixels that a reader of `percent_texts` gets."""
    height, width = size_hw
    x, y = _pixels_read(width), _pixels_read(height)
    corners = [polygon.astype(np.int64) for polygon in polygons]
    return [np.stack([x[polygon[:, 0]], y[polygon[:, 1]]], axis=1) for polygon in corners]


@lru_cache(maxsize=256)
def _percent_tokens(length: int) -> tuple[str, ...]:
    """The edges of `length` pixels as JSON, in percent."""
    return tuple(repr(place * (100 / length)) for place in range(length + 1))


@lru_cache(maxsize=256)
def _pixels_read(length: int) -> NDArray[np.float64]:
    read: NDArray[np.float64] = np.array(list(map(float, _percent_tokens(length)))) * (length / 100)
    return read
