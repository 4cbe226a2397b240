"""Pictures inside an HTML page, so that a report is one file."""

from __future__ import annotations

import base64
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_JPEG_QUALITY = 82


def data_uri(picture: NDArray[np.uint8]) -> str:
    """(H, W, 3) uint8 RGB → a `data:` address of it as JPEG."""
    buffer = BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
