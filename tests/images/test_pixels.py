"""Every form a program may hold an image in gives the pixels that its file gives."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from everymask.errors import ImageTooLargeError, InputError
from everymask.images.decoding import ImageLimits, decode_image
from everymask.images.pixels import rgb_pixels

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
RGBA = RNG.integers(0, 256, (5, 7, 4), dtype=np.uint8)
GREY = RNG.integers(0, 256, (5, 7), dtype=np.uint8)


def png(picture: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("array", [RGB, RGBA, GREY], ids=["rgb", "rgba", "grey"])
def test_an_array_a_picture_and_a_file_of_the_same_pixels_are_one_image(
    array: NDArray[np.uint8], tmp_path: Path
) -> None:
    picture = Image.fromarray(array)
    truth = decode_image(png(picture))
    (tmp_path / "a.png").write_bytes(png(picture))
    data = png(picture)
    for form in (
        array,
        array / 255.0,
        (array / 255.0).astype(np.float32),
        picture,
        data,
        bytearray(data),
        memoryview(data),
    ):
        assert np.array_equal(rgb_pixels(form), truth)
    assert np.array_equal(rgb_pixels(tmp_path / "a.png"), truth)
    assert np.array_equal(rgb_pixels(f"file://{tmp_path}/a.png"), truth)


def test_one_channel_two_channels_and_bool_are_grey() -> None:
    assert np.array_equal(rgb_pixels(GREY[:, :, None]), rgb_pixels(GREY))
    opaque = np.dstack([GREY, np.full_like(GREY, 255)])
    assert np.array_equal(rgb_pixels(opaque), rgb_pixels(GREY))
    assert np.array_equal(rgb_pixels(GREY > 100)[:, :, 0], np.where(GREY > 100, 255, 0))


def test_a_picture_is_turned_as_its_file_is() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = png(Image.fromarray(RGB), exif=exif)
    assert rgb_pixels(Image.open(io.BytesIO(data))).shape == (7, 5, 3)
    assert np.array_equal(rgb_pixels(Image.open(io.BytesIO(data))), decode_image(data))


def test_views_of_any_stride_are_taken() -> None:
    assert np.array_equal(rgb_pixels(RGB[::-1, ::2]), RGB[::-1, ::2])
    bgr = RGB[:, :, ::-1]
    assert rgb_pixels(bgr).flags["C_CONTIGUOUS"]


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (RGB.transpose(2, 0, 1), r"shape \(3, 5, 7\) is no image"),
        (np.zeros((2, 5, 7, 3), np.uint8), "is no image"),
        (np.zeros((0, 7, 3), np.uint8), "is no image"),
        (np.zeros(9, np.uint8), "is no image"),
        (RGB.astype(np.float32), r"must be finite and lie in \[0, 1\]"),
        (np.full((5, 7), np.nan), r"must be finite and lie in \[0, 1\]"),
        (RGB.astype(np.int64), "an array of int64 is no image"),
        (RGB.astype(np.uint16), "an array of uint16 is no image"),
        ([[1, 2], [3, 4]], "cannot be a list"),
        (None, "cannot be a NoneType"),
    ],
)
def test_what_is_no_image_is_refused_in_a_sentence(array: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        rgb_pixels(array)


def test_limits_hold_for_every_form(tmp_path: Path) -> None:
    limits = ImageLimits(max_pixels=30)
    for form in (RGB, Image.fromarray(RGB), png(Image.fromarray(RGB))):
        with pytest.raises(ImageTooLargeError):
            rgb_pixels(form, limits)
    (tmp_path / "a.png").write_bytes(png(Image.fromarray(RGB)))
    with pytest.raises(ImageTooLargeError, match=r"a\.png"):
        rgb_pixels(tmp_path / "a.png", ImageLimits(max_bytes=10))
