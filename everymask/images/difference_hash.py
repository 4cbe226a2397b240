"""A fingerprint that near-duplicate pictures share in most bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_SIDE = 8


def difference_hash(rgb: NDArray[np.uint8]) -> str:
    """The difference hash of an (H, W, 3) uint8 picture, as 16 hexadecimal digits.

    Each bit says whether one of 8 x 8 places is darker than the one to its right. Re-encoding and resizing keep nearly
    all bits (N. Krawetz, "Kind of Like That", 2013).
    """
    small = Image.fromarray(rgb).resize((_SIDE + 1, _SIDE), Image.Resampling.BOX).convert("L")
    grey = np.asarray(small).astype(np.int16)
    return np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes().hex()
