"""Small files that cost a decoder gigabytes or minutes are refused before it reads them; ordinary ones are not."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from everymask.errors import ImageTooLargeError, InputError
from everymask.images.decoding import decode_image
from everymask.images.structure import check_tags

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


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS.keys())
def test_bombs_are_refused(bomb: Callable[[], bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("Pillow was asked to read it"))
    with pytest.raises(InputError):
        decode_image(bomb())


def test_a_canvas_is_refused_by_the_pixel_limit() -> None:
    with pytest.raises(ImageTooLargeError, match="16000 x 16000"):
        decode_image(webp_canvas(16_000, 16_000))


@pytest.mark.parametrize("where", ["PNG text", "WebP"])
def test_where_only_the_orientation_is_wanted_a_bomb_costs_the_orientation(where: str) -> None:
    block = tags_that_share(1900, MEGABYTE)
    if where == "WebP":
        data = encode("WEBP", exif=block)
    else:
        text = "\nexif\n" + str(len(block)) + "\n" + block.hex()
        data = png_with((b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text.encode()[: MEGABYTE - 1])))
    assert decode_image(data).shape == (16, 16, 3)


def test_orientation_of_a_hexadecimal_profile_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    block = exif.tobytes()
    data = encode("PNG", (30, 20))
    text = f"\nexif\n{len(block)}\n{block.hex()}".encode()
    chunk = b"Raw profile type exif\0\0" + zlib.compress(text)
    added = struct.pack(">I", len(chunk)) + b"zTXt" + chunk + struct.pack(">I", zlib.crc32(b"zTXt" + chunk))
    assert decode_image(data[:33] + added + data[33:]).shape == (30, 20, 3)


ORDINARY: dict[str, Callable[[], bytes]] = {
    "TIFF with 1-row strips": lambda: encode("TIFF", (20, 3000), tiffinfo={278: 1}),
    "TIFF with colour profile": lambda: encode("TIFF", icc_profile=b"p" * 500_000),
    "JPEG with 2 MB of profile": lambda: jpeg_with(
        *[(0xE2, b"ICC_PROFILE\0" + bytes([i, 40]) + b"p" * 50_000) for i in range(1, 41)]
    ),
    "JPEG with bytes after its end": lambda: encode("JPEG") + b"\xff\xda\0\x02" * 5000,
    "JPEG with filling": lambda: jpeg_with((0xE5, b"x")).replace(b"\xff\xe5", b"\xff\xff\xff\xe5"),
    "progressive": lambda: encode("JPEG", (500, 300), progressive=True),
    "PNG with text": lambda: png_with(*[(b"tEXt", b"key\0" + b"t" * 1000)] * 100),
    "GIF with comment": lambda: gif_with_comment(2000),
    "WebP, lossless": lambda: encode("WEBP", lossless=True),
    "animated WebP": lambda: encode("WEBP", save_all=True, append_images=[Image.new("RGB", (16, 16))]),
    "JPEG 2000 in tiles": lambda: encode("JPEG2000", (300, 200), tile_size=(64, 64)),
}


@pytest.mark.parametrize("file", ORDINARY.values(), ids=ORDINARY.keys())
def test_ordinary_files_pass(file: Callable[[], bytes]) -> None:
    assert decode_image(file()).any()


def test_the_values_of_tags_are_read_in_both_orders_and_sizes() -> None:
    for big in (False, True):
        buffer = BytesIO()
        Image.fromarray(np.zeros((20, 30), np.uint8)).save(buffer, "TIFF", big_tiff=big)
        tags = check_tags(buffer.getvalue())
        assert (tags[256], tags[257]) == (30, 20)
