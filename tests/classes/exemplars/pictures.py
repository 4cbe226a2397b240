"""Encoded pictures for the tests of exemplar sources."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def picture_file(seed: int, size_hw: tuple[int, int] = (120, 140), kind: str = "JPEG") -> bytes:
    """Smooth blobs that look different for every seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    return encode(Image.fromarray(coarse).resize((size_hw[1], size_hw[0]), Image.Resampling.BICUBIC), kind)


def encode(image: Image.Image, kind: str = "JPEG") -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()
