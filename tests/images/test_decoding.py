"""Every kind of picture decodes to the RGB a viewer would show, and nothing hostile gets through."""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from everymask.errors import ConfigurationError, ImageTooLargeError, InputError
from everymask.images import decoding
from everymask.images.decoding import ImageLimits, decode_image
from tests.images.bombs import bomb

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def encode(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def corners() -> Image.Image:
    """3 wide, 2 high: red top left, green top right, blue bottom left, else white."""
    image = Image.new("RGB", (3, 2), WHITE)
    image.putpixel((0, 0), RED)
    image.putpixel((2, 0), GREEN)
    image.putpixel((0, 1), BLUE)
    return image


def test_rgb_is_exact_and_writeable() -> None:
    pixels = decode_image(encode(corners()))
    assert pixels.shape == (2, 3, 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    np.testing.assert_array_equal(pixels, np.asarray(corners()))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = corners().transpose(undo[orientation]) if orientation in undo else corners()
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(decode_image(encode(stored, exif=exif)), np.asarray(corners()))


def test_broken_exif_does_not_lose_the_picture() -> None:
    data = encode(corners(), "JPEG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff" + b"\xff" * 32)
    assert decode_image(data).shape == (2, 3, 3)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_flattened_on_white(mode: str) -> None:
    rgba = Image.new("RGBA", (2, 1), (0, 0, 0, 255))
    rgba.putpixel((1, 0), (0, 0, 0, 0))
    if mode == "P":
        palette = Image.new("P", (2, 1), 0)
        palette.putpalette([0, 0, 0, 10, 20, 30])
        palette.putpixel((1, 0), 1)
        data = encode(palette, transparency=1)
    else:
        data = encode(rgba.convert(mode))
    np.testing.assert_array_equal(decode_image(data)[0], [[0, 0, 0], [255, 255, 255]])


def test_half_transparency_is_blended() -> None:
    pixel = decode_image(encode(Image.new("RGBA", (1, 1), (255, 0, 0, 128))))[0, 0]
    np.testing.assert_allclose(pixel, [255, 127, 127], atol=1)


def test_rgb_with_a_transparent_colour_is_flattened() -> None:
    image = Image.new("RGB", (2, 1), RED)
    image.putpixel((1, 0), BLUE)
    np.testing.assert_array_equal(decode_image(encode(image, transparency=BLUE))[0], [RED, WHITE])


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
@pytest.mark.parametrize("bits", [10, 12, 16])
def test_grey_of_more_than_eight_bits_is_stretched_by_what_it_holds(format: str, bits: int) -> None:
    """A file of 12 bits in 16 says nowhere that it holds 12: by its high byte it is black."""
    ramp = np.linspace(0, 2**bits - 1, 2500).reshape(50, 50)
    pixels = decode_image(encode(Image.fromarray(ramp.astype(np.uint16)), format))
    np.testing.assert_allclose(pixels[:, :, 0], ramp / (2**bits - 1) * 255, atol=1.5)
    assert (pixels == pixels[:, :, :1]).all()


def test_few_outliers_do_not_decide_over_the_picture() -> None:
    grey = np.tile(np.arange(100, 200, dtype=np.uint16), (100, 1))
    usual = decode_image(encode(Image.fromarray(grey)))
    grey[0, 0], grey[50, 50] = 0, 65535
    odd = decode_image(encode(Image.fromarray(grey)))
    np.testing.assert_allclose(odd[1:40].astype(int), usual[1:40].astype(int), atol=3)


def test_bright_points_on_black_are_seen() -> None:
    grey = np.zeros((100, 100), np.uint16)
    grey[5, 5] = 700
    pixels = decode_image(encode(Image.fromarray(grey)))
    assert pixels[5, 5, 0] == 255
    assert pixels.sum() == 3 * 255


def test_integers_of_thirty_two_bits_are_stretched_too() -> None:
    values = np.linspace(-70_000, 3_000_000, 2500).reshape(50, 50)
    pixels = decode_image(encode(Image.fromarray(values.astype(np.int32)), "TIFF"))
    np.testing.assert_allclose(pixels[:, :, 0], (values + 70_000) / 3_070_000 * 255, atol=1.5)


def test_float_grey_is_stretched_and_survives_nan() -> None:
    grey = np.array([[-1.0, 0.0, 3.0, np.nan, np.inf]], np.float32)
    np.testing.assert_array_equal(decode_image(encode(Image.fromarray(grey), "TIFF"))[0, :, 0], [0, 64, 255, 0, 0])
    for useless in (7.5, np.nan):
        constant = np.full((2, 2), useless, np.float32)
        assert not decode_image(encode(Image.fromarray(constant), "TIFF")).any()


def test_strips_join_without_a_seam() -> None:
    """Large pictures are converted a megapixel at a time."""
    y, x = np.mgrid[:1500, :1000]
    rgb = np.stack([x % 256, y % 256, (x + y) % 256], axis=-1).astype(np.uint8)
    np.testing.assert_array_equal(decode_image(encode(Image.fromarray(rgb), compress_level=1)), rgb)
    alpha = np.dstack([rgb, np.full(x.shape, 255, np.uint8)])
    np.testing.assert_array_equal(decode_image(encode(Image.fromarray(alpha), compress_level=1)), rgb)
    grey = decode_image(encode(Image.fromarray((x + y).astype(np.float32)), "TIFF"))[:, :, 0].astype(int)
    np.testing.assert_allclose(grey, (x + y) / 2498 * 255, atol=6)


BEGINNING_OF_HEIC = b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic"


def test_heic_without_its_package_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    decoding._heif_is_registered.cache_clear()
    with pytest.raises(InputError, match=r"HEIC pictures need the package pi-heif; pip install 'everymask\[heic\]'"):
        decode_image(BEGINNING_OF_HEIC)
    decoding._heif_is_registered.cache_clear()


def test_heic_is_decoded() -> None:
    """96 x 64 pixels: red top left, green top right, blue bottom left, else white."""
    pytest.importorskip("pi_heif")
    data = Path(__file__).with_name("corners.heic").read_bytes()
    pixels = decode_image(data).astype(int)
    assert pixels.shape == (64, 96, 3)
    for (y, x), colour in {(5, 5): RED, (5, 90): GREEN, (60, 5): BLUE, (60, 90): WHITE}.items():
        np.testing.assert_allclose(pixels[y, x], colour, atol=4)
    with pytest.raises(ImageTooLargeError):
        decode_image(data, ImageLimits(max_pixels=6000))


def test_a_damaged_heic_is_one_sentence() -> None:
    pytest.importorskip("pi_heif")
    with pytest.raises(InputError):
        decode_image(BEGINNING_OF_HEIC)


def noise_jpeg(**options: object) -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    return encode(Image.fromarray(noise), "JPEG", **options)


@pytest.mark.parametrize("progressive", [False, True])
def test_what_there_is_of_a_truncated_jpeg_is_taken_when_asked_for(progressive: bool) -> None:
    data = noise_jpeg(progressive=progressive)
    whole, cut = decode_image(data), data[: len(data) * 2 // 3]
    with pytest.raises(InputError, match="allow-truncated takes what there is of it"):
        decode_image(cut)
    taken = decode_image(cut, ImageLimits(allow_truncated=True))
    assert taken.shape == whole.shape
    if not progressive:
        np.testing.assert_array_equal(taken[:24], whole[:24])
        assert (taken[-1] == taken[-1, 0]).all(), "grey, not noise"


@pytest.mark.parametrize("data", [noise_jpeg()[:100], encode(Image.new("RGB", (64, 64)), "BMP")[:5000], b"", b"x"])
def test_nothing_else_that_is_damaged_is_taken(data: bytes) -> None:
    with pytest.raises(InputError):
        decode_image(data, ImageLimits(allow_truncated=True))


@pytest.mark.parametrize("mode", ["1", "L", "CMYK", "P"])
@pytest.mark.parametrize("format", ["PNG", "TIFF", "JPEG"])
def test_other_modes_become_rgb(mode: str, format: str) -> None:
    if (mode, format) in {("CMYK", "PNG"), ("P", "JPEG"), ("1", "JPEG")}:
        pytest.skip(f"{format} does not hold {mode}")
    pixels = decode_image(encode(Image.new("RGB", (4, 4), WHITE).convert(mode), format))
    assert pixels.shape == (4, 4, 3)
    assert pixels.min() >= 250


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_is_taken(format: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, GREEN, BLUE)]
    options = {"lossless": True} if format == "WEBP" else {}
    data = encode(frames[0], format, save_all=True, append_images=frames[1:], **options)
    assert (decode_image(data) == RED).all()


@pytest.mark.parametrize("size", [(1, 1), (5000, 1), (1, 5000)])
def test_extreme_shapes_decode(size: tuple[int, int]) -> None:
    assert decode_image(encode(Image.new("RGB", size))).shape == (size[1], size[0], 3)


def test_zero_bytes() -> None:
    with pytest.raises(InputError, match=r"^the file is empty \(0 bytes\)$"):
        decode_image(b"")


def test_not_an_image() -> None:
    with pytest.raises(InputError, match=r"^not an image in a known format \(it starts with b'%PDF-1.7'\)$"):
        decode_image(b"%PDF-1.7 and so on")


def test_postscript_is_never_run() -> None:
    with pytest.raises(InputError, match="not an image in a known format"):
        decode_image(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_truncated(format: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    data = encode(Image.fromarray(noise), format)
    with pytest.raises(InputError, match=r"^the image is truncated or corrupt"):
        decode_image(data[: len(data) * 2 // 3])


def test_too_many_bytes_are_refused_before_the_header_is_read() -> None:
    with pytest.raises(ImageTooLargeError, match=r"^the file has 11 bytes, more than the limit of 10; raise max-bytes"):
        decode_image(b"not a image", ImageLimits(max_bytes=10))


def test_a_decompression_bomb_is_refused_before_decoding_with_both_sizes_named() -> None:
    before = Image.MAX_IMAGE_PIXELS
    with pytest.raises(ImageTooLargeError) as caught:
        decode_image(bomb(100_000, 50_000))
    assert str(caught.value) == (
        "the image has 100000 x 50000 = 5,000,000,000 pixels, more than the limit of 100,000,000; "
        "raise max-pixels to take it"
    )
    assert before == Image.MAX_IMAGE_PIXELS


def test_the_pixel_limit_is_inclusive() -> None:
    data = encode(Image.new("RGB", (10, 10)))
    assert decode_image(data, ImageLimits(max_pixels=100)).shape == (10, 10, 3)
    with pytest.raises(ImageTooLargeError):
        decode_image(data, ImageLimits(max_pixels=99))


def test_limits_must_be_positive() -> None:
    with pytest.raises(ConfigurationError, match="max-bytes and max-pixels must be at least 1"):
        ImageLimits(max_pixels=0)


FORMATS = ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "PPM", "JPEG2000")


@settings(max_examples=150)
@given(st.data())
def test_damaged_bytes_decode_or_raise_input_error_and_nothing_else(data: st.DataObject) -> None:
    good = bytearray(encode(corners().resize((16, 16)), data.draw(st.sampled_from(FORMATS))))
    for _ in range(data.draw(st.integers(1, 6))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        pixels = decode_image(bytes(good), ImageLimits(max_pixels=10_000))
    except InputError:
        return
    assert pixels.ndim == 3
    assert pixels.dtype == np.uint8
