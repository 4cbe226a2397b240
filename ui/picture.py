"""An image file as the browser is shown it."""

from __future__ import annotations

import base64
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

LONGEST_SIDE = 1280
"""Of the shown picture, in pixels; the service gets the file itself."""
MAX_BYTES = 64 * 2**20


class PictureProblem(Exception):
    """A file that cannot be shown. The message is for the person in front of the page."""


@dataclass(frozen=True)
class Picture:
    """An image that was picked.

    Attributes:
        name: the file's name.
        data: the file, as it is sent to the service.
        image_id: hex sha256 of the file, the service's name for it.
        size: (width, height) in pixels, upright.
        shown: data URL of a JPEG no larger than `LONGEST_SIDE`.
    """

    name: str
    data: bytes
    image_id: str
    size: tuple[int, int]
    shown: str


def open_picture(path: str | Path) -> Picture:
    """Read an image file.

    Raises:
        PictureProblem: it is no image, or too large to be shown.
    """
    file = Path(path)
    data = file.read_bytes()
    if len(data) > MAX_BYTES:
        raise PictureProblem(f"{file.name} is larger than {MAX_BYTES // 2**20} MB.")
    try:
        with Image.open(io.BytesIO(data)) as image:
            upright = ImageOps.exif_transpose(image)
            size = upright.size
            upright.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
            rgba = upright.convert("RGBA")
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        raise PictureProblem(f"{file.name} cannot be opened as an image.") from error
    flat = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    buffer = io.BytesIO()
    flat.save(buffer, format="JPEG", quality=88)
    shown = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    return Picture(file.name, data, hashlib.sha256(data).hexdigest(), size, shown)
