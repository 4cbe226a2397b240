"""Encoded bytes → RGB pixels, decoded once and as late as possible."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from everymask.errors import ConfigurationError, ImageTooLargeError, InputError

# Pillow can also open formats that run other programs (EPS) or wrap whole documents; only still pictures are wanted.
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
Image.init()  # registers the formats beyond Pillow's first five, which `Image.open(formats=…)` does not do itself

# fmt: off
IMAGE_SUFFIXES = frozenset([
    ".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg",
    ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
])
# fmt: on
"""Lower-case endings of the files that listings take for images."""

_pillow_limit_lock = threading.Lock()


@dataclass(frozen=True)
class ImageLimits:
    """What is refused before anything is decoded.

    Attributes:
        max_bytes: size of the encoded file, in bytes.
        max_pixels: width x height in pixels. Memory per image is a small multiple of it.
    """

    max_bytes: int = 64 * 2**20
    max_pixels: int = 100_000_000

    def __post_init__(self) -> None:
        if self.max_bytes < 1 or self.max_pixels < 1:
            raise ConfigurationError(
                f"max-bytes and max-pixels must be at least 1; got {self.max_bytes} and {self.max_pixels}"
            )

    def check_bytes(self, size_bytes: int) -> None:
        """Refuse a file of `size_bytes`.

        Raises:
            InputError: there are none.
            ImageTooLargeError: there are too many.
        """
        if size_bytes == 0:
            raise InputError("the file is empty (0 bytes)")
        if size_bytes > self.max_bytes:
            raise ImageTooLargeError(
                f"the file has {size_bytes:,} bytes, more than the limit of {self.max_bytes:,}; "
                "raise max-bytes to take it"
            )

    def check_pixels(self, width: int, height: int) -> None:
        """Refuse an image of `width` x `height` pixels.

        Raises:
            ImageTooLargeError: there are too many.
        """
        if width * height > self.max_pixels:
            raise ImageTooLargeError(
                f"the image has {width} x {height} = {width * height:,} pixels, more than the limit of "
                f"{self.max_pixels:,}; raise max-pixels to take it"
            )


DEFAULT_LIMITS = ImageLimits()


def decode_image(data: bytes, limits: ImageLimits = DEFAULT_LIMITS) -> NDArray[np.uint8]:
    """Decode one encoded image to RGB.

    EXIF orientation is applied; transparency is flattened on white; 16-bit grey keeps its high byte; floating-point
    grey is stretched from its lowest to its highest finite value (our choice); CMYK, palette, greyscale and bilevel
    images become RGB; of an animation or a multi-page file the first frame is taken. Colour profiles are ignored.

    Args:
        data: the file's bytes.
        limits: checked against the bytes and the header; nothing is decoded beyond them.

    Returns:
        (H, W, 3) uint8, C-contiguous, writeable.

    Raises:
        InputError: empty, not an image, truncated or corrupt.
        ImageTooLargeError: more bytes or pixels than the limits.
    """
    limits.check_bytes(len(data))
    with _open(data) as image:
        limits.check_pixels(*image.size)
        try:
            image.load()
            return _to_rgb(_upright(image))
        # Pillow's decoders raise nearly anything on hostile bytes: SyntaxError, struct.error, IndexError, …
        except Exception as error:
            raise _corrupt(error) from error


def image_format(data: bytes) -> str:
    """Pillow's name for the format of a picture that `decode_image` takes, such as `JPEG`.

    Raises:
        InputError: not an image in a known format.
    """
    with _open(data) as image:
        return "JPEG" if image.format == "MPO" else str(image.format)


def _open(data: bytes) -> Image.Image:
    """The picture, its header read and nothing decoded.

    Raises:
        InputError: not an image in a known format, or its header is damaged.
    """
    try:
        with _pillow_pixel_limit_lifted():
            return Image.open(BytesIO(data), formats=_FORMATS)
    except UnidentifiedImageError:
        raise InputError(f"not an image in a known format (it starts with {data[:8]!r})") from None
    except Exception as error:
        raise _corrupt(error) from error


@contextmanager
def _pillow_pixel_limit_lifted() -> Iterator[None]:
    """Let headers of any size be read: our own limit decides, and names both sizes. Nothing is decoded in here."""
    with _pillow_limit_lock:
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _corrupt(error: Exception) -> InputError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return InputError(f"the image is truncated or corrupt ({reason})")


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # broken EXIF beside sound pixels: the orientation is unknown, the picture is not lost
        return image


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith(("I", "F")):
        return _grey_to_rgb(np.asarray(image))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return np.array(image.convert("RGB"))


def _grey_to_rgb(grey: NDArray[np.generic]) -> NDArray[np.uint8]:
    """(H, W) grey of more than 8 bits → (H, W, 3) uint8."""
    scaled: NDArray[np.generic]
    if grey.dtype.kind == "f":
        values = np.nan_to_num(grey.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
        low, high = float(values.min()), float(values.max())
        scaled = (values - low) / (high - low) * 255 if high > low else np.zeros_like(values)
    else:
        # 16-bit samples may also arrive in Pillow's 32-bit mode.
        scaled = np.clip(grey.astype(np.int64), 0, 65535) >> 8
    return np.repeat(scaled.round().astype(np.uint8)[:, :, None], 3, axis=2)
