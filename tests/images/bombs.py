"""Small files that ask for much memory or time."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from io import BytesIO

from PIL import Image

MEGABYTE = 2**20


def encode(format: str, size: tuple[int, int] = (16, 16), **options: object) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", size, "red").save(buffer, format, **options)
    return buffer.getvalue()


def tags_that_share(tags: int, bytes_each: int, kind: int = 1, order: str = "<", sub_directory: bool = False) -> bytes:
    """A TIFF block whose `tags` all claim the same `bytes_each` bytes."""
    size = {1: 1, 3: 2, 5: 8}[kind]
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HL", 42, 8)
    if sub_directory:
        head += struct.pack(order + "HHHLLL", 1, 0x8769, 4, 1, 26, 0)
    data_at = len(head) + 2 + 12 * tags + 4
    entries = [struct.pack(order + "HHLL", 1000 + i, kind, bytes_each // size, data_at) for i in range(tags)]
    return head + struct.pack(order + "H", tags) + b"".join(entries) + b"\0" * (4 + bytes_each)


def png_with(*chunks: tuple[bytes, bytes]) -> bytes:
    """A 16 x 16 PNG with further chunks before its pixels."""
    data = encode("PNG")
    extra = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return data[:33] + extra + data[33:]


def jpeg_with(*segments: tuple[int, bytes]) -> bytes:
    """A 16 x 16 JPEG with further segments."""
    data = encode("JPEG")
    extra = b"".join(struct.pack(">BBH", 255, marker, len(body) + 2) + body for marker, body in segments)
    return data[:2] + extra + data[2:]


def exif_segments(block: bytes) -> list[tuple[int, bytes]]:
    return [(0xE1, b"Exif\0\0" + block[i : i + 60_000]) for i in range(0, len(block), 60_000)]


def tiled_tiff(side: int) -> bytes:
    """A deflated 16 x 16 TIFF of one tile of `side` x `side` pixels."""
    body = zlib.compress(b"\0" * (3 * 1000))
    tags = [(256, 16), (257, 16), (258, 8), (259, 8), (262, 1), (277, 1), (322, side), (323, side), (324, 8)]
    tags.append((325, len(body)))
    entries = b"".join(struct.pack("<HHLL", tag, 4, 1, value) for tag, value in tags)
    head = b"II*\0" + struct.pack("<L", 8 + len(body))
    return head + body + struct.pack("<H", len(tags)) + entries + b"\0" * 4


def gif_with_comment(size: int) -> bytes:
    data = encode("GIF")
    start = data.index(b",")
    return data[:start] + b"!\xfe" + (b"\xff" + b"c" * 255) * (size // 255) + b"\0" + data[start:]


def scans(count: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    data = encode("JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * count + data[-2:]


def jpeg2000_of_tiny_tiles() -> bytes:
    data = bytearray(encode("JPEG2000", (256, 256)))
    at = data.index(b"\xff\x4f\xff\x51") + 8
    struct.pack_into(">2L", data, at + 16, 1, 1)
    return bytes(data)


def webp_canvas(width: int, height: int) -> bytes:
    """An animated WebP of one small frame on a canvas."""
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<LL", 10, 2) + sides + encode("WEBP")[12:]
    return b"RIFF" + struct.pack("<L", len(body)) + body


BOMBS: dict[str, Callable[[], bytes]] = {
    "TIFF, tags": lambda: tags_that_share(1900, MEGABYTE),
    "TIFF, big-endian tags": lambda: tags_that_share(1900, MEGABYTE, order=">"),
    "TIFF, tags of the EXIF directory": lambda: tags_that_share(1900, MEGABYTE, sub_directory=True),
    "TIFF, numbers": lambda: tags_that_share(2, 4 * MEGABYTE, kind=3),
    "TIFF, fractions": lambda: tags_that_share(1, MEGABYTE, kind=5),
    "TIFF, tile": lambda: tiled_tiff(32_768),
    "PNG, tags": lambda: png_with((b"eXIf", tags_that_share(1900, MEGABYTE))),
    "PNG, chunks": lambda: png_with(*[(b"aaAa", b"")] * 80_000),
    "JPEG, tags": lambda: jpeg_with(*exif_segments(tags_that_share(300, MEGABYTE))),
    "JPEG, tags of a multi-picture file": lambda: jpeg_with((0xE2, b"MPF\0" + tags_that_share(2000, 30_000))),
    "JPEG, segments": lambda: jpeg_with(*[(0xE5, b"")] * 200_000),
    "JPEG, scans": lambda: scans(3000),
    "GIF, comments": lambda: gif_with_comment(8 * MEGABYTE),
    "WebP, canvas": lambda: webp_canvas(16_000, 16_000),
    "JPEG 2000, tiles": jpeg2000_of_tiny_tiles,
}


def bomb(width: int, height: int) -> bytes:
    """A valid PNG header for width x height pixels, and no pixels."""

    def chunk(kind: bytes, payload: bytes) -> bytes:
        return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
