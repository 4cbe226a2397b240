"""PNG files of mostly flat pictures such as label maps and masks, written several times faster than by Pillow.

Pillow tries five filters on each row. Here each row is its difference from the row above, which is nearly all zeros,
and zlib looks only for runs of one byte. The files are no larger.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB, _PALETTE = 0, 2, 3
"""Types of colour."""
_UP = 2


def flat_png(values: NDArray[np.bool_] | NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    """A PNG of 1, 8 or 16 bits by dtype: grey of (H, W) values, coloured of (H, W, 3)."""
    height, width = values.shape[:2]
    if values.dtype == np.bool_:
        return _png(np.packbits(values, axis=1), (width, height, 1, _GREY))
    depth = 8 * values.dtype.itemsize
    rows = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder(">")).reshape(height, -1).view(np.uint8)
    colour = _GREY if values.ndim == 2 else _RGB
    return _png(rows, (width, height, depth, colour))


def bit_png(corner_xy: tuple[int, int], crop: NDArray[np.bool_], size_hw: tuple[int, int]) -> bytes:
    """A PNG of one bit a pixel: opaque black where `crop`, at `corner_xy` in a picture of `size_hw`, is True.

    Everything else is transparent.
    """
    (left, top), (height, width) = corner_xy, size_hw
    shift = left % 8
    bits = np.packbits(np.pad(crop, ((0, 0), (shift, 0))), axis=1)
    rows = np.zeros((height, (width + 7) // 8), dtype=np.uint8)
    rows[top : top + bits.shape[0], left // 8 : left // 8 + bits.shape[1]] = bits
    return _png(rows, (width, height, 1, _PALETTE), _chunk(b"PLTE", bytes(6)) + _chunk(b"tRNS", b"\x00\xff"))


def _png(rows: NDArray[np.uint8], head: tuple[int, int, int, int], palette: bytes = b"") -> bytes:
    """A PNG of (H, B) bytes; `head` is its width, height, bits a value and type of colour."""
    height = len(rows)
    lines = np.empty((height, rows.shape[1] + 1), dtype=np.uint8)
    lines[:, 0] = _UP
    lines[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=lines[1:, 1:])
    packer = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
    data = packer.compress(lines.tobytes()) + packer.flush()
    first = _chunk(b"IHDR", struct.pack(">IIBBBBB", *head, 0, 0, 0))
    return _SIGNATURE + first + palette + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
