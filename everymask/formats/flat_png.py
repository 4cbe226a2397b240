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
        return _png(_lines_of(np.packbits(values, axis=1)), (width, height, 1, _GREY))
    depth = 8 * values.dtype.itemsize
    rows = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder(">")).reshape(height, -1).view(np.uint8)
    colour = _GREY if values.ndim == 2 else _RGB
    return _png(_lines_of(rows), (width, height, depth, colour))


def bit_png(corner_xy: tuple[int, int], crop: NDArray[np.bool_], size_hw: tuple[int, int]) -> bytes:
    """A PNG of one bit a pixel: opaque black where `crop`, at `corner_xy` in a picture of `size_hw`, is True.

    Everything else is transparent.
    """
    (left, top), (height, width) = corner_xy, size_hw
    padded = np.zeros((len(crop), left % 8 + crop.shape[1]), dtype=np.bool_)
    padded[:, left % 8 :] = crop
    bits = np.packbits(padded, axis=1)
    lines = _empty_lines(height, (width + 7) // 8)
    inside = lines[:, 1 + left // 8 : 1 + left // 8 + bits.shape[1]]
    inside[top : top + len(bits)] = bits
    below = inside[top + 1 : top + len(bits) + 1]
    below -= bits[: len(below)]
    return _png(lines, (width, height, 1, _PALETTE), _BLACK_ON_NOTHING)


def bits_of_png(data: bytes, size_hw: tuple[int, int]) -> NDArray[np.uint8] | None:
    """(H, (W + 7) // 8) bytes of packed pixels of a file that is written as `bit_png` does it; None of any other.

    Raises:
        zlib.error: its pixels are damaged.
    """
    height, width = size_hw
    head = _head((width, height, 1, _PALETTE), _BLACK_ON_NOTHING)
    if not (data.startswith(head) and data.endswith(_END)):
        return None
    pixels = data[len(head) : -len(_END)]
    content = pixels[8:-4]
    if pixels != _chunk(b"IDAT", content):
        return None
    across = 1 + (width + 7) // 8
    unpacker = zlib.decompressobj()
    lines = np.frombuffer(unpacker.decompress(content, height * across + 1), dtype=np.uint8)
    if lines.size != height * across or not unpacker.eof:
        return None
    lines = lines.reshape(height, across)
    used = np.bitwise_or.reduce(lines, axis=0)
    if not (lines[:, 0] == _UP).all():
        return None
    bits = np.zeros((height, across - 1), dtype=np.uint8)
    if (columns := np.flatnonzero(used[1:])).size:
        inside = slice(int(columns[0]), int(columns[-1]) + 1)
        np.add.accumulate(lines[:, 1:][:, inside], axis=0, out=bits[:, inside])
    return bits


def _lines_of(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, B) bytes as a PNG's lines (H, 1 + B), each the difference from the one above."""
    lines = _empty_lines(*rows.shape)
    lines[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=lines[1:, 1:])
    return lines


def _empty_lines(height: int, across: int) -> NDArray[np.uint8]:
    lines = np.zeros((height, 1 + across), dtype=np.uint8)
    lines[:, 0] = _UP
    return lines


def _png(lines: NDArray[np.uint8], head: tuple[int, int, int, int], palette: bytes = b"") -> bytes:
    """A PNG of (H, 1 + B) lines; `head` is its width, height, bits a value and type of colour."""
    packer = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
    data = packer.compress(lines.tobytes()) + packer.flush()
    return _head(head, palette) + _chunk(b"IDAT", data) + _END


def _head(head: tuple[int, int, int, int], palette: bytes) -> bytes:
    return _SIGNATURE + _chunk(b"IHDR", struct.pack(">IIBBBBB", *head, 0, 0, 0)) + palette


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


_BLACK_ON_NOTHING = _chunk(b"PLTE", bytes(6)) + _chunk(b"tRNS", b"\x00\xff")
_END = _chunk(b"IEND", b"")
