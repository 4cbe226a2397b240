"""A fingerprint of a picture that near-duplicates share in most of its bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_SIDE = 8


def difference_hash(rgb: NDArray[np.uint8]) -> str:
    """The difference hash of a picture: whether each of 8 x 8 places is darker than the one to its right.

    Re-encoding and resizing leave nearly all bits as they are (N. Krawetz, "Kind of Like That", 2013).

    Args:
        rgb: (H, W, 3) uint8.

    Returns:
        16 hexadecimal digits.
    """
    small = Image.fromarray(rgb).resize((_SIDE + 1, _SIDE), Image.Resampling.BOX).convert("L")
    grey = np.asarray(small).astype(np.int16)
    return np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes().hex()
