"""Encoded bytes → RGB pixels, decoded once and as late as possible."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from everymask.errors import ConfigurationError, ImageTooLargeError, InputError
from everymask.images.structure import check_structure, check_tags
from everymask.records import MAX_IMAGE_PIXELS

# Pillow can also open formats that run other programs (EPS) or wrap whole documents; only still pictures are wanted.
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
Image.init()  # registers the formats beyond Pillow's first five, which `Image.open(formats=…)` does not do itself

# fmt: off
IMAGE_SUFFIXES = frozenset([
    ".avif", ".bmp", ".gif", ".heic", ".heif", ".hif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg",
    ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
])
# fmt: on
"""Lower-case endings that listings treat as images."""

DECODING_BYTES_PER_PIXEL = 24
"""Most memory of decoding, in bytes a pixel, including the result's 3: see docs/security.md for each format."""

_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_LOW_PERCENT, _HIGH_PERCENT = 0.1, 99.9
_PERCENTILE_SAMPLE_PIXELS = 2**20
_STRIP_PIXELS = 2**20
_ORIENTATION_TAG = 0x0112
_MAX_HEX_PROFILE = 2 * 2**20

_pillow_limit_lock = threading.Lock()


@dataclass(frozen=True)
class ImageLimits:
    """What is refused before decoding."""

    max_bytes: int = 64 * 2**20
    """Largest encoded file, in bytes."""
    max_pixels: int = 100_000_000
    """Largest width x height, in pixels. Decoding takes at most 24 times as many bytes."""
    allow_truncated: bool = False
    """Accept a JPEG that breaks off; its missing part is grey."""

    def __post_init__(self) -> None:
        if self.max_bytes < 1 or self.max_pixels < 1:
            raise ConfigurationError(
                f"max-bytes and max-pixels must be at least 1; got {self.max_bytes} and {self.max_pixels}"
            )
        if self.max_pixels > MAX_IMAGE_PIXELS:
            raise ConfigurationError(
                f"max-pixels must be at most {MAX_IMAGE_PIXELS:,}, got {self.max_pixels:,}; cut larger pictures first"
            )

    def check_bytes(self, size_bytes: int) -> None:
        """Refuse a file of `size_bytes`.

        Raises:
            InputError: it is empty.
            ImageTooLargeError: it is too large.
        """
        if size_bytes == 0:
            raise InputError("the file is empty (0 bytes)")
        if size_bytes > self.max_bytes:
            raise ImageTooLargeError(
                f"the file has {size_bytes:,} bytes, more than the limit of {self.max_bytes:,}; "
                "raise max-bytes to take it"
            )

    def check_pixels(self, width: int, height: int) -> None:
        """ImageTooLargeError if an image has too many pixels."""
        if width * height > self.max_pixels:
            raise ImageTooLargeError(
                f"the image has {width} x {height} = {width * height:,} pixels, more than the limit of "
                f"{self.max_pixels:,}; raise max-pixels to take it"
            )


DEFAULT_LIMITS = ImageLimits()


def decode_image(data: bytes, limits: ImageLimits = DEFAULT_LIMITS) -> NDArray[np.uint8]:
    """Decode one encoded image to RGB.

    EXIF orientation is applied; transparency is flattened on white; CMYK, palette, greyscale and bilevel images become
    RGB; animations and multi-page files give their first frame. Colour profiles are ignored.

    Grey of more than 8 bits, integer or floating-point, is stretched from its 0.1st to its 99.9th percentile (our
    choice), because a file does not say how many of its bits are used; non-finite values count as the lowest. Colour of
    more than 8 bits a channel keeps its high byte.

    `limits` are checked against the bytes and the header before decoding. Returns (H, W, 3) uint8, C-contiguous,
    writeable.

    Raises:
        InputError: empty, not an image, truncated, corrupt, or made to exhaust memory or time.
        ImageTooLargeError: more bytes or pixels than the limits.
    """
    limits.check_bytes(len(data))
    check_structure(data, limits.check_pixels)
    try:
        return _decode(data, limits)
    except _Truncated as error:
        if not data.startswith(b"\xff\xd8"):
            raise
        if not limits.allow_truncated:
            raise InputError(f"{error}; allow-truncated takes what there is of it") from error
    return _decode(data + b"\xff\xd9", limits)  # the end that is missing: the decoder fills up with grey


class _Truncated(InputError):
    """The file ends before its picture does."""


def _decode(data: bytes, limits: ImageLimits) -> NDArray[np.uint8]:
    with open_picture(data) as image:
        limits.check_pixels(*image.size)
        return rgb_of_picture(image)


def rgb_of_picture(image: Image.Image) -> NDArray[np.uint8]:
    """A Pillow picture as `decode_image` returns it: (H, W, 3) uint8.

    Raises:
        InputError: its file is truncated or corrupt.
    """
    try:
        image.load()
        return _upright(_to_rgb(image), _orientation(image))
    # Pillow's decoders raise nearly anything on hostile bytes: SyntaxError, struct.error, IndexError, …
    except Exception as error:
        raise _corrupt(error) from error


