from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def shrink(image: NDArray[np.uint8], max_side: int | None) -> NDArray[np.uint8]:
    """The (H, W, 3) image with its longer side at most `max_side` pixels; unchanged if it fits, or for None."""
    height, width = image.shape[:2]
    if max_side is None or max(height, width) <= max_side:
        return image
    scale = max_side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))
