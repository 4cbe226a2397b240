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
from tests.images.bombs import (
    BOMBS,
    MEGABYTE,
    encode,
    gif_with_comment,
    jpeg_with,
    png_with,
    tags_that_share,
    webp_canvas,
)


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