def image_format(data: bytes) -> str:
    """Pillow's format name of a picture that `decode_image` takes, such as `JPEG`; otherwise InputError."""
    with open_picture(data) as image:
        return "JPEG" if image.format == "MPO" else str(image.format)


def open_picture(data: bytes) -> Image.Image:
    """The picture, with only its header read; InputError for an unknown format or a damaged header."""
    heif = data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS
    formats = (*_FORMATS, "HEIF") if heif and _heif_is_registered() else _FORMATS
    try:
        with _pillow_pixel_limit_lifted():
            return Image.open(BytesIO(data), formats=formats)
    except UnidentifiedImageError:
        if heif and "HEIF" not in formats:
            raise InputError("HEIC pictures need the package pi-heif; pip install 'everymask[heic]'") from None
        raise InputError(f"not an image in a known format (it starts with {data[:8]!r})") from None
    except Exception as error:
        raise _corrupt(error) from error


@cache
def _heif_is_registered() -> bool:
    """Whether HEIC can be opened; its package is optional."""
    try:
        import pi_heif
    except ImportError:
        return False
    # One thread: the caller decides how many images are decoded at once. No thumbnails: only the picture is wanted.
    pi_heif.register_heif_opener(thumbnails=False, decode_threads=1)
    return True


@contextmanager
def _pillow_pixel_limit_lifted() -> Iterator[None]:
    """Lift Pillow's limit on headers, because our own decides and names both sizes. Nothing is decoded meanwhile."""
    with _pillow_limit_lock:
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _corrupt(error: Exception) -> InputError:
    reason = " ".join(str(error).split()) or type(error).__name__
    kind = _Truncated if "truncated" in reason else InputError
    return kind(f"the image is truncated or corrupt ({reason})")


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8, of a loaded picture whose pixels are as stored."""
    if image.format == "TIFF":  # Pillow has turned it already
        return 1
    try:
        profile = image.info.get("Raw profile type exif", "")
        if not image.info.get("exif") and profile:
            if len(profile) > _MAX_HEX_PROFILE:
                return 1
            image.info["exif"] = bytes.fromhex("".join(profile.split("\n")[3:]))
        check_tags(image.info.get("exif", b""))
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # broken EXIF beside sound pixels: the orientation is unknown, the picture is not lost
        return 1


def _upright(rgb: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn and mirror (H, W, 3) pixels by an EXIF orientation."""
    if orientation in (5, 6, 7, 8):
        rgb = rgb.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        rgb = rgb[::-1]
    if orientation in (2, 3, 6, 7):
        rgb = rgb[:, ::-1]
    return np.ascontiguousarray(rgb)


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """(H, W, 3) uint8, filled strip by strip, so that no third copy of the picture is in memory."""
    width, height = image.size
    rgb = np.empty((height, width, 3), np.uint8)
    grey_range = _grey_range(image) if image.mode.startswith(("I", "F")) else None
    for top, strip in _strips(image):
        target = rgb[top : top + strip.height]
        if grey_range is not None:
            target[:] = _stretched(np.asarray(strip), *grey_range)[:, :, None]
        elif image.has_transparency_data:
            rgba = strip.convert("RGBA")
            target[:] = np.asarray(Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB"))
        else:
            target[:] = np.asarray(strip.convert("RGB"))
    return rgb


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """(first row, rows) from top to bottom, about a megapixel at a time."""
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _grey_range(image: Image.Image) -> tuple[float, float]:
    """The values that become 0 and 255: percentiles of about a million evenly spaced pixels."""
    step = max(1, image.width * image.height // _PERCENTILE_SAMPLE_PIXELS)
    samples, lows, highs = [], [], []
    for _, strip in _strips(image):
        values = np.asarray(strip).ravel()
        finite = values[np.isfinite(values)]
        if finite.size:
            samples.append(finite[::step].astype(np.float64))
            lows.append(float(finite.min()))
            highs.append(float(finite.max()))
    if not samples:
        return 0.0, 0.0
    low, high = np.percentile(np.concatenate(samples), [_LOW_PERCENT, _HIGH_PERCENT])
    # A few bright pixels on black: the percentiles see nothing, the picture is in the extremes.
    return (float(low), float(high)) if low < high else (min(lows), max(highs))


def _stretched(grey: NDArray[np.generic], low: float, high: float) -> NDArray[np.uint8]:
    """(H, W) grey → uint8: values up to `low`, and non-finite ones, become 0; values from `high` on, 255."""
    if low >= high:
        return np.zeros(grey.shape, np.uint8)
    values = np.nan_to_num(grey.astype(np.float64), nan=low, posinf=low, neginf=low)
    return (((values - low) / (high - low)).clip(0, 1) * 255).round().astype(np.uint8)
