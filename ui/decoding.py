"""Decodes an image file from standard input for the page, in a process with limited memory and time.

Hostile files can make decoders reserve gigabytes; here they reach a limit and end, and the page lives on. Run by
`ui.picture`; prints a line of JSON (`size`, or `problem`), then a JPEG.
"""

from __future__ import annotations

import io
import json
import resource
import sys

import numpy as np
from PIL import Image, ImageOps

LONGEST_SIDE = 1280
"""Longest side of the shown picture, in pixels; the service gets the file itself."""
MAX_PIXELS = 100_000_000
_MEMORY_BYTES = 4 * 2**30
_PROCESSOR_S = 20
# Pillow can also open formats that run other programs (EPS): those of the service, and no more.
_FORMATS = ["AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP"]
_ORIENTATION_TAG = 0x0112


class TooLarge(Exception):
    """More pixels than the page shows."""


def shown(data: bytes) -> tuple[tuple[int, int], bytes]:
    """(width, height) of the upright picture in pixels, and a JPEG of it no larger than `LONGEST_SIDE`.

    Raises:
        TooLarge: it has more than `MAX_PIXELS`.
        Exception: not a picture of a known format; Pillow's decoders raise nearly anything.
    """
    with Image.open(io.BytesIO(data), formats=_formats()) as image:
        if image.width * image.height > MAX_PIXELS:
            raise TooLarge
        if image.format == "TIFF":
            image.load()  # turns it, so that the size is the upright one
        width, height = image.size
        if image.format != "TIFF" and image.getexif().get(_ORIENTATION_TAG, 1) >= 5:
            width, height = height, width
        image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith(("I", "F")):
        upright = _stretched(upright)
    rgba = upright.convert("RGBA")
    flat = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    buffer = io.BytesIO()
    flat.save(buffer, format="JPEG", quality=88)
    return (width, height), buffer.getvalue()


def _formats() -> list[str]:
    try:
        import pi_heif
    except ImportError:
        return _FORMATS
    pi_heif.register_heif_opener(thumbnails=False)
    return [*_FORMATS, "HEIF"]


def _stretched(grey: Image.Image) -> Image.Image:
    """Grey of more than 8 bits stretched like in the service: from its 0.1st to its 99.9th percentile."""
    values = np.nan_to_num(np.asarray(grey, dtype=np.float64), posinf=0, neginf=0)
    low, high = np.percentile(values, [0.1, 99.9])
    if low == high:
        low, high = values.min(), values.max()
    share = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return Image.fromarray((share.clip(0, 1) * 255).round().astype(np.uint8))


def main() -> int:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (_PROCESSOR_S, _PROCESSOR_S))
    Image.MAX_IMAGE_PIXELS = None  # our own limit decides
    try:
        size, picture = shown(sys.stdin.buffer.read())
        sys.stdout.buffer.write(json.dumps({"size": size}).encode() + b"\n" + picture)
    except TooLarge:
        print(json.dumps({"problem": f"has more than {MAX_PIXELS // 10**6} megapixels."}))
    except Exception:
        print(json.dumps({"problem": "cannot be opened as an image."}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
