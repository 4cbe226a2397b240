"""Pictures inside an HTML page, so that a report is one file."""

from __future__ import annotations

import base64
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_JPEG_QUALITY = 82


def jpeg(picture: NDArray[np.uint8], quality: int = _JPEG_QUALITY) -> bytes:
    """(H, W, 3) uint8 RGB → a JPEG file."""
    buffer = BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def data_uri(picture: NDArray[np.uint8]) -> str:
    """(H, W, 3) uint8 RGB → a `data:` address of it as JPEG."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg(picture)).decode()}"
